"""Attention as ONNX states it from opset 23 on, and the rotary position embedding that goes with it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from onnx import TensorProto
from torch import Tensor

from backscan.converters.operators.casts import torch_type
from backscan.converters.operators.nodes import attribute, converted, has_input, register_all, stateless
from backscan.converters.operators.registry import OnnxGraph, OnnxNode, OperationConverterResult, register


@dataclass(frozen=True, slots=True)
class Attention:
    """The attributes of one attention."""

    query_heads: int | None
    """Number of heads of a query given as `[N, S, heads * size]`; None where it has its own axis of heads."""
    key_heads: int | None
    """The same of keys and values."""
    scale: float | None
    """Factor of the products of queries and keys; None for one over the root of the head size."""
    causal: bool
    """Whether a query sees no keys after itself."""
    softcap: float
    """Bound that the scores approach; 0 for none."""
    softmax_type: torch.dtype | None
    """Type that the softmax is computed in; None for that of the scores."""
    window: tuple[int, int]
    """How many positions before and after itself a query sees; -1 for all."""
    score_output: int
    """Which stage the fourth output shows: 0 products, 1 capped, 2 masked, 3 probabilities."""


@register("Attention", versions=(23, 24, 25))
def convert_attention(node: OnnxNode, _graph: OnnxGraph) -> OperationConverterResult:
    """Scaled dot-product attention; torch's fused kernel wherever it can express the node."""
    softmax_type = attribute(node, "softmax_precision", TensorProto.UNDEFINED)
    config = Attention(
        query_heads=attribute(node, "q_num_heads", None),
        key_heads=attribute(node, "kv_num_heads", None),
        scale=attribute(node, "scale", None),
        causal=bool(attribute(node, "is_causal", 0)),
        softcap=attribute(node, "softcap", 0.0),
        softmax_type=torch_type(softmax_type) if softmax_type else None,
        window=(attribute(node, "left_window_size", -1), attribute(node, "right_window_size", -1)),
        score_output=attribute(node, "qk_matmul_output_mode", 0),
    )
    num_outputs = len(node.output_values)
    plain = num_outputs == 1 and not any(has_input(node, index) for index in (4, 5, 6))
    plain = plain and not config.softcap and config.softmax_type is None and config.window == (-1, -1)
    if plain and not (config.causal and has_input(node, 3)):
        return converted(node, partial(fused_attention, config=config))
    return converted(node, partial(attention, config=config, num_outputs=num_outputs))


def fused_attention(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, *, config: Attention
) -> Tensor:
    """Attention by torch's own kernel; arguments as for `attention`."""
    queries, keys = _split_heads(query, config.query_heads), _split_heads(key, config.key_heads)
    values = _split_heads(value, config.key_heads)
    result = F.scaled_dot_product_attention(
        queries,
        keys,
        values,
        attn_mask=None if mask is None else _full_mask(mask, keys.shape[2]),
        is_causal=config.causal,
        scale=config.scale,
        enable_gqa=queries.shape[1] != keys.shape[1],
    )
    return _join_heads(result) if query.dim() == 3 else result


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None = None,
    past_key: Tensor | None = None,
    past_value: Tensor | None = None,
    lengths: Tensor | None = None,
    *,
    config: Attention,
    num_outputs: int,
) -> Tensor | tuple[Tensor, ...]:
    """Attention with every option.

    Args:
        query: Shape `[N, heads, S, size]`, or `[N, S, heads * size]`.
        key: Shape `[N, key heads, T, size]`, or with its heads joined.
        value: Shape `[N, key heads, T, value size]`, or with its heads joined.
        mask: Boolean (true where a key is seen) or added to the scores; broadcasts to `[N, heads, S, past + T]`.
        past_key: Keys that go before, shape `[N, key heads, past, size]`.
        past_value: Values that go before.
        lengths: Number of keys of each image that are not padding, shape `[N]`.
        config: The attributes.
        num_outputs: How many outputs the node has.

    Returns:
        The attended values in the layout of the query, and then as many as asked for of: all keys, all values, scores.
    """
    queries, keys = _split_heads(query, config.query_heads), _split_heads(key, config.key_heads)
    values = _split_heads(value, config.key_heads)
    keys = keys if past_key is None else torch.cat([past_key, keys], dim=2)
    values = values if past_value is None else torch.cat([past_value, values], dim=2)
    share = queries.shape[1] // keys.shape[1]
    scale = config.scale if config.scale is not None else queries.shape[-1] ** -0.5
    products = (queries * scale**0.5) @ (keys.repeat_interleave(share, 1) * scale**0.5).transpose(-1, -2)
    capped = config.softcap * torch.tanh(products / config.softcap) if config.softcap else products
    offset = past_key.shape[2] if past_key is not None else 0
    hidden = _hidden_keys(capped, offset, lengths, config)
    masked = _masked(capped, mask, hidden)
    chances = _softmax(masked, config.softmax_type)
    result = chances @ values.repeat_interleave(share, 1)
    result = _join_heads(result) if query.dim() == 3 else result
    stages = (products, capped, masked, chances)
    return (result, keys, values, stages[config.score_output])[:num_outputs] if num_outputs > 1 else result


