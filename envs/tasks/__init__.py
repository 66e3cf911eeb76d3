"""Every task by name, as `domain-task` in dm_control's spelling."""

from collections.abc import Callable
from functools import partial

from envs.tasks.base import Task
from envs.tasks.cartpole import Cartpole

__all__ = ["TASKS", "Task"]

TASKS: dict[str, Callable[[], Task]] = {
    "cartpole-balance": partial(Cartpole, swing_up=False, sparse=False),
    "cartpole-balance_sparse": partial(Cartpole, swing_up=False, sparse=True),
    "cartpole-swingup": partial(Cartpole, swing_up=True, sparse=False),
    "cartpole-swingup_sparse": partial(Cartpole, swing_up=True, sparse=True),
}
