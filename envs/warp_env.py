"""A task on a batch of simulated worlds, as a torchrl environment."""

import difflib

import torch
from tensordict import TensorDict, TensorDictBase
from torchrl.data import Binary, Bounded, Composite, UnboundedContinuous
from torchrl.envs import EnvBase

from envs.tasks import TASKS, Task
from envs.warp_sim import RenderConfig, WarpSim, resolve_device

OBSERVATIONS = ("pixels", "state")


def make_env(
    task: str = "cartpole-swingup",
    num_envs: int = 16,
    device: torch.device | str = "cpu",
    seed: int = 0,
    observations: tuple[str, ...] = ("pixels", "state"),
    action_repeat: int = 2,
    render: RenderConfig = RenderConfig(),  # noqa: B008 (frozen)
    max_contacts: int | None = None,
    max_constraints: int | None = None,
) -> "WarpEnv":
    """`num_envs` worlds of the task called `task`; see `WarpEnv` for the arguments.

    Raises:
        ValueError: for an unknown task, device, observation or camera, or a count below one.
    """
    if task not in TASKS:
        nearest = difflib.get_close_matches(task, TASKS, n=3, cutoff=0.0)
        raise ValueError(f"Unknown task {task!r}. Nearest: {', '.join(nearest)}.")
    return WarpEnv(
        TASKS[task](),
        task_name=task,
        num_envs=num_envs,
        device=device,
        seed=seed,
        observations=observations,
        action_repeat=action_repeat,
        render=render,
        max_contacts=max_contacts,
        max_constraints=max_constraints,
    )


