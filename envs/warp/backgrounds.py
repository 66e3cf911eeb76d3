"""What moves behind a scene and has nothing to do with the task: smooth noise, or videos of the user's own.

As in the Distracting Control Suite (Stone et al. 2021), but for many worlds at once and with no data to fetch.
"""

import math
from pathlib import Path

import torch

from mindreel.envs.generator import WorldGenerator
from mindreel.envs.masks import select
from mindreel.video_input import SUFFIXES, UnreadableVideoError, read_frames, scan_video, upright

_WAVES = 6
_MOST_CYCLES = 3  # of a wave, over the picture's height or width
_FASTEST = 0.5  # cycles a second
_CONTRAST = 1.5  # waves seldom add up to all that they could
_MOST_FRAMES = 500  # of a video, kept in memory


class Noise:
    """Coloured waves that wander through the picture, other ones in every world and episode.

    They join where opposite edges of the picture meet, so that a still one also makes a texture.

    Args:
        num_worlds: number of worlds, B.
        height: rows of a picture.
        width: columns of a picture.
        device: where pictures are made.
    """

    def __init__(self, num_worlds: int, height: int, width: int, device: torch.device):
        self._rows = torch.arange(height, device=device) / height
        self._columns = torch.arange(width, device=device) / width
        zeros = lambda *shape: torch.zeros(num_worlds, *shape, device=device)
        self.state = {"cycles": zeros(2, _WAVES), "speed": zeros(_WAVES), "start": zeros(_WAVES)}
        self.state["colors"] = zeros(_WAVES, 3)

    def reset(self, mask: torch.Tensor, generator: WorldGenerator) -> None:
        """Draws other waves for the worlds of `mask`, (B,) bool."""
        colors = generator.normal(_WAVES, 3)
        drawn = {
            "cycles": generator.integers(2 * _MOST_CYCLES + 1, 2, _WAVES) - _MOST_CYCLES,  # down and across
            "speed": _FASTEST * (2 * generator.uniform(_WAVES) - 1),
            "start": generator.uniform(_WAVES),
            "colors": _CONTRAST * colors / colors.abs().sum(1, keepdim=True),
        }
        for name, x in drawn.items():
            self.state[name].copy_(select(mask, x.to(self.state[name]), self.state[name]))

    def frames(self, seconds: torch.Tensor) -> torch.Tensor:
        """Each world's picture at its time `seconds` (B,): uint8 (B, 3, H, W)."""
        down, across = self.state["cycles"][..., None].unbind(1)  # (B, waves, 1) each
        turns = self.state["start"] + self.state["speed"] * seconds[:, None]  # (B, waves)
        down = 2 * math.pi * (down * self._rows + turns[..., None])  # (B, waves, H)
        across = 2 * math.pi * across * self._columns  # (B, waves, W)
        total = torch.zeros(1, device=seconds.device)
        for i in range(_WAVES):  # one after another: all at once they would take much memory
            wave = down[:, i].cos()[:, :, None] * across[:, i].cos()[:, None]
            wave = wave - down[:, i].sin()[:, :, None] * across[:, i].sin()[:, None]  # cosine of the sum, (B, H, W)
            total = total + self.state["colors"][:, i, :, None, None] * wave[:, None]
        return (127.5 + 127.5 * total).clamp(0, 255).to(torch.uint8)


class Videos:
    """The videos of a folder, squeezed to the picture; each world and episode starts somewhere in one of them.

    They play at their own speed in simulated time, forwards and then backwards, so that they never jump.

    Args:
        folder: the folder; the first 500 frames of each video in it are kept in memory.
        num_worlds: number of worlds, B.
        height: rows of a picture.
        width: columns of a picture.
        device: where the pictures are.

    Raises:
        ValueError: for a folder without videos, or with a file that is none.
    """

    def __init__(self, folder: str, num_worlds: int, height: int, width: int, device: torch.device):
        files = sorted(file for file in Path(folder).glob("*") if file.suffix.lower() in SUFFIXES)
        if not files:
            raise ValueError(
                f"The background {folder!r} should be 'noise' or a folder with videos ({', '.join(SUFFIXES)}); "
                f"there are none, seen from {Path.cwd()}."
            )
        videos, rates = zip(*(_read(file, height, width) for file in files), strict=True)
        lengths = torch.tensor([len(video) for video in videos])
        self._frames = torch.cat(videos).to(device)  # (T, 3, H, W)
        self._lengths, self._rates = lengths.to(device), torch.tensor(rates).to(device)  # (videos,)
        self._firsts = (lengths.cumsum(0) - lengths).to(device)
        self.state = {
            "video": torch.zeros(num_worlds, dtype=torch.int64, device=device),
            "start": torch.zeros(num_worlds, device=device),
        }

    def reset(self, mask: torch.Tensor, generator: WorldGenerator) -> None:
        """Draws another video, and where it starts, for the worlds of `mask`, (B,) bool."""
        drawn = {"video": generator.integers(len(self._lengths)), "start": generator.uniform()}
        for name, x in drawn.items():
            self.state[name].copy_(select(mask, x.to(self.state[name]), self.state[name]))

    def frames(self, seconds: torch.Tensor) -> torch.Tensor:
        """Each world's picture at its time `seconds` (B,): uint8 (B, 3, H, W)."""
        video = self.state["video"]
        length = self._lengths[video]
        there_and_back = (2 * length - 2).clamp(min=1)
        played = (self.state["start"] * length + seconds * self._rates[video]).long() % there_and_back
        return self._frames[self._firsts[video] + torch.where(played < length, played, there_and_back - played)]


Background = Noise | Videos


def make_background(name: str, num_worlds: int, height: int, width: int, device: torch.device) -> Background:
    """Moving noise for the name "noise", else the videos of the folder `name`.

    Raises:
        ValueError: for a folder without videos, or with a file that is none.
    """
    if name == "noise":
        return Noise(num_worlds, height, width, device)
    return Videos(name, num_worlds, height, width, device)


def patterns(count: int, size: int) -> torch.Tensor:
    """Textures that join at their edges, always the same ones: uint8 (count, 3, size, size)."""
    noise = Noise(count, size, size, torch.device("cpu"))
    noise.reset(torch.ones(count, dtype=torch.bool), WorldGenerator(0, count))
    return noise.frames(torch.zeros(count))


def _read(file: Path, height: int, width: int) -> tuple[torch.Tensor, float]:
    """The first frames of a video, uint8 (T, 3, H, W), and how many it plays in a second."""
    try:
        times = scan_video(file)
        frames = read_frames(
            file, times, 0, min(times.frames, _MOST_FRAMES), lambda frame: upright(frame, (height, width))
        )
    except UnreadableVideoError as error:
        raise ValueError(f"The video {file} cannot be read: {error}. Remove it from the folder.") from error
    return torch.stack([torch.from_numpy(frame) for frame in frames]).permute(0, 3, 1, 2).contiguous(), float(
        times.rate
    )
