"""Movies in which something happens that cannot, each beside the same movie without it."""

# pyright: reportAttributeAccessIssue=false
# (mujoco is compiled and brings no types)

from collections.abc import Callable
from dataclasses import dataclass

import mujoco
import torch

from envs.make import make_task
from envs.view import moving_geoms
from envs.warp_sim import RenderConfig, WarpSim

VIOLATIONS = (
    "teleport",  # a body is elsewhere from one frame to the next
    "vanish",  # a body is gone
    "swap",  # a body has another shape and colour
    "reverse",  # the movie runs backwards
    "gravity",  # things fall upwards
    "friction",  # joints turn as if in honey
    "freeze",  # some joints stop while the others move on
    "hidden_vanish",  # a body goes behind a box and is gone when the box is
    "hidden_teleport",  # it is elsewhere when the box is gone
)
_DRAG = 5.0  # rate at which added friction uses up a joint's speed, 1/s
_GREEN, _GREY = (0.1, 0.8, 0.2, 1.0), 128
_HIDDEN = 6  # frames behind the box after the body has vanished or moved


@dataclass
class Pair:
    """Movies as they should be and as they cannot be, M of each."""

    possible: torch.Tensor
    """Frames, uint8 (M, T + 1, 3, H, W)."""
    impossible: torch.Tensor
    """Frames, of the same shape."""
    possible_action: torch.Tensor
    """Actions in [-1, 1] between the frames, (M, T, A)."""
    impossible_action: torch.Tensor
    """The same for the impossible movies: other than those of the possible ones only where time is reversed."""
    differs: torch.Tensor
    """Movies to compare, (M,) bool: no world broke, and the two can be told apart. Gravity moves no arm on a table."""


