"""Resampling of one axis: where each output position lies in the input, and how its neighbours are weighted.

Everything is computed in float32 as onnxruntime does, because a nearest neighbour hangs on the rounding of a tie.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Floats = npt.NDArray[np.float32]
Places = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Method:
    """How an axis is resampled, whatever its size: the attributes of Resize."""

    mode: str
    """`nearest`, `linear` or `cubic`."""
    coordinates: str
    """`coordinate_transformation_mode`."""
    nearest: str = "round_prefer_floor"
    """`nearest_mode`; `simple` is that of opset 10: up for shrinking, down for growing."""
    cubic_a: float = -0.75
    """Coefficient of the cubic kernel."""
    exclude_outside: bool = False
    """Whether positions outside the input weigh nothing, instead of repeating its edge."""
    antialias: bool = False
    """Whether the kernel widens when the axis shrinks."""
    extrapolation: float = 0.0
    """Value of what `tf_crop_and_resize` reads outside the input."""


@dataclass(frozen=True, slots=True)
class Resampling:
    """The resampling of one axis from a size to a size."""

    method: Method
    """How."""
    size: int
    """Size of the input along the axis."""
    new_size: int
    """Size of the output along the axis."""
    scale: float
    """Output size over input size as the model states it, before rounding to `new_size`; a float32."""
    start: float = 0.0
    """Beginning of the region that `tf_crop_and_resize` reads, as a fraction of the axis."""
    end: float = 1.0
    """End of that region."""

    def positions(self) -> Floats:
        """Coordinate in the input of every output position."""
        x = np.arange(self.new_size, dtype=np.float32)
        return _COORDINATES[self.method.coordinates](self, x).astype(np.float32)

    def nearest_places(self) -> Places:
        """Nearest input position of every output position, within the input."""
        rounding = self.method.nearest
        if rounding == "simple":
            rounding = "ceil" if self.scale < 1 else "floor"
        return np.clip(_ROUNDINGS[rounding](self.positions()), 0, self.size - 1).astype(np.int64)

    def matrix(self) -> Floats:
        """Weight of every input position (column) in every output position (row)."""
        positions = self.positions()
        if self.method.mode == "linear" and not self.method.antialias:
            positions = np.clip(positions, 0, self.size - 1)
        first, weights = self._kernel(positions)
        places = first[:, None] + np.arange(weights.shape[1])
        outside = (places < 0) | (places >= self.size)
        if self.method.exclude_outside:
            weights = np.where(outside, 0, weights)
            weights = weights / weights.sum(axis=1, keepdims=True)
        matrix = np.zeros((self.new_size, self.size), dtype=np.float32)
        rows = np.broadcast_to(np.arange(self.new_size)[:, None], places.shape)
        np.add.at(matrix, (rows, np.clip(places, 0, self.size - 1)), weights)
        return matrix

    def outside(self) -> npt.NDArray[np.bool_]:
        """Which output positions read outside the input."""
        positions = self.positions()
        return (positions < 0) | (positions > self.size - 1)

    def _kernel(self, positions: Floats) -> tuple[Places, Floats]:
        """First neighbour of each position and the weights of all of them."""
        # An antialiasing kernel is as much wider as the axis shrinks.
        stretch = min(self.scale, 1.0) if self.method.antialias else 1.0
        radius, kernel = _KERNELS[self.method.mode]
        base = np.floor(positions)
        reach = int(np.floor(-radius / stretch)) + 1
        offsets = np.arange(reach, 2 - reach, dtype=np.float32)
        distances = np.abs(offsets[None, :] - (positions - base)[:, None]) * np.float32(stretch)
        weights = kernel(distances, self.method.cubic_a)
        return base.astype(np.int64) + reach, weights / weights.sum(axis=1, keepdims=True)


def _half_pixel(axis: Resampling, x: Floats) -> Floats:
    return (x + np.float32(0.5)) / np.float32(axis.scale) - np.float32(0.5)


def _half_pixel_symmetric(axis: Resampling, x: Floats) -> Floats:
    exact_size = np.float32(axis.scale) * np.float32(axis.size)
    offset = np.float32(axis.size / 2) * (1 - np.float32(axis.new_size) / exact_size)
    return (offset + (x.astype(np.float64) + 0.5) / axis.scale - 0.5).astype(np.float32)


def _pytorch_half_pixel(axis: Resampling, x: Floats) -> Floats:
    return _half_pixel(axis, x) if axis.new_size > 1 else np.zeros_like(x)


def _asymmetric(axis: Resampling, x: Floats) -> Floats:
    return x / np.float32(axis.scale)


def _half_pixel_for_nn(axis: Resampling, x: Floats) -> Floats:
    return (x + np.float32(0.5)) / np.float32(axis.scale)


def _align_corners(axis: Resampling, x: Floats) -> Floats:
    return x * np.float32(axis.size - 1) / np.float32(max(axis.new_size - 1, 1))


def _crop_and_resize(axis: Resampling, x: Floats) -> Floats:
    last = np.float32(axis.size - 1)
    if axis.new_size == 1:
        return np.full_like(x, (axis.start + axis.end) / 2 * last)
    return np.float32(axis.start) * last + x * np.float32(axis.end - axis.start) * last / np.float32(axis.new_size - 1)


_COORDINATES: dict[str, Callable[[Resampling, Floats], Floats]] = {
    "align_corners": _align_corners,
    "asymmetric": _asymmetric,
    "half_pixel": _half_pixel,
    "half_pixel_symmetric": _half_pixel_symmetric,
    "pytorch_half_pixel": _pytorch_half_pixel,
    "tf_crop_and_resize": _crop_and_resize,
    "tf_half_pixel_for_nn": _half_pixel_for_nn,
}


_TIE = 1e-6
"""How near to a half counts as a half: a division in float32 may miss it."""


def _round_half_down(x: Floats) -> Floats:
    result: Floats = np.floor(x) + (x - np.floor(x) - 0.5 >= _TIE)
    return result


def _round_half_up(x: Floats) -> Floats:
    result: Floats = np.floor(x) + (x - np.floor(x) - 0.5 > -_TIE)
    return result


_ROUNDINGS: dict[str, Callable[[Floats], Floats]] = {
    "ceil": np.ceil,
    "floor": np.floor,
    "round_prefer_ceil": _round_half_up,
    "round_prefer_floor": _round_half_down,
}


def _triangle(distances: Floats, _a: float) -> Floats:
    return np.clip(1 - distances, 0, 1)


def _keys_cubic(distances: Floats, a: float) -> Floats:
    near = ((a + 2) * distances - (a + 3)) * distances**2 + 1
    far = ((a * distances - 5 * a) * distances + 8 * a) * distances - 4 * a
    return np.where(distances <= 1, near, np.where(distances < 2, far, 0))


_KERNELS: dict[str, tuple[int, Callable[[Floats, float], Floats]]] = {
    "cubic": (2, _keys_cubic),
    "linear": (1, _triangle),
}
"""Radius of each kernel, and the kernel as a function of distance."""

COORDINATE_MODES = frozenset(_COORDINATES)
NEAREST_MODES = frozenset(_ROUNDINGS)
MODES = frozenset(_KERNELS) | {"nearest"}


@lru_cache(maxsize=128)
def _prepared(axis: Resampling, what: str, dtype: torch.dtype, device: torch.device) -> Tensor:
    array = {"places": axis.nearest_places, "matrix": axis.matrix, "outside": axis.outside}[what]()
    # The cache outlives an inference mode that it may be filled in.
    with torch.inference_mode(False):
        return torch.from_numpy(array).to(device=device, dtype=dtype)


def resample(values: Tensor, dim: int, axis: Resampling) -> Tensor:
    """Resample one axis of a tensor.

    Args:
        values: Any shape, with `axis.size` along `dim`.
        dim: The axis, not negative.
        axis: How to resample it.
    """
    if axis.method.mode == "nearest":
        values = values.index_select(dim, _prepared(axis, "places", torch.int64, values.device))
    else:
        matrix = _prepared(axis, "matrix", values.dtype, values.device)
        last = values.dim() - 1
        values = matrix @ values if dim == last - 1 else (values.transpose(dim, last) @ matrix.T).transpose(dim, last)
    return values


def outside_mask(dim: int, rank: int, axis: Resampling, device: torch.device) -> Tensor:
    """Which positions along `dim` read outside the input, in a shape that broadcasts over `rank` axes."""
    return _prepared(axis, "outside", torch.bool, device).reshape(-1, *[1] * (rank - 1 - dim))
