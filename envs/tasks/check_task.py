"""Whether a task, which may be a user's, gives what `Task` asks for."""

import torch

from mindreel.envs.tasks.task import Task
from mindreel.envs.warp.simulation import WarpSim


def check_task(task: Task, name: str, sim: WarpSim) -> tuple[str, ...]:
    """Names of the state's entries, if all that a task gives is what `Task` asks for.

    Raises:
        ValueError: if something is not, or cannot be computed before an episode begins.
    """
    if task.model.nu == 0:
        raise ValueError(f"{name}: its model has no actuators, so there is nothing to decide: add some to its XML.")
    try:
        observation = task.observation(sim)
        others = {"reward": task.reward(sim), "terminated": task.terminated(sim)}
    except Exception as error:  # the task may be the user's, and raise anything
        fault = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        raise ValueError(
            f"{name}: its observation, reward or terminated fails where no episode has begun: {fault}. "
            "What they read besides the worlds has to be there from the start; numbers of your own for each "
            "world belong into sim.data('userdata')."
        ) from error
    if not isinstance(observation, dict) or not observation:
        raise ValueError(f"{name}: its observation should be a dict of tensors, got {type(observation).__name__}.")
    for entry, x in observation.items():
        _check(name, f"observation's {entry!r}", x, sim.num_worlds, torch.float32, 2)
    _check(name, "reward", others["reward"], sim.num_worlds, torch.float32, 1)
    _check(name, "terminated", others["terminated"], sim.num_worlds, torch.bool, 1)
    return tuple(f"{entry}[{i}]" for entry, x in observation.items() for i in range(x.shape[-1]))


def _check(task: str, what: str, x: object, batch: int, dtype: torch.dtype, axes: int) -> None:
    """Raises ValueError unless something that a task gives is a tensor of this type and number of axes, by world."""
    tensor = isinstance(x, torch.Tensor)
    if not tensor or x.dtype != dtype or x.ndim != axes or len(x) != batch:
        shape = f"({batch}, n)" if axes == 2 else f"({batch},)"
        hint = ""
        if isinstance(x, list | tuple):
            hint = " Join its parts: torch.cat([...], dim=-1)."
        elif not tensor:
            hint = " Compute it with torch from the worlds' tensors."
        got = f"{x.dtype} {tuple(x.shape)}" if tensor else f"a {type(x).__module__}.{type(x).__qualname__}"
        raise ValueError(
            f"{task}: its {what} should be {str(dtype).removeprefix('torch.')} {shape}, a torch tensor with one row "
            f"for each world, got {got.replace('builtins.', '')}.{hint}"
        )
