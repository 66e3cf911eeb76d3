"""Arithmetic, operations and speed of training, and the fastest that the device can compute."""

import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode


def has_bf16(device: torch.device) -> bool:
    """Whether the device computes bfloat16 in hardware; emulated, it is hundreds of times slower than float32."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    info = Path("/proc/cpuinfo")
    flags = set(info.read_text(encoding="utf-8").split()) if info.is_file() else set()
    return bool(flags & {"amx_bf16", "avx512_bf16", "bf16"})


def autocast_dtype(precision: str, device: torch.device) -> torch.dtype | None:
    """The type that losses are computed in under autocast; None for float32 throughout.

    Args:
        precision: "float32", "bf16", or "auto": bf16 on a GPU that has it, else float32.
        device: where losses are computed.

    Raises:
        ValueError: precision is "bf16" and the device lacks it.
    """
    if precision == "bf16" and not has_bf16(device):
        raise ValueError(
            f"pretrain.precision=bf16: this {device.type} has no units for it and would be hundreds of times slower "
            "than in float32: use pretrain.precision=float32."
        )
    wanted = precision == "bf16" or precision == "auto" and device.type == "cuda" and has_bf16(device)
    return torch.bfloat16 if wanted else None


def count_flops(work: Callable[[], object]) -> int:
    """Floating point operations of the matrix products, convolutions and attention in one call, backward included."""
    # Fused attention is not counted on every device; as plain products it is.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def peak_flops(device: torch.device, dtype: torch.dtype = torch.float32, seconds: float = 0.5) -> float:
    """Operations per second of the fastest of several large matrix products, as the device's peak."""
    side = 8192 if device.type == "cuda" else 1024
    one, other = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    calls = 4 if device.type == "cuda" else 1
    times, end = [], time.perf_counter() + seconds
    while len(times) < 4 or time.perf_counter() < end:
        start = time.perf_counter()
        for _ in range(calls):
            torch.matmul(one, other)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append((time.perf_counter() - start) / calls)
    return 2 * side**3 / min(times)
