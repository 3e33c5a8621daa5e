"""Attention against its definition, query by query, and against onnxruntime where that knows the option."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.converters.operators.single_node import Array, assert_same, in_torch, model_of

HEADS, KEY_HEADS, SIZE, VALUE_SIZE, QUERIES, KEYS, PAST = 4, 2, 6, 5, 3, 4, 2


def normal(*shape: int, seed: int) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def by_definition(query: Array, key: Array, value: Array, sees: Array, bias: Array, softcap: float = 0) -> Array:
    """What each query of each head gets: a mean of the values it sees, weighted by the softmax of its scores.

    Args:
        query: Shape [N, heads, S, size].
        key: Shape [N, key heads, T, size].
        value: Shape [N, key heads, T, value size].
        sees: Which key each query sees, shape [N, S, T].
        bias: Added to the scores, shape [S, T].
        softcap: Bound of the scores; 0 for none.
    """
    images, heads, queries, size = query.shape
    result = np.zeros((images, heads, queries, value.shape[-1]))
    for image, head, place in np.ndindex(images, heads, queries):
        group = head // (heads // key.shape[1])
        scores = key[image, group] @ query[image, head, place] / np.sqrt(size)
        scores = softcap * np.tanh(scores / softcap) if softcap else scores
        weights = np.exp(scores + bias[place]) * sees[image, place]
        if weights.sum() > 0:
            result[image, head, place] = weights @ value[image, group] / weights.sum()
    return result


@pytest.fixture
def live() -> dict[str, Array]:
    return {
        "q": normal(2, HEADS, QUERIES, SIZE, seed=0),
        "k": normal(2, KEY_HEADS, KEYS, SIZE, seed=1),
        "v": normal(2, KEY_HEADS, KEYS, VALUE_SIZE, seed=2),
    }


def check(live: dict[str, Array], expected: Array, names: list[str], constants: Any, **attributes: Any) -> None:
    model = model_of("Attention", names, live, constants, opset=25, **attributes)
    np.testing.assert_allclose(in_torch(model, live)[0].numpy(), expected, rtol=1e-4, atol=1e-5)


def everything(images: int = 2, keys: int = KEYS) -> Array:
    return np.ones((images, QUERIES, keys), dtype=bool)


def no_bias(keys: int = KEYS) -> Array:
    return np.zeros((QUERIES, keys))


@pytest.mark.parametrize("softcap", [0.0, 1.5])
def test_masks_and_blind_queries(live: dict[str, Array], softcap: float) -> None:
    mask = np.array([[True, False, True, True], [False] * 4, [True] * 4])
    sees = np.broadcast_to(mask, (2, QUERIES, KEYS))
    expected = by_definition(
        **dict(zip(("query", "key", "value"), live.values(), strict=True)), sees=sees, bias=no_bias(), softcap=softcap
    )
    assert (expected[:, :, 1] == 0).all()
    check(live, expected, [*live, "m"], {"m": mask}, softcap=softcap)
    assert_same(model_of("Attention", [*live, "m"], live, {"m": mask}, opset=23, softcap=softcap), live, atol=1e-5)


def test_bias_shorter_than_the_keys_hides_the_rest(live: dict[str, Array]) -> None:
    bias = normal(QUERIES, KEYS - 1, seed=3)
    sees = everything()
    sees[:, :, -1] = False
    expected = by_definition(live["q"], live["k"], live["v"], sees, np.pad(bias, ((0, 0), (0, 1))))
    check(live, expected, [*live, "m"], {"m": bias})


@pytest.mark.parametrize(("left", "right"), [(1, 0), (0, 1), (-1, 1), (1, -1)])
@pytest.mark.parametrize("causal", [0, 1])
def test_windows(live: dict[str, Array], left: int, right: int, causal: int) -> None:
    query, key = np.arange(QUERIES)[:, None], np.arange(KEYS)
    inside = ((left < 0) | (key >= query - left)) & ((right < 0) | (key <= query + right))
    inside &= (key <= query) | (not causal)
    expected = by_definition(live["q"], live["k"], live["v"], np.broadcast_to(inside, (2, QUERIES, KEYS)), no_bias())
    check(live, expected, [*live], {}, left_window_size=left, right_window_size=right, is_causal=causal)


def test_causal_frontier_moves_with_the_past(live: dict[str, Array]) -> None:
    past = {"pk": normal(2, KEY_HEADS, PAST, SIZE, seed=4), "pv": normal(2, KEY_HEADS, PAST, VALUE_SIZE, seed=5)}
    keys, values = np.concatenate([past["pk"], live["k"]], 2), np.concatenate([past["pv"], live["v"]], 2)
    sees = np.arange(PAST + KEYS) <= np.arange(QUERIES)[:, None] + PAST
    sees = np.broadcast_to(sees, (2, QUERIES, PAST + KEYS))
    expected = by_definition(live["q"], keys, values, sees, no_bias(PAST + KEYS))
    check(live | past, expected, ["q", "k", "v", "", "pk", "pv"], {}, is_causal=1)
    model = model_of("Attention", ["q", "k", "v", "", "pk", "pv"], live | past, opset=23, is_causal=1, outputs=3)
    assert_same(model, live | past, atol=1e-5)


@pytest.mark.parametrize("causal", [0, 1])
def test_padding_keys_are_not_seen(live: dict[str, Array], causal: int) -> None:
    lengths = np.array([4, 2])
    key, query = np.arange(KEYS), np.arange(QUERIES)[:, None]
    sees = np.stack([(key < n) & ((key <= query + n - QUERIES) | (not causal)) & (query >= -9) for n in lengths])
    expected = by_definition(live["q"], live["k"], live["v"], sees, no_bias())
    check(live, expected, ["q", "k", "v", "", "", "", "n"], {"n": lengths}, is_causal=causal)


def test_joined_heads(live: dict[str, Array]) -> None:
    joined = {name: np.ascontiguousarray(v.swapaxes(1, 2)).reshape(2, v.shape[2], -1) for name, v in live.items()}
    expected = by_definition(live["q"], live["k"], live["v"], everything(), no_bias())
    expected = expected.swapaxes(1, 2).reshape(2, QUERIES, -1)
    check(joined, expected, [*joined], {}, q_num_heads=HEADS, kv_num_heads=KEY_HEADS)
