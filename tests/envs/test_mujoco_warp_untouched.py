"""Our worlds change nothing of the installed mujoco_warp and Warp for other code in the same process."""

import subprocess
import sys

SCRIPT = """
import importlib, pkgutil, sys
import mujoco_warp, warp as wp
for found in pkgutil.iter_modules(mujoco_warp._src.__path__, "mujoco_warp._src."):
    if not found.name.endswith("_test"):
        importlib.import_module(found.name)


def attributes():
    modules = {name: x for name, x in sys.modules.items() if name.partition(".")[0] == "mujoco_warp"}
    found = {(name, key): value for name, module in modules.items() for key, value in vars(module).items()}
    for owner in (wp, wp.config, wp.Module):
        found |= {(str(owner), key): value for key, value in vars(owner).items()}
    # What Warp functions call is looked up in tables when kernels are built; caches of kernels may grow.
    tables = {key: dict(value) for key, value in found.items() if isinstance(value, dict) and "CACHE" not in key[1]}
    tables = {key: value for key, value in tables.items() if key[1].startswith("_") and key[1].isupper()}
    return found, tables


wp.init()  # which fills in its own configuration
before, tables = attributes()
from mindreel.envs import RenderConfig, make_env
env = make_env("hopper-hop", 2, render=RenderConfig(height=8, width=8))
env.rollout(3)
after, tables_after = attributes()
changed = [key for key, value in before.items() if after.get(key) is not value]
assert len(before) > 2000 and not changed, changed
assert tables and tables == tables_after
print("same")
"""


def test_making_and_stepping_worlds_leaves_every_attribute_the_same_object():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.endswith("same\n"), done.stderr
