"""A task on a batch of simulated worlds, as a torchrl environment."""

import math
import warnings

import torch
from tensordict import TensorDictBase

from mindreel.devices import check_device
from mindreel.envs.config import EnvConfig
from mindreel.envs.generator import WorldGenerator
from mindreel.envs.masks import flags, select
from mindreel.envs.tasks import Task
from mindreel.envs.tasks.check_task import check_task
from mindreel.envs.warp.cameras import PICTURES, aimed_cameras
from mindreel.envs.warp.randomize import Randomizer, textures_for, varied_fields
from mindreel.envs.warp.simulation import OVERFLOWS, WarpSim
from mindreel.envs.worlds import ENDLESS, FaultyTaskError, Worlds, check_no_nan


class WarpEnv(Worlds):
    """A batch of worlds simulated by mujoco_warp, all of it on one device; batch size (B,).

    An episode that reaches its time limit is truncated. So is that of a world that breaks (its state is not
    finite, or its contacts or constraints outgrow their buffers): its reward is 0, its final observation the last
    good one, and it starts afresh like every world whose episode ends. Actions out of bounds are clipped, infinite
    ones too; those that are no numbers raise on the CPU, and break their world on CUDA, where asking would wait.
    What is random in a world does not depend on how many others there are, or on what they do.

    Args:
        task: the task; each environment needs its own.
        config: the worlds' settings.
        task_name: the task's name, for logs and messages.
        first_world: how many worlds come before these, in other environments of the same seed.
        device: "cpu" or a CUDA device, on which everything stays.
        seed: seed of all that is random here.
        observations: which of "pixels", uint8 (B, 3, K * H, W), "depth", float32 (B, 1, K * H, W), in metres,
            "segmentation", int32 (B, 1, K * H, W), index of the geom, "state", float32 (B, n), and "behaviour",
            int64 (B,), an index into the task's `behaviours` or -1, are given; the pictures of the K cameras lie
            one below another.

    Raises:
        ValueError: for an unknown device, observation, camera or background, a model that mujoco_warp cannot simulate,
            or a task whose reward or observation has another shape than `Task` asks for.
    """

    def __init__(
        self,
        task: Task,
        config: EnvConfig = EnvConfig(),  # noqa: B008 (frozen)
        *,
        task_name: str,
        first_world: int = 0,
        device: torch.device | str = "cpu",
        seed: int = 0,
        observations: tuple[str, ...] = ("pixels", "state"),
    ):
        super().__init__(config, task_name, check_device(device), observations)
        render, randomize = config.render, config.randomize
        self.task = task
        self.behaviours = task.behaviours
        substeps = config.frame_skip or task.substeps
        draw = tuple(name for name in self.observations if name in PICTURES)
        self._draws = bool(draw)
        aimed = aimed_cameras(task.model, render.views) if draw and randomize.whole.camera_turn else []
        if aimed:
            warnings.warn(
                f"camera_turn does nothing for {', '.join(aimed)} of {task.xml}: such a camera looks at a body "
                "however it is turned. camera_shift moves it.",
                RuntimeWarning,
                stacklevel=2,
            )
        paints = bool(randomize.whole.background) and "pixels" in draw
        if paints and "segmentation" not in draw:
            draw = (*draw, "segmentation")  # tells where to paint
        try:
            self.sim = WarpSim(
                task.model,
                self.num_envs,
                self.device,
                substeps=substeps,
                render=render if draw else None,
                draw=draw,
                per_world=tuple(dict.fromkeys((*task.per_world, *varied_fields(randomize, task.model)))),
                textures=textures_for(randomize) if draw else None,
                max_contacts=config.max_contacts,
                max_constraints=config.max_constraints or task.max_constraints,
            )
        except NotImplementedError as error:  # names an element or option of MuJoCo's
            raise ValueError(
                f"{task.xml}: mujoco_warp lacks what this model asks for: {error} Take it out of that file or choose "
                'another; MuJoCo\'s defaults, such as <option solver="Newton"/>, are there.'
            ) from error
        self.decision_seconds = float(task.model.opt.timestep) * substeps * self.action_repeat
        control_steps = ENDLESS if math.isinf(task.control_steps) else task.control_steps * task.substeps / substeps
        self.episode_steps = config.time_limit or max(1, math.ceil(control_steps - 1e-6) // self.action_repeat)
        self.action_dim = task.model.nu
        self.state_names = check_task(task, task_name, self.sim)
        self._generator = WorldGenerator(seed, self.num_envs, first_world)
        self._randomizer = Randomizer(randomize, self.sim, render if paints else None)
        self._episode_step = torch.zeros(self.num_envs, dtype=torch.int64, device=self.device)
        self._repaired = torch.zeros((), dtype=torch.int64, device=self.device)
        self._overflowed = torch.zeros(len(OVERFLOWS), dtype=torch.int64, device=self.device)
        self._not_finite = torch.zeros(1 + len(self.state_names), dtype=torch.int64, device=self.device)
        self._faulty = torch.zeros((), dtype=torch.int64, device=self.device)  # decisions
        self._bad_starts = torch.zeros((), dtype=torch.int64, device=self.device)
        self._decisions = 0  # of all worlds
        self._reported: set[str] = set()  # what was warned of: keys of `OVERFLOWS`, "not finite"
        self._env_frames = 0
        self._last = self._observe()
        self._make_specs(self.sim.ctrl_low, self.sim.ctrl_high)

    @property
    def counters(self) -> dict[str, int]:
        self._report()
        return {
            "env_frames": self._env_frames,
            "repaired_worlds": int(self._repaired),
            "overflowed_worlds": int(self._overflowed.sum()),
            "faulty_decisions": int(self._faulty),
        }

    # ---- torchrl ----

    def _step(self, tensordict: TensorDictBase) -> TensorDictBase:
        # Without its gradient, which would hang on to Warp's memory, and so to all steps from then on.
        action: torch.Tensor = tensordict.get("action").detach()  # (B, A)
        if self.device.type == "cpu":  # on CUDA asking would wait for the device
            check_no_nan(action)
        valid = ~action.isnan().any(-1)  # (B,)
        control = action.nan_to_num().clamp(self.sim.ctrl_low, self.sim.ctrl_high)
        reward = torch.zeros(self.num_envs, device=self.device)
        terminated = torch.zeros(self.num_envs, dtype=torch.bool, device=self.device)
        for _ in range(self.action_repeat):
            self.sim.ctrl.copy_(self._randomizer.arriving(control))
            self.sim.step()
            reward += torch.where(terminated, 0.0, self.task.reward(self.sim))
            terminated = terminated | self.task.terminated(self.sim)
        self._generator.advance()
        self._env_frames += self.num_envs * self.action_repeat
        self._episode_step += 1

        self._decisions += self.num_envs
        broken = self.broken = self._find_broken(valid, reward)
        ends = flags(terminated & ~broken, broken | (self._episode_step >= self.episode_steps))
        self._note_done(ends["done"])
        self._repair(broken)
        now = self._observe()
        self._last = {name: select(broken, self._last[name], x) for name, x in now.items()}
        reward = torch.where(broken, 0.0, reward)[:, None]  # (B, 1)
        return self._tensordict(self._last | ends | {"reward": reward})

    def _reset(self, tensordict: TensorDictBase | None = None, **_: object) -> TensorDictBase:
        mask = self._mask(tensordict)
        self._generator.start()
        self.sim.reset(mask)
        self._randomizer.reset(mask, self._generator)
        self.task.reset(self.sim, mask, self._generator)
        self.sim.forward()
        self._episode_step.masked_fill_(mask, 0)
        self._last = self._observe()
        self._check_start(mask)
        return self.observe()

    def _set_seed(self, seed: int | None) -> None:
        if seed is None:
            self._generator.seed()
        else:
            self._generator.manual_seed(seed)

    # ---- what the worlds look like ----

    def _observe(self) -> dict[str, torch.Tensor]:
        seen = self.sim.pictures() if self._draws else {}
        self._randomizer.paint(seen, self._episode_step * self.decision_seconds)
        if "state" in self.observations:
            seen["state"] = self._state()
        if "behaviour" in self.observations:
            seen["behaviour"] = self.task.behaviour(self.sim)
        return {name: seen[name] for name in self.observations}

    def _state(self) -> torch.Tensor:
        return torch.cat(list(self.task.observation(self.sim).values()), dim=-1)  # (B, n)

    def _check_start(self, mask: torch.Tensor) -> None:
        """Lets no state that is not finite out of the reset of the worlds of `mask`, (B,)."""
        wrong = ~self._state().isfinite() & mask[:, None]  # (B, n)
        if self.device.type != "cpu":  # asking would wait: `_report` does
            self._bad_starts += wrong.any(-1).sum()
            if "state" in self._last:
                self._last["state"] = self._last["state"].nan_to_num(0.0, 0.0, 0.0)
        elif wrong.any():
            entries = [self.state_names[i] for i in wrong.any(0).nonzero()[:, 0].tolist()]
            raise FaultyTaskError(
                f"The task {self.task_name} starts with a state that is not finite, in its worlds "
                f"{wrong.any(-1).nonzero()[:, 0].tolist()}, in: {', '.join(entries)}. Mend its reset or observation."
            )

    def _find_broken(self, valid: torch.Tensor, reward: torch.Tensor) -> torch.Tensor:
        """Worlds that must be reset, (B,) bool, given those whose action was `valid` and the rewards; counts why."""
        self._overflowed += self.sim.overflowed().sum(0)
        sound = valid & ~self.sim.broken()
        wrong = ~torch.cat([reward[:, None], self._state()], dim=-1).isfinite()  # (B, 1 + n)
        wrong_task = wrong & sound[:, None]
        self._not_finite += wrong_task.sum(0)
        self._faulty += wrong_task.any(-1).sum()
        return ~sound | wrong.any(-1)

    def _repair(self, broken: torch.Tensor) -> None:
        """Puts broken worlds (B,) into the model's default state, which is finite; their reset follows."""
        self._repaired += broken.sum()
        if self.device.type == "cpu" and not broken.any():
            return
        self.sim.reset(broken)
        self.sim.forward()
        if self.device.type == "cpu":
            self._report()

    def _report(self) -> None:
        """Warns, once for each, of buffers that were too small and of a task that is at fault; waits for the device.

        Raises:
            FaultyTaskError: it is at fault in too many decisions.
        """
        names = ("reward", *self.state_names)
        wrong = [name for name, count in zip(names, self._not_finite.tolist(), strict=True) if count]
        self._check_faults(int(self._faulty), self._decisions, wrong)
        if int(self._bad_starts):
            raise FaultyTaskError(
                f"The task {self.task_name} starts with a state that is not finite: mend its reset or observation."
            )
        if wrong and "not finite" not in self._reported:
            self._reported.add("not finite")
            warnings.warn(
                f"The task {self.task_name} gave numbers that are not finite where its physics was sound, in: "
                f"{', '.join(wrong)}. Its worlds start new episodes then, without reward. Mend its reward or "
                "observation; the counter repaired_worlds goes on counting.",
                RuntimeWarning,
                stacklevel=2,
            )
        for argument, count in zip(OVERFLOWS, self._overflowed.tolist(), strict=True):
            if count and argument not in self._reported:
                self._reported.add(argument)
                remedy = "A height field met too many triangles of another geom: make its cells larger."
                if argument:
                    remedy = f"Raise {argument} (env.{argument}), which is {self.sim.room[argument]} a world."
                warnings.warn(
                    f"Worlds of {self.task_name} ran out of room for contacts or constraints and start new episodes. "
                    f"{remedy} The counter overflowed_worlds goes on counting.",
                    RuntimeWarning,
                    stacklevel=2,
                )

    # ---- saving ----

    def worlds_state(self) -> dict[str, torch.Tensor]:
        """Everything needed to continue exactly here, in another process too; tensors alone."""
        parts = {"sim": self.sim.state(), "randomizer": self._randomizer.state()}
        return {f"{part}.{name}": x for part, state in parts.items() for name, x in state.items()} | {
            "episode_step": self._episode_step.clone(),
            "repaired": self._repaired.clone(),
            "overflowed": self._overflowed.clone(),
            "env_frames": torch.tensor(self._env_frames),
            "generator": self._generator.state(),
        }

    def load_worlds_state(self, state: dict[str, torch.Tensor]) -> None:
        """Continues from what `worlds_state` returned; `observe` then gives the observation to act on.

        Raises:
            ValueError: for the state of another task or another number of worlds.
        """
        missing = {"episode_step", "repaired", "overflowed", "env_frames", "generator"} - state.keys()
        if missing:
            raise ValueError(f"Saved worlds lack {', '.join(sorted(missing))}.")
        self.sim.load_state({name.removeprefix("sim."): x for name, x in state.items()})
        self._randomizer.load_state({name.removeprefix("randomizer."): x for name, x in state.items()})
        self._episode_step.copy_(state["episode_step"])
        self._repaired.copy_(state["repaired"])
        self._overflowed.copy_(state["overflowed"])
        self._env_frames = int(state["env_frames"])
        self._generator.load_state(state["generator"].cpu())
        self._last = self._observe()
