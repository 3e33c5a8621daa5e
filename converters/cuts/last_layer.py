"""The last linear layer of a copy: its weights, and what it sees of images."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from backscan.converters.torch_import.classifier import TorchClassifier

_NEAR = 1e-3
"""Difference from the scores of the copy, as a share of the largest, up to which a layer gives them."""
_MOST_FEATURES = 1 << 14


@dataclass(frozen=True, slots=True)
class LastLayer:
    """The layer that makes the scores of the classes from features."""

    weight: Tensor
    """A row for every class, [K, F]."""
    bias: Tensor
    """[K]."""
    module: nn.Module
    """The layer in the network."""

    def features(
        self,
        classifier: TorchClassifier,
        portions: Sequence[Tensor],
        *,
        threads: int = 1,
        stopped: Callable[[], bool] = lambda: False,
    ) -> Tensor:
        """What it sees of images, [N, F]; of fewer once the time is up.

        Args:
            classifier: The copy that it was found in.
            portions: Images [n, C, H, W] in [0, 1] that pass together.
            threads: Passes beside each other.
            stopped: Asked before every pass.
        """
        seen = threading.local()
        empty = self.weight.new_zeros((0, self.weight.shape[1]))

        def look(images: Tensor) -> Tensor:
            if stopped():
                return empty
            with torch.no_grad():
                classifier.logits(images)
            found: Tensor = seen.inputs
            return found

        handle = self.module.register_forward_hook(lambda _, inputs, __: setattr(seen, "inputs", inputs[0].float()))
        try:
            with ThreadPoolExecutor(threads) as pool:
                return torch.cat([empty, *pool.map(look, portions)])
        finally:
            handle.remove()


def last_layer(classifier: TorchClassifier, images: Tensor) -> LastLayer | None:
    """The layer that makes the scores of a copy from a row of features, linearly; None without one.

    Its weights are what it makes of every single feature, whatever operator it is.

    Args:
        classifier: The copy.
        images: A few images [N, C, H, W] on which the layer has to give the scores, and its weights as well.
    """
    scores, calls = _calls(classifier, images)
    tolerance = _NEAR * float(scores.abs().max().clamp_min(1e-12))
    for module, (features, others, given) in reversed(calls.items()):
        if given.shape != scores.shape or features.dim() != 2 or features.shape[1] > _MOST_FEATURES:
            continue
        if float((given.float() - scores).abs().max()) > tolerance or features.shape == given.shape:
            continue  # a softmax, or what else comes behind the layer
        with torch.no_grad():
            bias = module(features.new_zeros((1, features.shape[1])), *others)[0]
            weight = (module(torch.eye(features.shape[1]).to(features), *others) - bias).T
        if float((features @ weight.T + bias - given).abs().max()) <= tolerance:
            return LastLayer(weight.float(), bias.float(), module)
    return None


_Call = tuple[Tensor, tuple[object, ...], Tensor]
"""What a module took first, what beside that, and what it gave."""


def _calls(classifier: TorchClassifier, images: Tensor) -> tuple[Tensor, dict[nn.Module, _Call]]:
    """The scores of images, and the last call of every module inside that takes and gives a tensor."""
    calls: dict[nn.Module, _Call] = {}

    def keep(module: nn.Module, inputs: tuple[object, ...], output: object) -> None:
        if inputs and isinstance(inputs[0], Tensor) and isinstance(output, Tensor):
            calls[module] = (inputs[0], inputs[1:], output)

    leaves = (module for module in classifier.network.modules() if not any(module.children()))
    handles = [module.register_forward_hook(keep) for module in leaves]
    try:
        with torch.no_grad():
            return classifier.logits(images), calls
    finally:
        for handle in handles:
            handle.remove()
