"""Frames to MP4 files that any browser plays, and to GIF files that any page shows."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from einops import rearrange
from PIL import Image, ImageDraw

from mindreel.files import replacing


def write_mp4(path: Path | str, frames: torch.Tensor | np.ndarray, fps: float, scale: int = 4) -> Path:
    """Writes `frames` as H.264 (yuv420p), each pixel drawn as a square of `scale` pixels.

    The file appears under its name only once it is complete. Parent folders are made.

    Args:
        path: where the file goes; an existing file is replaced.
        frames: uint8 (T, 3, H, W), on any device.
        fps: frames per second of playback, simulated time for a video at true speed.
        scale: nearest-neighbour enlargement; the codec blurs colours over two pixels, so 2 or more keeps
            small pictures crisp.

    Returns:
        The path written.

    Raises:
        ValueError: for frames of another dtype or shape, or a scale or fps that is not positive.
    """
    path = Path(path)
    pictures = _as_pictures(frames)
    if scale < 1 or fps <= 0:
        raise ValueError(f"Expected scale of at least 1 and fps above 0, got scale={scale}, fps={fps}.")
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        _encode(temporary, pictures, Fraction(fps).limit_denominator(1001), scale)
    return path


def _encode(path: Path, pictures: np.ndarray, rate: Fraction, scale: int) -> None:
    """Encodes uint8 pictures (T, H, W, 3) into the file `path`."""
    # faststart puts the index first, so that a page can start playing before it has read everything.
    with av.open(str(path), "w", format="mp4", options={"movflags": "faststart"}) as container:
        height, width = (_even(side * scale) for side in pictures.shape[1:3])
        stream = container.add_stream("libx264", rate=rate, options={"crf": "18", "preset": "fast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.thread_count = 1  # small pictures: more threads cost more than they bring
        for picture in pictures:
            large = picture.repeat(scale, 0).repeat(scale, 1)
            odd = [(0, height - large.shape[0]), (0, width - large.shape[1]), (0, 0)]
            frame = av.VideoFrame.from_ndarray(np.pad(large, odd, mode="edge"), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def _as_pictures(frames: torch.Tensor | np.ndarray) -> np.ndarray:
    """Checked frames as uint8 (T, H, W, 3) in host memory."""
    array = frames.detach().cpu().numpy() if isinstance(frames, torch.Tensor) else np.asarray(frames)
    if array.dtype != np.uint8:
        raise ValueError(f"Expected uint8 frames, got {array.dtype}.")
    if array.ndim != 4 or array.shape[1] != 3 or 0 in array.shape:
        raise ValueError(f"Expected frames (T, 3, H, W) with at least one frame, got shape {array.shape}.")
    return rearrange(array, "t c h w -> t h w c")


def _even(side: int) -> int:
    """The next even number: yuv420p stores colour for blocks of two by two pixels."""
    return side + side % 2


def write_comparison_gif(path: Path | str, real: np.ndarray, imagined: np.ndarray, fps: float, scale: int = 3) -> Path:
    """Writes real frames, imagined ones and twice their difference side by side, with a word above each.

    Args:
        path: where the file goes; an existing file is replaced.
        real: uint8 (T, 3, H, W).
        imagined: of the same shape.
        fps: frames per second; a GIF's times are multiples of 10 ms.
        scale: nearest-neighbour enlargement.

    Returns:
        The path written.

    Raises:
        ValueError: the frames are of another dtype or of different shapes.
    """
    if real.shape != imagined.shape or real.ndim != 4 or real.dtype != np.uint8 or imagined.dtype != np.uint8:
        raise ValueError(
            f"Expected two times uint8 frames (T, 3, H, W), got {real.dtype} {real.shape} and "
            f"{imagined.dtype} {imagined.shape}."
        )
    difference = np.minimum(255, 2 * np.abs(real.astype(np.int16) - imagined)).astype(np.uint8)
    strips = [rearrange(frames, "t c h w -> t h w c") for frames in (real, imagined, difference)]
    (height, width), label, gap = real.shape[2:], 16, 6
    pages = []
    for step in range(len(real)):
        size = (3 * width * scale + 2 * gap, height * scale + label)
        page = Image.new("RGB", size, "white")
        for column, (name, strip) in enumerate(zip(("real", "imagined", "difference x 2"), strips, strict=True)):
            left = column * (width * scale + gap)
            picture = Image.fromarray(strip[step]).resize((width * scale, height * scale), Image.Resampling.NEAREST)
            page.paste(picture, (left, label))
            ImageDraw.Draw(page).text((left + 2, 2), f"{name}, step {step}" if column == 0 else name, fill="black")
        pages.append(page.quantize(64))
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        pages[0].save(temporary, "GIF", save_all=True, append_images=pages[1:], duration=round(1000 / fps), loop=0)
    return path
