"""What the loop expects of every encoder."""

import hashlib

import torch
from torch import Tensor, nn


class Encoder(nn.Module):
    """Observations to features. Subclasses set the attributes and implement `forward`.

    Attributes:
        feature_dim: width of the features that the agent receives.
        clip_frames: frames F of the clips it reads; 0 for an encoder that reads the simulator's state.
        training_mode: who trains it. "frozen": nobody, or pretraining once before the agent starts;
            "refresh": pretraining goes on with the agent's own rollouts; "cotrain": the agent's losses
            reach it, so features cannot be stored and are computed anew for every batch.
        has_objective: whether it has a pretraining objective: `losses` and `update_teacher`, as in vjepa.py.
    """

    feature_dim: int
    clip_frames: int
    training_mode: str = "frozen"
    has_objective: bool = False

    def forward(self, observation: Tensor) -> Tensor:
        """uint8 clips (B, F, 3, H, W), newest frame last, or states (B, n), to features (B, feature_dim)."""
        raise NotImplementedError

    def fit(self, frames: Tensor, reward: Tensor) -> None:
        """Sets what is fitted to rollouts before any training: nothing by default.

        Args:
            frames: pairs of successive frames, uint8 (N, 2, 3, H, W).
            reward: rewards (N,).
        """

    def fit_like(self, other: "Encoder") -> None:
        """Takes over what another encoder of the same class was fitted with: nothing by default."""

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
