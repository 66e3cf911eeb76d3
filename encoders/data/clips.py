"""Clips drawn from recordings on disk, in the form in which replay gives them."""

import os
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from annotated_types import Ge
from torch import Tensor

from mindreel.encoders.data import hdf5
from mindreel.encoders.data.lerobot import read_lerobot
from mindreel.encoders.data.recordings import Recording, RecordingSet, UnreadableError, read_videos
from mindreel.video_input import SUFFIXES

_STRETCH = 256
"""Clips in the stretch of a recording that is decoded at once."""
_AHEAD = 4
"""Stretches that are decoded before their turn."""
_VIDEOS = tuple(suffix for suffix in SUFFIXES if suffix != ".gif")
"""Endings of videos; animated pictures are seldom meant."""


@dataclass(frozen=True)
class ClipConfig:
    """How recordings on disk become clips."""

    camera: str = ""
    """Camera of a data set that has several; the first if empty."""
    cache_mb: Annotated[float, Ge(0)] = 1024.0
    """Memory for decoded frames; what does not fit takes turns."""
    threads: Annotated[int, Ge(1)] = 2
    """Threads that decode."""


class Clips:
    """Draws clips with the actions and rewards that follow them, uniformly over all that are decoded.

    Recordings are cut into stretches, which are decoded when they are first drawn from. If not all of them fit
    into the cache, those that are in it take turns with the rest, one for each batch.

    What more than half of the recordings have counts: where these have actions, and equally many dimensions of them,
    the others are skipped; otherwise no actions are used. The same then holds for rewards.

    Args:
        config: camera and cache.
        found: the recordings.
        clip_frames: frames F of a clip.
        steps: steps K after it.
        side: height and width that frames are brought to, in pixels.
        device: where batches go.

    Attributes:
        recordings: number of recordings that clips are drawn from.
        has_action: whether the recordings' actions are used; one of 0 stands for them otherwise.
        action_dim: number of action dimensions, A.
        has_reward: whether their rewards are used; they are 0 otherwise.
        sentences: what `behaviour` points to.
        described: whether a sentence is known to hold in any recording.
        skipped: file, or part of one, -> why nothing is drawn from it; it grows as more is decoded.

    Raises:
        ValueError: no recording is as long as a clip and its steps.
    """

    def __init__(
        self,
        config: ClipConfig,
        found: RecordingSet,
        clip_frames: int,
        steps: int,
        side: int,
        device: torch.device | str = "cpu",
    ):
        self.clip_frames, self.steps, self.side, self.device = clip_frames, steps, side, torch.device(device)
        self.sentences, self.skipped = found.sentences, dict(found.skipped)
        usable = self._usable(found.recordings)
        usable, dims = self._alike(usable, "actions", lambda one: 0 if one.action is None else one.action.shape[1])
        usable, rewards = self._alike(usable, "rewards", lambda one: int(one.reward is not None))
        self.recordings = len(usable)
        self.has_action, self.action_dim, self.has_reward = dims > 0, dims or 1, rewards > 0
        self.described = any(one.behaviour >= 0 for one in usable)
        # A stretch is the clips whose newest frames are first, ..., last - 1 of a recording.
        self._stretches = [
            (one, first, min(first + _STRETCH, one.frames - steps))
            for one in usable
            for first in range(0, one.frames - steps, _STRETCH)
        ]
        self._count = torch.tensor([float(last - first) for _, first, last in self._stretches])
        size = 3 * side**2 * (float(self._count.mean()) + clip_frames + steps)
        room = int(1e6 * config.cache_mb / size)
        self._pool = list(range(len(self._stretches)))
        self._takes_turns = room < len(self._pool)
        if self._takes_turns:
            self._pool = torch.randperm(len(self._pool))[: max(1, room - _AHEAD)].tolist()
        self._coming: list[int] = []
        self._decoded: dict[int, Future[Tensor]] = {}
        self._threads = ThreadPoolExecutor(min(config.threads, os.cpu_count() or 1))

    def __len__(self) -> int:
        """Clips that can be drawn, over all recordings."""
        return int(self._count.sum())

    def _usable(self, found: Sequence[Recording]) -> list[Recording]:
        usable = []
        for one in found:
            known = [x for x in (one.action, one.reward) if x is not None]
            if one.frames <= self.steps:
                self.skipped[one.name] = f"{one.frames} frames are too few: {self.steps + 1} are wanted"
            elif any(len(x) < one.frames - 1 or not np.isfinite(x).all() for x in known):
                self.skipped[one.name] = "its actions or rewards are too few or not finite"
            else:
                usable.append(one)
        if not usable:
            why = "; ".join(f"{name}: {reason}" for name, reason in list(self.skipped.items())[:3])
            raise ValueError(f"There is nothing to draw clips from ({why}).")
        return usable

    def _alike(
        self, usable: list[Recording], what: str, dims: Callable[[Recording], int]
    ) -> tuple[list[Recording], int]:
        """The recordings whose number of dimensions more than half have, and it; all and 0 if there is none."""
        common, count = Counter(map(dims, usable)).most_common(1)[0]
        if common == 0 or 2 * count <= len(usable):
            return usable, 0
        for one in usable:
            if dims(one) == 0:
                self.skipped[one.name] = f"it has no {what}, as most recordings have"
            elif dims(one) != common:
                self.skipped[one.name] = f"its {what} have {dims(one)} dimensions, those of most recordings {common}"
        return [one for one in usable if dims(one) == common], common

    # ---- drawing ----

    def sample(self, batch_size: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Draws clips.

        Returns:
            frames uint8 (B, F + K, 3, H, W), before a recording's first frame that frame repeated; actions
            (B, K, A), rewards (B, K) and behaviour int64 (B,), -1 where unknown.

        Raises:
            ValueError: nothing decodes.
        """
        if self._takes_turns:
            self._take_turns()
        drawn: list[tuple[Tensor, Tensor, Tensor, int]] = []
        while len(drawn) < batch_size:  # until enough decode
            missing = batch_size - len(drawn)
            weights = self._count[self._pool]
            if not weights.any():
                self._pool[0] = self._another()
                continue
            chosen = torch.multinomial(weights, missing, replacement=True)
            newest = (torch.rand(missing) * weights[chosen]).long()
            for place, offset in zip(chosen.tolist(), newest.tolist(), strict=True):
                clip = self._clip(self._pool[place], offset)
                drawn += [] if clip is None else [clip]
        frames, action, reward, behaviour = zip(*drawn, strict=True)
        batch = (torch.stack(frames), torch.stack(action), torch.stack(reward), torch.tensor(behaviour))
        return tuple(x.to(self.device) for x in batch)  # pyright: ignore[reportReturnType] (four of them)

    def pairs(self, count: int) -> tuple[Tensor, Tensor]:
        """Random pairs of successive frames, uint8 (N, 2, 3, H, W), and rewards (N,), for an encoder's `fit`."""
        newest = self.clip_frames - 1
        drawn = [self.sample(size) for size in _parts(count)]
        return (
            torch.cat([frames[:, newest : newest + 2] for frames, *_ in drawn]),
            torch.cat([reward[:, 0] for _, _, reward, _ in drawn]),
        )

    def clips(self, count: int) -> Tensor:
        """Random clips alone, uint8 (N, F, 3, H, W), for an encoder's `fit_readout`."""
        return torch.cat([self.sample(size)[0][:, : self.clip_frames].clone() for size in _parts(count)])

    def _clip(self, index: int, offset: int) -> tuple[Tensor, Tensor, Tensor, int] | None:
        one, first, _ = self._stretches[index]
        frames = self._frames(index)
        if frames is None:
            return None
        newest, steps = first + offset, self.steps
        when = torch.arange(newest - self.clip_frames + 1, newest + steps + 1).clamp(min=0)
        action, reward = torch.zeros(steps, self.action_dim), torch.zeros(steps)
        if self.has_action and one.action is not None:
            action = torch.from_numpy(one.action[newest : newest + steps])
        if self.has_reward and one.reward is not None:
            reward = torch.from_numpy(one.reward[newest : newest + steps])
        return frames[when - max(0, first - self.clip_frames + 1)], action, reward, one.behaviour

    # ---- decoding ----

    def _frames(self, index: int) -> Tensor | None:
        """Frames of a stretch, those before and after its clips included; None if they do not decode."""
        self._decode(index)
        try:
            return self._decoded[index].result()
        except UnreadableError as error:
            one, first, last = self._stretches[index]
            self.skipped[f"{one.name} from frame {first}"] = str(error)
            self._count[index] = 0
            return None

    def _decode(self, index: int) -> None:
        if index not in self._decoded:
            one, first, last = self._stretches[index]
            bounds = max(0, first - self.clip_frames + 1), last + self.steps
            self._decoded[index] = self._threads.submit(one.read, *bounds, self.side)

    def _another(self) -> int:
        if not self._count.any():
            name, why = next(iter(self.skipped.items()))
            raise ValueError(f"No clip decodes; the first to fail is {name}: {why}.")
        return int(torch.multinomial(self._count, 1))

    def _take_turns(self) -> None:
        """One stretch of the pool gives way to one that has been decoded meanwhile."""
        self._coming.append(self._another())
        self._decode(self._coming[-1])
        if len(self._coming) > _AHEAD:
            self._pool[int(torch.randint(len(self._pool), ()))] = self._coming.pop(0)
            kept = {*self._pool, *self._coming}
            self._decoded = {index: frames for index, frames in self._decoded.items() if index in kept}

    # ---- checkpoints ----

    def state_dict(self) -> dict:
        """What is drawn from at present; the rest is on disk."""
        unreadable = (self._count == 0).nonzero().flatten().tolist()
        return {"stretches": len(self._stretches), "pool": self._pool, "coming": self._coming, "unreadable": unreadable}

    def load_state_dict(self, state: dict) -> None:
        """Does the inverse of `state_dict`.

        Raises:
            ValueError: the recordings are not the same, or the state is damaged.
        """
        count = len(self._stretches)
        if state["stretches"] != count:
            raise ValueError(
                f"The recordings have changed: {state['stretches']} stretches were saved, {count} are there. Start "
                "over with overwrite=true."
            )
        parts = [list(state[name]) for name in ("pool", "coming", "unreadable")]
        if not parts[0] or not all(isinstance(index, int) and 0 <= index < count for part in parts for index in part):
            raise ValueError("The saved place in the recordings is damaged. Start over with overwrite=true.")
        self._pool, self._coming, unreadable = parts
        self._takes_turns = len(self._pool) < count
        self._count[unreadable] = 0


def _parts(count: int, size: int = 256) -> list[int]:
    """`count` in parts of at most `size`."""
    return [min(size, count - done) for done in range(0, count, size)]


def find_recordings(path: Path, camera: str = "") -> RecordingSet:
    """The recordings of a video, an HDF5 file, a LeRobot data set, or a folder of videos or of HDF5 files.

    Args:
        path: the file or folder; folders are searched to every depth.
        camera: name of the pictures wanted where there are several; the first if empty.

    Raises:
        FileNotFoundError: there is nothing at `path`.
        ValueError: there is nothing of the kind, or no such camera.
    """
    if not path.exists():
        raise FileNotFoundError(f"data={path} does not exist.")
    if (path / "meta" / "info.json").is_file():
        return read_lerobot(path, camera)
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    kinds = hdf5.SUFFIXES, _VIDEOS
    arrays, videos = ([file for file in files if file.suffix.lower() in suffixes] for suffixes in kinds)
    if arrays:
        found = hdf5.read_hdf5(arrays, camera)
        # They often show the same episodes once more, and without actions.
        found.skipped |= {str(video): "a video beside HDF5 files: give it alone to learn from it" for video in videos}
        return found
    if videos:
        return read_videos(videos)
    known = ", ".join((*hdf5.SUFFIXES, *_VIDEOS))
    raise ValueError(
        f"data={path} holds no recordings: expected a run, a LeRobot data set (meta/info.json), or files that end in "
        f"one of {known}."
    )
