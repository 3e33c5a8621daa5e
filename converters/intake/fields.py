"""Count the fields of a model file in its bytes, before anything is made of them.

Two bytes can stand for a message that takes hundreds in memory, and a byte for a number of eight. So the encoding of
protocol buffers is read here without making anything: tags and lengths alone, until the end or the first limit.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from google.protobuf.descriptor import FieldDescriptor
from onnx import ModelProto

from backscan.converters.errors import UnknownBytesError

if TYPE_CHECKING:
    from backscan.converters.intake.violations import Violations

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_CHUNK = 1 << 24

_LIMITS = {
    "GraphProto.node": "max_nodes",
    "FunctionProto.node": "max_nodes",
    "GraphProto.initializer": "max_tensors",
    "AttributeProto.tensors": "max_tensors",
    "ModelProto.functions": "max_functions",
    "GraphProto.input": "max_values",
    "GraphProto.output": "max_values",
    "GraphProto.value_info": "max_values",
    "FunctionProto.value_info": "max_values",
}
"""Messages with a limit of their own; of each other kind `max_notes` are allowed."""
_WORDS = {
    "max_nodes": "nodes in the model file",
    "max_tensors": "stored tensors in the model file",
    "max_functions": "local functions",
    "max_values": "declared inputs, outputs and values in the model file",
}
_NAMES = {f"{kind}.{field}" for kind in ("NodeProto", "FunctionProto") for field in ("input", "output", "attribute")}
"""Repeated texts that the walk looks at one by one."""
_WHOLE_NUMBERS = {
    FieldDescriptor.CPPTYPE_INT32: 4,
    FieldDescriptor.CPPTYPE_UINT32: 4,
    FieldDescriptor.CPPTYPE_ENUM: 4,
    FieldDescriptor.CPPTYPE_INT64: 8,
    FieldDescriptor.CPPTYPE_UINT64: 8,
}
"""Bytes in memory of numbers that take fewer in the file."""


@dataclass(frozen=True, slots=True)
class _Field:
    """What a tag announces."""

    name: str
    """Message and field."""
    limit: str
    """Field of the policy that bounds it; empty for all that only counts as a field."""
    within: dict[int, _Field] | None
    """Fields of the message that follows, by tag; None if none does."""
    entry_bytes: int
    """Memory of each number of a list of numbers of varying length; 0 if none follows."""


class _Full(Exception):  # noqa: N818 - no error, but the end of the count
    """A limit is passed: nothing behind it is counted."""

    def __init__(self, limit: str, actual: int, what: str) -> None:
        super().__init__(limit)
        self.found = (limit, actual, what)


def check_fields(data: bytes, violations: Violations) -> bool:
    """Judge how many fields of each kind the bytes of a model hold, in time that the limits bound.

    Returns:
        Whether the model may be parsed.

    Raises:
        UnknownBytesError: the bytes are no protocol buffer, or hold groups, which the format does not have.
    """
    try:
        _Count(data, violations).run()
    except _Full as full:
        return violations.bound(*full.found)
    except (IndexError, ValueError) as error:
        raise UnknownBytesError(
            f"expected an ONNX model, found {len(data)} bytes of something else: the file is damaged or no model, get "
            "it again"
        ) from error
    return True


class _Count:
    """The counts so far. Limits of the policy are looked up once: this loop sees every field."""

    def __init__(self, data: bytes, violations: Violations) -> None:
        self._data = data
        self._policy = violations.policy
        self._counts: Counter[str] = Counter()
        self._unpacked = 0

    def run(self) -> None:
        """Go over all fields; messages within messages are kept on a stack, so depth costs nothing."""
        data, most = self._data, self._policy.max_fields
        outer: list[tuple[int, dict[int, _Field]]] = []
        position, end, fields, seen = 0, len(data), _fields_of_model(), 0
        while position < end or outer:
            if position >= end:
                _check_end(position, end)
                end, fields = outer.pop()
                continue
            seen += 1
            if seen > most:
                raise _Full("max_fields", seen, "fields in the model file")
            tag, position = read_varint(data, position)
            if tag & 7 != _BYTES:
                position = _skipped(data, position, tag & 7)
                continue
            length, position = read_varint(data, position)
            _check_end(position + length, end)
            field = fields.get(tag)
            if field is None:
                position += length
                continue
            self._count(field, position, length)
            if field.within is None:
                position += length
            else:
                outer.append((end, fields))
                end, fields = position + length, field.within
        _check_end(position, end)

    def _count(self, field: _Field, start: int, length: int) -> None:
        if field.entry_bytes:
            self._add_numbers(start, length, field.entry_bytes)
            return
        kind = field.name if field.limit == "max_notes" else field.limit
        self._counts[kind] += 1
        if self._counts[kind] > getattr(self._policy, field.limit):
            what = _WORDS.get(field.limit, f"entries of kind {field.name} in the model file")
            raise _Full(field.limit, self._counts[kind], what)

    def _add_numbers(self, start: int, length: int, entry_bytes: int) -> None:
        """Add the memory of a list of numbers; each ends with the byte below 128."""
        for begin in range(start, start + length, _CHUNK):
            size = min(_CHUNK, start + length - begin)
            ends = np.frombuffer(self._data, np.uint8, size, begin) < 128
            self._unpacked += int(np.count_nonzero(ends)) * entry_bytes
        if self._unpacked > self._policy.max_unpacked_bytes:
            raise _Full("max_unpacked_bytes", self._unpacked, "bytes of unpacked numbers")


def _check_end(position: int, end: int) -> None:
    if position > end:
        raise ValueError("a field is longer than its message")


def _skipped(data: bytes, position: int, wire: int) -> int:
    """Where a field that is no text, list or message ends."""
    if wire == _VARINT:
        while data[position] >= 128:
            position += 1
        return position + 1
    if wire not in (_FIXED32, _FIXED64):
        raise ValueError("a group")
    return position + (4 if wire == _FIXED32 else 8)


def read_varint(data: bytes, position: int) -> tuple[int, int]:
    """A number of varying length, and where it ends."""
    value = data[position]
    position += 1
    if value < 128:
        return value, position
    value &= 127
    for shift in range(7, 70, 7):
        byte = data[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, position
    raise ValueError("a number without end")


@cache
def _fields_of_model() -> dict[int, _Field]:
    """Fields of a model by tag, as the format's own description has them."""
    tables: dict[str, dict[int, _Field]] = {}
    return _fields_of(ModelProto.DESCRIPTOR, tables)


def _fields_of(message: Any, tables: dict[str, dict[int, _Field]]) -> dict[int, _Field]:
    if message.full_name in tables:
        return tables[message.full_name]
    table = tables.setdefault(message.full_name, {})
    for field in message.fields:
        name = f"{message.name}.{field.name}"
        repeated = field.is_repeated if hasattr(field, "is_repeated") else field.label == field.LABEL_REPEATED
        tag = field.number << 3 | _BYTES
        if field.message_type is not None:
            table[tag] = _Field(name, _LIMITS.get(name, "max_notes"), _fields_of(field.message_type, tables), 0)
        elif repeated and name in _NAMES:
            table[tag] = _Field(name, "max_notes", None, 0)
        elif repeated and field.cpp_type in _WHOLE_NUMBERS:
            table[tag] = _Field(name, "", None, _WHOLE_NUMBERS[field.cpp_type])
    return table
