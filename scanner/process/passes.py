"""What a pass of images through the copy costs: time and memory, measured on the model itself."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import torch

from backscan.scanner.process.protocol import Speed

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from backscan.converters import TorchClassifier

_ENOUGH_SECONDS = 0.25
"""A pass that takes so long is measured well; shorter ones get more images."""
_MOST_IMAGES = 48
_ANY_IMAGES = 64
"""No search passes more together."""
_PASS_BYTES = 1 << 30
"""What the images of one pass may hold between their way forward and back, in each of the threads."""


def measure_speed(classifier: TorchClassifier, images: NDArray[np.float32], threads: int | None) -> Speed:
    """Seconds an image, forward and with its gradient, with as many passes beside each other as a search makes.

    Args:
        classifier: The copy, in the precision that steps take.
        images: Images [N, C, H, W] in [0, 1], at least one.
        threads: Passes beside each other; None is one for each processor, and a GPU takes one.
    """
    on_cpu = classifier.device.type == "cpu"
    number = (threads or os.cpu_count() or 1) if on_cpu else 1
    some = torch.from_numpy(np.ascontiguousarray(images)).to(classifier.device)
    held = _held_bytes(classifier, some[:1])  # which warms up as well
    count = 2
    while True:
        passed = some[torch.arange(count, device=some.device) % len(some)]
        forward = _seconds(classifier, passed, number, gradient=False)
        gradient = _seconds(classifier, passed, number, gradient=True)
        if gradient >= _ENOUGH_SECONDS or count >= _MOST_IMAGES:
            return Speed(max(forward, 1e-9) / (number * count), max(gradient, 1e-9) / (number * count), held)
        count = min(_MOST_IMAGES, 4 * count)


def images_at_once(classifier: TorchClassifier, image: Tensor) -> int | None:
    """Most images of a pass by the memory that one holds, [1, C, H, W]; None on a GPU, and where that is no matter.

    It follows from the model alone, as results do from what shares a pass.
    """
    if classifier.device.type != "cpu":
        return None
    most = max(1, _PASS_BYTES // max(1, _held_bytes(classifier, image)))
    return most if most < _ANY_IMAGES else None


def _seconds(classifier: TorchClassifier, images: Tensor, threads: int, *, gradient: bool) -> float:
    """Time of one pass in each of some threads."""

    def passes(_: int) -> None:
        with torch.set_grad_enabled(gradient):
            given = images.clone().requires_grad_(gradient)
            scores = classifier.log_posterior(given)
            if gradient:
                torch.autograd.grad(scores.sum(), given)

    started = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(passes, range(threads)))
    return time.perf_counter() - started


def _held_bytes(classifier: TorchClassifier, image: Tensor) -> int:
    """Memory that one image holds between its way forward and back, weights apart."""
    weights = {tensor.data_ptr() for tensor in (*classifier.network.parameters(), *classifier.network.buffers())}
    held: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        if tensor.data_ptr() not in weights:
            held[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        given = image.clone().requires_grad_()
        torch.autograd.grad(classifier.log_posterior(given).sum(), given)
    return sum(held.values())
