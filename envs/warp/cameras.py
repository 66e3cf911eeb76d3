"""What cameras see of many worlds: colour, depth, and which geom a pixel shows, ray traced at once.

Warp's kernels run in one thread on the CPU, where rays cost more than physics. So there the worlds are drawn in several
parts, one for each of torch's threads, which may be drawn at the same time.
"""

# pyright: reportAttributeAccessIssue=false
# (mujoco is compiled and brings no types)

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import mujoco
import mujoco_warp as mjw
import torch
import warp as wp
from annotated_types import Ge

from mindreel.envs.ranges import check_ranges
from mindreel.envs.warp import engine
from mindreel.names import nearest

PICTURES = ("pixels", "depth", "segmentation")

# Of mujoco_warp's data, all that drawing reads.
_DRAWN = ("geom_xpos", "geom_xmat", "cam_xpos", "cam_xmat", "light_xpos", "light_xdir", "flexvert_xpos")


@dataclass(frozen=True)
class RenderConfig:
    """What the cameras see and how it is drawn."""

    height: Annotated[int, Ge(1)] = 64
    """Rows of a camera's picture, in pixels."""
    width: Annotated[int, Ge(1)] = 64
    """Columns of a camera's picture, in pixels."""
    camera: int | str = 0
    """Camera of the model, by index or name."""
    cameras: tuple[int | str, ...] = ()
    """Several cameras in place of one; their pictures lie one below another, in this order."""
    shadows: bool = False
    """Cast shadow rays (about twice the cost)."""
    skybox: bool = False
    """Draw the model's sky where a ray hits nothing; black otherwise."""
    samples: Annotated[int, Ge(1)] = 1
    """Rays per pixel and axis, averaged: 2 means four rays."""

    def __post_init__(self) -> None:
        check_ranges(self)

    @property
    def views(self) -> tuple[int | str, ...]:
        """The cameras drawn, from top to bottom, K of them."""
        return self.cameras or (self.camera,)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, rows and columns of a picture of all cameras: (3, K * H, W)."""
        return 3, len(self.views) * self.height, self.width


class Cameras:
    """Draws N worlds through the cameras of a config; made and used on Warp's current device.

    Args:
        model: the model that the worlds share.
        num_worlds: number of worlds, B.
        config: cameras, picture size and look.
        kinds: which of `PICTURES` are drawn.
        textures: more textures than the model's, uint8 (M, 3, S, S), that worlds may choose.
        parts: into how many parts the worlds are divided.

    Raises:
        ValueError: for a camera that the model lacks.
    """

    def __init__(
        self,
        model: mujoco.MjModel,
        num_worlds: int,
        config: RenderConfig,
        kinds: tuple[str, ...],
        textures: torch.Tensor | None = None,
        parts: int = 1,
    ):
        parts = min(parts, num_worlds)
        bounds = [num_worlds * part // parts for part in range(parts + 1)]
        _, rows, columns = config.shape  # a world's cameras lie in memory as in the picture: one after another
        self.parts = [
            _Part(slice(low, high), _make_context(model, high - low, config, kinds), (high - low, rows, columns))
            for low, high in zip(bounds, bounds[1:], strict=False)
        ]
        if textures is not None:
            self._add(textures)
        self._kinds = kinds

    def _add(self, textures: torch.Tensor) -> None:
        added = []
        for texture in textures.permute(0, 2, 3, 1):  # (S, S, 3) each
            rgba = torch.nn.functional.pad(texture / 255, (0, 1), value=1.0)
            added.append(wp.Texture2D(wp.array(rgba.numpy(), dtype=float), filter_mode=wp.TextureFilterMode.LINEAR))
        for part in self.parts:
            part.context.textures_registry.extend(added)
            part.context.textures = wp.array(part.context.textures_registry, dtype=wp.Texture2D)

    def pictures(self) -> dict[str, torch.Tensor]:
        """What was drawn last, in fresh tensors.

        Returns:
            `pixels`, uint8 (B, 3, K * H, W); `depth`, float32 (B, 1, K * H, W), metres along the camera's axis,
            0 where nothing is; `segmentation`, int32 (B, 1, K * H, W), index of the geom, -1 where none is.
        """
        found = {kind: [getattr(part, kind)() for part in self.parts] for kind in self._kinds}
        return {kind: parts[0] if len(parts) == 1 else torch.cat(parts) for kind, parts in found.items()}


@dataclass(frozen=True)
class _Part:
    """Some of the worlds, and what they are drawn with."""

    worlds: slice
    context: mjw.RenderContext
    shape: tuple[int, int, int]
    """Number of these worlds, rows and columns of a picture of all cameras."""

    def record(self, model: mjw.Model, data: mjw.Data, per_world: Sequence[str]) -> None:
        """Launches the kernels that draw these worlds as they are now; each has its own of the model's `per_world`."""
        if self.shape[0] < data.nworld:
            model, data = copy.copy(model), copy.copy(data)
            for owner, names in ((data, _DRAWN), (model, per_world)):
                for name in names:
                    if getattr(owner, name).size:
                        setattr(owner, name, getattr(owner, name)[self.worlds])  # a view: Warp's memory is shared
            data.nworld = self.shape[0]
        engine.refit_bvh(model, data, self.context)
        engine.render_worlds(model, data, self.context)

    def pixels(self) -> torch.Tensor:
        # Each pixel is one uint32, 0xAARRGGBB: on a little-endian machine the bytes lie as B, G, R, A.
        bgra = wp.to_torch(self.context.rgb_data).view(torch.uint8).view(*self.shape, 4)
        return torch.stack([bgra[..., i] for i in (2, 1, 0)], dim=1)

    def depth(self) -> torch.Tensor:
        return wp.to_torch(self.context.depth_data).view(self.shape).unsqueeze(1).clone()

    def segmentation(self) -> torch.Tensor:
        index, kind = wp.to_torch(self.context.seg_data).view(*self.shape, 2).unbind(-1)  # (B, K * H, W) each
        return torch.where(kind == int(mujoco.mjtObj.mjOBJ_GEOM), index, -1).unsqueeze(1)


