"""Worlds that differ: in looks, lights, cameras, masses, friction, motors and delays, drawn anew for every episode.

Each world holds copies of the model's fields that vary. What mujoco_warp shares among all worlds cannot vary: the
headlight, the sky, the pictures of textures (a world chooses among those there are), the kinds of geoms, joints and
actuators, and the paths of tendons. Of what a mass brings with it, the inertia and the mass of whole limbs follow;
the softness of contacts and limits, which MuJoCo derives from the masses of the model's first pose, does not.
"""

# pyright: reportAttributeAccessIssue=false
# (mujoco is compiled and brings no types)

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Annotated, Any

import mujoco
import numpy as np
import torch
from annotated_types import Ge, Interval

from mindreel.envs.generator import WorldGenerator
from mindreel.envs.ranges import check_ranges
from mindreel.envs.tasks.task import write
from mindreel.envs.warp.backgrounds import make_background, patterns
from mindreel.envs.warp.cameras import RenderConfig
from mindreel.envs.warp.simulation import WarpSim
from mindreel.names import check_name

_PATTERNS = 16
_PATTERN_SIZE = 64  # pixels
_FLOORS = (mujoco.mjtGeom.mjGEOM_PLANE, mujoco.mjtGeom.mjGEOM_HFIELD)
_SCALABLE = (mujoco.mjtGain.mjGAIN_FIXED, mujoco.mjtGain.mjGAIN_AFFINE)


@dataclass(frozen=True)
class RandomizeConfig:
    """How much worlds differ; nothing does by default. Draws are uniform up to the amounts given.

    A field that is None takes the preset's amount, and without a preset nothing: 0, no background.
    """

    preset: str = ""
    """Amounts for the fields that are null: distracting_easy, distracting_hard, dynamics, or none if empty."""
    colors: Annotated[float, Ge(0)] | None = None
    """Largest change of each channel of a geom's or material's colour, of 1."""
    textures: Annotated[float, Interval(ge=0, le=1)] | None = None
    """Fraction of the materials that wear one of 16 coloured patterns."""
    light_strength: Annotated[float, Interval(ge=0, lt=1)] | None = None
    """Largest relative change of each channel of a light's colour."""
    light_turn: Annotated[float, Ge(0)] | None = None
    """Largest turn of a light about each axis, in radians."""
    light_shift: Annotated[float, Ge(0)] | None = None
    """Largest shift of a light along each axis, in metres."""
    camera_turn: Annotated[float, Ge(0)] | None = None
    """Largest turn of a camera about each of its axes, in radians."""
    camera_shift: Annotated[float, Ge(0)] | None = None
    """Largest shift of a camera along each axis, as a fraction of the model's extent."""
    mass: Annotated[float, Interval(ge=0, lt=1)] | None = None
    """Largest relative change of each body's mass, and of its inertia with it."""
    friction: Annotated[float, Interval(ge=0, lt=1)] | None = None
    """Largest relative change of the friction in a world."""
    gain: Annotated[float, Interval(ge=0, lt=1)] | None = None
    """Largest relative change of each actuator's force; muscles keep theirs."""
    latency: Annotated[int, Ge(0)] | None = None
    """Most control steps by which a world's actions come late."""
    background: str | None = None
    """What moves behind the scene: noise, or the videos of the folder of this path; nothing if empty."""
    background_floor: bool | None = None
    """Whether the background also covers planes and height fields, which are mostly floors; it does if null."""

    def __post_init__(self) -> None:
        if self.preset:
            check_name(self.preset, PRESETS, "preset")
        check_ranges(self)

    @property
    def whole(self) -> "RandomizeConfig":
        """The amounts with the preset's put in, and none of them None."""
        amounts: dict[str, Any] = dict(_NOTHING)
        for config in (PRESETS[self.preset], self) if self.preset else (self,):
            given = ((field.name, getattr(config, field.name)) for field in fields(self))
            amounts.update({name: amount for name, amount in given if amount is not None})
        amounts["preset"] = ""
        return RandomizeConfig(**amounts)


_NOTHING = dict.fromkeys((field.name for field in fields(RandomizeConfig)), 0.0)
_NOTHING |= {"preset": "", "latency": 0, "background": "", "background_floor": True}

