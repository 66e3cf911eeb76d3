"""Worlds: batches of simulated environments on one device, tensors in and tensors out."""

from mindreel.envs.config import Backend, EnvConfig
from mindreel.envs.make import make_env, make_task
from mindreel.envs.registration import register_tasks
from mindreel.envs.tasks import TASKS, Task
from mindreel.envs.warp.cameras import RenderConfig
from mindreel.envs.warp.env import WarpEnv
from mindreel.envs.warp.randomize import RandomizeConfig
from mindreel.envs.warp.simulation import WarpSim
from mindreel.envs.worlds import Worlds

__all__ = [
    "TASKS",
    "Backend",
    "EnvConfig",
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
