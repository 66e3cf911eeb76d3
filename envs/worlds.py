"""What every batch of worlds has, whatever simulates them: specs, episodes and what the loop asks for."""

import difflib

import torch
from tensordict import TensorDict, TensorDictBase
from torchrl.data import Binary, Bounded, Composite, UnboundedContinuous
from torchrl.envs import EnvBase

from mindreel.envs.warp.graphs import Question

OBSERVATIONS = ("pixels", "state", "depth", "segmentation", "behaviour")
ENDLESS = 1000
"""Control steps after which an episode of a task without end is cut off."""


class Worlds(EnvBase):
    """A batch of worlds in which one task is played; batch size (B,).

    One step is one decision: (obs[t], action[t]) -> reward[t], obs[t+1]. The action, clipped to its bounds, holds
    for `action_repeat` control steps, whose rewards are summed. Worlds whose episode ends start afresh in
    `step_and_maybe_reset`. A subclass simulates: it fills `_last`, and has `_step`, `_reset`, `_set_seed`,
    `counters`, `worlds_state` and `load_worlds_state`.

    Args:
        task_name: the task's name, for logs.
        num_envs: number of worlds, B.
        device: where the tensors are.
        observations: which of `OBSERVATIONS` are given.
        action_repeat: control steps for which one action holds.

    Raises:
        ValueError: for an unknown observation, or a count below one.
    """

    episode_steps: int
    """Decisions in an episode."""
    decision_seconds: float
    """Simulated time that one decision takes."""
    action_dim: int
    """Numbers in an action, A."""
    state_names: tuple[str, ...]
    """Names of the entries of `state`."""
    behaviours: tuple[str, ...] = ()
    """Sentences that `behaviour` points to."""
    resumes_exactly: bool = True
    """Whether `load_worlds_state` goes on to the bit; else it starts new episodes."""

    def __init__(
        self, task_name: str, num_envs: int, device: torch.device, observations: tuple[str, ...], action_repeat: int
    ):
        check_counts(num_envs=num_envs, action_repeat=action_repeat)
        check_observations(observations, OBSERVATIONS)
        super().__init__(device=device, batch_size=torch.Size([num_envs]))
        self.task_name = task_name
        self.num_envs = num_envs
        self.action_repeat = action_repeat
        self.observations = tuple(observations)
        self._last: dict[str, torch.Tensor] = {}
        self._ended: tuple[torch.Tensor, Question] | None = None  # a step's `done`, and whether any of it holds

    def _make_specs(self, low: torch.Tensor, high: torch.Tensor) -> None:
        """Specs of the observations in `_last`, and of actions between `low` and `high`, (A,) each."""
        observation = Composite(shape=self.batch_size, device=self.device)
        for name, x in self._last.items():
            observation[name] = self._observation_spec(name, x)
        self.observation_spec = observation
        shape = torch.Size([self.num_envs, len(low)])
        self.action_spec = Bounded(
            low=low.expand(shape), high=high.expand(shape), shape=shape, dtype=torch.float32, device=self.device
        )
        one = torch.Size([self.num_envs, 1])
        self.reward_spec = UnboundedContinuous(shape=one, device=self.device)
        flag = Binary(n=1, shape=one, dtype=torch.bool, device=self.device)
        self.done_spec = Composite(
            {"done": flag, "terminated": flag.clone(), "truncated": flag.clone()},
            shape=self.batch_size,
            device=self.device,
        )

    def _observation_spec(self, name: str, x: torch.Tensor) -> Bounded | UnboundedContinuous:
        bounds = {
            "pixels": (0, 255),
            "behaviour": (-1, len(self.behaviours) - 1),
            "segmentation": (-1, torch.iinfo(torch.int32).max),
        }
        if name not in bounds:
            return UnboundedContinuous(shape=x.shape, dtype=x.dtype, device=self.device)
        low, high = bounds[name]
        return Bounded(low=low, high=high, shape=x.shape, dtype=x.dtype, device=self.device)

    @property
    def counters(self) -> dict[str, int]:
        """Totals since this environment was made; reading them may wait for the device.

        `env_frames`: control steps of all worlds. `repaired_worlds`: worlds that broke and were reset.
        `overflowed_worlds`: how often one of them was out of room for contacts or constraints.
        """
        raise NotImplementedError

    def maybe_reset(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Starts the worlds afresh that are done, as torchrl does, and leaves all as it is where none is.

        torchrl asks here whether any is, and on CUDA waits in every step until the device has done all of its work. A
        step that called `_ask_ended` has asked before: what is waited for is its physics alone, while the device goes
        on with what came after that. Where some world is done, the reset waits as any does.
        """
        if self._ended is not None and tensordict.get("done") is self._ended[0] and not self._ended[1].read():
            return tensordict
        return super().maybe_reset(tensordict)

    def _ask_ended(self, done: torch.Tensor) -> None:
        """To be called in `_step` as soon as it is known which worlds are done, with the (B, 1) that it returns."""
        self._ended = done, Question(done)

    def observe(self) -> TensorDictBase:
        """The root tensordict that the next action answers: the present observation, nothing done."""
        none = torch.zeros(self.num_envs, dtype=torch.bool, device=self.device)
        return self._tensordict(self._last | flags(none, none))

    def worlds_state(self) -> dict[str, torch.Tensor]:
        """What `load_worlds_state` needs to continue here, in another process too; tensors alone."""
        raise NotImplementedError

    def load_worlds_state(self, state: dict[str, torch.Tensor]) -> None:
        """Continues from what `worlds_state` returned; `observe` then gives the observation to act on."""
        raise NotImplementedError

    def _tensordict(self, entries: dict[str, torch.Tensor]) -> TensorDictBase:
        return TensorDict(entries, batch_size=self.batch_size, device=self.device)

    def _mask(self, tensordict: TensorDictBase | None) -> torch.Tensor:
        """Worlds that a call of `_reset` is about, (B,) bool: all where it names none."""
        mask = None if tensordict is None else tensordict.get("_reset", None)
        if mask is None:
            return torch.ones(self.num_envs, dtype=torch.bool, device=self.device)
        return mask.view(self.num_envs)


def check_counts(**counts: int | None) -> None:
    """Raises ValueError for a count below one; None stands for a default."""
    for name, count in counts.items():
        if count is not None and count < 1:
            raise ValueError(f"{name} must be at least 1, got {count}.")


def check_workers(workers: int | None) -> None:
    """Raises ValueError for a number of processes below zero; None stands for a default."""
    if workers is not None and workers < 0:
        raise ValueError(f"workers should be at least 0, which means no other process than this, got {workers}.")


def check_observations(observations: tuple[str, ...], known: tuple[str, ...]) -> None:
    """Raises ValueError unless there is at least one observation and all are known."""
    if isinstance(observations, str):
        raise ValueError(f"observations should be a tuple of names, such as ({observations!r},), got {observations!r}.")
    if not observations:
        raise ValueError(f"An agent must see something: choose from {', '.join(known)}.")
    for name in observations:
        if name not in known:
            nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]
            raise ValueError(f"Unknown observation {name!r}. Nearest: {nearest}. There are {', '.join(known)}.")


def check_no_nan(action: torch.Tensor) -> None:
    """Raises ValueError, naming the worlds, unless all actions (B, A) are numbers; infinite ones are."""
    wrong = action.isnan().any(-1)  # (B,)
    if wrong.any():
        raise ValueError(f"Actions must be numbers; those of worlds {wrong.nonzero()[:, 0].tolist()} are NaN.")


def flags(terminated: torch.Tensor, truncated: torch.Tensor) -> dict[str, torch.Tensor]:
    """How an episode ended, as torchrl wants it: (B,) each becomes (B, 1)."""
    done = terminated | truncated
    return {"terminated": terminated[:, None], "truncated": truncated[:, None], "done": done[:, None]}


def select(mask: torch.Tensor, yes: torch.Tensor, no: torch.Tensor) -> torch.Tensor:
    """`yes` (B, ...) in the worlds of `mask` (B,), `no` elsewhere."""
    return torch.where(mask.view(-1, *[1] * (yes.ndim - 1)), yes, no)
