"""Worlds: batches of simulated environments on one device, tensors in and tensors out."""

from envs.cameras import RenderConfig
from envs.make import Backend, make_env, make_task
from envs.randomize import RandomizeConfig
from envs.registration import register_tasks
from envs.tasks import TASKS, Task
from envs.warp_env import WarpEnv
from envs.warp_sim import WarpSim
from envs.worlds import Worlds

__all__ = [
    "TASKS",
    "Backend",
    "RandomizeConfig",
    "RenderConfig",
    "Task",
    "WarpEnv",
    "WarpSim",
    "Worlds",
    "make_env",
    "make_task",
]

register_tasks()
