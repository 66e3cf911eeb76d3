"""The tasks' names in Gymnasium: importing `mindreel.envs` registers them.

Gymnasium 1.0 and later looks for no plugins, so something has to be imported: `mindreel.envs`, or by Gymnasium itself
where the id begins with that, as in `gymnasium.make_vec("mindreel.envs:mindreel/walker-walk-v0", num_envs=256)`.
"""

from gymnasium.envs.registration import register, registry

from mindreel.envs.tasks import TASKS

_MODULE = "mindreel.envs.backends.vector_env"


def register_tasks() -> None:
    """Registers every task as mindreel/DOMAIN-TASK-v0, for `gymnasium.make_vec`."""
    for task in TASKS:
        name = f"mindreel/{task}-v0"
        if name not in registry:
            register(
                name,
                entry_point=f"{_MODULE}:no_single_world",
                vector_entry_point=f"{_MODULE}:WorldsVectorEnv",
                kwargs={"task": task},
            )
