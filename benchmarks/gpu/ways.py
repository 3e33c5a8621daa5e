"""Ways to pass images through a network: precisions, compiled or not, launched one by one or as one graph."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor, nn

_WARM = 3


class Measuring:
    """How long is measured, for the whole process."""

    enough_seconds = 0.6
    """What a measurement takes at least, after the first passes."""


@dataclass(frozen=True, slots=True)
class Precision:
    """What numbers are multiplied."""

    dtype: torch.dtype
    """Type of the products."""
    allows_tf32: bool = False
    """Whether float32 may be rounded to 10 bits of mantissa."""


PRECISIONS: Mapping[str, Precision] = MappingProxyType(
    {
        "float32": Precision(torch.float32),
        "TF32": Precision(torch.float32, allows_tf32=True),
        "bfloat16": Precision(torch.bfloat16),
        "float16": Precision(torch.float16),
    }
)
"""By the name in the table."""
LAUNCHES = ("eager", "channels last", "compiled", "CUDA graph")
"""How the steps of a pass reach the device."""


@contextmanager
def precision(name: str, device: str) -> Iterator[None]:
    """Multiply in a precision."""
    chosen = PRECISIONS[name]
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = chosen.allows_tf32
    try:
        with torch.autocast(device, chosen.dtype, enabled=chosen.dtype != torch.float32):
            yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def images_a_second(network: nn.Module, images: Tensor, *, launch: str, gradient: bool) -> float:
    """Images [N, C, H, W] that pass in a second, forward or to the gradient of a score with respect to the image.

    Raises:
        RuntimeError: the device cannot do that.
    """
    step = _step(network, images, launch, gradient=gradient)
    return len(images) / seconds_each(step, images.device.type)


def _step(network: nn.Module, images: Tensor, launch: str, *, gradient: bool) -> Callable[[], object]:
    layout = torch.channels_last if launch == "channels last" else torch.contiguous_format
    network = network.to(memory_format=layout)  # type: ignore[call-overload]
    points = images.detach().clone(memory_format=layout).requires_grad_(gradient)
    called = torch.compile(network) if launch == "compiled" else network

    def step() -> object:
        if not gradient:
            with torch.no_grad():
                return called(points)
        return torch.autograd.grad(called(points)[:, 0].sum(), points)

    return _captured(step) if launch == "CUDA graph" else step


def _captured(step: Callable[[], object]) -> Callable[[], object]:
    """The kernels of a step as one graph."""
    if not torch.cuda.is_available():
        raise RuntimeError("CUDA graphs need a CUDA device")
    beside = torch.cuda.Stream()
    beside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(beside):
        for _ in range(_WARM):
            step()
    torch.cuda.current_stream().wait_stream(beside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def seconds_each(step: Callable[[], object], device: str) -> float:
    """Seconds of a step, the mean over as many as take a while."""
    for _ in range(_WARM):
        step()
    count = 1
    while True:
        _finish(device)
        began = time.perf_counter()
        for _ in range(count):
            step()
        _finish(device)
        seconds = time.perf_counter() - began
        if seconds >= Measuring.enough_seconds:
            return seconds / count
        count = max(count + 1, int(1.2 * count * Measuring.enough_seconds / max(seconds, 1e-6)))


def _finish(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
