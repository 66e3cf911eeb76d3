"""Tasks compared with dm_control's own, in one process or several."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from multiprocessing import get_context
from typing import Any

from mindreel.names import check_name


def known_tasks(names: Sequence[str]) -> list[str]:
    """These tasks of dm_control, or all if none is named.

    Raises:
        ValueError: dm_control has no task of that name.
    """
    from mindreel.envs.checks.parity import ALL_TASKS  # here: importing dm_control takes seconds

    for name in names:
        check_name(name, ALL_TASKS, "task of dm_control")
    return list(names or ALL_TASKS)


def compared(
    tasks: Sequence[str], states: int, resets: int, pictures: int, jobs: int
) -> Iterator[tuple[dict[str, Any], Any]]:
    """Row and pictures of each task, in order, as `mindreel.envs.checks.parity.compare` returns them.

    Args:
        tasks: names of dm_control's tasks.
        states, resets, pictures: how many of each are compared.
        jobs: processes that the tasks are divided among.
    """
    from mindreel.envs.checks.parity import Sizes, compare

    sizes = Sizes(states, resets, pictures)
    if jobs == 1:
        yield from map(compare, tasks, repeat(sizes))
        return
    # Spawned: Warp and OpenGL do not outlive a fork.
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        yield from pool.map(compare, tasks, repeat(sizes))
