"""Vision models of transformers, from a folder or the Hugging Face hub: normalised clips to tokens."""

import inspect
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from mindreel.encoders.public.architectures import InputFormat
from mindreel.encoders.public.folder_checks import check_folder, check_weights
from mindreel.encoders.public.preprocessing import input_format_of
from mindreel.extras import install_hint
from mindreel.torch_files import DAMAGE, first_sentence

LEADING_TOKENS = ("cls_token", "class_embedding", "distillation_token", "register_tokens")
"""Parameters whose tokens stand before those of the picture, in every model of transformers that has them."""
TORCH_FILES = (".pt", ".pth", ".bin")
"""Endings of files that torch wrote, read as tensors alone."""
NEEDED = f"needs transformers and huggingface_hub: {install_hint('transformers')}"


class HubModel(nn.Module):
    """A vision model of transformers.

    Args:
        model: takes clips (B, F, 3, H, W), or pictures (B, 3, H, W), and gives a `last_hidden_state`.
        input_format: what it expects of them.
        interpolates: true if it interpolates its positions only when asked to.
        time_last: whether its tokens come place by place, each through all times, in place of time by time.
    """

    def __init__(self, model: nn.Module, input_format: InputFormat, interpolates: bool, time_last: bool = False):
        super().__init__()
        self.model, self.input_format, self.time_last = model, input_format, time_last
        self.options = {"interpolate_pos_encoding": True} if interpolates else {}
        leading = [p for name, p in model.named_parameters() if name.rpartition(".")[2] in LEADING_TOKENS]
        self.leading = sum(p.numel() // p.shape[-1] for p in leading)

    def forward(self, clip: Tensor) -> Tensor:
        """Normalised clips (B, F, 3, H, W), newest frame last, to tokens (B, N, D) by time, row, column.

        Raises:
            ValueError: it gives other tokens than leading ones and one for each patch.
        """
        pictures = self.input_format.frames == 1
        x = self.model(clip.squeeze(1) if pictures else clip, **self.options).last_hidden_state
        if x.ndim == 4:  # a map, (B, D, h, w)
            return x.flatten(2).transpose(1, 2)
        count = x.shape[1]
        x = x[:, self.leading :]
        times = clip.shape[1] // self.input_format.tubelet
        self._check(clip, x, times, count)
        if self.time_last:
            x = x.unflatten(1, (-1, times)).transpose(1, 2).flatten(1, 2)
        return x

    def _check(self, clip: Tensor, x: Tensor, times: int, count: int) -> None:
        """Makes sure that tokens (B, N, D), the leading ones left out of `count`, are one for each patch."""
        if not self.input_format.patch:
            return
        places = (clip.shape[-1] // self.input_format.patch) ** 2
        # A model that looks at each time by itself gives them as clips of their own.
        if x.shape[0] * x.shape[1] != clip.shape[0] * times * places:
            raise ValueError(
                f"a {type(self.model).__name__} gives {count} tokens, of which {self.leading} are known to lead and "
                f"{times} x {places} are places; which those are is not known"
            )


def on_hub(source: str) -> bool:
    """Says if a source has the form OWNER/NAME, or OWNER/NAME/FILE with the ending of a file of weights."""
    if source[:1] in ("", ".", "/", "~"):
        return False
    parts = source.split("/")
    return all(parts) and (len(parts) == 2 or len(parts) > 2 and source.endswith((".safetensors", *TORCH_FILES)))


def download(source: str, field: str = "encoder.source") -> Path:
    """Where a model of the hub is kept here: the folder of OWNER/NAME, or the file OWNER/NAME/FILE.

    Of a folder come its settings and safetensors; where it has none of these, its one file of torch's.

    Args:
        source: OWNER/NAME or OWNER/NAME/FILE.
        field: the flag that named it, for messages.

    Raises:
        ValueError: the hub has no such model or is out of reach, and no copy is kept here.
    """
    owner, name, *file = source.split("/", 2)
    model = f"{owner}/{name}"
    try:
        import huggingface_hub as hub
        from httpx import HTTPError
        from huggingface_hub.errors import HFValidationError
    except ImportError:
        raise ValueError(f"{field}={source} {NEEDED}") from None
    try:
        if file:
            return Path(hub.hf_hub_download(model, file[0]))
        folder = Path(hub.snapshot_download(model, allow_patterns=["*.json", "*.safetensors"]))
        if not any(kept.suffix in (".safetensors", *TORCH_FILES) for kept in folder.glob("*")):
            found = [name for name in hub.HfApi().list_repo_files(model) if name.endswith(TORCH_FILES)]
            if len(found) != 1:
                raise ValueError(
                    f"{field}={source}: that model has {len(found)} files of weights and none is safetensors"
                    + (f": name one, as in {field}={source}/{found[0]}" if found else "")
                    + "."
                )
            kept = Path(hub.hf_hub_download(model, found[0]))
            return folder if (folder / "config.json").is_file() else kept
        return folder
    except (OSError, HFValidationError, HTTPError) as error:
        raise ValueError(
            f"{field}={source}: no such file or folder here, and the hub did not give a model of that name "
            f"({first_sentence(error)}): fetch it where there is a network and name its folder."
        ) from None


def load_model(folder: Path, image_size: int = 0) -> Any:
    """Loads a folder with transformers' AutoModel, whole and in float32.

    Args:
        folder: its config.json and weights.
        image_size: pixels that a V-JEPA 2 is to read frames at; 0 for what it was trained at.

    Raises:
        ValueError: it is damaged, or of a kind that transformers does not know.
    """
    try:
        import transformers
        from huggingface_hub.errors import StrictDataclassError
    except ImportError:
        raise ValueError(f"encoder.source={folder} {NEEDED}") from None
    check_folder(folder)
    faults = (*DAMAGE, ImportError, SafetensorError, StrictDataclassError)
    try:
        config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False)
        if config.model_type == "vjepa2" and image_size:
            config.crop_size = image_size  # rotary positions count rows and columns by it
        attention, empty = _built_empty(config)
        check_weights(folder, empty)
        model, report = transformers.AutoModel.from_pretrained(
            folder,
            config=config,
            trust_remote_code=False,
            dtype=torch.float32,
            attn_implementation=attention,
            output_loading_info=True,
        )
    except faults as error:
        if str(error).startswith(str(folder)):
            raise
        raise ValueError(
            f"{folder} holds no whole model that transformers {transformers.__version__} knows "
            f"({first_sentence(error)})."
        ) from None
    # What pooling lacks does not matter: tokens are taken before it.
    missing = sorted(name for name in report["missing_keys"] if "pooler" not in name)
    if missing:
        raise ValueError(
            f"{folder} lacks {len(missing)} tensors of a {type(model).__name__} ({', '.join(missing[:3])}): "
            "it is truncated, or another model's."
        )
    return model


def _built_empty(config: Any) -> tuple[str, nn.Module]:
    """The attention that transformers would choose for a model, and the model without memory for its weights.

    It is always named, since otherwise a config.json may name one, and code for it would be fetched from the hub.
    """
    from transformers import AutoModel

    def build(attention: str) -> nn.Module:
        with torch.device("meta"):
            return AutoModel.from_config(config, trust_remote_code=False, attn_implementation=attention)

    try:
        return "sdpa", build("sdpa")
    except ValueError:  # not every model has it
        return "eager", build("eager")


def load_hub(folder: Path, image_size: int = 0) -> HubModel:
    """The part that sees of a vision model that transformers saved in a folder, in evaluation mode and float32.

    Args:
        folder: its config.json and weights.
        image_size: pixels that it is to read frames at; 0 for what it was trained at.

    Raises:
        ValueError: it is damaged, or not a vision model that transformers knows.
    """
    model = load_model(folder, image_size)
    if hasattr(model, "vision_model"):  # beside one that reads text
        model = model.vision_model
    elif not model.main_input_name.startswith("pixel_values"):
        raise ValueError(f"{folder}: a {type(model).__name__} reads {model.main_input_name}, not pictures or video.")
    config = model.config
    input_format = input_format_of(folder, config)
    asks = "interpolate_pos_encoding" in inspect.signature(model.forward).parameters
    interpolates = asks and (image_size or input_format.image_size) != getattr(config, "image_size", 0)
    if config.model_type == "vjepa2":
        model = model.encoder  # without the predictor of hidden tokens
    time_last = config.model_type == "timesformer" and config.attention_type != "space_only"
    return HubModel(model.eval(), input_format, interpolates, time_last)