class Stage:
    """Worlds of one task that play recorded actions from recorded states, and break physics on demand.

    Args:
        task: a name of `TASKS`, or the path of a task's file.
        movies: number of movies made at once, M.
        device: as for `WarpSim`.
        render: camera and picture size.
        action_repeat: control steps for which one action holds.
    """

    def __init__(self, task: str, movies: int, device: torch.device | str, render: RenderConfig, action_repeat: int):
        self.task, self.movies, self.device = task, movies, device
        self.render, self.action_repeat = render, action_repeat
        self._sims: dict[str, WarpSim] = {}

    def pair(
        self, violation: str, start: dict[str, torch.Tensor], action: torch.Tensor, at: int, seed: int = 0
    ) -> Pair:
        """Movies with and without a violation.

        Args:
            violation: one of `VIOLATIONS`.
            start: `qpos`, `qvel` and `geom_xpos` of the first frame, (M, ...).
            action: in [-1, 1], (M, T, A).
            at: the last frame before the violation.
            seed: of where bodies are moved to.

        Raises:
            ValueError: for an unknown violation.
        """
        if violation not in VIOLATIONS:
            raise ValueError(f"Unknown violation {violation!r}: expected one of {', '.join(VIOLATIONS)}.")
        possible, whole = self._play("", start, action, at, seed)
        if violation == "reverse":
            impossible, backwards = possible.flip(1), action.flip(1)
            return Pair(possible, impossible, action, backwards, whole & _differ(possible, impossible))
        impossible, still_whole = self._play(violation.removeprefix("hidden_"), start, action, at, seed)
        if violation.startswith("hidden_"):
            possible, impossible = _behind_a_box(possible, impossible, at)
        return Pair(possible, impossible, action, action, whole & still_whole & _differ(possible, impossible))

    def _play(
        self, violation: str, start: dict[str, torch.Tensor], action: torch.Tensor, at: int, seed: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Frames uint8 (M, T + 1, 3, H, W), and the worlds that did not break on the way, (M,) bool."""
        sim = painter = self._sim("")
        for name, value in start.items():
            sim.data(name).copy_(value)
        sim.forward()
        low, high = sim.ctrl_low, sim.ctrl_high
        joint, frozen, frames = _outer_joints(sim.mj_model), None, [sim.render()]
        whole = ~sim.broken()
        for t in range(action.shape[1]):
            if t == at and violation == "teleport":
                _teleport(sim, torch.Generator().manual_seed(seed))
            elif t == at and violation in ("gravity", "friction"):
                before, sim = sim, self._sim(violation)
                sim.load_state(before.state())
                painter = sim
            elif t == at and violation in ("vanish", "swap"):
                painter = self._sim(violation)
            elif t == at and violation == "freeze":
                frozen = sim.qpos[:, joint[0] :].clone()
            sim.ctrl.copy_((low + high) / 2 + (high - low) / 2 * action[:, t])
            for _ in range(self.action_repeat):
                sim.step()
                if frozen is not None:
                    sim.qpos[:, joint[0] :] = frozen
                    sim.qvel[:, joint[1] :] = 0
                    sim.forward()
            if painter is not sim:
                painter.load_state(sim.state())
            frames.append(painter.render())
            whole &= ~sim.broken()
        return torch.stack(frames, 1), whole

    def _sim(self, change: str) -> WarpSim:
        """Worlds whose model is changed in one way; made once."""
        if change not in self._sims:
            task = make_task(self.task)
            if change:
                _CHANGES[change](task.model)
            self._sims[change] = WarpSim(
                task.model,
                self.movies,
                self.device,
                substeps=task.substeps,
                render=self.render,
                per_world=task.per_world,
            )
        return self._sims[change]


def _differ(possible: torch.Tensor, impossible: torch.Tensor) -> torch.Tensor:
    return (possible != impossible).flatten(1).any(1)


def _behind_a_box(possible: torch.Tensor, impossible: torch.Tensor, at: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Both with a grey box over all that differs, from the frame before the violation until `_HIDDEN` after it."""
    hidden = slice(at, at + 1 + _HIDDEN)
    differs = (possible[:, hidden] != impossible[:, hidden]).any(1).any(1)  # (M, H, W)
    covered = _span(differs.any(2))[:, :, None] & _span(differs.any(1))[:, None]  # (M, H, W)
    boxed = []
    for movie in (possible, impossible):
        movie = movie.clone()
        movie[:, hidden] = torch.where(covered[:, None, None], _GREY, movie[:, hidden])
        boxed.append(movie)
    return boxed[0], boxed[1]


def _span(marked: torch.Tensor) -> torch.Tensor:
    """From the first to the last mark of each row, and what lies between: (M, n) bool."""
    begun = marked.int().cumsum(1) > 0
    return begun & (marked.flip(1).int().cumsum(1) > 0).flip(1)


def largest_body(model: mujoco.MjModel) -> int:
    """The body of the largest geom that moves: the one that violations befall."""
    return int(model.geom_bodyid[max(moving_geoms(model), key=lambda geom: float(model.geom_rbound[geom]))])


def _outer_joints(model: mujoco.MjModel) -> tuple[int, int]:
    """Where the later half of the joints begins, which are the limbs: place in qpos and in qvel."""
    joint = model.njnt // 2
    return int(model.jnt_qposadr[joint]), int(model.jnt_dofadr[joint])


def _teleport(sim: WarpSim, generator: torch.Generator) -> None:
    """Moves the largest body's joints by 0.3 to 0.5 of their range, or of a turn, or of a metre."""
    model = sim.mj_model
    body = largest_body(model)
    for joint in range(model.body_jntadr[body], model.body_jntadr[body] + model.body_jntnum[body]):
        place, limited = int(model.jnt_qposadr[joint]), bool(model.jnt_limited[joint])
        low, high = (float(x) for x in model.jnt_range[joint]) if limited else (-torch.inf, torch.inf)
        turns = model.jnt_type[joint] == mujoco.mjtJoint.mjJNT_HINGE
        width = high - low if limited else 2 * torch.pi if turns else 1.0
        draw = torch.rand(2, sim.num_worlds, generator=generator).to(sim.device)
        shift = (0.3 + 0.2 * draw[0]) * width * torch.where(draw[1] < 0.5, -1.0, 1.0)
        moved = sim.qpos[:, place] + shift
        outside = (moved < low) | (moved > high)  # then the other way
        sim.qpos[:, place] = torch.where(outside, moved - 2 * shift, moved).clamp(low, high)
    sim.forward()


def _turn_gravity(model: mujoco.MjModel) -> None:
    model.opt.gravity[2] *= -1


def _add_friction(model: mujoco.MjModel) -> None:
    model.dof_damping[:] += _DRAG * model.dof_M0
    model.geom_friction[:, 0] *= _DRAG


def _remove(model: mujoco.MjModel) -> None:
    for geom in _geoms_of(model, largest_body(model)):
        model.geom_size[geom] = 1e-6
        model.geom_rbound[geom] = 1e-6
        model.geom_aabb[geom, 3:] = 1e-6


def _exchange(model: mujoco.MjModel) -> None:
    for geom in _geoms_of(model, largest_body(model)):
        radius, half = model.geom_size[geom, :2]
        if model.geom_type[geom] == mujoco.mjtGeom.mjGEOM_BOX:
            model.geom_type[geom] = mujoco.mjtGeom.mjGEOM_ELLIPSOID
        else:
            model.geom_size[geom] = radius, radius, half or radius
            model.geom_type[geom] = mujoco.mjtGeom.mjGEOM_BOX
        model.geom_matid[geom] = -1
        model.geom_rgba[geom] = _GREEN


def _geoms_of(model: mujoco.MjModel, body: int) -> range:
    return range(model.body_geomadr[body], model.body_geomadr[body] + model.body_geomnum[body])


_CHANGES: dict[str, Callable[[mujoco.MjModel], None]] = {
    "gravity": _turn_gravity,
    "friction": _add_friction,
    "vanish": _remove,
    "swap": _exchange,
}
