"""From latents back to pictures, for people to look at.

Nothing is learned from these pictures: the latents are detached on the way in, so a decoder can be fitted
to any encoder or world model, at any time, without changing it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from math import prod

import torch
from torch import Tensor, nn

# Enough for the mean picture and the per-pixel spread to converge.
_STATISTICS_FRAMES = 4096
_UPSAMPLINGS = 3


@dataclass(frozen=True)
class DecoderConfig:
    """Size of a decoder and how it is fitted."""

    hidden: int = 256
    """Width of the two linear layers that read the latent."""
    channels: int = 32
    """Channels of the smallest map (an eighth of the picture); they halve at each doubling of the size."""
    lr: float = 2e-3
    """Peak learning rate of AdamW; it falls to zero along a cosine."""
    weight_decay: float = 1e-4
    """Weight decay of AdamW."""
    focus: float = 0.3
    """Weight of what moves: 0 weighs all pixels alike and fades thin parts, 1 draws them too thick."""


class Decoder(nn.Module):
    """Latents to pictures: two linear layers, then three times convolve and double the size.

    The network predicts the difference from the mean picture, since most of a control-suite frame is
    background that never changes. `fit_decoder` sets that mean and the scale of the latents.

    Args:
        latent_dim: features of a latent, D.
        frame_shape: (C, H, W) of the pictures; H and W are multiples of 8.
        config: sizes and fitting.

    Raises:
        ValueError: for a picture whose sides are not multiples of 8.
    """

    mean_frame: Tensor
    latent_mean: Tensor
    latent_scale: Tensor

    def __init__(
        self,
        latent_dim: int,
        frame_shape: tuple[int, int, int] = (3, 64, 64),
        config: DecoderConfig = DecoderConfig(),
    ):
        super().__init__()
        channels, height, width = frame_shape
        shrink = 2**_UPSAMPLINGS
        if height % shrink or width % shrink or min(frame_shape) < 1:
            raise ValueError(
                f"Expected a frame_shape (C, H, W) with H and W multiples of {shrink}, got {tuple(frame_shape)}."
            )
        self.latent_dim = latent_dim
        self.frame_shape = (channels, height, width)
        self.config = config
        widths = [max(config.channels >> level, 8) for level in range(_UPSAMPLINGS)]
        small = (widths[0], height // shrink, width // shrink)
        self.read = nn.Sequential(
            nn.Linear(latent_dim, config.hidden),
            nn.LayerNorm(config.hidden),
            nn.SiLU(),
            nn.Linear(config.hidden, prod(small)),
            nn.Unflatten(-1, small),
        )
        # Convolving before the size doubles costs a quarter of convolving after it.
        sizes = pairwise([*widths, channels])
        convolutions = [nn.Conv2d(inner, 4 * outer, 3, padding=1) for inner, outer in sizes]
        for parameter in convolutions[-1].parameters():
            nn.init.zeros_(parameter)  # an unfitted decoder shows the mean picture
        self.draw = nn.Sequential(
            *(nn.Sequential(nn.SiLU(), convolution, nn.PixelShuffle(2)) for convolution in convolutions)
        )
        self.register_buffer("mean_frame", torch.full(self.frame_shape, 0.5))
        self.register_buffer("latent_mean", torch.zeros(latent_dim))
        self.register_buffer("latent_scale", torch.ones(latent_dim))

    def forward(self, latents: Tensor) -> Tensor:
        """Latents (..., D) of any float type to pictures (..., C, H, W), 0 black to 1 white, not clipped.

        Raises:
            ValueError: when the latents' last axis is not D.
        """
        if latents.shape[-1:] != (self.latent_dim,):
            raise ValueError(f"Expected latents (..., {self.latent_dim}), got shape {tuple(latents.shape)}.")
        flat = latents.detach().reshape(-1, self.latent_dim).float()
        flat = (flat - self.latent_mean) / self.latent_scale
        frames = self.mean_frame + self.draw(self.read(flat))  # (N, C, H, W)
        return frames.reshape(*latents.shape[:-1], *self.frame_shape)

    @torch.no_grad()
    def decode(self, latents: Tensor, chunk: int = 512) -> Tensor:
        """Latents (..., D) to pictures to look at, uint8 (..., C, H, W), `chunk` of them at a time."""
        flat = latents.reshape(-1, latents.shape[-1])
        parts = [self(part).mul(255).round().clamp(0, 255).byte() for part in flat.split(chunk)]
        return torch.cat(parts).reshape(*latents.shape[:-1], *self.frame_shape)


def fit_decoder(
    decoder: Decoder,
    latents: Tensor,
    frames: Tensor,
    *,
    steps: int = 1000,
    batch_size: int = 64,
    generator: torch.Generator | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[float]:
    """Fits `decoder` to draw each frame from its latent.

    Args:
        decoder: changed in place; left in eval mode.
        latents: (N, D), any float type.
        frames: uint8 (N, C, H, W), on any device; batches are moved to the decoder's.
        steps: gradient steps.
        batch_size: frames in each step, drawn with replacement.
        generator: draws the batches; a CPU generator makes the fit repeatable.
        progress: called after each step with (steps done, steps in all).

    Returns:
        The weighted squared error of every step.

    Raises:
        ValueError: for no frames, frames that are not uint8, or shapes that do not fit each other.
    """
    _check_pairs(decoder, latents, frames)
    latents = latents.detach()
    spread = _set_statistics(decoder, latents, frames)  # (H, W)
    device = decoder.mean_frame.device
    config = decoder.config
    optimizer = torch.optim.AdamW(decoder.parameters(), lr=config.lr, weight_decay=config.weight_decay)
    # A schedule of just 10 steps would rise over none of them, and be divided by that.
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.lr, total_steps=max(steps, 11), pct_start=0.1)
    draw_on = generator.device if generator is not None else "cpu"
    losses = []
    decoder.train()
    for step in range(steps):
        index = torch.randint(len(frames), (batch_size,), generator=generator, device=draw_on)
        target = frames[index.to(frames.device)].to(device).float() / 255  # (B, C, H, W)
        predicted = decoder(latents[index.to(latents.device)].to(device))
        loss = _focused_error(predicted, target, decoder.mean_frame, spread, config.focus)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.detach())  # read at the end: no wait for the device in the loop
        if progress is not None:
            progress(step + 1, steps)
    decoder.eval()
    return torch.stack(losses).tolist() if losses else []


def _focused_error(predicted: Tensor, target: Tensor, mean: Tensor, spread: Tensor, focus: float) -> Tensor:
    """Squared error (a scalar) that counts more wherever something moves or stands out.

    A pole covers a hundredth of the picture: unweighted, leaving it out costs next to nothing. `spread`
    (H, W) raises all places where it may be, so that a ghost costs as much as a gap; the frame's own
    difference from the mean raises the place where it is.
    """
    distinct = (target - mean).abs().amax(1)  # (B, H, W)
    distinct = distinct / distinct.mean().clamp_min(1e-6)
    weight = 1 + focus * (spread + distinct) / 2
    error = (predicted - target).square().mean(1)  # (B, H, W)
    return (weight * error).sum() / weight.sum()


@torch.no_grad()
def _set_statistics(decoder: Decoder, latents: Tensor, frames: Tensor) -> Tensor:
    """Sets the decoder's mean picture and latent scale; returns the pixels' spread, (H, W), of mean one."""
    stride = max(1, len(frames) // _STATISTICS_FRAMES)
    device = decoder.mean_frame.device
    some = frames[::stride]
    mean = torch.zeros(decoder.frame_shape, device=device)
    square = torch.zeros_like(mean)
    for part in some.split(256):  # in parts: as floats the frames would take four times their memory
        part = part.to(device).float() / 255
        mean += part.sum(0) / len(some)
        square += part.square().sum(0) / len(some)
    decoder.mean_frame.copy_(mean)
    sample = latents[::stride].to(device).float()
    decoder.latent_mean.copy_(sample.mean(0))
    scale = sample.std(0, correction=0)
    # A feature that hardly varies carries nothing; dividing by its tiny scale would blow up what an
    # imagined latent holds there.
    decoder.latent_scale.copy_(scale.clamp_min(0.01 * float(scale.max()) + 1e-6))
    spread = (square - mean.square()).clamp_min(0).sqrt().amax(0)
    return spread / spread.mean().clamp_min(1e-6)


def _check_pairs(decoder: Decoder, latents: Tensor, frames: Tensor) -> None:
    if frames.dtype != torch.uint8:
        raise ValueError(f"Expected uint8 frames, got {frames.dtype}.")
    if not len(frames) or frames.shape[1:] != decoder.frame_shape:
        expected = ", ".join(map(str, decoder.frame_shape))
        raise ValueError(f"Expected frames (N, {expected}) with N at least 1, got {tuple(frames.shape)}.")
    if latents.shape != (len(frames), decoder.latent_dim):
        raise ValueError(
            f"Expected latents ({len(frames)}, {decoder.latent_dim}), one for each frame, got {tuple(latents.shape)}."
        )
