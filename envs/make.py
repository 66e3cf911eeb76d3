"""Worlds by name, from any backend."""

from functools import partial
from typing import Any

import torch

from mindreel.devices import check_device
from mindreel.envs.backends.host_env import HostEnv
from mindreel.envs.config import EnvConfig
from mindreel.envs.tasks import TASKS, Task
from mindreel.envs.tasks.user_task import load_task
from mindreel.envs.warp.env import WarpEnv
from mindreel.envs.warp.randomize import RandomizeConfig
from mindreel.envs.warp.sharded_env import ShardedEnv
from mindreel.envs.worlds import Worlds
from mindreel.names import check_name


def make_env(
    task: str = "cartpole-swingup",
    config: EnvConfig | int = EnvConfig(),  # noqa: B008 (frozen)
    *,
    device: torch.device | str = "cpu",
    seed: int = 0,
    observations: tuple[str, ...] = ("pixels", "state"),
    **fields: Any,
) -> Worlds:
    """A batch of worlds in which one task is played.

        make_env("walker-walk", 64, action_repeat=4, render=RenderConfig(height=84, width=84))

    Args:
        task: for `backend="warp"` a name of `TASKS` or the path of a Python file (`load_task`); for `dm_control` one of
            its tasks, as domain-task; for `gym` any Gymnasium id, such as "Pendulum-v1" or "module:Name-v0".
        config: the worlds' settings, or just their number, B.
        device: where the tensors are.
        seed: seed of all that is random here; for `dm_control` and `gym` at least 0.
        observations: which of "pixels", "state", "depth", "segmentation" and "behaviour" are given; `dm_control` has no
            "behaviour", `gym` has "pixels" and "state" alone.
        fields: fields of `EnvConfig` that differ from `config`.

    Raises:
        ValueError: for an unknown task, device, observation, camera or field, a value out of its range, or a setting
            that the backend does not have.
        FileNotFoundError: for a task's file that is not there.
    """
    config = config if isinstance(config, EnvConfig) else EnvConfig(num_envs=config)
    config = config.with_fields(**fields)
    if config.backend == "warp":
        if not config.workers:
            return WarpEnv(make_task(task), config, task_name=task, device=device, seed=seed, observations=observations)
        if check_device(device).type != "cpu":
            raise ValueError(f"workers={config.workers}: worlds on a GPU are all in this process; leave it at None.")
        make = partial(_make_shard, task, seed=seed, observations=observations)
        return ShardedEnv(make, config, task_name=task, observations=observations)
    if config.randomize != RandomizeConfig():
        raise ValueError(f"randomize: worlds of {config.backend} are all alike; use backend=warp.")
    host_env = partial(
        HostEnv, config=config, task_name=task, device=device, seed=seed, observations=tuple(observations)
    )
    if config.backend == "gym":
        if config.frame_skip is not None:
            raise ValueError("frame_skip: an environment of Gymnasium keeps its own physics; use action_repeat.")
        return host_env(partial(_make_gym_player, task, config, observations))
    _check_task_name(task)
    # The sentences of dm_control's tasks are known, though nothing says which of them holds.
    behaviours = TASKS[task]().behaviours
    return host_env(partial(_make_dm_control_player, task, config, observations), behaviours=behaviours)


def make_task(name: str) -> Task:
    """The task of `TASKS` called `name`, or that of a user's Python file.

    Raises:
        ValueError: for an unknown name, or a file that defines no task.
        FileNotFoundError: for a file that is not there.
    """
    if name.endswith(".py"):
        return load_task(name)
    _check_task_name(name)
    return TASKS[name]()


def _check_task_name(task: str) -> None:
    if task.endswith(".py"):
        raise ValueError(f"{task}: a task file of your own needs backend=warp.")
    check_name(task, TASKS, "task")


# Called in worker processes.


def _make_shard(task: str, config: EnvConfig, **arguments: Any) -> WarpEnv:
    return WarpEnv(make_task(task), config, task_name=task, **arguments)


# Importing dm_control takes seconds and loads a GL library, so only the processes that play its worlds do.


def _make_dm_control_player(*arguments: Any):
    from mindreel.envs.backends.dm_control import DMControlPlayer

    return DMControlPlayer(*arguments)


def _make_gym_player(*arguments: Any):
    from mindreel.envs.backends.gym_player import GymPlayer

    return GymPlayer(*arguments)
