"""The metrics of a run on disk: rows in a file, and curves for TensorBoard."""

import json
import shutil
import time
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from mindreel.files import write_text

_AREAS = {"pretrain": "encoder", "refresh": "encoder", "train": "agent", "eval": "eval"}
"""Stage of a row -> first part of its tags in TensorBoard."""
_TAGS = {"episode_return": "return", "eval_return_mean": "return"}
_NO_CURVES = ("stage", "step", "env_frames", "updates")


class MetricsLog:
    """Rows of metrics, to metrics.jsonl and to TensorBoard.

    Tags in TensorBoard are `encoder/...` over the encoder's gradient steps, and `agent/...`, `eval/...` and
    `speed/...` over environment frames.

    Args:
        folder: the run's.
    """

    def __init__(self, folder: Path):
        self.path = folder / "metrics.jsonl"
        self._file = self.path.open("a", encoding="utf-8")
        self._board_folder = folder / "tensorboard"
        self._board = SummaryWriter(str(self._board_folder))
        self._trained: tuple[float, int, int] | None = None  # time, frames and updates of the agent's last row

    def __call__(self, row: dict) -> None:
        """Writes one row: `stage`, what it counts by, and numbers."""
        self._file.write(json.dumps(row) + "\n")
        self._file.flush()
        self._draw(row)
        if row.get("stage") == "train":
            self._draw_speed(row)

    def _draw(self, row: dict) -> None:
        stage = row.get("stage", "run")
        area, place = _AREAS.get(stage, stage), _place(row)
        for name, value in row.items():
            if isinstance(value, int | float) and name not in _NO_CURVES:
                self._board.add_scalar(f"{area}/{_TAGS.get(name, name)}", value, place)

    def _draw_speed(self, row: dict) -> None:
        now = time.monotonic(), row["env_frames"], row["updates"]
        if self._trained is not None:
            seconds, frames, updates = (new - old for new, old in zip(now, self._trained, strict=True))
            self._board.add_scalar("speed/frames_per_second", frames / max(seconds, 1e-9), _place(row))
            self._board.add_scalar("speed/updates_per_second", updates / max(seconds, 1e-9), _place(row))
        self._trained = now

    def lines(self) -> int:
        """Rows written so far."""
        with self.path.open("rb") as file:
            return sum(1 for _ in file)

    def truncate(self, lines: int) -> None:
        """Drops the rows after the first `lines`, which a run that was cut off wrote after its checkpoint."""
        kept = self.path.read_text(encoding="utf-8").splitlines(keepends=True)[:lines]
        self._file.close()
        write_text(self.path, "".join(kept))
        self._file = self.path.open("a", encoding="utf-8")
        # TensorBoard's files cannot be cut: the curves are drawn from the rows that stay.
        self._board.close()
        shutil.rmtree(self._board_folder)
        self._board = SummaryWriter(str(self._board_folder))
        for line in kept:
            self._draw(json.loads(line))

    def close(self) -> None:
        """Flushes both."""
        self._file.close()
        self._board.close()


def _place(row: dict) -> int:
    """Where a row lies along its axis in TensorBoard."""
    return int(row.get("step", row.get("env_frames", 0)))
