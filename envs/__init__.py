"""Worlds: batches of simulated environments on one device, tensors in and tensors out."""

from envs.tasks import TASKS, Task
from envs.warp_env import WarpEnv, make_env
from envs.warp_sim import RenderConfig, WarpSim

__all__ = ["TASKS", "RenderConfig", "Task", "WarpEnv", "WarpSim", "make_env"]
