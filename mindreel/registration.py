"""The tasks' names in Gymnasium, which asks for them when it is imported (entry point `gymnasium.envs`).

Every program that imports Gymnasium imports this file, so it imports nothing: the simulator is loaded when an
environment is made. `tests/envs/test_gymnasium.py` holds the names against `mindreel.envs.TASKS`.
"""

from gymnasium.envs.registration import register

TASKS = {
    "acrobot": "swingup swingup_sparse",
    "ball_in_cup": "catch",
    "cartpole": "balance balance_sparse swingup swingup_sparse two_poles three_poles",
    "cheetah": "run",
    "dog": "fetch run stand trot walk",
    "finger": "spin turn_easy turn_hard",
    "fish": "upright swim",
    "hopper": "stand hop",
    "humanoid": "stand walk run run_pure_state",
    "humanoid_CMU": "stand walk run",
    "lqr": "lqr_2_1 lqr_6_2",
    "manipulator": "bring_ball bring_peg insert_ball insert_peg",
    "pendulum": "swingup",
    "point_mass": "easy hard",
    "quadruped": "escape fetch run walk",
    "reacher": "easy hard",
    "stacker": "stack_2 stack_4",
    "swimmer": "swimmer6 swimmer15",
    "walker": "stand walk run",
}
"""Domain -> its tasks."""


def register_tasks() -> None:
    """Registers every task as mindreel/DOMAIN-TASK-v0, for `gymnasium.make_vec`.

    Gymnasium puts the name of the entry point, mindreel, before each id.
    """
    for task in (f"{domain}-{name}" for domain, names in TASKS.items() for name in names.split()):
        register(
            id=f"{task}-v0",
            entry_point="mindreel.envs.backends.vector_env:no_single_world",
            vector_entry_point="mindreel.envs.backends.vector_env:WorldsVectorEnv",
            kwargs={"task": task},
        )
