"""Humanoid CMU: the body of the CMU motion capture data, of 56 joints, that stands, walks or runs."""

from mindreel.envs.tasks.humanoid import Humanoid


class HumanoidCMU(Humanoid):
    """Rewarded and observed as `Humanoid`, whose trunk is a thorax here.

    Args:
        move_speed: horizontal speed to reach, in metres a second; 0 rewards standing alone.
    """

    xml = "humanoid_CMU.xml"
    time_limit = 20.0
    control_timestep = 0.02
    behaviours = tuple(sentence.replace("a humanoid", "a CMU humanoid") for sentence in Humanoid.behaviours)
    trunk = "thorax"
    upright_axis = 1
    limbs = ("lhand", "lfoot", "rhand", "rfoot")
    reset_rounds = 100  # of which seven in eight fail: one world in a million starts in contact

    def __init__(self, move_speed: float):
        super().__init__(move_speed)
