"""Light on a floor, straight from above, as computed by hand the way OpenGL's fixed pipeline does."""

import mujoco
import numpy as np
import pytest

from mindreel.envs import RenderConfig, WarpSim

_FLOOR = """
<mujoco>
  <visual><headlight ambient=".4 .4 .4" diffuse=".8 .8 .8" specular="0 0 0"/></visual>
  <asset>
    <texture name="flat" type="2d" builtin="flat" rgb1=".2 .4 .6" width="8" height="8"/>
    <material name="textured" texture="flat" specular=".5"/>
    <material name="dull" texture="flat" specular="0"/>
    <material name="painted" rgba=".2 .4 .6 1" specular=".5"/>
  </asset>
  <worldbody>
    {lamp}
    <camera pos="0 0 1"/>
    <geom type="plane" size="5 5 1" material="{material}"/>
    <body pos="0 0 -1"><joint/><geom size=".1"/></body>
  </worldbody>
</mujoco>
"""
_LAMP = '<light type="directional" dir="0 0 -1" pos="0 0 3" diffuse=".5 .5 .5" specular="{0} {0} {0}"/>'
_PAINT = np.array([0.2, 0.4, 0.6])


@pytest.mark.parametrize(
    ("material", "lamp", "shade"),
    [
        ("textured", "", 1.0 * _PAINT),  # 0.4 + 0.8, cut off at 1
        ("dull", _LAMP.format(0.8), (1.0 + 0.5) * _PAINT),  # the lamp in a pass of its own
        ("textured", _LAMP.format(0.8), (1.0 + 0.5 + 0.5 * 0.8) * _PAINT),  # its highlight is coloured
        ("textured", _LAMP.format(3.0), (1.0 + 1.0) * _PAINT),  # and cut off with it
        ("painted", "", 1.2 * _PAINT),  # nothing is beyond white
        ("painted", _LAMP.format(0.2), 1.7 * _PAINT + 0.5 * 0.2),  # a highlight on paint is white
    ],
)
def test_light_is_cut_off_before_the_texture_colours_it(material: str, lamp: str, shade: np.ndarray) -> None:
    model = mujoco.MjModel.from_xml_string(_FLOOR.format(material=material, lamp=lamp))
    specular = model.mat_specular.copy()
    sim = WarpSim(model, 1, render=RenderConfig(height=9, width=9))
    middle = sim.render()[0, :, 4, 4].numpy()
    np.testing.assert_allclose(middle, 255 * shade.clip(max=1), atol=1.5)
    assert (model.mat_specular == specular).all(), "the caller's model is left alone"
