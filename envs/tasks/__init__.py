"""Every task by name, as `domain-task` in dm_control's spelling."""

from collections.abc import Callable
from functools import partial

from mindreel.envs.tasks.acrobot import Acrobot
from mindreel.envs.tasks.ball_in_cup import BallInCup
from mindreel.envs.tasks.cartpole import Cartpole
from mindreel.envs.tasks.cheetah import Cheetah
from mindreel.envs.tasks.dog import Dog, DogFetch
from mindreel.envs.tasks.finger import FingerSpin, FingerTurn
from mindreel.envs.tasks.fish import FishSwim, FishUpright
from mindreel.envs.tasks.hopper import Hopper
from mindreel.envs.tasks.humanoid import Humanoid
from mindreel.envs.tasks.humanoid_cmu import HumanoidCMU
from mindreel.envs.tasks.lqr import LQR
from mindreel.envs.tasks.manipulator import Manipulator
from mindreel.envs.tasks.pendulum import Pendulum
from mindreel.envs.tasks.point_mass import PointMass, PointMassRandomGains
from mindreel.envs.tasks.quadruped import QuadrupedEscape, QuadrupedFetch, QuadrupedMove
from mindreel.envs.tasks.reacher import Reacher
from mindreel.envs.tasks.stacker import Stacker
from mindreel.envs.tasks.swimmer import Swimmer
from mindreel.envs.tasks.task import Task
from mindreel.envs.tasks.walker import Walker

__all__ = ["TASKS", "Task"]

TASKS: dict[str, Callable[[], Task]] = {
    "acrobot-swingup": partial(Acrobot, sparse=False),
    "acrobot-swingup_sparse": partial(Acrobot, sparse=True),
    "ball_in_cup-catch": BallInCup,
    "cartpole-balance": partial(Cartpole, swing_up=False, sparse=False),
    "cartpole-balance_sparse": partial(Cartpole, swing_up=False, sparse=True),
    "cartpole-swingup": partial(Cartpole, swing_up=True, sparse=False),
    "cartpole-swingup_sparse": partial(Cartpole, swing_up=True, sparse=True),
    "cartpole-two_poles": partial(Cartpole, swing_up=True, sparse=False, num_poles=2),
    "cartpole-three_poles": partial(Cartpole, swing_up=True, sparse=False, num_poles=3),
    "cheetah-run": Cheetah,
    "dog-fetch": DogFetch,
    "dog-run": partial(Dog, speed=9.0),
    "dog-stand": partial(Dog, speed=0.0),
    "dog-trot": partial(Dog, speed=3.0),
    "dog-walk": partial(Dog, speed=1.0),
    "finger-spin": FingerSpin,
    "finger-turn_easy": partial(FingerTurn, target_size=0.07),
    "finger-turn_hard": partial(FingerTurn, target_size=0.03),
    "fish-upright": FishUpright,
    "fish-swim": FishSwim,
    "hopper-stand": partial(Hopper, hopping=False),
    "hopper-hop": partial(Hopper, hopping=True),
    "humanoid-stand": partial(Humanoid, move_speed=0.0),
    "humanoid-walk": partial(Humanoid, move_speed=1.0),
    "humanoid-run": partial(Humanoid, move_speed=10.0),
    "humanoid-run_pure_state": partial(Humanoid, move_speed=10.0, pure_state=True),
    "humanoid_CMU-stand": partial(HumanoidCMU, move_speed=0.0),
    "humanoid_CMU-walk": partial(HumanoidCMU, move_speed=1.0),
    "humanoid_CMU-run": partial(HumanoidCMU, move_speed=10.0),
    "lqr-lqr_2_1": partial(LQR, num_balls=2, num_actuators=1),
    "lqr-lqr_6_2": partial(LQR, num_balls=6, num_actuators=2),
    "manipulator-bring_ball": partial(Manipulator, peg=False, insert=False),
    "manipulator-bring_peg": partial(Manipulator, peg=True, insert=False),
    "manipulator-insert_ball": partial(Manipulator, peg=False, insert=True),
    "manipulator-insert_peg": partial(Manipulator, peg=True, insert=True),
    "pendulum-swingup": Pendulum,
    "point_mass-easy": PointMass,
    "point_mass-hard": PointMassRandomGains,
    "quadruped-escape": QuadrupedEscape,
    "quadruped-fetch": QuadrupedFetch,
    "quadruped-run": partial(QuadrupedMove, speed=5.0),
    "quadruped-walk": partial(QuadrupedMove, speed=0.5),
    "reacher-easy": partial(Reacher, target_size=0.05),
    "reacher-hard": partial(Reacher, target_size=0.015),
    "stacker-stack_2": partial(Stacker, num_boxes=2),
    "stacker-stack_4": partial(Stacker, num_boxes=4),
    "swimmer-swimmer6": partial(Swimmer, links=6),
    "swimmer-swimmer15": partial(Swimmer, links=15),
    "walker-stand": partial(Walker, move_speed=0.0),
    "walker-walk": partial(Walker, move_speed=1.0),
    "walker-run": partial(Walker, move_speed=8.0),
}
