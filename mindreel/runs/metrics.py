"""The metrics of a run on disk, and its progress on the screen."""

import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

# No thread that watches over bars: garbage may be collected in it, and what dm_control draws with must be freed in the
# thread that made it.
tqdm.monitor_interval = 0


class MetricsLog:
    """Rows of metrics, to metrics.jsonl and to TensorBoard."""

    def __init__(self, folder: Path):
        self.path = folder / "metrics.jsonl"
        self._file = self.path.open("a", encoding="utf-8")
        self._board = SummaryWriter(str(folder / "tensorboard"))

    def __call__(self, row: dict) -> None:
        """Writes one row; `stage` prefixes the names in TensorBoard, `step` or `env_frames` is their axis."""
        self._file.write(json.dumps(row) + "\n")
        self._file.flush()
        step = int(row.get("step", row.get("env_frames", 0)))
        for name, value in row.items():
            if isinstance(value, int | float) and name not in ("step", "env_frames"):
                self._board.add_scalar(f"{row.get('stage', 'run')}/{name}", value, step)

    def lines(self) -> int:
        """Rows written so far."""
        with self.path.open("rb") as file:
            return sum(1 for _ in file)

    def truncate(self, lines: int) -> None:
        """Drops the rows after the first `lines`, which a run that was cut off wrote after its checkpoint."""
        kept = self.path.read_text(encoding="utf-8").splitlines(keepends=True)[:lines]
        self._file.close()
        self.path.write_text("".join(kept), encoding="utf-8")
        self._file = self.path.open("a", encoding="utf-8")

    def close(self) -> None:
        """Flushes both."""
        self._file.close()
        self._board.close()


def progress_bar(steps: Iterable[int], name: str, first: int, total: int) -> Iterator[int]:
    """Shows rate and time left of a stage: `steps` again, counted."""
    bar = stage_bar(name, total, first)
    try:
        for step in steps:
            yield step
            bar.update()
    finally:
        bar.close()


def stage_bar(name: str, total: int, first: int = 0) -> tqdm:
    """A bar that shows rate and time left; a line now and then where the output is no terminal."""
    interval = 0.2 if sys.stderr.isatty() else 20.0
    return tqdm(desc=f"{name:>9}", initial=first, total=total, mininterval=interval, dynamic_ncols=True)
