"""The same network in bfloat16, for searching: what is found with it must be confirmed with the float32 one.

Layers before and including the first one with weights stay in float32, because a planted pattern may be 5e-3 a pixel,
below what bfloat16 tells apart in a normalised image; so does the last, because decisions compare logits that differ
little. Weights and activations between are rounded to 8 bits of mantissa; sums are float32 in hardware.

Where the processor has no bfloat16 the same rounding can be had around every layer in float32: slower than float32, but
one machine can then measure what either kind of processor finds.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from typing import TypeVar

import torch
from torch import Tensor, fx, nn

from backscan.converters.cuts.split import Back
from backscan.converters.torch_import.batching import Rows
from backscan.converters.torch_import.builder import ORIGIN
from backscan.converters.torch_import.classifier import TorchClassifier, twin_with

Part = TypeVar("Part", TorchClassifier, Back)

_WEIGHTED = frozenset({"Attention", "Conv", "ConvTranspose", "Einsum", "Gemm", "MatMul"})
"""Operators that cost nearly all the time, and that reduced precision speeds up."""
_LEAST_AGREEMENT = 0.97
"""Least share of probed images on which both precisions decide alike."""
_LEAST_COSINE = 0.95
"""Least cosine between both precisions' gradients of the probed decisions."""


class _Float32(nn.Module):
    """A module that computes in float32 inside a network of reduced precision."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *tensors: Tensor | None) -> Tensor:
        """Apply the module to its tensors, widened."""
        device = next(tensor.device.type for tensor in tensors if tensor is not None)
        with torch.autocast(device, enabled=False):
            result: Tensor = self.module(*(_widened(tensor) for tensor in tensors))
        return result


class _Rounded(_Float32):
    """The same with what goes in, the weights and what comes out rounded to bfloat16."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__(deepcopy(module))
        for tensor in (*self.module.parameters(), *self.module.buffers()):
            if tensor.dtype == torch.float32:
                tensor.data = tensor.data.bfloat16().float()

    def forward(self, *tensors: Tensor | None) -> Tensor:
        """Apply the module to its tensors, rounded."""
        rounded: Tensor = _narrowed(super().forward(*(None if each is None else _narrowed(each) for each in tensors)))
        return rounded


class _Reduced(nn.Module):
    """A network whose weighted layers compute in bfloat16."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, *inputs: Tensor) -> Tensor:
        """Scores [N, num_scores], float32."""
        with torch.autocast(inputs[0].device.type, torch.bfloat16):
            scores: Tensor = self.network(*inputs)
        return scores.float()


def reduce_precision(classifier: TorchClassifier, images: Tensor, *, rounded: bool = False) -> TorchClassifier | None:
    """The classifier in bfloat16, where that is faster and does not change what it computes.

    It shares the weights, unless they are rounded here.

    Args:
        classifier: A classifier in float32.
        images: Probe [N, C, H, W] in [0, 1]; a few dozen.
        rounded: Whether a processor without bfloat16 is to round what passes to it, which is slower.

    Returns:
        The twin, or None: the processor has no bfloat16, the network is too shallow to gain, has steps that are not
        its own gradient's (rounding would move them), or the two disagree on the probe.
    """
    return None if classifier.has_surrogates else reduce_part(classifier, images, rounded=rounded)


def reduce_part(part: Part, points: Tensor, *, rounded: bool = False) -> Part | None:
    """A classifier, or its part behind a cut, in bfloat16: as `reduce_precision`, which looks for surrogates as well.

    Args:
        part: The whole or a part, in float32.
        points: What it takes, [N, ...]; a few dozen.
        rounded: As of `reduce_precision`.
    """
    in_hardware = has_bfloat16(points.device)
    if not (in_hardware or rounded) or not isinstance(part.network, Rows):
        return None
    reduced = _twin(part.network, rounded=not in_hardware)
    if reduced is None:
        return None
    twin = twin_with(part, network=reduced)
    return twin if _agree(part, twin, points) else None


def has_bfloat16(device: torch.device) -> bool:
    """Whether the hardware multiplies bfloat16; where it is emulated it is slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(bool(getattr(torch.cpu, name, bool)()) for name in probes)


def _twin(rows: Rows, *, rounded: bool) -> nn.Module | None:
    """The network in bfloat16, by the hardware or rounded around its weighted layers between the ends."""
    network = rows.network
    if not isinstance(network, fx.GraphModule):
        return None
    exact = set(_outermost(network.graph))
    weighted = {str(node.target) for node in network.graph.nodes if _is_weighted(node)}
    if not weighted - exact:
        return None
    graph = deepcopy(network.graph)
    parts = {
        str(node.target): network.get_submodule(str(node.target)) for node in graph.nodes if node.op == "call_module"
    }
    parts |= {name: _Float32(module) for name, module in parts.items() if name in exact}
    if rounded:
        parts |= {name: _Rounded(parts[name]) for name in weighted - exact}
    constants = {str(node.target): getattr(network, str(node.target)) for node in graph.nodes if node.op == "get_attr"}
    return _Reduced(twin_with(rows, network=fx.GraphModule({**parts, **constants}, graph).eval()))


def _outermost(graph: fx.Graph) -> Iterator[str]:
    """Names of the weighted modules with none before them, and of those with none after them."""
    nodes = list(graph.nodes)
    for order, neighbours in ((nodes, "all_input_nodes"), (nodes[::-1], "users")):
        beyond: set[fx.Node] = set()
        for node in order:
            passed = any(other in beyond for other in getattr(node, neighbours))
            if _is_weighted(node) and not passed:
                yield str(node.target)
            if _is_weighted(node) or passed:
                beyond.add(node)


def _is_weighted(node: fx.Node) -> bool:
    return node.op == "call_module" and node.meta.get(ORIGIN, {}).get("operator") in _WEIGHTED


def _agree(exact: Part, reduced: Part, points: Tensor) -> bool:
    """Whether decisions and gradients on the probe are those of float32."""
    try:
        decisions, gradient = _probe(exact, points)
        others, other_gradient = _probe(reduced, points)
    except RuntimeError:  # an operator without bfloat16; torch has many words for it
        return False
    cosine = torch.nn.functional.cosine_similarity(gradient.flatten(), other_gradient.flatten(), dim=0)
    return bool((decisions == others).double().mean() >= _LEAST_AGREEMENT and cosine >= _LEAST_COSINE)


def _probe(part: Part, points: Tensor) -> tuple[Tensor, Tensor]:
    """Decisions [N], and the gradient of the mean log-odds between the two likeliest classes, [...] as a point."""
    pattern = torch.zeros_like(points[0]).requires_grad_()
    best = part.logits(points + pattern).topk(min(2, part.signature.num_scores), dim=1)
    (gradient,) = torch.autograd.grad((best.values[:, 0] - best.values[:, -1]).sum(), pattern)
    return best.indices[:, 0], gradient


def _narrowed(tensor: Tensor) -> Tensor:
    return tensor.bfloat16() if tensor.dtype == torch.float32 else tensor


def _widened(tensor: Tensor | None) -> Tensor | None:
    return tensor.float() if tensor is not None and tensor.dtype == torch.bfloat16 else tensor
