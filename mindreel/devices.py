"""Devices by name, checked before work begins."""

import torch


def check_device(name: torch.device | str) -> torch.device:
    """The device of that name, with its number.

    Args:
        name: cpu, cuda or cuda:N; "cuda" is the current CUDA device.

    Raises:
        ValueError: the name is misspelt, or there is no such device.
    """
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise ValueError(f"device={name}: expected cpu, cuda or cuda:N")
    if device.type == "cpu":
        return torch.device("cpu")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count == 0:
        built = "" if torch.version.cuda else "; this torch was built without CUDA"
        raise ValueError(f"device={name}: no CUDA device is there{built}: use device=cpu")
    if (device.index or 0) >= count:
        raise ValueError(f"device={name}: only {count} CUDA device(s) there, cuda:0 to cuda:{count - 1}")
    return torch.device("cuda", torch.cuda.current_device() if device.index is None else device.index)


def use_tensor_cores() -> None:
    """Lets float32 matrix products run in TF32 on GPUs that have it; nothing changes on a CPU."""
    torch.set_float32_matmul_precision("high")
