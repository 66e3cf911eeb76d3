"""The settings of a batch of worlds, whatever simulates them."""

from dataclasses import dataclass, field, fields, replace
from typing import Annotated, Any, Literal, get_args

from annotated_types import Ge

from mindreel.envs.ranges import check_ranges
from mindreel.envs.warp.cameras import RenderConfig
from mindreel.envs.warp.randomize import RandomizeConfig
from mindreel.names import check_name

Backend = Literal["warp", "dm_control", "gym"]


@dataclass(frozen=True)
class EnvConfig:
    """The worlds that the agent acts in."""

    backend: Backend = "warp"
    """What simulates: mujoco_warp, the official environments of dm_control, or any of Gymnasium (task=ID)."""
    num_envs: Annotated[int, Ge(1)] = 16
    """Worlds that run side by side, B."""
    action_repeat: Annotated[int, Ge(1)] = 2
    """Control steps for which one action holds; their rewards are summed."""
    frame_skip: Annotated[int, Ge(1)] | None = None
    """Physics steps in one control step; the task's own if null."""
    time_limit: Annotated[int, Ge(1)] | None = None
    """Decisions after which an episode is cut off; the task's own limit if null."""
    render: RenderConfig = field(default_factory=RenderConfig)
    """The cameras."""
    randomize: RandomizeConfig = field(default_factory=RandomizeConfig)
    """How much worlds and episodes differ; of mujoco_warp."""
    max_contacts: Annotated[int, Ge(1)] | None = None
    """Contacts that a world may have on average; mujoco_warp's guess if null."""
    max_constraints: Annotated[int, Ge(1)] | None = None
    """Scalar constraints that a world may have; the task's own number, or a guess, if null."""
    fast_render: bool = True
    """Whether dm_control draws as env.render says, several times as fast as with its standard look."""
    workers: Annotated[int, Ge(0)] | None = None
    """Processes that simulate the worlds, 0 for none but the program's own; if null, none for warp, and one for each
    CPU core for dm_control and Gymnasium."""

    def __post_init__(self) -> None:
        check_name(self.backend, get_args(Backend), "backend")
        check_ranges(self)

    def with_fields(self, **changed: Any) -> "EnvConfig":
        """A copy with these fields changed.

        Raises:
            ValueError: for a field that is not there, with the nearest that is, or a value out of its range.
        """
        for name in changed:
            check_name(name, [one.name for one in fields(self)], "setting of worlds")
        return replace(self, **changed)
