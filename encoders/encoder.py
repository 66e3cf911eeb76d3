"""What the loop expects of every encoder."""

import hashlib

import torch
from torch import Tensor, nn


class Encoder(nn.Module):
    """Observations to features. Subclasses set the attributes and implement `forward`.

    Attributes:
        feature_dim: width of the features that the agent receives.
        clip_frames: frames F of the clips it reads; 0 for an encoder that reads the simulator's state.
        token_grid: tokens along time, height and width, as `tokens` gives them.
        padding_times: of these times the first ones that show nothing of a clip: it was too short, and its oldest frame
            was repeated before it.
        training_mode: who trains it. "frozen": nobody, or pretraining once before the agent starts;
            "refresh": pretraining goes on with the agent's own rollouts; "finetune": the agent's losses reach
            it; "cotrain": they do, and its own objective beside them. In the last two the features cannot be
            stored and are computed anew for every batch.
        has_objective: whether it has a pretraining objective: `losses`.
        fits_readout: whether `fit_readout` has anything to do.
        needs_sentences: whether `set_sentences` has to be called before `losses`.
    """

    feature_dim: int
    clip_frames: int
    token_grid: tuple[int, int, int]
    padding_times: int = 0
    training_mode: str = "frozen"
    has_objective: bool = False
    fits_readout: bool = False
    needs_sentences: bool = False

    @property
    def trained_by_agent(self) -> bool:
        """Whether the agent's losses reach it."""
        return self.training_mode in ("finetune", "cotrain")

    # ---- features ----

    def forward(self, observation: Tensor) -> Tensor:
        """uint8 clips (B, F, 3, H, W), newest frame last, or states (B, n), to features (B, feature_dim)."""
        raise NotImplementedError

    def tokens(self, observation: Tensor) -> Tensor:
        """The same observations to the tokens (B, N, D) that the features are read out of."""
        raise NotImplementedError

    def monitored_features(self, observation: Tensor) -> Tensor:
        """What shows a collapse while the encoder is trained, (B, n): its features, or what they are fitted to."""
        return self(observation)

    # ---- what is fitted to rollouts ----

    def fit(self, frames: Tensor, reward: Tensor) -> None:
        """Sets what is fitted to rollouts before any training: nothing by default.

        Args:
            frames: pairs of successive frames, uint8 (N, 2, 3, H, W).
            reward: rewards (N,).
        """

    def fit_targets(self, frames: Tensor, reward: Tensor) -> None:
        """Sets the part of it that no feature depends on, before each refresh: nothing by default."""

    def fit_readout(self, clips: Tensor) -> None:
        """Sets what is fitted to the tokens themselves, after `fit` and whenever training has changed them.

        Args:
            clips: uint8 (N, F, 3, H, W).
        """

    def copy_normalisation(self, other: "Encoder") -> None:
        """Takes over what another encoder of the same class was fitted with by `fit`: nothing by default."""

    # ---- its own objective ----

    def losses(
        self, frames: Tensor, action: Tensor, reward: Tensor, behaviour: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Pretraining losses on sequences of F + K frames: a clip, and what K actions made of it.

        Args:
            frames: uint8 (B, F + K, 3, H, W).
            action: the K actions taken after the clip's newest frame, (B, K, A).
            reward: the rewards of these actions, (B, K).
            behaviour: which sentence describes the clip's newest frame, int64 (B,), -1 where that is unknown.

        Returns:
            weighted terms by name; their sum is the loss.
        """
        raise NotImplementedError

    def update_teacher(self, progress: float) -> None:
        """Follows each step of training; `progress` in [0, 1] is the share of it done. Nothing by default."""

    def enter_last_stage(self) -> None:
        """For objectives in stages: goes on as at the end of pretraining. Nothing by default."""

    def set_sentences(self, sentences: tuple[str, ...]) -> None:
        """Takes the sentences that `behaviour` counts through."""
        raise NotImplementedError

    # ---- records ----

    def identity(self) -> str:
        """Hash of all that the features depend on: two encoders with one identity give the same features."""
        # The layers too: attention heads, strides or activations may change and the weights' shapes not.
        digest = hashlib.sha256(f"{self} {self.feature_dim} {self.clip_frames}".encode())
        for name, value in sorted(self.state_dict().items()):
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()[:16]


def check_training_mode(mode: str, allowed: tuple[str, ...]) -> None:
    """Raises ValueError unless `mode` is one of `allowed`."""
    if mode not in allowed:
        raise ValueError(f"encoder.training_mode={mode}: expected one of {', '.join(allowed)}.")


def check_sequences(frames: Tensor, action: Tensor, reward: Tensor, action_dim: int) -> None:
    """Raises ValueError unless these belong to B sequences: actions (B, K, action_dim) and rewards (B, K)."""
    rows, steps = len(frames), action.shape[1] if action.ndim == 3 else 0
    if action.shape != (rows, steps, action_dim) or reward.shape != (rows, steps):
        raise ValueError(
            f"This encoder learns from actions (B, K, {action_dim}) and rewards (B, K) beside frames, with B of {rows} "
            f"here, and got {tuple(action.shape)} and {tuple(reward.shape)}."
        )


def check_frames(frames: Tensor, count: int, height: int, width: int) -> None:
    """Raises ValueError unless these are `count` frames a row, uint8 (B, count, 3, height, width)."""
    wanted = (count, 3, height, width)
    if frames.dtype != torch.uint8 or frames.ndim != 5 or frames.shape[1:] != wanted:
        raise ValueError(
            f"This encoder reads uint8 frames (B, {', '.join(map(str, wanted))}), and got {frames.dtype} "
            f"{tuple(frames.shape)}: frames and image_size in its config have to be those of the clips."
        )