PRESETS = {
    "distracting_easy": RandomizeConfig(
        colors=0.1, light_strength=0.2, camera_turn=0.03, camera_shift=0.03, background="noise", background_floor=False
    ),
    "distracting_hard": RandomizeConfig(
        colors=0.3,
        textures=0.5,
        light_strength=0.5,
        light_turn=0.5,
        light_shift=0.5,
        camera_turn=0.1,
        camera_shift=0.1,
        background="noise",
    ),
    "dynamics": RandomizeConfig(mass=0.2, friction=0.3, gain=0.2, latency=2),
}

FIELDS: dict[str, tuple[str, ...]] = {
    "colors": ("geom_rgba", "mat_rgba"),
    "textures": ("mat_texid",),
    "light_strength": ("light_diffuse",),
    "light_turn": ("light_dir", "light_dir0"),
    "light_shift": ("light_pos", "light_pos0", "light_poscom0"),
    "camera_turn": ("cam_quat", "cam_mat0"),
    "camera_shift": ("cam_pos", "cam_pos0", "cam_poscom0"),
    "mass": ("body_mass", "body_inertia", "body_subtreemass"),
    "friction": ("geom_friction", "pair_friction"),
    "gain": ("actuator_gainprm", "actuator_biasprm"),
}
"""Fields of `mujoco.MjModel` that each amount varies."""


def varied_fields(config: RandomizeConfig, model: mujoco.MjModel) -> tuple[str, ...]:
    """Fields of the model that worlds must hold copies of."""
    config = config.whole
    found = [name for amount, names in FIELDS.items() if getattr(config, amount) for name in names]
    return tuple(name for name in found if getattr(model, name).size)


def textures_for(config: RandomizeConfig) -> torch.Tensor | None:
    """Textures that cameras must know besides the model's, uint8 (M, 3, S, S); None if it needs none."""
    return patterns(_PATTERNS, _PATTERN_SIZE) if config.whole.textures else None


