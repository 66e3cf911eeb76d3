"""A run's progress on the screen."""

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from tqdm import tqdm

# No thread that watches over bars: garbage may be collected in it, and what dm_control draws with must be freed in the
# thread that made it.
tqdm.monitor_interval = 0

_FORMAT = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} {rate_fmt}, {remaining} left{postfix}"
_UNKNOWN_WIDTH, _UNKNOWN_HEIGHT = 100, 24
_TRUSTED_STEPS = 3  # of a stage, before its own rate is believed


@dataclass
class _Stage:
    """A stage that runs."""

    name: str
    bar: tqdm
    began: float
    """When it did, in seconds."""
    steps: int = 0
    """Steps taken since then."""
    nested: float = 0.0
    """Seconds spent in stages inside this one."""
    values: dict[str, float] = field(default_factory=dict)

    def seconds(self, end: float) -> float | None:
        """What a step took until `end`, stages inside left out; None before there were enough."""
        return (end - self.began - self.nested) / self.steps if self.steps >= _TRUSTED_STEPS else None


class RunProgress:
    """Bars of a run's stages with what was shown last, such as return and loss, and the time left.

    The whole run's time left is the sum over the stages that were planned, at the rate that each has or had. With
    "run 02:10+" there are others, whose rate is not known yet.

    Args:
        clock: seconds, rising.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._to_come: dict[str, int] = {}
        self._seconds: dict[str, float] = {}
        self._running: list[_Stage] = []
        self._episode_return: float | None = None

    def plan(self, stages: Mapping[str, int], seconds: Mapping[str, float]) -> None:
        """Says what is to come.

        Args:
            stages: steps to come of each stage, in order.
            seconds: what a step of a stage takes, where that is known.
        """
        self._to_come, self._seconds = dict(stages), {**seconds, **self._seconds}

    def __call__(self, steps: Iterable[int], stage: str, first: int, total: int) -> Iterator[int]:
        """The same steps under a bar that counts them from `first` to `total`; none for a stage that is over."""
        if first >= total:
            yield from steps
            return
        if stage in self._to_come and not self._running:  # its length may have been found out only by now
            self._to_come[stage] = total - first
        running = _Stage(stage, stage_bar(stage, total, first), self._clock())
        self._running.append(running)
        try:
            for step in steps:
                yield step
                self._count(running)
        finally:
            self._end(running)

    def show(self, **values: float) -> None:
        """Shows numbers beside the stage that runs; `episode_return` stays through the stages."""
        if "episode_return" in values:
            self._episode_return = values.pop("episode_return")
        if self._running:
            self._running[-1].values |= values

    def _count(self, stage: _Stage) -> None:
        stage.steps += 1
        if stage.name in self._to_come:
            self._to_come[stage.name] -= 1
        stage.bar.set_postfix_str(self._text(stage), refresh=False)
        stage.bar.update()

    def _end(self, stage: _Stage) -> None:
        stage.bar.close()
        self._running.remove(stage)
        seconds = stage.seconds(self._clock())
        if seconds is not None:
            self._seconds[stage.name] = seconds
        if self._running:
            self._running[-1].nested += self._clock() - stage.began

    def _text(self, stage: _Stage) -> str:
        numbers = {"return": self._episode_return} | stage.values
        shown = [f"{name} {value:.4g}" for name, value in numbers.items() if value is not None]
        return ", ".join([*shown, *self._run_left()])

    def _run_left(self) -> list[str]:
        rates = dict(self._seconds)
        ends = [*(inner.began for inner in self._running[1:]), self._clock()]  # each waits for the one inside it
        for stage, end in zip(self._running, ends, strict=True):
            seconds = stage.seconds(end)
            rates |= {} if seconds is None else {stage.name: seconds}
        to_come = {name: steps for name, steps in self._to_come.items() if steps > 0}
        known = [name for name in to_come if name in rates]
        if not known or to_come.keys() <= {self._running[-1].name}:
            return []  # nothing to say, or what the stage's own time left says
        seconds = sum(to_come[name] * rates[name] for name in known)
        return [f"run {tqdm.format_interval(seconds)}{'+' * (len(known) < len(to_come))}"]


def progress_bar(steps: Iterable[int], name: str, first: int, total: int) -> Iterator[int]:
    """The same steps under a bar that shows their rate and the time left."""
    return RunProgress()(steps, name, first, total)


def stage_bar(name: str, total: int, first: int = 0) -> tqdm:
    """A bar that shows rate and time left; a line now and then where the output is no terminal."""
    interval = 0.2 if sys.stderr.isatty() else 20.0
    # Some terminals say that they have no columns, in which no bar fits.
    known = _has_size()
    return tqdm(
        desc=f"{name:>9}",
        initial=first,
        total=total,
        mininterval=interval,
        bar_format=_FORMAT,
        dynamic_ncols=known,
        ncols=None if known else _UNKNOWN_WIDTH,
        nrows=None if known else _UNKNOWN_HEIGHT,
    )


def _has_size() -> bool:
    try:
        return min(os.get_terminal_size(sys.stderr.fileno())) > 0
    except (OSError, ValueError):  # no terminal, or something else in its place
        return False
