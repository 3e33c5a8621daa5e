"""Comparisons, and what models do with them: a switch has no gradient, so it gets that of a smooth one.

A comparison alone is a boolean. Where it is turned into a number at once (Cast) or chooses between two constants
(Where), those nodes read the compared values directly and pass a surrogate gradient back (see `straight_through`).
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from backscan.converters.operators import straight_through
from backscan.converters.operators.nodes import Function, constant, converted, producer_of, register_all, stateless
from backscan.converters.operators.registry import OnnxGraph, OnnxMapping, OnnxNode, OperationConverterResult, register

COMPARISONS: dict[str, Function] = {
    "Greater": torch.gt,
    "GreaterOrEqual": torch.ge,
    "Less": torch.lt,
    "LessOrEqual": torch.le,
}

register_all(
    {
        "Equal": ((7, 11, 13, 19), stateless(torch.eq)),
        "Greater": ((7, 9, 13), stateless(torch.gt)),
        "GreaterOrEqual": ((12, 16), stateless(torch.ge)),
        "Less": ((7, 9, 13), stateless(torch.lt)),
        "LessOrEqual": ((12, 16), stateless(torch.le)),
    }
)


def comparison_behind(node: OnnxNode, graph: OnnxGraph, index: int) -> OnnxNode | None:
    """The order comparison that makes an input of a node; None if it is anything else."""
    producer = producer_of(node, graph, index)
    return producer if producer is not None and producer.operation_type in COMPARISONS else None


def step(left: Tensor, right: Tensor, *, comparison: str) -> Tensor:
    """A comparison of floats as 0 or 1 in their type, with a surrogate gradient for both sides."""
    difference = left - right if comparison.startswith("Greater") else right - left
    jump = straight_through.is_not_negative if comparison.endswith("OrEqual") else straight_through.is_positive
    return jump(difference)


def step_as(left: Tensor, right: Tensor, *, comparison: str, dtype: torch.dtype) -> Tensor:
    """A comparison as 0 or 1 in a wanted type; integers have no gradient and get none."""
    if left.is_floating_point() and dtype.is_floating_point:
        return step(left, right, comparison=comparison).to(dtype)
    result: Tensor = COMPARISONS[comparison](left, right)
    return result.to(dtype)


@register("Where", versions=(9, 16))
def convert_where(node: OnnxNode, graph: OnnxGraph) -> OperationConverterResult:
    """Choose between two tensors; between two constants by a comparison, with a surrogate gradient."""
    comparison = comparison_behind(node, graph, 0)
    branches = [constant(node, graph, index) for index in (1, 2)]
    if comparison is None or any(branch is None or not branch.is_floating_point() for branch in branches):
        return converted(node, torch.where)
    module = converted(node, partial(choose, comparison=comparison.operation_type)).torch_module
    names = (*comparison.input_values, *node.input_values[1:])
    return OperationConverterResult(module, OnnxMapping(inputs=names, outputs=node.output_values))


def choose(left: Tensor, right: Tensor, chosen: Tensor, other: Tensor, *, comparison: str) -> Tensor:
    """`chosen` where the comparison holds, else `other`; the gradient goes to what is compared."""
    held: Tensor = COMPARISONS[comparison](left, right)
    result = torch.where(held, chosen, other)
    if not left.is_floating_point():
        return result
    jump = step(left, right, comparison=comparison)
    # The second term is zero, and carries the gradient.
    return result + (chosen - other) * (jump - jump.detach())
