"""The base class of all encoders: everything that agents, pretraining and probes use of one."""

import hashlib

import torch
from torch import Tensor, nn


class Encoder(nn.Module):
    """Observations to features. Subclasses set the attributes and implement `forward` and `tokens`.

    Subclasses are made as `EncoderClass(config, action_dim, state_dim)`. Those with a pretraining objective implement
    `losses` as well; all other methods do nothing by default.

    Attributes:
        feature_dim: number of features D that the agent receives.
        clip_frames: frames F of the clips it reads; 0 for an encoder that reads the simulator's state.
        image_size: height and width H of these frames, in pixels; 0 for an encoder that reads the simulator's state.
        token_grid: tokens along time, height and width, in the order of `tokens`.
        padding_times: number of leading times of the grid that show only padding: repeats of the oldest frame before a
            clip that is shorter than the model's.
        training_mode: "frozen" (never trained, or pretrained once before the agent starts), "refresh" (pretrained
            further on the agent's rollouts), "finetune" (trained by the agent's losses) or "cotrain" (by the agent's
            losses and its own objective). In the last two, features cannot be stored and are computed for every batch.
        has_objective: whether it has a pretraining objective, which is `losses`.
        fits_readout: whether `fit_readout` does anything.
        needs_sentences: whether `set_sentences` has to be called before `losses`.
    """

    feature_dim: int
    clip_frames: int
    image_size: int
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
        """Observations to features (B, feature_dim).

        Args:
            observation: uint8 clips (B, F, 3, H, W), newest frame last; or states (B, n) if `clip_frames` is 0.

        Raises:
            ValueError: clips are of another shape or type.
        """
        raise NotImplementedError

    def tokens(self, observation: Tensor) -> Tensor:
        """Observations, as in `forward`, to the tokens (B, N, D) that features are read out of.

        Raises:
            ValueError: clips are of another shape or type.
        """
        raise NotImplementedError

    def monitored_features(self, observation: Tensor) -> Tensor:
        """Observations, as in `forward`, to features (B, width) that show a collapse during training.

        By default the features themselves. Encoders whose features are fitted to tokens return the tokens instead,
        since they change while the fit stays.
        """
        return self(observation)

    # ---- fitted to rollouts ----

    def fit(self, frames: Tensor, reward: Tensor) -> None:
        """Fits normalisation and targets to rollouts, once, before any training.

        Args:
            frames: pairs of successive frames, uint8 (N, 2, 3, H, W).
            reward: rewards of the steps between them, (N,).
        """

    def fit_targets(self, frames: Tensor, reward: Tensor) -> None:
        """Fits the targets of the objective to rollouts, as `fit` does, before each refresh. Features stay the same."""

    def fit_readout(self, clips: Tensor) -> None:
        """Fits the readout to the tokens of clips, uint8 (N, F, 3, H, W), whenever training has changed the tokens."""

    def copy_normalisation(self, other: "Encoder") -> None:
        """Copies the normalisation that `fit` has given another encoder of the same class."""

    # ---- pretraining ----

    def losses(
        self, frames: Tensor, action: Tensor, reward: Tensor, behaviour: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Pretraining losses on sequences of F + K frames: a clip and K steps that follow.

        Args:
            frames: uint8 (B, F + K, 3, H, W).
            action: the K actions taken after the clip's newest frame, (B, K, A).
            reward: the rewards of these actions, (B, K).
            behaviour: index of the sentence that describes the clip's newest frame, int64 (B,); -1 where unknown.

        Returns:
            weighted losses by name, scalars; their sum is minimised.

        Raises:
            ValueError: shapes or types differ from these, or `set_sentences` was needed and not called.
            NotImplementedError: the encoder has no objective.
        """
        raise NotImplementedError(f"{type(self).__name__} has no pretraining objective.")

    def update_teacher(self, progress: float) -> None:
        """Called after each training step, with the fraction of pretraining done, between 0 and 1."""

    def enter_last_stage(self) -> None:
        """Called before `losses` when the encoder is trained beside an agent, by objectives in stages."""

    def set_sentences(self, sentences: tuple[str, ...]) -> None:
        """Sets the sentences that `behaviour` indexes, for encoders with `needs_sentences`.

        Raises:
            ValueError: there are no sentences, too many, or two equal ones; or a package to read them is missing.
            NotImplementedError: the encoder does not learn from sentences.
        """
        raise NotImplementedError(f"{type(self).__name__} does not learn from sentences.")

    # ---- records ----

    def identity(self) -> str:
        """Hash of everything that the features depend on: encoders of equal identity give equal features."""
        # Layers are part of it, since heads, strides or activations may differ where no weight does.
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
    """Raises ValueError unless actions are (B, K, action_dim) and rewards (B, K), for frames of B sequences."""
    rows, steps = len(frames), action.shape[1] if action.ndim == 3 else 0
    if action.shape != (rows, steps, action_dim) or reward.shape != (rows, steps):
        raise ValueError(
            f"This encoder learns from actions (B, K, {action_dim}) and rewards (B, K), with B = {rows} as in frames, "
            f"and got {tuple(action.shape)} and {tuple(reward.shape)}."
        )


def check_frames(frames: Tensor, count: int, height: int, width: int) -> None:
    """Raises ValueError unless frames are uint8 (B, count, 3, height, width)."""
    wanted = (count, 3, height, width)
    if frames.dtype != torch.uint8 or frames.ndim != 5 or frames.shape[1:] != wanted:
        raise ValueError(
            f"This encoder reads uint8 frames (B, {', '.join(map(str, wanted))}), and got {frames.dtype} "
            f"{tuple(frames.shape)}: its config's frames and image_size have to be those of the clips."
        )