class WarpEnv(EnvBase):
    """A batch of worlds in which one task is played; batch size (B,).

    One step is one decision: (obs[t], action[t]) -> reward[t], obs[t+1]. The action, clipped to its
    bounds, holds for `action_repeat` control steps, whose rewards are summed. An episode that reaches the
    task's time limit is truncated. So is that of a world that breaks (its state is not finite, or its
    contacts or constraints outgrow their buffers): its reward is 0, its final observation the last good
    one, and it starts afresh like every world whose episode ends.

    Args:
        task: the task; each environment needs its own.
        task_name: its name, for logs.
        num_envs: number of worlds, B.
        device: "cpu" or a CUDA device, on which everything stays.
        seed: seed of all that is random here.
        observations: which of "pixels", uint8 (B, 3, H, W), and "state", float32 (B, n), are given.
        action_repeat: control steps for which one action holds.
        render: camera and picture size.
        max_contacts: contacts that one world may have on average; None lets mujoco_warp guess.
        max_constraints: scalar constraints that one world may have; None lets mujoco_warp guess.

    Raises:
        ValueError: for an unknown device, observation or camera, or a count below one.
    """

    def __init__(
        self,
        task: Task,
        *,
        task_name: str,
        num_envs: int = 16,
        device: torch.device | str = "cpu",
        seed: int = 0,
        observations: tuple[str, ...] = ("pixels", "state"),
        action_repeat: int = 2,
        render: RenderConfig = RenderConfig(),  # noqa: B008 (frozen)
        max_contacts: int | None = None,
        max_constraints: int | None = None,
    ):
        _check_arguments(num_envs, action_repeat, observations)
        device = resolve_device(device)
        super().__init__(device=device, batch_size=torch.Size([num_envs]))
        self.task = task
        self.task_name = task_name
        self.num_envs = num_envs
        self.action_repeat = action_repeat
        self.episode_steps = max(1, task.control_steps // action_repeat)
        self.observations = tuple(observations)
        self.sim = WarpSim(
            task.model,
            num_envs,
            device,
            substeps=task.substeps,
            render=render if "pixels" in observations else None,
            per_world=task.per_world,
            max_contacts=max_contacts,
            max_constraints=max_constraints,
        )
        self.action_dim = task.model.nu
        self.state_names = tuple(
            f"{name}[{i}]" for name, x in task.observation(self.sim).items() for i in range(x.shape[-1])
        )
        self._generator = torch.Generator().manual_seed(seed)
        self._episode_step = torch.zeros(num_envs, dtype=torch.int64, device=device)
        self._repaired = torch.zeros((), dtype=torch.int64, device=device)
        self._env_frames = 0
        self._last = self._observe()
        self._make_specs()

    def _make_specs(self) -> None:
        observation = Composite(shape=self.batch_size, device=self.device)
        for name, x in self._last.items():
            if name == "pixels":
                spec = Bounded(low=0, high=255, shape=x.shape, dtype=torch.uint8, device=self.device)
            else:
                spec = UnboundedContinuous(shape=x.shape, dtype=torch.float32, device=self.device)
            observation[name] = spec
        self.observation_spec = observation
        shape = torch.Size([self.num_envs, self.action_dim])
        self.action_spec = Bounded(
            low=self.sim.ctrl_low.expand(shape),
            high=self.sim.ctrl_high.expand(shape),
            shape=shape,
            dtype=torch.float32,
            device=self.device,
        )
        one = torch.Size([self.num_envs, 1])
        self.reward_spec = UnboundedContinuous(shape=one, device=self.device)
        flag = Binary(n=1, shape=one, dtype=torch.bool, device=self.device)
        self.done_spec = Composite(
            {"done": flag, "terminated": flag.clone(), "truncated": flag.clone()},
            shape=self.batch_size,
            device=self.device,
        )

    @property
    def counters(self) -> dict[str, int]:
        """Totals since this environment was made; reading them waits for the device.

        `env_frames`: control steps of all worlds. `repaired_worlds`: worlds that broke and were reset.
        """
        return {"env_frames": self._env_frames, "repaired_worlds": int(self._repaired)}

    # ---- torchrl ----

    def _step(self, tensordict: TensorDictBase) -> TensorDictBase:
        action: torch.Tensor = tensordict.get("action")  # (B, A)
        valid = action.isfinite().all(-1)  # (B,)
        if self.device.type == "cpu" and not valid.all():  # on CUDA asking would wait for the device
            raise ValueError(f"Actions must be finite; those of worlds {(~valid).nonzero()[:, 0].tolist()} are not.")
        self.sim.ctrl.copy_(action.nan_to_num().clamp(self.sim.ctrl_low, self.sim.ctrl_high))
        reward = torch.zeros(self.num_envs, device=self.device)
        for _ in range(self.action_repeat):
            self.sim.step()
            reward += self.task.reward(self.sim)
        self._env_frames += self.num_envs * self.action_repeat
        self._episode_step += 1
        terminated = self.task.terminated(self.sim)

        broken = self.sim.broken() | ~valid | ~reward.isfinite() | ~self._state().isfinite().all(-1)
        self._repair(broken)
        now = self._observe()
        self._last = {name: _select(broken, self._last[name], x) for name, x in now.items()}
        truncated = broken | (self._episode_step >= self.episode_steps)
        flags = _flags(terminated & ~broken, truncated)
        reward = torch.where(broken, 0.0, reward)[:, None]  # (B, 1)
        return self._tensordict(self._last | flags | {"reward": reward})

    def _reset(self, tensordict: TensorDictBase | None = None, **_: object) -> TensorDictBase:
        mask = None if tensordict is None else tensordict.get("_reset", None)
        if mask is None:
            mask = torch.ones(self.num_envs, dtype=torch.bool, device=self.device)
        mask = mask.view(self.num_envs)
        self.sim.reset(mask)
        self.task.reset(self.sim, mask, self._generator)
        self.sim.forward()
        self._episode_step.masked_fill_(mask, 0)
        self._last = self._observe()
        return self.observe()

    def _set_seed(self, seed: int | None) -> None:
        if seed is None:
            self._generator.seed()
        else:
            self._generator.manual_seed(seed)

    # ---- what the worlds look like ----

    def observe(self) -> TensorDictBase:
        """The root tensordict that the next action answers: the present observation, nothing done."""
        none = torch.zeros(self.num_envs, dtype=torch.bool, device=self.device)
        return self._tensordict(self._last | _flags(none, none))

    def _observe(self) -> dict[str, torch.Tensor]:
        read = {"pixels": self.sim.render, "state": self._state}
        return {name: read[name]() for name in self.observations}

    def _state(self) -> torch.Tensor:
        return torch.cat(list(self.task.observation(self.sim).values()), dim=-1)  # (B, n)

    def _tensordict(self, entries: dict[str, torch.Tensor]) -> TensorDictBase:
        return TensorDict(entries, batch_size=self.batch_size, device=self.device)

    def _repair(self, broken: torch.Tensor) -> None:
        """Puts broken worlds (B,) into the model's default state, which is finite; their reset follows."""
        self._repaired += broken.sum()
        if self.device.type == "cpu" and not broken.any():
            return
        self.sim.reset(broken)
        self.sim.forward()

    # ---- saving ----

    def worlds_state(self) -> dict[str, torch.Tensor]:
        """Everything needed to continue exactly here, in another process too; tensors alone."""
        return {f"sim.{name}": x for name, x in self.sim.state().items()} | {
            "episode_step": self._episode_step.clone(),
            "repaired": self._repaired.clone(),
            "env_frames": torch.tensor(self._env_frames),
            "generator": self._generator.get_state(),
        }

    def load_worlds_state(self, state: dict[str, torch.Tensor]) -> None:
        """Continues from what `worlds_state` returned; `observe` then gives the observation to act on.

        Raises:
            ValueError: for the state of another task or another number of worlds.
        """
        missing = {"episode_step", "repaired", "env_frames", "generator"} - state.keys()
        if missing:
            raise ValueError(f"Saved worlds lack {', '.join(sorted(missing))}.")
        self.sim.load_state({name.removeprefix("sim."): x for name, x in state.items()})
        self._episode_step.copy_(state["episode_step"])
        self._repaired.copy_(state["repaired"])
        self._env_frames = int(state["env_frames"])
        self._generator.set_state(state["generator"].cpu())
        self._last = self._observe()


def _check_arguments(num_envs: int, action_repeat: int, observations: tuple[str, ...]) -> None:
    if num_envs < 1 or action_repeat < 1:
        raise ValueError(f"num_envs and action_repeat must be at least 1, got {num_envs} and {action_repeat}.")
    if not observations:
        raise ValueError(f"An agent must see something: choose from {', '.join(OBSERVATIONS)}.")
    for name in observations:
        if name not in OBSERVATIONS:
            nearest = difflib.get_close_matches(name, OBSERVATIONS, n=1, cutoff=0.0)[0]
            raise ValueError(f"Unknown observation {name!r}. Nearest: {nearest}.")


def _flags(terminated: torch.Tensor, truncated: torch.Tensor) -> dict[str, torch.Tensor]:
    done = terminated | truncated
    return {
        "terminated": terminated[:, None],
        "truncated": truncated[:, None],
        "done": done[:, None],
    }  # (B, 1)


def _select(mask: torch.Tensor, yes: torch.Tensor, no: torch.Tensor) -> torch.Tensor:
    return torch.where(mask.view(-1, *[1] * (yes.ndim - 1)), yes, no)
