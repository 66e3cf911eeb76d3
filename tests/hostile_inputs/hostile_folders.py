"""Folders of transformers whose settings lead elsewhere or are none."""

import json
import os
import pickle
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
import transformers
from hostile_cases import MARK, Trap, add
from safetensors.torch import load, save_file


def model(change: Callable[[Path, dict], object] | None = None, **settings: object) -> Callable[[Path], None]:
    """A small ViT as transformers saves it, with changes to its settings or its files."""

    def make(folder: Path) -> None:
        config = json.loads(VIT["config.json"]) | settings
        for name, content in VIT.items():
            (folder / name).write_bytes(content)
        half = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "size": {"height": 32, "width": 32}}
        (folder / "preprocessor_config.json").write_text(json.dumps(half))
        if change is not None:
            change(folder, config)
        config = {name: value for name, value in config.items() if value != "left out"}
        if not (folder / "config.json").is_dir():
            (folder / "config.json").write_text(json.dumps(config))

    return make


def a_small_vit() -> dict[str, bytes]:
    config = transformers.ViTConfig(
        image_size=32, patch_size=8, hidden_size=24, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    with tempfile.TemporaryDirectory() as folder:
        transformers.ViTModel(config).save_pretrained(folder)
        return {file.name: file.read_bytes() for file in Path(folder).iterdir()}


VIT = a_small_vit()


def file_of(name: str, content: str | bytes) -> Callable[[Path, dict], object]:
    data = content.encode() if isinstance(content, str) else content
    return lambda folder, _: (folder / name).write_bytes(data)


def preprocessor(**changes: object) -> Callable[[Path], None]:
    half = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "size": {"height": 32, "width": 32}}
    return model(file_of("preprocessor_config.json", json.dumps(half | changes)))


def mean_frame(mean: object, std: object) -> Callable[[Path], None]:
    def change(folder: Path, _: dict) -> None:
        held = {"mean_frame": mean, "pixel_std": std}
        tensors = {name: value for name, value in held.items() if isinstance(value, torch.Tensor)}
        save_file(tensors, folder / "mean_frame.safetensors")

    return model(change)


def only(name: str, content: bytes) -> Callable[[Path], None]:
    """Weights of torch's in the place of safetensors."""

    def change(folder: Path, _: dict) -> None:
        (folder / "model.safetensors").unlink()
        (folder / name).write_bytes(content)

    return model(change)


def index(target: str) -> Callable[[Path], None]:
    def change(folder: Path, _: dict) -> None:
        (folder / "model.safetensors").unlink()
        listed = {"metadata": {}, "weight_map": {"layernorm.weight": target}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(listed))

    return model(change)


def piped_weights(folder: Path, _: dict) -> None:
    (folder / "model.safetensors").unlink()
    os.mkfifo(folder / "model.safetensors")


def nan_weights(folder: Path, _: dict) -> None:
    state = load(VIT["model.safetensors"])
    state["layernorm.weight"] = torch.full((24,), float("nan"))
    save_file(state, folder / "model.safetensors", {"format": "pt"})


def with_code(folder: Path, config: dict) -> None:
    config |= {"model_type": "trap", "auto_map": {"AutoConfig": "trap.Trap", "AutoModel": "trap.Trap"}}
    (folder / "trap.py").write_text(f"import os\nos.mkdir({MARK!r})\nclass Trap: pass\n")


