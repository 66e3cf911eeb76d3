"""Agents that see through a video encoder they pretrained themselves, imagine in its latent space, and plan there.

    env = mindreel.make_env("walker-walk", num_envs=4)
    agent = mindreel.load("runs/demo")
    encoder = mindreel.load_encoder("runs/demo")

`mindreel.api` documents these; they are imported at their first use, since they bring torch and the simulator along.
"""

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mindreel.api import TrainedAgent, VideoFeatures, load, load_encoder, make_env

__all__ = ["TrainedAgent", "VideoFeatures", "load", "load_encoder", "make_env"]

# torch's threads wait for work by spinning, for milliseconds, which keeps a core from whoever else needs it: from the
# threads that draw pictures, and on a laptop from all that runs beside. Their runtime reads this when torch is
# imported, which happens after this package is (results/notebook/environments.md has what it is worth).
os.environ.setdefault("GOMP_SPINCOUNT", "10000")


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'mindreel' has no attribute {name!r}")
    from mindreel import api

    return getattr(api, name)
