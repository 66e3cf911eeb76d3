"""Every task by name, as `domain-task` in dm_control's spelling."""

from collections.abc import Callable
from functools import partial

from envs.tasks.ball_in_cup import BallInCup
from envs.tasks.base import Task
from envs.tasks.cartpole import Cartpole
from envs.tasks.cheetah import Cheetah
from envs.tasks.pendulum import Pendulum
from envs.tasks.reacher import Reacher
from envs.tasks.walker import Walker

__all__ = ["TASKS", "Task"]

TASKS: dict[str, Callable[[], Task]] = {
    "ball_in_cup-catch": BallInCup,
    "cartpole-balance": partial(Cartpole, swing_up=False, sparse=False),
    "cartpole-balance_sparse": partial(Cartpole, swing_up=False, sparse=True),
    "cartpole-swingup": partial(Cartpole, swing_up=True, sparse=False),
    "cartpole-swingup_sparse": partial(Cartpole, swing_up=True, sparse=True),
    "cheetah-run": Cheetah,
    "pendulum-swingup": Pendulum,
    "reacher-easy": partial(Reacher, target_size=0.05),
    "reacher-hard": partial(Reacher, target_size=0.015),
    "walker-stand": partial(Walker, move_speed=0.0),
    "walker-walk": partial(Walker, move_speed=1.0),
    "walker-run": partial(Walker, move_speed=8.0),
}
