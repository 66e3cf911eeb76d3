"""Frames before the first layer: normalised by the mean frame of the rollouts, and randomly shifted in training."""

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from mindreel.encoders.encoder import Encoder


class FrameEncoder(Encoder):
    """An encoder of frames from which the mean frame of its rollouts has been subtracted.

    Args:
        image_size: height and width H of a frame, in pixels.
    """

    mean_frame: Tensor
    pixel_std: Tensor

    def __init__(self, image_size: int):
        super().__init__()
        self.image_size = image_size
        self.register_buffer("mean_frame", torch.full((3, image_size, image_size), 127.5))
        self.register_buffer("pixel_std", torch.tensor(64.0))

    def normalise(self, frames: Tensor) -> Tensor:
        """uint8 frames (..., 3, H, W) to float: minus the mean frame of the rollouts, divided by their spread.

        Pixels that never change become zero, so that neither masks nor features are spent on them.
        """
        return (frames.float() - self.mean_frame) / self.pixel_std

    def fit(self, frames: Tensor, reward: Tensor) -> None:
        """Sets the mean frame, the scale of the pixels, and the targets of the encoder's objective.

        Args:
            frames: pairs of successive frames, uint8 (N, 2, 3, H, W).
            reward: rewards (N,).
        """
        flat = frames[:, 1].float()
        self.mean_frame.copy_(flat.mean(0))
        self.pixel_std.copy_((flat - self.mean_frame).std().clamp(min=1.0))
        self.fit_targets(frames, reward)

    def copy_normalisation(self, other: "FrameEncoder") -> None:
        """Copies another encoder's mean frame and scale of the pixels."""
        self.mean_frame.copy_(other.mean_frame)
        self.pixel_std.copy_(other.pixel_std)


def shifted(clip: Tensor, most: int) -> Tensor:
    """Shifts each clip (B, F, 3, H, W) by up to `most` pixels in height and width, all its frames alike.

    The pixels of the edges are repeated to fill the gaps.
    """
    batch, _, _, height, width = clip.shape
    padded = F.pad(rearrange(clip, "b f c h w -> (b f) c h w"), (most,) * 4, mode="replicate")
    padded = rearrange(padded, "(b f) c h w -> b h w f c", b=batch)
    top, left = torch.randint(2 * most + 1, (2, batch, 1), device=clip.device)  # (B, 1) each
    rows = top + torch.arange(height, device=clip.device)  # (B, H)
    columns = left + torch.arange(width, device=clip.device)  # (B, W)
    index = torch.arange(batch, device=clip.device)[:, None, None]
    picked = padded[index, rows[:, :, None], columns[:, None]]  # (B, H, W, F, 3)
    return rearrange(picked, "b h w f c -> b f c h w")
