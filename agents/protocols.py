"""What agents ask of the worlds, encoders and pretrainers that they are given."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol

from tensordict import TensorDictBase
from torch import Tensor

Policy = Callable[[Tensor, Tensor], Tensor]
"""features (B, D), `first` (B,), which marks worlds that start an episode -> actions (B, A) in [-1, 1]."""

Log = Callable[[dict[str, Any]], None]
"""Takes a row of metrics."""


class BatchedWorlds(Protocol):
    """Worlds that take their steps together: a TorchRL environment of batch size (B,) that can be resumed."""

    resumes_exactly: bool
    """Whether `load_worlds_state` continues the episodes that were saved; otherwise new ones begin."""

    @property
    def device(self) -> Any:
        """Where the tensors are."""
        ...

    @property
    def action_spec(self) -> Any:
        """Shape (B, A) and bounds of the actions."""
        ...

    @property
    def counters(self) -> dict[str, int]:
        """Totals since the worlds were made: `env_frames`, `repaired_worlds`."""
        ...

    def reset(self) -> TensorDictBase:
        """Starts an episode in every world."""
        ...

    def step(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Takes `action`; `next` then holds the observation that follows, `reward`, `terminated` and `done`."""
        ...

    def step_and_maybe_reset(self, tensordict: TensorDictBase) -> tuple[TensorDictBase, TensorDictBase]:
        """The same, and the observation to act on next: of a new episode where one has ended."""
        ...

    def observe(self) -> TensorDictBase:
        """The present observation."""
        ...

    def worlds_state(self) -> dict[str, Tensor]:
        """What `load_worlds_state` needs."""
        ...

    def load_worlds_state(self, state: dict[str, Tensor]) -> None:
        """Continues from a saved state."""
        ...


class FeatureEncoder(Protocol):
    """Turns clips of F frames, or states of the simulator, into features. `mindreel.encoders.Encoder` is one."""

    clip_frames: int
    """Frames F of a clip; 0 for an encoder that reads states."""
    training_mode: str
    """frozen, refresh, finetune or cotrain."""
    fits_readout: bool
    """Whether `fit_readout` does anything."""
    needs_sentences: bool
    """Whether its objective reads the sentences that describe clips."""

    @property
    def trained_by_agent(self) -> bool:
        """Whether the agent's losses reach it."""
        ...

    def __call__(self, observation: Tensor) -> Tensor:
        """uint8 clips (B, F, 3, H, W), or states (B, n), to features (B, D)."""
        ...

    def fit(self, frames: Tensor, reward: Tensor) -> None:
        """Fits its normalisation and targets to pairs of successive frames, uint8 (N, 2, 3, H, W), and rewards (N,)."""
        ...

    def fit_targets(self, frames: Tensor, reward: Tensor) -> None:
        """Fits its targets alone."""
        ...

    def fit_readout(self, clips: Tensor) -> None:
        """Fits what is read out of its tokens to clips, uint8 (N, F, 3, H, W)."""
        ...

    def losses(
        self, frames: Tensor, action: Tensor, reward: Tensor, behaviour: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Weighted terms of its objective, by name."""
        ...

    def update_teacher(self, progress: float) -> None:
        """Follows each step of training, of which the fraction `progress` is done."""
        ...

    def enter_last_stage(self) -> None:
        """Keeps an objective with stages in the last one."""
        ...

    def identity(self) -> str:
        """Hash of all that its features depend on."""
        ...

    def train(self, mode: bool = True) -> Any:
        """Switches to training mode."""
        ...

    def eval(self) -> Any:
        """Switches to evaluation mode."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Its weights."""
        ...

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> Any:
        """Takes weights over."""
        ...


class ClipSource(Protocol):
    """Where the clips come from that an encoder learns from: replay, a dataset of rollouts, or recordings."""

    @property
    def described(self) -> bool:
        """Whether a sentence is known to describe any of the clips."""
        ...

    def sample(self, batch_size: int) -> tuple[Tensor, ...]:
        """A batch for `FeatureEncoder.losses`.

        Returns:
            frames uint8 (B, F + K, 3, H, W), actions (B, K, A), rewards (B, K) and, where known, behaviour (B,).
        """
        ...

    def pairs(self, count: int) -> tuple[Tensor, Tensor]:
        """Random pairs of successive frames, uint8 (N, 2, 3, H, W), and rewards (N,)."""
        ...

    def clips(self, count: int) -> Tensor:
        """Random clips, uint8 (N, F, 3, H, W)."""
        ...


class PretrainSettings(Protocol):
    """The fields of an `encoders.pretrainer.PretrainConfig` that decide how long phases are and what they read."""

    @property
    def steps(self) -> int: ...
    @property
    def refresh_steps(self) -> int: ...
    @property
    def batch_size(self) -> int: ...
    @property
    def future_steps(self) -> int: ...
    @property
    def lr(self) -> float: ...
    @property
    def refresh_lr(self) -> float: ...


class ObjectivePretrainer(Protocol):
    """Trains an encoder by its own objective. `mindreel.encoders.pretrainer.Pretrainer` is one."""

    step: int
    """Gradient steps taken in all."""
    done: int
    """Gradient steps taken in the present phase; 0 between phases."""

    @property
    def config(self) -> PretrainSettings: ...

    def planned(self, sample: Callable[[], tuple[Tensor, ...]], steps: int) -> int:
        """The gradient steps of a phase of nominally `steps`."""
        ...

    def train(
        self,
        sample: Callable[[], tuple[Tensor, ...]],
        steps: int,
        lr: float,
        monitor: Callable[[], dict[str, float]] | None = None,
    ) -> Iterator[dict[str, float] | None]:
        """Takes the steps of a phase, yielding metrics where they are due."""
        ...

    def extend(self) -> None:
        """Reopens a phase that has ended, for more steps."""
        ...

    def throughput(self, sample: Callable[[], tuple[Tensor, ...]]) -> dict[str, float]:
        """Operations and speed of the steps taken."""
        ...

    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class Progress(Protocol):
    """Shows how far a run is."""

    def plan(self, stages: Mapping[str, int], seconds: Mapping[str, float]) -> None:
        """Says what is to come.

        Args:
            stages: steps of each stage, in order, over the whole run.
            seconds: what a step of a stage took so far, where that is known.
        """
        ...

    def __call__(self, steps: Iterable[int], stage: str, first: int, total: int) -> Iterator[int]:
        """The same steps, counted from `first` to `total`."""
        ...

    def show(self, **values: float) -> None:
        """Shows numbers beside the stage's progress, such as its loss."""
        ...


class NoProgress:
    """Shows nothing."""

    def plan(self, stages: Mapping[str, int], seconds: Mapping[str, float]) -> None: ...

    def __call__(self, steps: Iterable[int], stage: str, first: int, total: int) -> Iterator[int]:
        return iter(steps)

    def show(self, **values: float) -> None: ...