frame, one = torch.full((3, 32, 32), 100.0), torch.tensor(50.0)
adapter = '{"base_model_name_or_path": "../secret", "peft_type": "LORA"}'
for name, make in {
    **{
        f"{setting} {value!r}"[:60]: model(**{setting: value})
        for setting, value in (
            ("hidden_size", 0),
            ("hidden_size", "24"),
            ("hidden_size", -24),
            ("hidden_size", 24.5),
            ("hidden_size", 2_000_000),
            ("hidden_size", [24]),
            ("hidden_size", None),
            ("num_hidden_layers", 10**9),
            ("num_hidden_layers", "one"),
            ("num_hidden_layers", -1),
            ("num_attention_heads", 0),
            ("num_attention_heads", 5),
            ("intermediate_size", 10**9),
            ("image_size", 0),
            ("image_size", "big"),
            ("image_size", 10**6),
            ("image_size", [0, 0]),
            ("patch_size", 0),
            ("patch_size", 3),
            ("num_channels", 0),
            ("hidden_act", "os.system"),
            ("hidden_act", 3),
            ("layer_norm_eps", "small"),
            ("dtype", "os"),
            ("dtype", "float3"),
            ("model_type", "left out"),
            ("model_type", "no-such-model"),
            ("model_type", 3),
            ("model_type", "bert"),
            ("quantization_config", {"quant_method": "bitsandbytes", "load_in_4bit": True}),
            ("transformers_weights", "../secret/secret.safetensors"),
            ("id2label", 5),
        )
    },
    "code beside the weights": model(with_code),
    "an adapter": model(file_of("adapter_config.json", adapter)),
    "an index that leads out": index("../secret/secret.safetensors"),
    "an index from the root": index("/etc/passwd"),
    "an index of nothing": index("none.safetensors"),
    "an index of numbers": model(file_of("model.safetensors.index.json", '{"weight_map": {"x": 3}}')),
    "an index of text": model(file_of("model.safetensors.index.json", '"x"')),
    "deep settings": lambda folder: model()(folder) or (folder / "config.json").write_text('{"x": ' + "[" * 10**5),
    "settings of text": lambda folder: model()(folder) or (folder / "config.json").write_text('"x"'),
    "settings of bytes": lambda folder: model()(folder) or (folder / "config.json").write_bytes(b"\xff\xfe"),
    "a pipe for weights": model(piped_weights),
    "nan in the weights": model(nan_weights),
    "a trap for weights": only("pytorch_model.bin", pickle.dumps(Trap(os.mkdir, MARK), protocol=2)),
    "noise for weights": only("pytorch_model.bin", bytes(range(256))),
    "no weights": only("readme.txt", b""),
    "mean_frame of nan": mean_frame(frame * float("nan"), one),
    "mean_frame of zeros": mean_frame(frame * 0, one),
    "mean_frame of one axis": mean_frame(frame[0, 0], one),
    "mean_frame of nothing": mean_frame(frame[:, :0], one),
    "mean_frame of one channel": mean_frame(frame[:1], one),
    "mean_frame missing": mean_frame(None, one),
    "pixel_std missing": mean_frame(frame, None),
    "pixel_std 0": mean_frame(frame, one * 0),
    "pixel_std nan": mean_frame(frame, one * float("nan")),
    "pixel_std negative": mean_frame(frame, -one),
    "pixel_std of three": mean_frame(frame, torch.ones(3)),
    "mean_frame of noise": model(file_of("mean_frame.safetensors", bytes(100))),
    "image_mean text": preprocessor(image_mean="grey"),
    "image_mean of two": preprocessor(image_mean=[0.5, 0.5]),
    "image_mean of text": preprocessor(image_mean=["a", "b", "c"]),
    "image_mean nan": preprocessor(image_mean=[float("nan")] * 3),
    "image_std 0": preprocessor(image_std=[0.0] * 3),
    "image_std text": preprocessor(image_std="one"),
    "rescale_factor 0": preprocessor(rescale_factor=0),
    "rescale_factor text": preprocessor(rescale_factor="half"),
    "rescale_factor nan": preprocessor(rescale_factor=float("nan")),
    "size text": preprocessor(size="large"),
    "size 0": preprocessor(size={"height": 0, "width": 0}),
    "size of text": preprocessor(size={"height": "large", "width": 3}),
    "size 10^6": preprocessor(size={"height": 10**6, "width": 10**6}),
    "preprocessor a list": model(file_of("preprocessor_config.json", "[]")),
    "preprocessor deep": model(file_of("preprocessor_config.json", "[" * 100_000)),
    "preprocessor in a list": model(file_of("preprocessor_config.json", '{"image_processor": [3]}')),
    "nothing in it": lambda folder: None,
}.items():
    add("weights", f"weights folder: {name}", make)
