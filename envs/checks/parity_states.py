"""A task beside dm_control's own of the same name, both in the same random states."""

# pyright: reportAttributeAccessIssue=false
# (mujoco is compiled and brings no types)

import mujoco
import numpy as np
import torch
from torch.nn.functional import normalize

from mindreel.envs.backends.dm_control import DMControlEnv
from mindreel.envs.generator import WorldGenerator
from mindreel.envs.tasks import TASKS
from mindreel.envs.tasks.finger import FingerTurn
from mindreel.envs.tasks.fish import FishSwim
from mindreel.envs.warp.simulation import WarpSim

_BLOCKS = 8  # of worlds, each a few control steps further into its episode than the one before

State = dict[str, torch.Tensor]


class Pair:
    """A task here, on worlds, and the same task in dm_control.

    Args:
        name: a name of `TASKS`.
        worlds: number of worlds, B.
        seed: seed of both.

    Raises:
        ValueError: for a task that dm_control does not have.
    """

    def __init__(self, name: str, worlds: int, seed: int = 0):
        self.name = name
        self.task = TASKS[name]()
        self.sim = WarpSim(
            self.task.model,
            worlds,
            substeps=self.task.substeps,
            per_world=self.task.per_world,
            max_constraints=self.task.max_constraints,
        )
        self.reference = DMControlEnv(name, seed)
        self.generator = torch.Generator().manual_seed(seed)
        self._first_states = WorldGenerator(seed, worlds)
        self.reference.reset()

    def start_episodes(self) -> None:
        """Starts an episode in every world."""
        everywhere = torch.ones(self.sim.num_worlds, dtype=torch.bool)
        self.sim.reset(everywhere)
        self._first_states.start()
        self.task.reset(self.sim, everywhere, self._first_states)
        self.sim.forward()

    def observation(self) -> np.ndarray:
        """The worlds' present state as the task observes it, (B, n)."""
        return torch.cat(list(self.task.observation(self.sim).values()), dim=-1).numpy()

    def close(self) -> None:
        """Frees what dm_control draws with."""
        self.reference.env.close()


