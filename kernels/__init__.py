"""Compiled numerics of the method: numpy arrays and floats in and out, no torch, no onnx.

The names that the scanner uses are loaded on first use: numba only when something compiled is called for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from backscan.kernels.bootstrap import (
        bootstrap_log_p_values,
        calibrated_p_value,
        count_excluded,
        judge_extremes,
    )
    from backscan.kernels.confusion import size_offset
    from backscan.kernels.embedding import add
    from backscan.kernels.nulls import NULL_FAMILIES, FitStatus, NullFamily
    from backscan.kernels.order import log_sf_of_order_p_value

_HOME = {
    "NULL_FAMILIES": "nulls",
    "FitStatus": "nulls",
    "NullFamily": "nulls",
    "add": "embedding",
    "bootstrap_log_p_values": "bootstrap",
    "calibrated_p_value": "bootstrap",
    "count_excluded": "bootstrap",
    "judge_extremes": "bootstrap",
    "log_sf_of_order_p_value": "order",
    "size_offset": "confusion",
}
"""Public name -> module that defines it."""

__all__ = [
    "NULL_FAMILIES",
    "FitStatus",
    "NullFamily",
    "add",
    "bootstrap_log_p_values",
    "calibrated_p_value",
    "count_excluded",
    "judge_extremes",
    "log_sf_of_order_p_value",
    "size_offset",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
