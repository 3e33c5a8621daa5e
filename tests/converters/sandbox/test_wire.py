"""Messages survive the wire exactly, and nothing that is no message is taken for one."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from backscan.converters.sandbox.wire import Channel, WireError, copy, decode, encode

NUMBERS = st.one_of(st.booleans(), st.integers(-(2**70), 2**70), st.floats(allow_nan=False))
ARRAYS = arrays.arrays(
    st.sampled_from(["u1", "i8", "f4", "f2", "?", ">i4"]), arrays.array_shapes(min_dims=0, max_dims=3, min_side=0)
)
KEYS = st.text().filter("$".__ne__)
VALUES = st.recursive(
    st.one_of(st.none(), NUMBERS, st.text(), st.binary(), ARRAYS),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(KEYS, inner, max_size=4)),
    max_leaves=12,
)


def same(left: object, right: object) -> bool:
    if isinstance(left, np.ndarray):
        assert isinstance(right, np.ndarray)
        return left.shape == right.shape and np.array_equal(left, right, equal_nan=left.dtype.kind == "f")
    if isinstance(left, dict):
        assert isinstance(right, dict)
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list):
        return len(left) == len(right) and all(map(same, left, right))  # type: ignore[arg-type]
    return left == right and type(left) is type(right)


@given(st.dictionaries(KEYS, VALUES, max_size=4))
@settings(max_examples=200, deadline=None)
def test_any_message_comes_back(message: dict[str, object]) -> None:
    assert same(message, copy(message))


def header_of(dtype: str, shape: list[int], index: int) -> bytes:
    document = {"body": {"array": {"$": index}}, "buffers": [{"dtype": dtype, "shape": shape}]}
    return json.dumps(document).encode()


HEADERS = st.one_of(
    st.binary(max_size=200),
    st.builds(
        header_of, st.sampled_from(["<f4", "|u1", "bytes", "|O8"]), st.lists(st.integers(-1, 4)), st.integers(-1, 1)
    ),
)


@given(HEADERS, st.binary(max_size=100))
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_refused_or_decoded(header: bytes, payload: bytes) -> None:
    refusal = ""
    try:
        message = decode(header, memoryview(payload))
    except WireError as error:
        refusal = str(error)
    if refusal:
        assert refusal.startswith("expected a message, found")
    else:
        assert same(message, copy(message))


def test_a_header_that_fits_its_payload_is_decoded() -> None:
    assert decode(header_of("|u1", [3], 0), memoryview(bytes(64)))["array"].tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("header", "payload", "complaint"),
    [
        (b"{}", b"", "KeyError"),
        (b'{"body": [], "buffers": []}', b"", "found a list"),
        (b"[" * 100_000, b"", "RecursionError"),
        (header_of("|u1", [3], 0), bytes(63), "the buffers take 64 bytes, the payload has 63"),
        (header_of("|u1", [65], 0), bytes(64), "a buffer of 65 bytes at 0 does not fit 64 bytes"),
        (header_of("|u1", [-1], 0), b"", "shape"),
        (header_of("|O8", [1], 0), bytes(64), "dtype"),
        (header_of("|u1", [3], 1), bytes(64), "there is no buffer 1"),
    ],
)
def test_a_header_that_does_not_fit_is_refused(header: bytes, payload: bytes, complaint: str) -> None:
    with pytest.raises(WireError, match=complaint):
        decode(header, memoryview(payload))


@pytest.mark.parametrize(
    ("message", "complaint"),
    [
        ({"x": object()}, "found a object"),
        ({"x": np.array([None])}, "dtype object"),
        ({"x": np.array(["text"])}, "dtype <U4"),
        ({"x": np.array([1j])}, "complex"),
        ({"$": 1}, "expected strings other than"),
        ({"x": {1: 2}}, "expected strings other than"),
        ({"x": {1, 2}}, "found a set"),
    ],
)
def test_what_cannot_travel_is_refused_at_once(message: dict[str, object], complaint: str) -> None:
    with pytest.raises(TypeError, match=complaint):
        encode(message)


def test_closed_pipe_is_told() -> None:
    incoming, outgoing = os.pipe()
    channel = Channel(incoming, outgoing, max_bytes=100)
    channel.send({"text": "last"})
    assert channel.receive() == {"text": "last"}
    os.close(outgoing)
    with pytest.raises(EOFError):
        channel.receive()
    os.close(incoming)