def random_states(pair: Pair, steps: int = 10) -> None:
    """Worlds from 0 to 7 times `steps` random control steps into an episode, half then moved to where reward is."""
    pair.start_episodes()
    sim, generator, worlds = pair.sim, pair.generator, pair.sim.num_worlds
    low, high = sim.ctrl_low.clamp(min=-1), sim.ctrl_high.clamp(max=1)  # some are unlimited
    random_controls = lambda: low + (high - low) * torch.rand(worlds, len(low), generator=generator)
    final = sim.state()
    for block in range(_BLOCKS):
        for _ in range(steps if block else 0):
            sim.ctrl.copy_(random_controls())
            sim.step()
        here = slice(block * worlds // _BLOCKS, (block + 1) * worlds // _BLOCKS)
        for name, value in sim.state().items():
            final[name][here] = value[here]
    final["ctrl"].copy_(random_controls())
    disturbance = 0.05 if pair.task.model.opt.density else 0.5  # in a dense fluid MuJoCo itself diverges from more
    final["qvel"] += disturbance * torch.randn(final["qvel"].shape, generator=generator)
    sim.load_state(final)
    _move_to_reward(pair, {name: value[::2] for name, value in final.items()})
    sim.load_state(final)


def _move_to_reward(pair: Pair, state: State) -> None:
    """Rewrites `state`, every second world's, in place, so that sparse rewards are met on both sides of their edges."""
    noise = lambda *shape: torch.randn(*shape, generator=pair.generator)
    num, model, qpos = len(state["qpos"]), pair.task.model, state["qpos"]
    match pair.task.xml.removesuffix(".xml"):
        case "cartpole":
            qpos[:] = torch.tensor([0.2] + (model.nq - 1) * [0.1]) * noise(num, model.nq)
        case "acrobot":
            qpos[:] = 0.1 * noise(num, 2)
        case "point_mass":
            qpos[:] = 0.02 * noise(num, 2)
        case "lqr":
            qpos[::2], state["qvel"][::2] = 0.0, 0.0  # where an episode ends
        case "hopper":
            qpos[:, 2] = 0.3 * noise(num)  # torso upright
            qpos[:, 3:] = torch.tensor([0.0, -1.1, 2.2, -1.1]) * noise(num, 1).abs()  # knee bent
            state["qvel"][:, model.joint("rootx").dofadr[0]] = 3 * noise(num).abs()
        case "swimmer":
            nose = state["geom_xpos"][:, model.geom("nose").id, :2]
            state["geom_xpos"][:, model.geom("target").id, :2] = nose + 0.2 * noise(num, 2)
        case "fish" if isinstance(pair.task, FishSwim):
            mouth = state["geom_xpos"][:, model.geom("mouth").id]
            state["geom_xpos"][:, model.geom("target").id] = mouth + 0.05 * noise(num, 3)
        case "fish":
            qpos[:, 3:7] = normalize(torch.tensor([1.0, 0.0, 0.0, 0.0]) + 0.3 * noise(num, 4), dim=-1)
        case "finger" if isinstance(pair.task, FingerTurn):
            target = pair.sim.data("site_xpos")[::2, model.site("tip").id, ::2] + 0.05 * noise(num, 2)
            state["model.site_pos"][:, model.site("target").id, ::2] = target
            state["geom_xpos"][:, model.geom("target").id, ::2] = target
        case "finger":
            state["qvel"][:, 2] = -15 + 5 * noise(num)
        case "pendulum":
            qpos[:] = 0.2 * noise(num, 1)
        case "reacher":
            finger = state["geom_xpos"][:, model.geom("finger").id, :2]
            state["geom_xpos"][:, model.geom("target").id, :2] = finger + 0.02 * noise(num, 2)
        case "ball_in_cup":
            qpos[:] = torch.tensor([0.0, 0.0, 0.0, 0.35]) + 0.02 * noise(num, 4)
        case "cheetah" | "walker":
            state["qvel"][:, model.joint("rootx").dofadr[0]] = 8 * noise(num).abs()
        case "humanoid" | "humanoid_CMU":
            upright = [1.0, 0.0, 0.0, 0.0] if model.nq < 40 else [0.7, 0.7, 0.0, 0.0]
            qpos[:, 3:7] = normalize(torch.tensor(upright) + 0.1 * noise(num, 4), dim=-1)
            qpos[:, 7:] = 0.1 * noise(num, model.nq - 7)
            qpos[:, 2] = 1.3 + 0.1 * noise(num)
        case "manipulator" | "stacker":  # the target to the object, so that nothing overlaps
            names = {model.joint(i).name for i in range(model.njnt)}
            thing = next(name for name in ("box0", "peg", "ball") if f"{name}_x" in names)
            target = model.body("target" if thing == "box0" else f"target_{thing}").mocapid[0]
            place = pair.sim.data("xpos")[::2, model.body(thing).id, ::2]
            state["mocap_pos"][:, target, ::2] = place + 0.02 * noise(num, 2)


def copy_world(pair: Pair, world: int) -> None:
    """Puts dm_control's world into the state of ours, up to date as after a step.

    Readings of force and acceleration are those of the last step, which only the worlds here have made: they are
    copied, and computed by each for itself in the step that follows.
    """
    sim, physics = pair.sim, pair.reference.physics
    _copy_model(pair, world)
    for name in ("qpos", "qvel", "act", "ctrl"):
        getattr(physics.data, name)[:] = sim.data(name)[world]
    mujoco.mj_step1(physics.model.ptr, physics.data.ptr)
    physics.data.qacc_warmstart[:] = sim.data("qacc_warmstart")[world]
    of_last_step = physics.model.sensor_needstage == mujoco.mjtStage.mjSTAGE_ACC
    for sensor in map(physics.model.ptr.sensor, np.flatnonzero(of_last_step)):
        columns = slice(sensor.adr[0], sensor.adr[0] + sensor.dim[0])
        physics.data.sensordata[columns] = sim.data("sensordata")[world, columns]


def _copy_model(pair: Pair, world: int) -> None:
    """Copies what a task moves or draws anew in the model: dm_control writes it into the model of its one world."""
    ours, theirs, sim = pair.task.model, pair.reference.physics.model, pair.sim
    for geom in np.flatnonzero(ours.geom_bodyid == 0):
        there = mujoco.mj_name2id(theirs.ptr, mujoco.mjtObj.mjOBJ_GEOM, ours.geom(geom).name)
        if there >= 0:  # not one that shows a site
            theirs.geom_pos[there] = sim.data("geom_xpos")[world, geom]
    for body in np.flatnonzero(ours.body_mocapid >= 0):  # bodies that stand still there
        there = mujoco.mj_name2id(theirs.ptr, mujoco.mjtObj.mjOBJ_BODY, ours.body(body).name)
        theirs.body_pos[there] = sim.data("mocap_pos")[world, ours.body_mocapid[body]]
        theirs.body_quat[there] = sim.data("mocap_quat")[world, ours.body_mocapid[body]]
    for name in pair.task.per_world:
        value = sim.model(name)[world]
        if name == "actuator_gear":  # of the tendons there
            theirs.wrap_prm[:] = value[:, :2].flatten() / theirs.actuator_gear[0, 0]
        elif name == "geom_dataid":  # of many height fields here
            first = ours.hfield_adr[int(value[ours.geom("terrain").id])]
            theirs.hfield_data[:] = ours.hfield_data[first : first + theirs.nhfielddata]
            _show_height_field(pair)
        else:
            getattr(theirs, name)[:] = value


def _show_height_field(pair: Pair) -> None:
    """Gives the height field, which changed, to dm_control's renderer, if it has drawn already."""
    physics = pair.reference.physics
    if physics.contexts:
        with physics.contexts.gl.make_current() as context:
            context.call(mujoco.mjr_uploadHField, physics.model.ptr, physics.contexts.mujoco.ptr, 0)
