"""What encoders of rollouts do with frames before any layer: normalise them, and move them while learning."""

import torch
from torch import Tensor
from torch.nn import functional as F

from mindreel.encoders.encoder import Encoder


class FrameEncoder(Encoder):
    """An encoder that reads frames with the mean frame of its rollouts taken off.

    Args:
        image_size: height and width H of a frame, in pixels.
    """

    mean_frame: Tensor
    pixel_std: Tensor

    def __init__(self, image_size: int):
        super().__init__()
        self.register_buffer("mean_frame", torch.full((3, image_size, image_size), 127.5))
        self.register_buffer("pixel_std", torch.tensor(64.0))

    def normalise(self, frames: Tensor) -> Tensor:
        """uint8 frames (..., 3, H, W) to float: the mean frame of the rollouts taken off, unit variance.

        What never moves becomes zero, so that neither masks nor features are spent on it.
        """
        return (frames.float() - self.mean_frame) / self.pixel_std

    def fit(self, frames: Tensor, reward: Tensor) -> None:
        """Sets mean frame and scale of the pixels, and the targets of the encoder's own objective.

        Args:
            frames: pairs of successive frames, uint8 (N, 2, 3, H, W).
            reward: rewards (N,).
        """
        flat = frames[:, 1].float()
        self.mean_frame.copy_(flat.mean(0))
        self.pixel_std.copy_((flat - self.mean_frame).std().clamp(min=1.0))
        self.fit_targets(frames, reward)

    def copy_normalisation(self, other: "FrameEncoder") -> None:
        """Takes over another encoder's mean frame and scale of the pixels."""
        self.mean_frame.copy_(other.mean_frame)
        self.pixel_std.copy_(other.pixel_std)


def shifted(clip: Tensor, most: int) -> Tensor:
    """Each clip (B, F, 3, H, W) moved by up to `most` pixels in height and width; its edges are repeated."""
    batch, frames, _, height, width = clip.shape
    padded = F.pad(clip.flatten(0, 1), (most,) * 4, mode="replicate").unflatten(0, (batch, frames))
    top, left = torch.randint(2 * most + 1, (2, batch, 1), device=clip.device)  # (B, 1) each
    rows = top + torch.arange(height, device=clip.device)  # (B, H)
    columns = left + torch.arange(width, device=clip.device)  # (B, W)
    index = torch.arange(batch, device=clip.device)[:, None, None]
    picked = padded.movedim(2, -1).movedim(1, 3)[index, rows[:, :, None], columns[:, None]]  # (B, H, W, F, 3)
    return picked.movedim(3, 1).movedim(4, 2)
