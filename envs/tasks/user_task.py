"""A task of the user's own: a Python file beside an MJCF file, used by its path and never installed."""

import hashlib
import importlib.util
import inspect
import sys
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from mindreel.envs.generator import WorldGenerator
from mindreel.envs.tasks.task import Task
from mindreel.envs.warp.simulation import WarpSim

_EPISODE_SECONDS = 20.0


def load_task(path: str) -> Task:
    """The task that a Python file defines; the file is run once in a process, however often it is asked for.

    It defines either one subclass of `Task`, made without arguments, or these names:

        XML = "my_model.xml"           # MJCF file, from the Python file's folder
        def reward(sim): ...           # float32 (B,), from the worlds' present state and controls
        def observation(sim): ...      # float32 (B, n), or a dict of such; positions and velocities if not there
        def reset(sim, mask, generator): ...  # as `Task.reset`; the model's own first state if not there
        def terminated(sim): ...       # bool (B,); never if not there
        TIME_LIMIT = 20.0              # seconds of an episode
        CONTROL_TIMESTEP = 0.02        # seconds between two actions; a physics step if not there

    Raises:
        FileNotFoundError: the file, or its MJCF, is not there.
        ValueError: the file does not load, or defines no task.
    """
    file = Path(path).resolve()
    if not file.is_file():
        raise FileNotFoundError(f"The task's file {path} does not exist, seen from {Path.cwd()}.")
    module = _module(file)
    classes = [
        value
        for value in vars(module).values()
        if inspect.isclass(value) and issubclass(value, Task) and value.__module__ == module.__name__
    ]
    if len(classes) > 1:
        raise ValueError(f"{path} defines {len(classes)} subclasses of Task: keep one.")
    if classes:
        return _noting_open_actions(_from_class(classes[0], file))
    for name in ("XML", "reward"):
        if not hasattr(module, name):
            raise ValueError(f"{path} defines no {name}: give a subclass of Task, or XML and reward(sim).")
    return _noting_open_actions(_FileTask(module, file))


def _noting_open_actions(task: Task) -> Task:
    """The task, after warning of actuators whose controls have no bounds."""
    model = task.model
    actuators = [model.actuator(i) for i in range(model.nu) if not model.actuator_ctrllimited[i]]
    if actuators:
        names = ", ".join(repr(one.name) if one.name else f"number {one.id}" for one in actuators)
        warnings.warn(
            f"{task.xml}: actuators without ctrlrange get controls from -1 to 1 (a position servo: radians or metres): "
            f'{names}. Say in the XML what they reach, as ctrlrange="-2 2" (or inheritrange="1" for a servo).',
            RuntimeWarning,
            stacklevel=3,
        )
    return task


def _module(file: Path) -> ModuleType:
    """The file as a module, kept under a name of its own, so that running it again changes nothing."""
    name = f"task_{file.stem}_{hashlib.sha256(str(file).encode()).hexdigest()[:8]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None, file
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # the file is the user's and may raise anything
        del sys.modules[name]
        raise ValueError(f"{file} does not load: {type(error).__name__}: {error}") from error
    return module


def _from_class(cls: type[Task], file: Path) -> Task:
    beside = file.parent / getattr(cls, "xml", "")
    if beside.is_file():  # else one of dm_control's
        cls.xml = str(beside)
    try:
        return cls()
    except TypeError as error:
        raise ValueError(f"{file}: {cls.__name__} should be made without arguments: {error}") from error


class _FileTask(Task):
    """A task made of a module's names; see `load_task`."""

    def __init__(self, module: ModuleType, file: Path):
        model = file.parent / module.XML
        if not model.is_file():
            raise FileNotFoundError(f"{file} names the model XML = {module.XML!r}, but {model} does not exist.")
        self.xml = str(model)  # pyright: ignore[reportAttributeAccessIssue]
        self.time_limit = float(getattr(module, "TIME_LIMIT", _EPISODE_SECONDS))  # pyright: ignore
        self.control_timestep = getattr(module, "CONTROL_TIMESTEP", None)  # pyright: ignore
        self._file = file
        self._functions: dict[str, Callable[..., Any]] = {
            name: getattr(module, name)
            for name in ("reward", "observation", "reset", "terminated")
            if hasattr(module, name)
        }
        super().__init__()

    def reset(self, sim: WarpSim, mask: torch.Tensor, generator: WorldGenerator) -> None:
        if "reset" in self._functions:
            self._call("reset", sim, mask, generator)

    def observation(self, sim: WarpSim) -> dict[str, torch.Tensor]:
        if "observation" not in self._functions:
            return {"position": sim.qpos, "velocity": sim.qvel}
        seen = self._call("observation", sim)
        return seen if isinstance(seen, dict) else {"observation": seen}

    def reward(self, sim: WarpSim) -> torch.Tensor:
        return self._call("reward", sim)

    def terminated(self, sim: WarpSim) -> torch.Tensor:
        if "terminated" not in self._functions:
            return super().terminated(sim)
        return self._call("terminated", sim)

    def _call(self, name: str, *arguments: Any) -> Any:
        """The result of one of the file's functions.

        Raises:
            ValueError: with the line, for anything that it raises.
        """
        try:
            return self._functions[name](*arguments)
        except Exception as error:
            frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(self._file)]
            line = f", line {frames[-1].lineno}" if frames else ""
            raise ValueError(f"{self._file}{line}: {name} fails: {type(error).__name__}: {error}") from error
