"""Worlds by name, from any backend."""

import difflib
from functools import partial
from typing import Literal, get_args

import torch

from mindreel.devices import check_device
from mindreel.envs.backends.host_env import HostEnv
from mindreel.envs.tasks import TASKS, Task
from mindreel.envs.tasks.user_task import load_task
from mindreel.envs.warp.cameras import RenderConfig
from mindreel.envs.warp.env import WarpEnv
from mindreel.envs.warp.randomize import RandomizeConfig
from mindreel.envs.warp.sharded_env import SplitEnv
from mindreel.envs.worlds import Worlds, check_counts, check_workers

Backend = Literal["warp", "dm_control", "gym"]


def make_env(
    task: str = "cartpole-swingup",
    num_envs: int = 16,
    device: torch.device | str = "cpu",
    seed: int = 0,
    observations: tuple[str, ...] = ("pixels", "state"),
    action_repeat: int = 2,
    render: RenderConfig = RenderConfig(),  # noqa: B008 (frozen)
    max_contacts: int | None = None,
    max_constraints: int | None = None,
    frame_skip: int | None = None,
    time_limit: int | None = None,
    backend: Backend = "warp",
    fast_render: bool = True,
    workers: int | None = None,
    randomize: RandomizeConfig = RandomizeConfig(),  # noqa: B008 (frozen)
) -> Worlds:
    """`num_envs` worlds of the task called `task`; see `WarpEnv` and `HostEnv` for the arguments.

    Args:
        task: for `warp` a name of `TASKS` or the path of a Python file (`load_task`); for `dm_control` one of its
            tasks, as domain-task; for `gym` any Gymnasium id, such as "Pendulum-v1" or "module:Name-v0".
        num_envs: number of worlds, B.
        device: where the tensors are.
        seed: seed of all that is random here; for `dm_control` and `gym` at least 0.
        observations: what is given; `dm_control` has no "behaviour", `gym` has "pixels" and "state" alone.
        action_repeat: control steps for which one action holds.
        render: cameras and picture size.
        max_contacts: of `warp`.
        max_constraints: of `warp`.
        frame_skip: physics steps in one control step; the task's own if None; not for `gym`.
        time_limit: decisions after which an episode is truncated; the task's own if None.
        backend: what simulates: mujoco_warp on the device, the official environments of dm_control in processes on
            the CPU, or environments of Gymnasium, likewise.
        fast_render: of `dm_control`: draw as `render` says; if False, with all of dm_control's standard look.
        workers: processes that the worlds are shared out to, 0 for none but this one. If None, `dm_control` and `gym`
            have one for each CPU core, `warp` none: with N of them its physics uses N cores (`SplitEnv`).
        randomize: how much worlds and episodes of `warp` differ.

    Raises:
        ValueError: for an unknown backend, task, device, observation or camera, a count below one, or a seed or number
            of processes below zero.
        FileNotFoundError: for a task's file that is not there.
    """
    if backend not in get_args(Backend):
        raise ValueError(f"Unknown backend {backend!r}. Nearest: {_nearest(backend, get_args(Backend))}.")
    check_counts(num_envs=num_envs, action_repeat=action_repeat, frame_skip=frame_skip, time_limit=time_limit)
    check_workers(workers)
    if backend == "warp":
        make = partial(
            _warp_env,
            task,
            device=device,
            seed=seed,
            observations=observations,
            action_repeat=action_repeat,
            render=render,
            max_contacts=max_contacts,
            max_constraints=max_constraints,
            frame_skip=frame_skip,
            time_limit=time_limit,
            randomize=randomize,
        )
        if not workers:
            return make(num_envs=num_envs)
        if check_device(device).type != "cpu":
            raise ValueError(f"workers={workers}: worlds on a GPU are all in this process; leave it at None.")
        return SplitEnv(
            make,
            task_name=task,
            num_envs=num_envs,
            observations=observations,
            action_repeat=action_repeat,
            workers=workers,
        )
    if randomize != RandomizeConfig():
        raise ValueError(f"randomize: worlds of {backend} are all alike; use backend=warp.")
    if backend == "gym":
        if frame_skip is not None:
            raise ValueError("frame_skip: an environment of Gymnasium keeps its own physics; use action_repeat.")
        player = partial(_gym_player, task, observations, render, action_repeat, time_limit)
    else:
        _check_name(task)
        player = partial(
            _dm_control_player, task, observations, render, action_repeat, fast_render, frame_skip, time_limit
        )
    return HostEnv(
        player,
        task_name=task,
        num_envs=num_envs,
        device=device,
        seed=seed,
        observations=observations,
        action_repeat=action_repeat,
        time_limit=time_limit,
        workers=workers,
        # The sentences of dm_control's tasks are known, though nothing tells which of them holds.
        behaviours=() if backend == "gym" else TASKS[task]().behaviours,
    )


def make_task(name: str) -> Task:
    """The task of `TASKS` called `name`, or that of a user's Python file.

    Raises:
        ValueError: for an unknown name, or a file that defines no task.
        FileNotFoundError: for a file that is not there.
    """
    if name.endswith(".py"):
        return load_task(name)
    _check_name(name)
    return TASKS[name]()


def _check_name(task: str) -> None:
    if task not in TASKS:
        hint = " A file of your own needs backend=warp." if task.endswith(".py") else ""
        raise ValueError(f"Unknown task {task!r}. Nearest: {_nearest(task, TASKS, 3)}.{hint}")


def _nearest(name: str, known, count: int = 1) -> str:
    return ", ".join(difflib.get_close_matches(name, known, n=count, cutoff=0.0))


def _warp_env(task: str, **settings) -> WarpEnv:
    return WarpEnv(make_task(task), task_name=task, **settings)


# Called in the worker processes: here neither dm_control, which takes seconds, nor a GL library is loaded.


def _dm_control_player(*arguments):
    from mindreel.envs.backends.dm_control import DMControlPlayer

    return DMControlPlayer(*arguments)


def _gym_player(*arguments):
    from mindreel.envs.backends.gymnasium_worlds import GymPlayer

    return GymPlayer(*arguments)
