"""Products of matrices."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from backscan.converters.operators.nodes import attribute, constant, converted, has_input, register_all, stateless
from backscan.converters.operators.registry import OnnxGraph, OnnxNode, OperationConverterResult, register


@register("Gemm", versions=(7, 9, 11, 13))
def convert_gemm(node: OnnxNode, graph: OnnxGraph) -> OperationConverterResult:
    """Compute alpha A B + beta C, either factor transposed; torch's linear layer where it is just that."""
    alpha, beta = attribute(node, "alpha", 1.0), attribute(node, "beta", 1.0)
    left, right = bool(attribute(node, "transA", 0)), bool(attribute(node, "transB", 0))
    bias = constant(node, graph, 2)
    bias_fits = not has_input(node, 2) or (bias is not None and bias.dim() == 1 and bias.numel() > 1)
    if alpha == 1 and beta == 1 and not left and right and bias_fits:
        return converted(node, F.linear)
    return converted(node, partial(gemm, alpha=alpha, beta=beta, transpose_left=left, transpose_right=right))


def gemm(
    left: Tensor,
    right: Tensor,
    offset: Tensor | None = None,
    *,
    alpha: float,
    beta: float,
    transpose_left: bool,
    transpose_right: bool,
) -> Tensor:
    """Compute alpha A B + beta C.

    Args:
        left: A of shape `[M, K]`, or `[K, M]` if transposed.
        right: B of shape `[K, N]`, or `[N, K]` if transposed.
        offset: C, which broadcasts to `[M, N]`; None for none.
        alpha: Weight of the product.
        beta: Weight of the offset.
        transpose_left: Whether to transpose A.
        transpose_right: Whether to transpose B.
    """
    left = left.T if transpose_left else left
    right = right.T if transpose_right else right
    if not left.is_floating_point():
        alpha, beta = int(alpha), int(beta)
    if offset is not None:
        return torch.addmm(offset, left, right, beta=beta, alpha=alpha)
    return left @ right if alpha == 1 else alpha * (left @ right)


def einsum(*operands: Tensor, equation: str) -> Tensor:
    """Sum of products in Einstein's notation."""
    return torch.einsum(equation, *operands)


register_all(
    {
        "Einsum": ((12, 28), stateless(einsum, equation="")),
        "MatMul": ((1, 9, 13), stateless(torch.matmul)),
    }
)
