"""Messages between the scanner and its child process: a JSON header and raw buffers, nothing that could run.

A frame is the prefix (magic, header size, payload size), the header and the payload. The header is JSON:
`{"body": ..., "buffers": [...]}`; where the body holds an array or bytes it has `{"$": index}` instead. Buffers
lie in the payload one after the other, each at a multiple of 64 bytes.
"""

from __future__ import annotations

import json
import math
import os
import struct
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Message = dict[str, Any]
"""JSON values, numpy arrays of numbers, bytes, and lists and dicts of those; tuples arrive as lists."""

MAX_HEADER = 64 << 20
"""Largest JSON header in bytes: parsing takes some ten times as much memory."""

_MAGIC = b"BSK1"
_PREFIX = struct.Struct("<4sIQ")
_ALIGNMENT = 64
_MAX_DIMENSIONS = 32
_PLACEHOLDER = "$"
_DTYPES = frozenset({"|b1", "|i1", "|u1", "<i2", "<u2", "<i4", "<u4", "<i8", "<u8", "<f2", "<f4", "<f8"})


class WireError(ValueError):
    """What arrived is not a message, or is larger than allowed."""


def encode(message: Message) -> list[memoryview]:
    """Turn a message into the buffers of one frame.

    Raises:
        TypeError: the message holds something else than JSON values, arrays of numbers and bytes.
    """
    buffers: list[memoryview] = []
    table: list[Message] = []
    body = _pack(message, buffers, table)
    header = json.dumps({"body": body, "buffers": table}).encode()
    chunks = [chunk for buffer in buffers for chunk in (buffer, memoryview(bytes(_padding(buffer.nbytes))))]
    payload_size = sum(chunk.nbytes for chunk in chunks)
    return [memoryview(_PREFIX.pack(_MAGIC, len(header), payload_size)), memoryview(header), *chunks]


def decode(header: bytes, payload: memoryview) -> Message:
    """Turn the header and the payload of a frame into a message, whose arrays are views of the payload.

    Raises:
        WireError: they do not fit each other.
    """
    try:
        document = json.loads(header)
        buffers = _split(document["buffers"], payload)
        body = _unpack(document["body"], buffers)
    except (ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
        raise WireError(f"expected a message, found a header that does not fit its payload ({error!r})") from error
    if not isinstance(body, dict):
        raise WireError(f"expected a message with named parts, found a {type(body).__name__}")
    return body


def copy(message: Message) -> Message:
    """What the other side of a pipe would get for this message."""
    _, header, *chunks = encode(message)
    return decode(bytes(header), memoryview(bytearray().join(chunks)))


class Channel:
    """Two ends of pipes, over which frames come and go."""

    def __init__(self, incoming: int, outgoing: int, *, max_bytes: int, wait: Callable[[int], None] | None = None):
        """Take over two file descriptors.

        Args:
            incoming: Descriptor to read from.
            outgoing: Descriptor to write to.
            max_bytes: Largest payload taken.
            wait: Called with the descriptor that is not ready, where they do not block; returns when to try again.
        """
        self._incoming = incoming
        self._outgoing = outgoing
        self._max_bytes = max_bytes
        self._wait = wait or (lambda _: None)

    def send(self, message: Message) -> None:
        """Send one message.

        Raises:
            BrokenPipeError: the other side is gone.
        """
        for chunk in encode(message):
            while chunk:
                try:
                    chunk = chunk[os.write(self._outgoing, chunk) :]
                except BlockingIOError:
                    self._wait(self._outgoing)

    def receive(self) -> Message:
        """Receive one message.

        Raises:
            EOFError: the other side is gone.
            WireError: what arrived is not a message, or too large.
        """
        magic, header_size, payload_size = _PREFIX.unpack(self._read(_PREFIX.size))
        if magic != _MAGIC:
            raise WireError(f"expected a message, found bytes that begin with {magic!r}")
        if header_size > MAX_HEADER:
            raise WireError(f"expected a header of at most {MAX_HEADER} bytes, found {header_size}")
        if payload_size > self._max_bytes:
            raise WireError(f"expected at most {self._max_bytes} bytes of arrays, found {payload_size}")
        return decode(bytes(self._read(header_size)), self._read(payload_size))

    def _read(self, size: int) -> memoryview:
        # Memory of `empty` is only taken as it is filled, so a size that is a lie costs nothing.
        buffer = np.empty(size, np.uint8).data
        rest = buffer
        while rest:
            try:
                count = os.readv(self._incoming, [rest])
            except BlockingIOError:
                self._wait(self._incoming)
                continue
            if count == 0:
                raise EOFError("the other side closed the pipe")
            rest = rest[count:]
        return buffer


def _padding(size: int) -> int:
    return -size % _ALIGNMENT


def _pack(value: object, buffers: list[memoryview], table: list[Message]) -> object:
    if isinstance(value, dict):
        if not all(isinstance(key, str) and key != _PLACEHOLDER for key in value):
            raise TypeError(f"expected strings other than {_PLACEHOLDER!r} as keys of a message, found {list(value)}")
        return {key: _pack(item, buffers, table) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_pack(item, buffers, table) for item in value]
    if isinstance(value, np.ndarray):
        array = np.ascontiguousarray(value, value.dtype.newbyteorder("<")).reshape(value.shape)
        if array.dtype.str not in _DTYPES:
            raise TypeError(f"expected an array of numbers in a message, found dtype {value.dtype}")
        buffers.append(array.reshape(-1).view(np.uint8).data)
        table.append({"dtype": array.dtype.str, "shape": list(array.shape)})
        return {_PLACEHOLDER: len(table) - 1}
    if isinstance(value, bytes | bytearray | memoryview):
        buffers.append(memoryview(value).cast("B"))
        table.append({"dtype": "bytes", "shape": [len(buffers[-1])]})
        return {_PLACEHOLDER: len(table) - 1}
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, str | int | float):
        return value
    raise TypeError(f"expected numbers, texts, arrays and bytes in a message, found a {type(value).__name__}")


def _unpack(value: object, buffers: Sequence[object]) -> object:
    if isinstance(value, list):
        return [_unpack(item, buffers) for item in value]
    if not isinstance(value, dict):
        return value
    if _PLACEHOLDER not in value:
        return {key: _unpack(item, buffers) for key, item in value.items()}
    index = value[_PLACEHOLDER]
    if type(index) is not int or not 0 <= index < len(buffers):
        raise ValueError(f"there is no buffer {index!r}")
    return buffers[index]


def _split(table: list[Message], payload: memoryview) -> list[object]:
    buffers: list[object] = []
    start = 0
    for entry in table:
        dtype, shape = entry["dtype"], entry["shape"]
        if dtype != "bytes" and dtype not in _DTYPES:
            raise ValueError(f"dtype {dtype!r} is not taken")
        if len(shape) > _MAX_DIMENSIONS or not all(type(size) is int and size >= 0 for size in shape):
            raise ValueError(f"shape {shape!r} is not taken")
        size = math.prod(shape) * (1 if dtype == "bytes" else np.dtype(dtype).itemsize)
        if start + size > len(payload):
            raise ValueError(f"a buffer of {size} bytes at {start} does not fit {len(payload)} bytes")
        part = payload[start : start + size]
        buffers.append(bytes(part) if dtype == "bytes" else np.frombuffer(part, dtype).reshape(shape))
        start += size + _padding(size)
    if start != len(payload):
        raise ValueError(f"the buffers take {start} bytes, the payload has {len(payload)}")
    return buffers
