"""Public checkpoints as encoders: encoder=pretrained encoder.source=FOLDER, FILE or OWNER/NAME[/FILE] on the hub.

Read are the models of transformers (V-JEPA 2, VideoMAE, ViViT, TimeSformer, DINOv2, DINOv3 and any other AutoModel of
pictures whose extra tokens lead) and, as files, those of state_dicts.py. Nothing that comes with a checkpoint is run:
weights are read as safetensors or as tensors alone, and code beside them is not looked at.

`InputFormat` says what each expects of a clip: the size that frames are scaled to (bilinearly, the whole frame,
without a crop), their normalisation, and how many make a clip. A model of video reads the agent's F
frames as one clip, in which the oldest stands still in front for as long as frames are missing, or (clip=single)
each frame by itself, repeated until it fills a clip. A model of pictures always reads each frame by itself. So no
frame later than the newest takes part, though within a clip all of these models look both ways.

The objective that a model was published with stays behind. To be trained on rollouts (training_mode=refresh, cotrain)
it gets auxiliary losses instead: a new head reads its tokens, and predicts coming frames and rewards.
"""

from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from mindreel.encoders.backbone.readout import EmbeddingReadout, fit_readout, make_readout
from mindreel.encoders.encoder import Encoder, check_frames, check_sequences, check_training_mode
from mindreel.encoders.objectives.auxiliary import AuxiliaryConfig, AuxiliaryLosses
from mindreel.encoders.public.architectures import InputFormat, PublishedViT
from mindreel.encoders.public.hub import TORCH_FILES, HubModel, download, load_hub, on_hub
from mindreel.encoders.public.state_dicts import load_published
from mindreel.torch_files import DAMAGE, first_sentence

MEAN_FRAME_FILE = "mean_frame.safetensors"
"""Beside an export of ours: `mean_frame` (3, H, W) and `pixel_std` () of its rollouts, of 255."""
WEIGHT_FILES = (".safetensors", *TORCH_FILES)
READOUTS = ("compressed", "pooled", "tokens")
_LARGEST_SIDE, _MOST_TOKENS = 8192, 50_000
_PREDICTED_SIZE = 64
"""Height and width of the frames that are predicted, in pixels, whatever size the model reads."""


@dataclass(frozen=True)
class PretrainedConfig:
    """A public checkpoint, as it is or trained further on rollouts."""

    source: str = ""
    """Folder or file of the checkpoint, or its OWNER/NAME or OWNER/NAME/FILE on the Hugging Face hub."""
    frames: int = 4
    """Frames F of a clip: the newest one and those before it."""
    clip: str = "sliding"
    """How a model of video reads them: sliding (all as one clip) or single (each repeated until it fills a clip)."""
    image_size: int = 0
    """Pixels, in height and width, that frames are scaled to; 0 for what the checkpoint was trained at."""
    heads: int = 0
    """Attention heads of a published file of unusual width; 0 for what published models of that width have."""
    readout: str = "compressed"
    """Features of the agent: compressed (principal components of the tokens), pooled (their mean) or tokens."""
    width: int = 256
    """Principal components of readout=compressed, and width of the embedding that terms act on."""
    places: int = 8
    """Places, in height and in width, that tokens are averaged to before the readout; 0 for all that there are."""
    training_mode: str = "frozen"
    """frozen, finetune (by the agent), refresh (by terms of auxiliary, on the agent's rollouts) or cotrain (both)."""
    token_channels: int = 16
    """Channels that each token is squeezed to before the embedding reads all of them."""
    auxiliary: AuxiliaryConfig = field(default_factory=lambda: AuxiliaryConfig(future_coef=1.0, reward_coef=1.0))
    """Terms on the clip's embedding that refresh and cotrain train it with."""

    def __post_init__(self):
        if self.clip not in ("sliding", "single"):
            raise ValueError(f"encoder.clip={self.clip}: expected sliding or single.")
        if self.frames < 1 or min(self.image_size, self.heads, self.places) < 0:
            raise ValueError("encoder.frames must be 1 or more; image_size, heads and places 0 or more.")
        if self.readout not in READOUTS:
            raise ValueError(f"encoder.readout={self.readout}: expected one of {', '.join(READOUTS)}.")
        check_training_mode(self.training_mode, ("frozen", "finetune", "refresh", "cotrain"))
        if self.has_objective:
            self._check_auxiliary()

    @property
    def has_objective(self) -> bool:
        """True if losses of its own train it on rollouts, and not the agent alone."""
        return self.training_mode in ("refresh", "cotrain")

    def _check_auxiliary(self) -> None:
        named, auxiliary = f"encoder.training_mode={self.training_mode}", self.auxiliary
        if auxiliary.contrast_coef:
            raise ValueError("encoder.auxiliary.contrast_coef: a public checkpoint has no teacher to compare with.")
        if not auxiliary.active:
            raise ValueError(f"{named} needs a term of encoder.auxiliary to train a public checkpoint with.")
        if auxiliary.future_coef and self.frames < 2:
            raise ValueError(f"{named} weighs changes between frames: encoder.frames must be 2 or more.")
        if min(self.width, self.token_channels) < 1:
            raise ValueError(f"{named} needs encoder.width and token_channels of 1 or more.")


