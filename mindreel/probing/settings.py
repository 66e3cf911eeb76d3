"""Settings of `probe`."""

from dataclasses import dataclass, field
from typing import Annotated

from annotated_types import Ge

from mindreel.rollouts.dataset import RolloutConfig
from mindreel.run_config import RunConfig


@dataclass(frozen=True)
class CompareConfig(RunConfig):
    """Which encoders are probed, on what, and how."""

    probes: tuple[str, ...] = ()
    """Suites: state, recognition, retrieval, anomaly, frontend, dynamics; all if empty. run= without probes= is the
    quick table of a run."""
    folder: str = "runs/probe"
    """Folder of rollouts, pretrained encoders, rows and figure."""
    rollouts: RolloutConfig = field(default_factory=RolloutConfig)
    """The rollouts that encoders are pretrained and probed on."""
    in_view: bool = True
    """Probe the state only in frames that show the middle of everything that moves."""
    movies: Annotated[int, Ge(1)] = 64
    """Pairs of movies for each violation."""
    out: str = ""
    """File for the rows, JSON."""
