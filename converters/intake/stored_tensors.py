"""Tensors as a model file declares them: shape, type and place of their data, judged without reading the data."""

from __future__ import annotations

import math
import ntpath
import posixpath
from collections import defaultdict
from collections.abc import Sequence

from onnx import TensorProto

from backscan.converters.intake.violations import Violations, shown

_KEYS = frozenset({"location", "offset", "length", "checksum"})
_BITS = {
    **dict.fromkeys(("BOOL", "UINT8", "INT8"), 8),
    **dict.fromkeys(("FLOAT8E4M3FN", "FLOAT8E4M3FNUZ", "FLOAT8E5M2", "FLOAT8E5M2FNUZ", "FLOAT8E8M0"), 8),
    **dict.fromkeys(("FLOAT16", "BFLOAT16", "UINT16", "INT16"), 16),
    **dict.fromkeys(("FLOAT", "UINT32", "INT32"), 32),
    **dict.fromkeys(("DOUBLE", "UINT64", "INT64", "COMPLEX64"), 64),
    **dict.fromkeys(("UINT4", "INT4", "FLOAT4E2M1"), 4),
    **dict.fromkeys(("UINT2", "INT2"), 2),
    "COMPLEX128": 128,
}
_TYPES = {TensorProto.DataType.Value(name): name for name in _BITS if name in TensorProto.DataType.keys()}  # noqa: SIM118

# Field of a tensor -> types stored in it with the elements that each entry holds.
_FIELDS: dict[str, dict[str, float]] = {
    "float_data": {"FLOAT": 1, "COMPLEX64": 0.5},
    "double_data": {"DOUBLE": 1, "COMPLEX128": 0.5},
    "int64_data": {"INT64": 1},
    "uint64_data": {"UINT64": 1, "UINT32": 1},
    "int32_data": {
        **{name: 1 for name, bits in _BITS.items() if bits in (8, 16)},
        **{name: 8 // bits for name, bits in _BITS.items() if bits < 8},
        "INT32": 1,
    },
}


class StoredTensors:
    """Counts the stored tensors of a model, and notes what is wrong with them."""

    def __init__(self, violations: Violations) -> None:
        self._violations = violations
        self.count = 0
        self.largest_bytes = 0
        self.reach: dict[str, int] = {}
        """External location -> bytes that its file must have at least."""
        self._ranges: dict[str, list[tuple[int, int]]] = defaultdict(list)

    @property
    def shared_bytes(self) -> int:
        """Bytes of external data that further tensors use again: each makes its own copy of them."""
        return sum(map(_used_again, self._ranges.values()))

    def add(self, tensor: TensorProto) -> None:
        """Judge one tensor."""
        self.count += 1
        name = shown(tensor.name)
        elements = count_elements(tensor.dims, f"tensor {name}", self._violations)
        if elements is None or tensor.HasField("segment"):
            self._violations.forbid("tensor-shape", f"tensor {name} has no shape that can be used: export again")
        elif tensor.data_type == TensorProto.STRING:
            self._check_texts(tensor, elements, name)
        elif tensor.data_type not in _TYPES:
            self._violations.forbid(
                "tensor-type", f"tensor {name} has the unknown type {tensor.data_type}: export again"
            )
        else:
            self._check_numbers(tensor, elements, name)

    def _check_numbers(self, tensor: TensorProto, elements: int, name: str) -> None:
        type_name = _TYPES[tensor.data_type]
        size = (elements * _BITS[type_name] + 7) // 8
        self.largest_bytes = max(self.largest_bytes, size)
        if not self._violations.bound("max_tensor_bytes", size, f"bytes in tensor {name}"):
            return
        if tensor.data_location == TensorProto.EXTERNAL:
            self._check_external(tensor, size, name)
        elif not _holds(tensor, type_name, elements, size):
            self._violations.forbid(
                "tensor-size",
                f"tensor {name} declares {elements} elements of type {type_name}, which its data does not hold: "
                "the file is damaged, export it again",
            )

    def _check_texts(self, tensor: TensorProto, elements: int, name: str) -> None:
        if len(tensor.string_data) != elements or tensor.data_location == TensorProto.EXTERNAL:
            self._violations.forbid("tensor-size", f"tensor {name} declares {elements} texts, which it does not hold")
        longest = max((len(text) for text in tensor.string_data), default=0)
        self._violations.bound("max_text_bytes", longest, f"bytes in a text of tensor {name}")

    def _check_external(self, tensor: TensorProto, size: int, name: str) -> None:
        entries = {entry.key: entry.value for entry in tensor.external_data}
        location = entries.get("location", "")
        unknown = sorted(set(entries) - _KEYS, key=repr)  # what is not UTF-8 arrives as bytes
        if unknown or len(entries) != len(tensor.external_data):
            self._violations.forbid(
                "external-key",
                f"the external data of tensor {name} has unknown or repeated keys ({', '.join(map(shown, unknown))}): "
                "export again with location, offset and length only",
            )
        if not is_beneath(location):
            self._violations.forbid(
                "external-path",
                f"tensor {name} wants the file {shown(location)}, which is not a plain relative path beneath the "
                "model's folder: do not use this model unless you know why",
            )
            return
        offset, length = (
            _number(entries.get(key, default)) for key, default in (("offset", "0"), ("length", str(size)))
        )
        if offset is None or length != size:
            self._violations.forbid(
                "external-range",
                f"tensor {name} needs {size} bytes, but asks for length {shown(entries.get('length', ''))} at offset "
                f"{shown(entries.get('offset', ''))} of {shown(location)}: export again",
            )
            return
        self.reach[location] = max(self.reach.get(location, 0), offset + size)
        self._ranges[location].append((offset, offset + size))


def _used_again(ranges: Sequence[tuple[int, int]]) -> int:
    """Bytes that lie in several ranges, each time but the first."""
    again, end = 0, 0
    for start, stop in sorted(ranges):
        again += max(0, min(end, stop) - start)
        end = max(end, stop)
    return again


def count_elements(dims: Sequence[int], where: str, violations: Violations) -> int | None:
    """Number of elements of a shape, or None where it has no such number; very many count as violations elsewhere."""
    if not violations.bound("max_rank", len(dims), f"axes in {where}"):
        return None
    return math.prod(dims) if all(size >= 0 for size in dims) else None


def is_beneath(location: str | bytes) -> bool:
    """Whether a location names a file beneath the model's folder, on this and every other system."""
    if not isinstance(location, str) or not 0 < len(location) <= 1024 or not location.isprintable():
        return False
    if "\\" in location or ":" in location or posixpath.isabs(location) or ntpath.isabs(location):
        return False
    parts = location.split("/")
    return parts[0] != "~" and not any(part in ("", "..") for part in parts) and parts[-1] != "."


def _holds(tensor: TensorProto, type_name: str, elements: int, size: int) -> bool:
    """Whether the data in the file is what shape and type declare, in exactly one of the places."""
    filled = [field for field in (*_FIELDS, "string_data") if len(getattr(tensor, field))]
    if tensor.HasField("raw_data"):
        return not filled and len(tensor.raw_data) == size
    if not filled:
        return elements == 0
    per_entry = _FIELDS.get(filled[0], {}).get(type_name)
    return (
        len(filled) == 1
        and per_entry is not None
        and len(getattr(tensor, filled[0])) == math.ceil(elements / per_entry)
    )


def _number(text: str | bytes) -> int | None:
    """A count of bytes that no file can exceed, or None."""
    if isinstance(text, str) and text.isascii() and text.isdigit() and len(text) <= 18:
        return int(text)
    return None
