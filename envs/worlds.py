"""A batch of worlds as a torchrl environment, whatever simulates them."""

import torch
from tensordict import TensorDict, TensorDictBase
from torchrl.data import Binary, Bounded, Composite, UnboundedContinuous
from torchrl.envs import EnvBase

from mindreel.envs.config import EnvConfig
from mindreel.envs.masks import flags
from mindreel.envs.warp.graphs import PendingAny
from mindreel.names import check_name

OBSERVATIONS = ("pixels", "state", "depth", "segmentation", "behaviour")
_MOST_FAULTS = 0.1  # of a task's decisions, ...
_LEAST_FAULTS = 100  # ... once there were as many
ENDLESS = 1000
"""Control steps after which an episode of a task without end is cut off."""


class FaultyTaskError(ValueError):
    """A task gives numbers that are not finite, too often for anything to be learned from it."""


class Worlds(EnvBase):
    """A batch of worlds in which one task is played; batch size (B,).

    One step is one decision: (obs[t], action[t]) -> reward[t], obs[t+1]. The action, clipped to its bounds, holds
    for `action_repeat` control steps, whose rewards are summed. Worlds whose episode ends start afresh in
    `step_and_maybe_reset`. A subclass simulates: it fills `_last`, and has `_step`, `_reset`, `_set_seed`,
    `counters`, `worlds_state` and `load_worlds_state`.

    Args:
        config: the worlds' settings.
        task_name: the task's name, for logs and messages.
        device: where the tensors are.
        observations: which of `OBSERVATIONS` are given.

    Raises:
        ValueError: for an unknown observation.
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
    """Whether `load_worlds_state` continues bit-exactly; else it starts new episodes."""

    def __init__(self, config: EnvConfig, task_name: str, device: torch.device, observations: tuple[str, ...]):
        check_observations(observations, OBSERVATIONS)
        super().__init__(device=device, batch_size=torch.Size([config.num_envs]))
        self.config = config
        self.task_name = task_name
        self.num_envs = config.num_envs
        self.action_repeat = config.action_repeat
        self.observations = tuple(observations)
        self.broken = torch.zeros(config.num_envs, dtype=torch.bool, device=device)
        """Worlds that broke in the last step, (B,): it gave no transition of the task, so keep it out of replay."""
        self._last: dict[str, torch.Tensor] = {}
        self._pending_done: tuple[torch.Tensor, PendingAny] | None = None  # a step's `done`, and whether any holds

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
        `overflowed_worlds`: how often one of them was out of room for contacts or constraints. `faulty_decisions`: how
        often the task's reward or state was not finite where its physics was sound; these worlds were reset too.

        Raises:
            FaultyTaskError: a tenth of the decisions were faulty.
        """
        raise NotImplementedError

    def maybe_reset(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Starts new episodes in the worlds that are done, as torchrl does.

        torchrl reads here whether any is, and on CUDA so waits in every step until the device has done all of its work.
        After a step that called `_note_done` only the physics is waited for, while the device goes on with what was
        queued later.
        """
        if self._pending_done is not None:
            done, any_done = self._pending_done
            if tensordict.get("done") is done and not any_done.read():
                return tensordict
        return super().maybe_reset(tensordict)

    def _check_faults(self, faulty: int, decisions: int, entries: list[str]) -> None:
        """Raises FaultyTaskError if too many of a task's decisions, in all worlds, were faulty."""
        if faulty >= max(_LEAST_FAULTS, _MOST_FAULTS * decisions):
            raise FaultyTaskError(
                f"The task {self.task_name} gave numbers that are not finite in {faulty} of {decisions} decisions, in: "
                f"{', '.join(entries)}. Nothing can be learned from it: mend its reward or observation."
            )

    def _note_done(self, done: torch.Tensor) -> None:
        """To be called in `_step` as soon as it is known which worlds are done, with the (B, 1) that it returns."""
        self._pending_done = done, PendingAny(done)

    def observe(self) -> TensorDictBase:
        """The root tensordict that the next action answers: the present observation, nothing done."""
        none = torch.zeros(self.num_envs, dtype=torch.bool, device=self.device)
        return self._tensordict(self._last | flags(none, none))

    def worlds_state(self) -> dict[str, torch.Tensor]:
        """The worlds' state as tensors, from which `load_worlds_state` continues, in another process too."""
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


def check_observations(observations: tuple[str, ...], known: tuple[str, ...]) -> None:
    """Raises ValueError unless there is at least one observation and all are known."""
    if isinstance(observations, str):
        raise ValueError(f"observations should be a tuple of names, such as ({observations!r},), got {observations!r}.")
    if not observations:
        raise ValueError(f"An agent must see something: choose from {', '.join(known)}.")
    for name in observations:
        check_name(name, known, "observation")


def check_no_nan(action: torch.Tensor) -> None:
    """Raises ValueError, naming the worlds, unless all actions (B, A) are numbers; infinite ones are."""
    wrong = action.isnan().any(-1)  # (B,)
    if wrong.any():
        raise ValueError(f"Actions must be numbers; those of worlds {wrong.nonzero()[:, 0].tolist()} are NaN.")
