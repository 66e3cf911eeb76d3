"""Names of the tasks in Gymnasium; what makes them is imported when one is made."""

import gymnasium

from envs.tasks import TASKS


def register_tasks() -> None:
    """Registers every task of `TASKS` as mindreel/NAME-v0; what is registered stays as it is."""
    for task in TASKS:
        name = f"mindreel/{task}-v0"
        if name not in gymnasium.registry:
            gymnasium.register(
                name,
                entry_point="envs.registration:no_single_world",
                vector_entry_point="envs.gymnasium:WorldsVectorEnv",
                kwargs={"task": task},
            )


def no_single_world(task: str, **_: object) -> gymnasium.Env:
    """What `gymnasium.make` finds.

    Raises:
        ValueError: always: worlds come in batches.
    """
    raise ValueError(
        f"Worlds come in batches: use gymnasium.make_vec('mindreel/{task}-v0', num_envs=1), a batch of one."
    )