class Randomizer:
    """Draws what differs for the worlds that start an episode.

    Args:
        config: what differs, and how much.
        sim: worlds that hold copies of `varied_fields`, as the model has them.
        render: the cameras, if there is a background to paint.

    Raises:
        ValueError: for a background that is neither noise nor a folder of videos.
    """

    def __init__(self, config: RandomizeConfig, sim: WarpSim, render: RenderConfig | None):
        whole: Any = config.whole  # none of whose fields is None
        self._config = whole
        self._sim = sim
        model, num, device = sim.mj_model, sim.num_worlds, sim.device
        self._base = {name: sim.model(name)[:1].clone() for name in varied_fields(config, model)}  # (1, ...)
        self._vary: dict[str, Callable[[torch.Tensor, WorldGenerator], None]] = {
            "colors": self._vary_colors,
            "textures": self._vary_textures,
            "light_strength": self._vary_light_strength,
            "light_turn": self._vary_light_turn,
            "light_shift": self._vary_light_shift,
            "camera_turn": self._vary_camera_turn,
            "camera_shift": self._vary_camera_shift,
            "mass": self._vary_mass,
            "friction": self._vary_friction,
            "gain": self._vary_gain,
        }
        self._descends = _descendants(model).to(device)
        self._delay = torch.zeros(num, dtype=torch.int64, device=device)  # control steps
        self._late = torch.zeros(whole.latency, num, model.nu, device=device)  # controls to come, newest first
        self._background = None
        if whole.background and render is not None:
            self._background = make_background(whole.background, num, render.height, render.width, device)
            self._views = len(render.views)
            floors = np.isin(model.geom_type, [int(kind) for kind in _FLOORS]) & whole.background_floor
            self._covered = torch.tensor([*floors.tolist(), True], device=device)  # the last stands for no geom: -1

    def reset(self, mask: torch.Tensor, generator: WorldGenerator) -> None:
        """Draws for the worlds of `mask`, (B,) bool; each amount has numbers of its own."""
        for index, (amount, names) in enumerate(FIELDS.items()):
            if any(name in self._base for name in names):
                self._vary[amount](mask, generator.branch(index))
        if self._config.latency:
            write(self._delay, mask, generator.branch(len(FIELDS)).integers(self._config.latency + 1))
            self._late.masked_fill_(mask[:, None], 0.0)
        if self._background is not None:
            self._background.reset(mask, generator.branch(len(FIELDS) + 1))

    def arriving(self, control: torch.Tensor) -> torch.Tensor:
        """Controls (B, A) that act now, when `control` is sent now; zero before the first arrives."""
        if not self._config.latency:
            return control
        sent = torch.cat([control[None], self._late])  # (L + 1, B, A)
        self._late.copy_(sent[:-1])
        return sent.gather(0, self._delay[None, :, None].expand(1, *control.shape))[0]

    def paint(self, pictures: dict[str, torch.Tensor], seconds: torch.Tensor) -> None:
        """Puts each world's background, at its time `seconds` (B,), behind what `pixels` shows."""
        if self._background is None:
            return
        behind = self._background.frames(seconds).repeat(1, 1, self._views, 1)  # (B, 3, K * H, W)
        nothing = self._covered[pictures["segmentation"].long()]  # (B, 1, K * H, W)
        pictures["pixels"] = torch.where(nothing, behind, pictures["pixels"])

    # ---- what differs ----

    def _spread(self, generator: WorldGenerator, amount: float, *shape: int) -> torch.Tensor:
        """Draws from [-amount, amount): (B, *shape)."""
        return (amount * (2 * generator.uniform(*shape) - 1)).to(self._sim.device)

    def _scale(self, mask: torch.Tensor, factor: torch.Tensor, *names: str) -> None:
        """Writes the model's own values times `factor` (B, ...)."""
        for name in names:
            if name in self._base:
                base = self._base[name]
                write(self._sim.model(name), mask, base * factor.view(*factor.shape, *[1] * (base.ndim - factor.ndim)))

    def _shift(self, mask: torch.Tensor, by: torch.Tensor, *names: str) -> None:
        """Writes the model's own values plus `by` (B, n, 3)."""
        for name in names:
            write(self._sim.model(name), mask, self._base[name] + by)

    def _vary_colors(self, mask: torch.Tensor, generator: WorldGenerator) -> None:
        for name, base in self._base.items():
            if name in FIELDS["colors"]:
                rgb = base[..., :3]
                drawn = (rgb + self._spread(generator, self._config.colors, *rgb.shape[1:])).clamp(0, 1)
                if name == "geom_rgba":  # a geom of exactly this grey shows its material's colour
                    matched = torch.as_tensor(self._sim.mj_model.geom_matid >= 0, device=self._sim.device)
                    drawn = torch.where((matched & (rgb == 0.5).all(-1))[..., None], rgb, drawn)
                write(self._sim.model(name)[..., :3], mask, drawn)

    def _vary_textures(self, mask: torch.Tensor, generator: WorldGenerator) -> None:
        own = self._base["mat_texid"][..., int(mujoco.mjtTextureRole.mjTEXROLE_RGB)]  # (1, materials)
        chosen = (generator.uniform(own.shape[1]) < self._config.textures).to(own.device)
        pattern = self._sim.mj_model.ntex + generator.integers(_PATTERNS, own.shape[1]).to(own)
        texid = self._sim.model("mat_texid")[..., int(mujoco.mjtTextureRole.mjTEXROLE_RGB)]
        write(texid, mask, torch.where(chosen, pattern, own))

    def _vary_light_strength(self, mask: torch.Tensor, generator: WorldGenerator) -> None:
        shape = self._base["light_diffuse"].shape[1:]
        self._scale(mask, 1 + self._spread(generator, self._config.light_strength, *shape), "light_diffuse")

    def _vary_light_turn(self, mask: torch.Tensor, generator: WorldGenerator) -> None:
        turn = _matrices(self._turns(generator, self._config.light_turn, self._sim.mj_model.nlight))
        for name in FIELDS["light_turn"]:
            write(self._sim.model(name), mask, (turn * self._base[name][..., None, :]).sum(-1))

    def _vary_light_shift(self, mask: torch.Tensor, generator: WorldGenerator) -> None:
        shift = self._spread(generator, self._config.light_shift, self._sim.mj_model.nlight, 3)
        self._shift(mask, shift, *FIELDS["light_shift"])

    def _vary_camera_turn(self, mask: torch.Tensor, generator: WorldGenerator) -> None:
        turn = self._turns(generator, self._config.camera_turn, self._sim.mj_model.ncam)
        write(self._sim.model("cam_quat"), mask, _product(self._base["cam_quat"], turn))
        axes = self._base["cam_mat0"][..., None] * _matrices(turn)[..., None, :, :]  # (B, n, 3, 3, 3)
        write(self._sim.model("cam_mat0"), mask, axes.sum(-2))

    def _vary_camera_shift(self, mask: torch.Tensor, generator: WorldGenerator) -> None:
        amount = self._config.camera_shift * float(self._sim.mj_model.stat.extent)
        self._shift(mask, self._spread(generator, amount, self._sim.mj_model.ncam, 3), *FIELDS["camera_shift"])

    def _vary_mass(self, mask: torch.Tensor, generator: WorldGenerator) -> None:
        factor = 1 + self._spread(generator, self._config.mass, self._sim.mj_model.nbody)
        self._scale(mask, factor, "body_mass", "body_inertia")
        limb = (self._base["body_mass"] * factor)[:, None] * self._descends  # (B, bodies, bodies)
        write(self._sim.model("body_subtreemass"), mask, limb.sum(-1))

    def _vary_friction(self, mask: torch.Tensor, generator: WorldGenerator) -> None:
        self._scale(mask, 1 + self._spread(generator, self._config.friction), *FIELDS["friction"])

    def _vary_gain(self, mask: torch.Tensor, generator: WorldGenerator) -> None:
        model = self._sim.mj_model
        plain = np.isin(model.actuator_gaintype, [int(kind) for kind in _SCALABLE])
        change = self._spread(generator, self._config.gain, model.nu)
        factor = 1 + change * torch.as_tensor(plain, device=self._sim.device)
        self._scale(mask, factor, *FIELDS["gain"])

    def _turns(self, generator: WorldGenerator, amount: float, num: int) -> torch.Tensor:
        """Small turns about all three axes as quaternions, (B, num, 4)."""
        half = self._spread(generator, amount, num, 3) / 2
        angle = half.norm(dim=-1, keepdim=True)
        return torch.cat([angle.cos(), (angle / math.pi).sinc() * half], dim=-1)  # sinc(x) is sin(pi x) / (pi x)

    # ---- saving ----

    def state(self) -> dict[str, torch.Tensor]:
        """Copies of what future pictures and controls depend on, besides the worlds' model."""
        return {name: x.clone() for name, x in self._tensors().items()}

    def load_state(self, state: dict[str, torch.Tensor]) -> None:
        """Continues from what `state` returned.

        Raises:
            ValueError: for the state of worlds that differed in another way.
        """
        for name, x in self._tensors().items():
            if name not in state or state[name].shape != x.shape:
                raise ValueError(f"Saved worlds do not fit: they were randomised in another way ({name!r}).")
            x.copy_(state[name])

    def _tensors(self) -> dict[str, torch.Tensor]:
        background = {} if self._background is None else self._background.state
        return {"delay": self._delay, "late": self._late} | {f"background.{name}": x for name, x in background.items()}


