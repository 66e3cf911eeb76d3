"""Friction of a capsule on a plane, as MuJoCo itself computes it, however steeply the capsule stands."""

import mujoco
import numpy as np
import pytest
import torch

from envs.warp_sim import WarpSim

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
