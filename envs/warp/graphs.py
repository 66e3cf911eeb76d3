"""Work that a device does without waiting: operations recorded once and replayed, and masks read later."""

from collections.abc import Callable

import torch
import warp as wp

from mindreel.envs.warp.startup import announced


class Graphs:
    """Operations of Warp on one device, each recorded at its first call and replayed at the following ones.

    Kernel launches cost far more than the physics of a small model; a graph is one launch, on the CPU as well.

    Args:
        device: where they run.
    """

    def __init__(self, device: torch.device):
        self.warp_device = wp.device_from_torch(device)
        self._device = device
        self._graphs: dict[str, wp.Graph] = {}
        self._stream: wp.Stream | None = None

    def has(self, names: set[str]) -> bool:
        """Whether all of these operations were recorded."""
        return names <= self._graphs.keys()

    def replay(self, name: str, record: Callable[[], None]) -> None:
        """Does what `record` launches, in order with torch's work; `name` must always stand for the same launches."""
        stream = self._torch_stream()
        if name in self._graphs:
            wp.capture_launch(self._graphs[name], stream=stream)
            return
        with announced(), wp.ScopedDevice(self.warp_device):
            with wp.ScopedStream(stream):
                record()  # does this first call's work, and compiles: that cannot happen in a recording
            with wp.ScopedCapture(device=self.warp_device) as capture:  # on Warp's stream; runs nothing
                record()
        assert capture.graph is not None
        self._graphs[name] = capture.graph

    def _torch_stream(self) -> wp.Stream | None:
        """torch's current stream, so that Warp's work keeps its order with torch's and waits on no host.

        A CUDA graph may be launched on another stream than the one it was recorded on, which matters here:
        torch's default stream cannot be recorded at all.
        """
        if self._device.type != "cuda":
            return None
        stream = torch.cuda.current_stream(self._device)
        if self._stream is None or self._stream.cuda_stream != stream.cuda_stream:
            self._stream = wp.stream_from_torch(stream)
        return self._stream


class PendingAny:
    """`mask.any()`, on its way to the host.

    On CUDA the result is copied to the host behind the work queued so far. Reading it waits for that work alone: the
    device stays busy with what was queued later, and the host may queue more meanwhile.

    Args:
        mask: bool, of any shape.
    """

    def __init__(self, mask: torch.Tensor):
        self._result = mask.any().to("cpu", non_blocking=True)  # into pinned memory, where it comes from CUDA
        self._arrived = None
        if mask.is_cuda:
            self._arrived = torch.cuda.Event()
            self._arrived.record(torch.cuda.current_stream(mask.device))

    def read(self) -> bool:
        """Whether any entry of the mask holds."""
        if self._arrived is not None:
            self._arrived.synchronize()
        return bool(self._result)