def _descendants(model: mujoco.MjModel) -> torch.Tensor:
    """Whether a body (rows) carries another, or is it: (bodies, bodies) of 0 and 1."""
    descends = torch.eye(model.nbody)
    for body in range(model.nbody - 1, 0, -1):  # children come after their parents
        descends[model.body_parentid[body]] += descends[body]
    return descends


def _product(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Of quaternions (..., 4): the turn `second` in the axes that `first` has turned."""
    a, u = first[..., :1], first[..., 1:].expand(second[..., 1:].shape)
    b, v = second[..., :1], second[..., 1:]
    return torch.cat([a * b - (u * v).sum(-1, keepdim=True), a * v + b * u + torch.linalg.cross(u, v)], dim=-1)


def _matrices(quaternion: torch.Tensor) -> torch.Tensor:
    """Rotation matrices (..., 3, 3) of quaternions (..., 4)."""
    scalar, vector = quaternion[..., :1, None], quaternion[..., None, 1:]  # (..., 1, 1), (..., 1, 3)
    axes = torch.eye(3, device=quaternion.device).expand(*quaternion.shape[:-1], 3, 3)  # rows, turned below
    across = torch.linalg.cross(vector.expand(axes.shape), axes)
    turned = axes + 2 * scalar * across + 2 * torch.linalg.cross(vector.expand(axes.shape), across)
    return turned.transpose(-1, -2)
