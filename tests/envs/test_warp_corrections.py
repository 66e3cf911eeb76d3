"""Contacts as MuJoCo itself finds them: of a capsule on a plane, however steep, and of capsules that cross."""

import mujoco
import numpy as np
import pytest
import torch

from mindreel.envs.warp.cameras import RenderConfig
from mindreel.envs.warp.simulation import WarpSim

_CAPSULE = """
<mujoco><option cone="pyramidal" timestep="0.002"/><worldbody>
<geom type="plane" size="5 5 .1"/>
<body><freejoint/><geom type="capsule" size=".05 .2" mass="1"/></body>
</worldbody></mujoco>
"""


@pytest.mark.parametrize("tilt", [0.0, 10.0, 25.0, 60.0, 90.0])
def test_a_capsule_slides_as_in_mujoco(tilt: float) -> None:
    """It slides obliquely to its own axis, where a pyramid that is turned about the normal gives other forces."""
    model = mujoco.MjModel.from_xml_string(_CAPSULE)
    half, heading = np.radians(tilt) / 2, np.radians(35) / 2
    turn, lean = np.zeros(4), np.array([np.cos(half), 0, np.sin(half), 0])
    mujoco.mju_mulQuat(turn, np.array([np.cos(heading), 0, 0, np.sin(heading)]), lean)
    height = 0.2 * np.cos(np.radians(tilt)) + 0.049
    data = mujoco.MjData(model)
    data.qpos[:] = [0, 0, height, *turn]
    data.qvel[:3] = [1.0, 0.4, -0.1]

    sim = WarpSim(model, 1)
    sim.qpos[0], sim.qvel[0] = (torch.as_tensor(x, dtype=torch.float32) for x in (data.qpos, data.qvel))
    sim.forward()
    sim.step()
    mujoco.mj_step(model, data)
    assert data.ncon, "the capsule should touch the plane"
    assert np.abs(data.qvel[:2] - [1.0, 0.4]).max() > 1e-3, "and be slowed down by it"
    np.testing.assert_allclose(sim.qvel[0].numpy(), data.qvel, atol=2e-5)


_CROSSED = """
<mujoco><option cone="pyramidal" timestep="0.002" gravity="0 0 0"/><worldbody>
<geom type="capsule" size=".05 .2" zaxis="1 0 0"/>
<body>
  <joint type="slide" axis="1 0 0"/><joint type="slide" axis="0 1 0"/><joint type="slide" axis="0 0 1"/>
  <joint type="hinge" axis="0 1 0"/><geom type="capsule" size=".04 .3" mass="1"/>
</body>
</worldbody></mujoco>
"""


@pytest.mark.parametrize(
    "place",
    [
        (0.033, 0.0, 0.071, 0.7),  # axes that meet push each other out of their plane
        (-0.107, 0.0, -0.013, -1.1),
        (0.033, 0.02, 0.071, 0.7),  # one on either side of the other
        (0.033, -0.02, 0.071, 0.7),
        (0.21, 0.0, 0.3, 0.1),  # an end
        (0.05, 0.01, 0.08, 1.5702),  # all but parallel
    ],
)
def test_capsules_that_cross_part_as_in_mujoco(place: tuple[float, ...]) -> None:
    """x, y, z and tilt of the one that moves; the other lies along x."""
    model = mujoco.MjModel.from_xml_string(_CROSSED)
    data = mujoco.MjData(model)
    data.qpos[:], data.qvel[:] = place, [0.3, 0.0, -0.2, 1.0]
    sim = WarpSim(model, 1)
    sim.qpos[0], sim.qvel[0] = (torch.as_tensor(x, dtype=torch.float32) for x in (data.qpos, data.qvel))
    before = data.qvel.copy()
    sim.forward()
    sim.step()
    mujoco.mj_step(model, data)
    assert data.ncon, "the capsules should touch"
    assert np.abs(data.qvel - before).max() > 1e-3, "and push each other"
    np.testing.assert_allclose(sim.qvel[0].numpy(), data.qvel, atol=1e-4)


@pytest.mark.parametrize(
    "kind, size, pixels",
    [  # of a picture that is 2 cm wide and high, 64 pixels each
        ("sphere", ".005", np.pi * 16**2),
        ("ellipsoid", ".005 .002 .0025", np.pi * 16 * 8),
        ("capsule", ".0025 .00375", 16 * 24 + np.pi * 8**2),
        ("cylinder", ".005 .004", 32 * 25.6),
    ],
)
def test_small_round_things_far_away_are_whole(kind: str, size: str, pixels: float) -> None:
    model = mujoco.MjModel.from_xml_string(
        f"""<mujoco><worldbody>
        <camera pos="0 -16 0" xyaxes="1 0 0 0 0 1" fovy="{np.degrees(2 * np.arctan(0.01 / 16))}"/>
        <geom type="{kind}" size="{size}"/>
        </worldbody></mujoco>"""
    )
    sim = WarpSim(model, 1, render=RenderConfig(64, 64), draw=("segmentation", "depth"))
    sim.forward()
    seen = sim.pictures()
    shown = seen["segmentation"][0, 0] == 0
    assert float(shown.sum()) == pytest.approx(pixels, rel=0.05)
    nearest = 16 - float(size.split()[1 if kind == "ellipsoid" else 0])
    assert seen["depth"][0, 0, 32, 32] == pytest.approx(nearest, abs=1e-4)
