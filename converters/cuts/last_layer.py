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


@dataclass(frozen=True, slots=True)
class LastLayer:
    """The layer that makes the scores of the classes from features."""

    weight: Tensor
    """A row for every class, [K, F]."""
    bias: Tensor
    """[K]."""
    module: nn.Linear
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
    """The linear layer whose output is the scores of a copy, as tried with images [N, C, H, W]; None without one."""
    num_classes = classifier.signature.num_scores
    layers = [
        module
        for module in classifier.network.modules()
        if isinstance(module, nn.Linear) and module.out_features == num_classes
    ]
    scores, given = _given(classifier, layers, images)
    most = float(scores.abs().max().clamp_min(1e-12))
    for module in reversed(layers):
        own = given.get(module)
        if own is not None and own.shape == scores.shape and float((own - scores).abs().max()) <= _NEAR * most:
            bias = module.weight.new_zeros(num_classes) if module.bias is None else module.bias
            return LastLayer(module.weight.detach(), bias.detach(), module)
    return None


def _given(
    classifier: TorchClassifier, layers: Sequence[nn.Linear], images: Tensor
) -> tuple[Tensor, dict[nn.Module, Tensor]]:
    """The scores of images, and what each of some layers gave, in float32."""
    given: dict[nn.Module, Tensor] = {}
    handles = [layer.register_forward_hook(lambda own, _, out: given.update({own: out.float()})) for layer in layers]
    try:
        with torch.no_grad():
            return classifier.logits(images), given
    finally:
        for handle in handles:
            handle.remove()