class Pretrained(Encoder):
    """A public checkpoint as an encoder.

    Args:
        config: which one, and how clips are shown to it.
        action_dim: number of action dimensions, A.
        state_dim: not used; all encoders are built alike.

    Raises:
        ValueError: the source is missing, damaged or of an unknown kind, or does not go with the other fields.
    """

    fits_readout = True
    mean: Tensor
    std: Tensor
    mean_frame: Tensor

    def __init__(self, config: PretrainedConfig, action_dim: int = 0, state_dim: int = 0):
        super().__init__()
        self.config, self.clip_frames, self.training_mode = config, config.frames, config.training_mode
        self.action_dim = action_dim
        folder, self.model = load_source(config)
        self.input_format: InputFormat = self.model.input_format
        self.image_size = config.image_size or self.input_format.image_size
        _check_clip(config, self.input_format, self.image_size)
        self.alone = self.input_format.frames == 1 or config.clip == "single"
        mean, std = pixel_statistics(folder, self.input_format, self.image_size)
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        self.model.requires_grad_(config.training_mode != "frozen")
        self.token_grid = self._try_out()
        times, side, _ = self.token_grid
        if not self.alone:
            self.padding_times = times - -(-self.clip_frames // self.input_format.tubelet)
        self.side = min(side, config.places or side)
        num_tokens = times * self.side * self.side
        self.readout = make_readout(config.readout, num_tokens, self.dim, config.width, 0)
        self.feature_dim = self.readout.feature_dim
        self.has_objective, self.head, self.auxiliary = config.has_objective, None, None
        if config.has_objective:
            self.head = EmbeddingReadout(num_tokens, self.dim, config.width, config.token_channels)
            self.auxiliary = AuxiliaryLosses(config.auxiliary, config.width, action_dim, _PREDICTED_SIZE)
            self.register_buffer("mean_frame", torch.full((3, _PREDICTED_SIZE, _PREDICTED_SIZE), 127.5))

    def extra_repr(self) -> str:
        return f"alone={self.alone}, image_size={self.image_size}, side={self.side}, {self.input_format}"

    def forward(self, observation: Tensor) -> Tensor:
        """uint8 clips (B, F, 3, H, W), newest frame last, to features (B, feature_dim)."""
        return self.readout(self._averaged(observation))

    def tokens(self, observation: Tensor) -> Tensor:
        """uint8 clips (B, F, 3, H, W), newest frame last, to the model's tokens (B, N, D) by time, row, column."""
        check_frames(observation, self.clip_frames, *observation.shape[-2:])
        clips = self.arrange(self.normalise(observation))
        return self.model(clips).reshape(len(observation), -1, self.dim)

    def normalise(self, frames: Tensor) -> Tensor:
        """uint8 frames (B, F, 3, H, W) to float, of the size and range that the model was trained with."""
        x = frames.flatten(0, 1).float() / 255
        size = self.image_size, self.image_size
        if x.shape[-2:] != size:
            x = F.interpolate(x, size, mode="bilinear", antialias=True)
        return ((x - self.mean) / self.std).unflatten(0, frames.shape[:2])

    def arrange(self, frames: Tensor) -> Tensor:
        """Frames (B, F, 3, H, W) to the clips that the model reads: (B, F', ...) or, each alone, (B F, F', ...)."""
        clips = frames.flatten(0, 1).unsqueeze(1) if self.alone else frames
        wanted = self.input_format.frames or -(-clips.shape[1] // self.input_format.tubelet) * self.input_format.tubelet
        still = clips[:, :1].expand(-1, wanted - clips.shape[1], -1, -1, -1)
        return torch.cat([still, clips], 1)

    def monitored_features(self, observation: Tensor) -> Tensor:
        """What shows a collapse, (B, n): of the averaged tokens, which the readout was fitted to at an earlier step."""
        return self.readout.monitored_features(self._averaged(observation))

    def fit(self, frames: Tensor, reward: Tensor) -> None:
        """Fits the targets of the losses to frames, uint8 (N, 2, 3, H, W), and rewards (N,)."""
        self.fit_targets(frames, reward)

    def fit_targets(self, frames: Tensor, reward: Tensor) -> None:
        """The same; no feature depends on them."""
        if self.auxiliary is not None:
            self.mean_frame.copy_(_small(frames[:, 1:]).mean((0, 1)))
            self.auxiliary.fit(_small(frames) - self.mean_frame, reward)

    def losses(
        self, frames: Tensor, action: Tensor, reward: Tensor, behaviour: Tensor | None = None
    ) -> dict[str, Tensor]:
        """The terms of auxiliary, as in `Encoder.losses`."""
        assert self.head is not None and self.auxiliary is not None
        check_sequences(frames, action, reward, self.action_dim)
        steps, clip_frames = action.shape[1], self.clip_frames
        check_frames(frames, clip_frames + steps, *frames.shape[-2:])
        embedding = self.head.embedding(self._averaged(frames[:, :clip_frames]))
        after = None
        if self.config.auxiliary.inverse_coef:
            after = self.head.embedding(self._averaged(frames[:, steps:]))
        seen = _small(frames[:, max(0, clip_frames - 2) :])  # the frame before the newest, and all from there
        return self.auxiliary(embedding, seen - self.mean_frame, action, reward, after=after)

    def fit_readout(self, clips: Tensor) -> None:
        """Fits the readout to the tokens of clips, uint8 (N, F, 3, H, W)."""
        fit_readout(self.readout, self._averaged, clips)

    def _averaged(self, observation: Tensor) -> Tensor:
        """The tokens that the readout gets: the means of neighbouring ones."""
        tokens = self.tokens(observation)
        if self.side == self.token_grid[1]:
            return tokens
        maps = tokens.unflatten(1, self.token_grid).permute(0, 1, 4, 2, 3)  # (B, t, D, h, w)
        maps = F.adaptive_avg_pool2d(maps.flatten(0, 1), self.side)
        return maps.flatten(2).transpose(1, 2).reshape(len(tokens), -1, self.dim)

    @torch.no_grad()
    def _try_out(self) -> tuple[int, int, int]:
        """Shows the model a black clip, sets `dim` and returns the grid of its tokens."""
        size = self.image_size
        clips = self.arrange(self.normalise(torch.zeros(1, self.clip_frames, 3, size, size, dtype=torch.uint8)))
        try:
            tokens = self.model(clips)
        except DAMAGE as error:
            raise ValueError(
                f"{self.config.source} does not read frames of {size} x {size} pixels ({first_sentence(error)})."
            ) from None
        times = clips.shape[0] * clips.shape[1] // self.input_format.tubelet
        side = round((tokens.shape[0] * tokens.shape[1] / times) ** 0.5)
        if times * side * side != tokens.shape[0] * tokens.shape[1]:
            raise ValueError(
                f"{self.config.source}: its {tokens.shape[1]} tokens of {size} x {size} pixels are no square map."
            )
        self.dim = tokens.shape[2]
        return times, side, side


def _small(frames: Tensor) -> Tensor:
    """uint8 frames (B, T, 3, H, W) to float, of the size in which they are predicted."""
    x, size = frames.flatten(0, 1).float(), (_PREDICTED_SIZE, _PREDICTED_SIZE)
    if x.shape[-2:] != size:
        x = F.interpolate(x, size, mode="bilinear", antialias=True)
    return x.unflatten(0, frames.shape[:2])


def load_source(config: PretrainedConfig) -> tuple[Path, HubModel | PublishedViT]:
    """The folder that a checkpoint lies in, and its model.

    Raises:
        ValueError: there is none, or it cannot be read.
    """
    source = config.source
    if not source:
        raise ValueError(
            "Which checkpoint? Name its folder, its file or its OWNER/NAME[/FILE] on the hub: encoder.source=..."
        )
    path = Path(source).expanduser()
    if not path.exists():
        if not on_hub(source):
            raise ValueError(
                f"encoder.source={source}: no such file or folder, and not the form OWNER/NAME or OWNER/NAME/FILE of "
                "the hub."
            )
        path = download(source)
    if path.is_dir() and (path / "config.json").is_file():
        folder, model = path, load_hub(path, config.image_size)
    else:
        file = _weight_file(source, path)
        folder, model = file.parent, load_published(file, config.heads)
    for name, value in model.state_dict().items():
        if not value.isfinite().all():
            raise ValueError(f"encoder.source={source}: its weights are not numbers everywhere, as in {name}.")
    return folder, model


def _weight_file(source: str, path: Path) -> Path:
    """The one file of weights at a path."""
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix in WEIGHT_FILES and file.is_file())
    else:
        files = [path] * path.is_file()
    if len(files) != 1:
        raise ValueError(
            f"encoder.source={source}: neither a model of transformers, with a config.json, nor one file of "
            f"weights: {len(files)} are there; name one (on the hub OWNER/NAME/FILE)."
        )
    return files[0]


def pixel_statistics(folder: Path, input_format: InputFormat, image_size: int) -> tuple[Tensor, Tensor]:
    """The mean of pixels in [0, 1], (3, 1, 1) or (3, H, W), and the standard deviation that they are divided by.

    Raises:
        ValueError: the folder's mean frame is damaged, or its numbers are not those of pixels.
    """
    file = folder / MEAN_FRAME_FILE
    if not file.is_file():
        return torch.tensor(input_format.mean).view(3, 1, 1), torch.tensor(input_format.std).view(3, 1, 1)
    try:
        held = load_file(file)
        mean, std = held["mean_frame"].float(), held["pixel_std"].float()
    except (*DAMAGE, SafetensorError) as error:
        raise ValueError(f"{file} holds no mean_frame and pixel_std ({first_sentence(error)}).") from None
    square = mean.ndim == 3 and mean.shape[0] == 3 and 0 < min(mean.shape) <= max(mean.shape) <= _LARGEST_SIDE
    if not square or not mean.isfinite().all() or not mean.any():
        raise ValueError(f"{file}: expected a mean_frame (3, H, W) of numbers, not all of them 0.")
    if std.numel() != 1 or not 0 < float(std) < float("inf"):
        raise ValueError(f"{file}: expected pixel_std to be a number above 0.")
    mean = F.interpolate(mean.unsqueeze(0), (image_size, image_size), mode="bilinear", antialias=True)
    return mean.squeeze(0) / 255, std.reshape(()) / 255


def _check_clip(config: PretrainedConfig, input_format: InputFormat, image_size: int) -> None:
    patches = (image_size // input_format.patch) ** 2 if input_format.patch else 1
    frames = max(input_format.frames, config.frames if config.clip == "sliding" else 1)
    if image_size > _LARGEST_SIDE or patches * -(-frames // input_format.tubelet) > _MOST_TOKENS:
        raise ValueError(
            f"encoder.source={config.source}: at {image_size} pixels and {frames} frames a clip has more than "
            f"{_MOST_TOKENS} tokens: set a smaller encoder.image_size, or fewer encoder.frames."
        )
    if input_format.patch and image_size % input_format.patch:
        raise ValueError(
            f"encoder.image_size={image_size}: {config.source} cuts frames to patches of {input_format.patch} pixels."
        )
    if image_size != input_format.image_size and not input_format.resizable:
        raise ValueError(
            f"encoder.image_size={config.image_size}: the positions of {config.source} are those of "
            f"{input_format.image_size} pixels and no others; leave it out."
        )
    if input_format.frames > 1 and config.frames > input_format.frames:
        raise ValueError(f"encoder.frames={config.frames}: {config.source} reads clips of {input_format.frames}.")