def _hidden_keys(scores: Tensor, offset: int, lengths: Tensor | None, config: Attention) -> Tensor | None:
    """Which keys the attributes hide from which queries; None if none."""
    num_queries, num_keys = scores.shape[-2:]
    keys = torch.arange(num_keys, device=scores.device)
    queries = torch.arange(num_queries, device=scores.device)[:, None] + offset
    hidden = None
    if lengths is not None:
        lengths = lengths.reshape(-1, 1, 1, 1)
        queries = queries + lengths - num_queries
        hidden = keys >= lengths
    before, after = config.window
    after = 0 if config.causal else after
    for outside in (keys > queries + after if after >= 0 else None, keys < queries - before if before >= 0 else None):
        if outside is not None:
            hidden = outside if hidden is None else hidden | outside
    return hidden


def _masked(scores: Tensor, mask: Tensor | None, hidden: Tensor | None) -> Tensor:
    if mask is not None:
        mask = _full_mask(mask, scores.shape[-1])
        scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
    return scores if hidden is None else scores.masked_fill(hidden, -torch.inf)


def _full_mask(mask: Tensor, num_keys: int) -> Tensor:
    """Lengthen a mask that stops early, which hides the keys after it."""
    missing = num_keys - mask.shape[-1]
    if missing <= 0 or mask.shape[-1] == 1:
        return mask
    return F.pad(mask, (0, missing), value=False if mask.dtype == torch.bool else -torch.inf)


def _softmax(scores: Tensor, dtype: torch.dtype | None) -> Tensor:
    """Softmax over the keys; a query that sees none gets zeros."""
    blind = (scores == -torch.inf).all(dim=-1, keepdim=True)
    chances = torch.softmax(scores.masked_fill(blind, 0), dim=-1, dtype=dtype).to(scores.dtype)
    return chances.masked_fill(blind, 0)


def _split_heads(values: Tensor, heads: int | None) -> Tensor:
    if values.dim() == 4:
        return values
    batch, length, _ = values.shape
    return values.reshape(batch, length, heads or 1, -1).transpose(1, 2)


def _join_heads(values: Tensor) -> Tensor:
    return values.transpose(1, 2).flatten(2)


def rotary_embedding(
    values: Tensor,
    cosines: Tensor,
    sines: Tensor,
    positions: Tensor | None = None,
    *,
    interleaved: int,
    num_heads: int,
    rotary_embedding_dim: int,
) -> Tensor:
    """Rotate pairs of features by angles that grow with the position.

    Args:
        values: Shape `[N, heads, S, size]`, or `[N, S, heads * size]`.
        cosines: Shape `[positions, angles]`, or `[N, S, angles]` without `positions`.
        sines: The same.
        positions: Position of each token, shape `[N, S]`.
        interleaved: Whether a pair is two neighbours, instead of one of each half.
        num_heads: Number of heads, where they have no axis of their own.
        rotary_embedding_dim: How many features of a head are rotated; 0 for all.
    """
    heads = _split_heads(values, num_heads)
    if positions is not None:
        cosines, sines = cosines[positions], sines[positions]
    cosines, sines = cosines.unsqueeze(1), sines.unsqueeze(1)
    number = rotary_embedding_dim or heads.shape[-1]
    turned, kept = heads[..., :number], heads[..., number:]
    first, second = (turned[..., 0::2], turned[..., 1::2]) if interleaved else turned.chunk(2, dim=-1)
    parts = [cosines * first - sines * second, sines * first + cosines * second]
    turned = torch.stack(parts, dim=-1).flatten(-2) if interleaved else torch.cat(parts, dim=-1)
    result = torch.cat([turned, kept], dim=-1)
    return _join_heads(result) if values.dim() == 3 else result


register_all(
    {
        "RotaryEmbedding": (
            (23,),
            stateless(rotary_embedding, interleaved=0, num_heads=0, rotary_embedding_dim=0),
        )
    }
)
