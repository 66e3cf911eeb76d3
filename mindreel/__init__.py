"""Agents that see through a video encoder they pretrained themselves, imagine in its latent space, and plan there."""

import os

# torch's threads wait for work by spinning, for milliseconds, which keeps a core from whoever else needs it: from the
# threads that draw pictures, and on a laptop from all that runs beside. Their runtime reads this when torch is
# imported, which happens after this package is (results/notebook/environments.md has what it is worth).
os.environ.setdefault("GOMP_SPINCOUNT", "10000")
