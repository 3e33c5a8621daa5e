"""Sliding windows: the geometry that convolutions and pools share.

ONNX pads each side on its own, or so that the output has the size of TensorFlow's SAME; torch pads both sides alike.
Where torch's padding will do it is used, else the input is padded first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import torch.nn.functional as F
from torch import Tensor

from backscan.converters.operators.nodes import attribute
from backscan.converters.operators.registry import OnnxNode

_SAME = ("SAME_UPPER", "SAME_LOWER")


@dataclass(frozen=True, slots=True)
class Window:
    """A window that slides over the spatial axes; one entry an axis."""

    kernel: tuple[int, ...]
    """Extent in taps."""
    strides: tuple[int, ...]
    """Distance between neighbouring windows."""
    dilations: tuple[int, ...]
    """Distance between neighbouring taps."""
    begins: tuple[int, ...]
    """Padding before the input, unless `auto_pad` decides."""
    ends: tuple[int, ...]
    """Padding after the input, unless `auto_pad` decides."""
    auto_pad: str
    """`NOTSET`, `VALID`, `SAME_UPPER` or `SAME_LOWER`."""
    ceil: bool
    """Whether a window may reach beyond the end of the padding, so that the number of windows is rounded up."""
    is_pool: bool
    """Whether SAME follows onnxruntime's pools, which disregard dilations and crop where strides exceed the kernel."""

    @property
    def extents(self) -> tuple[int, ...]:
        """Size from the first to the last tap."""
        return tuple((taps - 1) * step + 1 for taps, step in zip(self.kernel, self.dilations, strict=True))

    @property
    def num_taps(self) -> int:
        """Number of values under the window."""
        return prod(self.kernel)

    @property
    def is_symmetric(self) -> bool:
        """Whether both sides are padded alike whatever the input's size, as torch does it."""
        return self.begins == self.ends and not self.depends_on_size

    @property
    def depends_on_size(self) -> bool:
        """Whether the padding follows from the size of the input."""
        return self.auto_pad in _SAME

    def padding(self, sizes: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Padding before and after an input of the given spatial size."""
        if not self.depends_on_size:
            return self.begins, self.ends
        widths = self.kernel if self.is_pool else self.extents
        axes = zip(sizes, self.strides, widths, strict=True)
        totals = [(-(-size // stride) - 1) * stride + width - size for size, stride, width in axes]
        totals = totals if self.is_pool else [max(total, 0) for total in totals]
        # Rounded towards zero, also where negative totals crop.
        begins = tuple(int((total + (self.auto_pad == "SAME_LOWER")) / 2) for total in totals)
        return begins, tuple(total - begin for total, begin in zip(totals, begins, strict=True))

    def counts(self, sizes: Sequence[int]) -> tuple[int, ...]:
        """Number of windows along each axis of an input of the given spatial size."""
        begins, ends = self.padding(sizes)
        axes = zip(sizes, begins, ends, self.extents, self.strides, strict=True)
        return tuple(self._count(size, begin, end, extent, stride) for size, begin, end, extent, stride in axes)

    def _count(self, size: int, begin: int, end: int, extent: int, stride: int) -> int:
        room = size + begin + end - extent
        count = (-(-room // stride) if self.ceil else room // stride) + 1
        # A window that would start beyond the input, in the padding after it, does not count.
        return count - 1 if self.ceil and (count - 1) * stride >= size + begin else count

    def covering_ends(self, sizes: Sequence[int]) -> tuple[int, ...]:
        """Padding after the input that just holds the last window; negative where the window ends before the input."""
        begins, _ = self.padding(sizes)
        axes = zip(sizes, begins, self.counts(sizes), self.extents, self.strides, strict=True)
        return tuple((count - 1) * stride + extent - size - begin for size, begin, count, extent, stride in axes)


def read_window(node: OnnxNode, kernel: Sequence[int], *, is_pool: bool = False) -> Window:
    """Read the window of a convolution or pool from its attributes.

    Args:
        node: The node.
        kernel: Extent of the window, one entry a spatial axis.
        is_pool: Whether the node is a pool.
    """
    rank = len(kernel)
    pads = tuple(attribute(node, "pads", [0] * (2 * rank)))
    auto_pad = attribute(node, "auto_pad", "NOTSET") or "NOTSET"
    if auto_pad != "NOTSET":
        pads = (0,) * (2 * rank)
    return Window(
        kernel=tuple(kernel),
        strides=tuple(attribute(node, "strides", [1] * rank)),
        dilations=tuple(attribute(node, "dilations", [1] * rank)),
        begins=pads[:rank],
        ends=pads[rank:],
        auto_pad=auto_pad,
        ceil=bool(attribute(node, "ceil_mode", 0)),
        is_pool=is_pool,
    )


def pad_spatial(values: Tensor, begins: Sequence[int], ends: Sequence[int], fill: float = 0.0) -> Tensor:
    """Pad the trailing axes with a constant; negative amounts crop."""
    if not any(begins) and not any(ends):
        return values
    # torch lists the amounts from the last axis to the first.
    amounts = [amount for pair in zip(reversed(begins), reversed(ends), strict=True) for amount in pair]
    return F.pad(values, amounts, value=fill)