def _make_context(
    model: mujoco.MjModel, num_worlds: int, config: RenderConfig, kinds: tuple[str, ...]
) -> mjw.RenderContext:
    return engine.create_render_context(
        model,
        nworld=num_worlds,
        cam_res=(config.width, config.height),
        render_rgb="pixels" in kinds,
        render_depth="depth" in kinds,
        render_seg="segmentation" in kinds,
        cam_active=find_cameras(model, config.views),
        use_shadows=config.shadows,
        shadow_light_fraction=0.0,  # as in MuJoCo: nothing of a lamp reaches its shadow
        render_skybox=config.skybox,
        samples_per_pixel=config.samples if "pixels" in kinds else 1,  # depth and geoms take one ray a pixel
    )


def find_cameras(model: mujoco.MjModel, views: tuple[int | str, ...]) -> list[int]:
    """Indices of cameras given by index or name.

    Raises:
        ValueError: for one that the model lacks.
    """
    names = [model.camera(i).name for i in range(model.ncam)]
    found = [names.index(view) if isinstance(view, str) and view in names else view for view in views]
    for index in found:
        if isinstance(index, str) or not 0 <= index < len(names):
            if not names:
                raise ValueError(f"The model has no camera {index!r}, nor any other: add a <camera> to its XML.")
            raise ValueError(f"The model has no camera {index!r}: {nearest(str(index), names)}")
    return [int(index) for index in found]


def aimed_cameras(model: mujoco.MjModel, views: tuple[int | str, ...]) -> list[str]:
    """Those of these cameras, by name or number, that always look at some body."""
    aims = (mujoco.mjtCamLight.mjCAMLIGHT_TARGETBODY, mujoco.mjtCamLight.mjCAMLIGHT_TARGETBODYCOM)
    return [
        model.camera(index).name or str(index)
        for index in find_cameras(model, views)
        if model.cam_mode[index] in [int(aim) for aim in aims]
    ]
