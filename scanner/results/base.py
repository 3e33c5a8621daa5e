"""What all parts of a result share: strict types, plain values, arrays as text."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from backscan.scanner.errors import ReportError

STRICT = ConfigDict(extra="forbid", use_attribute_docstrings=True)


@dataclass(frozen=True, slots=True, config=STRICT)
class EncodedArray:
    """A float32 array in a JSON report: base64 of its little-endian bytes, row-major."""

    shape: tuple[int, ...]
    """Length of each axis."""
    data: str
    """Base64 text of the values."""

    @classmethod
    def encode(cls, array: NDArray[np.float32]) -> EncodedArray:
        """Store `array` exactly (after conversion to float32)."""
        little = np.asarray(array, dtype="<f4", order="C")
        return cls(shape=tuple(little.shape), data=base64.b64encode(little.tobytes()).decode("ascii"))

    def decode(self) -> NDArray[np.float32]:
        """The stored array, float32, read-only.

        Raises:
            ReportError: the text is not base64 or its length does not fit the shape.
        """
        try:
            array = np.frombuffer(base64.b64decode(self.data, validate=True), dtype="<f4")
            return array.reshape(self.shape)
        except ValueError as error:
            raise ReportError(
                f"expected an array of shape {list(self.shape)} in the report, found data that does not fit: "
                "make the report again with `scanner check`"
            ) from error


def to_json(document: object) -> str:
    """Text of a JSON document: two spaces, keys in the order of the types, no NaN or Infinity."""
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def plain(value: Any) -> Any:
    """`value` with tuples as lists, enums as their text, numpy scalars as Python ones, non-finite numbers as None."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, StrEnum):
        return value.value
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
