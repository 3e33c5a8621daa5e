"""The marks by which files begin that are no ONNX model: bytes are compared, and no library opens anything."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType

from backscan.converters.intake.fields import read_varint

_HEAD = 1024
"""Bytes in which the texts that open a file are looked for."""
_DIRECTORY = 1 << 20
"""Bytes at the end of a zip in which the names of its members are looked for."""
_MOST_NAMES = 10_000
_MOST_FIELDS = 1000
_MOST_HEADER = 100_000_000
"""Bytes that the header of a safetensors file may have by its own rules."""


_OPENINGS: Mapping[bytes, str] = MappingProxyType(
    {
        b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19": "torch-old",
        b"\x89HDF\r\n\x1a\n": "hdf5",
        b"GGUF": "gguf",
        b"lmgg": "ggml",
        b"tjgg": "ggml",
        b"fmgg": "ggml",
        b"ftrt": "tensorrt",
        b"\x93NUMPY": "array",
        b"\x89PNG\r\n\x1a\n": "picture",
        b"\xff\xd8\xff": "picture",
        b"GIF8": "picture",
        b"\x1f\x8b": "packed",
        b"BZh": "packed",
        b"\xfd7zXZ\x00": "packed",
        b"\x28\xb5\x2f\xfd": "packed",
        b"7z\xbc\xaf\x27\x1c": "packed",
    }
)
_AFTER_FOUR: Mapping[bytes, str] = MappingProxyType({b"TFL3": "tflite", b"ORTM": "ort"})
_TAR = (257, b"ustar")


def _by_opening(data: bytes) -> str:
    name = next((name for opening, name in _OPENINGS.items() if data.startswith(opening)), "")
    if not name and data[2:4] == b"\0\0":  # flat buffers: the place of their root comes first
        name = _AFTER_FOUR.get(data[4:8], "")
    place, mark = _TAR
    return name or ("packed" if data[place : place + len(mark)] == mark else "")


def _pickle(data: bytes) -> str:
    """Protocols 2 to 5 begin with their number and end with a full stop; from 4 on a frame follows."""
    if len(data) < 4 or data[0] != 0x80 or data[1] not in (2, 3, 4, 5) or not data.endswith(b"."):
        return ""
    return "" if data[1] >= 4 and data[2] != 0x95 else "pickle"


def _safetensors(data: bytes) -> str:
    length = int.from_bytes(data[:8], "little")
    return "safetensors" if 2 <= length <= min(_MOST_HEADER, len(data) - 8) and data[8:9] == b"{" else ""


def _zip(data: bytes) -> str:
    if not data.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return ""
    names = set(_members(data))
    return next((kind for kind, pattern in _MEMBERS.items() if any(map(pattern.search, names))), "zip")


_MEMBERS: Mapping[str, re.Pattern[bytes]] = MappingProxyType(
    {
        "torchscript": re.compile(rb"^[^/]+/(code/.*\.py|constants\.pkl|bytecode\.pkl)$"),
        "torch-export": re.compile(rb"(^|/)(serialized_exported_program\.json|archive_format)$"),
        "torch": re.compile(rb"^[^/]+/data\.pkl$"),
        "keras": re.compile(rb"^model\.weights\.h5$"),
        "core-ml": re.compile(rb"com\.apple\.CoreML/|\.mlmodel$"),
        "onnx-in-zip": re.compile(rb"\.onnx$", re.IGNORECASE),
        "saved-model-in-zip": re.compile(rb"(^|/)saved_model\.pb$"),
        "npz": re.compile(rb"^[^/]+\.npy$"),
    }
)
"""Kind of a zip by the names of its members; the first that fits counts."""


def _members(data: bytes) -> Iterator[bytes]:
    """Names in the directory of a zip, read without any library and from its last part alone."""
    begin = max(0, len(data) - _DIRECTORY)
    for count, entry in enumerate(re.finditer(rb"PK\x01\x02.{24}(..).{16}", data[begin:], re.DOTALL)):
        if count == _MOST_NAMES:
            return
        start = begin + entry.end()
        yield data[start : start + int.from_bytes(entry.group(1), "little")]


def _text(data: bytes) -> str:
    """Markup and JSON, by what opens them; any other text, where all of a short file is readable."""
    head = data[:_HEAD].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if head.startswith((b"<!doctype html", b"<html")):
        return "web-page"
    if head.startswith((b"<?xml", b"<net")):
        return "openvino" if re.search(rb"<net\s", head) else "text"
    if head.startswith(b"{") and b"modeltopology" in data[: 64 * _HEAD].lower():
        return "tensorflow-js"
    is_text = head and all(byte in b"\t\n\r\x0c" or 32 <= byte < 127 for byte in head)
    return "text" if is_text else ""


def _protocol_buffer(data: bytes) -> str:
    """Other models in the encoding of ONNX, told by the numbers of the fields at the top; ONNX has its graph at 7."""
    fields: dict[int, bytes] = {}
    try:
        for number, content in _fields(data):
            fields.setdefault(number, content)
    except (IndexError, ValueError):
        return ""
    if 7 in fields or not fields:
        return ""
    if any(200 <= number <= 3000 for number in fields) and fields.keys() & {1, 2}:
        return "core-ml"
    if set(fields) == {1, 2} and data[:2] == b"\x08\x01" and fields[2]:
        return "saved-model"
    first = fields.get(1, b"")
    return "frozen-graph" if set(fields) <= {1, 2, 3, 4} and _is_node(first) else ""


def _is_node(content: bytes) -> bool:
    """Whether a message is a node of a TensorFlow graph: its name, then its operator."""
    match = re.match(rb"\x0a([\x01-\x7f])", content)
    if match is None:
        return False
    name_end = 2 + match.group(1)[0]
    rest = re.match(rb"\x12([\x01-\x7f])([A-Z_]\w*)", content[name_end:])
    return rest is not None and len(rest.group(2)) >= rest.group(1)[0]


def _fields(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Number and first bytes of the fields of a message, not of those within them."""
    position = 0
    for _ in range(_MOST_FIELDS):
        if position >= len(data):
            return
        tag, position = read_varint(data, position)
        wire, content = tag & 7, b""
        if wire == 0:
            _, position = read_varint(data, position)
        elif wire == 2:
            length, position = read_varint(data, position)
            content = data[position : position + min(length, _HEAD)]
            position += length
        elif wire in (1, 5):
            position += 8 if wire == 1 else 4
        else:
            raise ValueError("a group")
        if position > len(data):
            raise ValueError("a field is longer than its message")
        yield tag >> 3, content


LOOKS: tuple[Callable[[bytes], str], ...] = (_by_opening, _zip, _pickle, _safetensors, _protocol_buffer, _text)
"""Ways to tell a kind, each of which gives its short name in `kinds.KINDS`, or nothing."""
