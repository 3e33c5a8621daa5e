"""Which axis of the image input is which: decided by the first convolution, else by the sizes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import onnx

from backscan.converters.errors import SignatureError
from backscan.converters.graph import attributes, constants, dimensions

CHANNELS = (1, 3, 4)
"""Channel counts of an image: grey, colour, colour with alpha."""

_KEEPS_AXES = frozenset(
    {"Add", "BatchNormalization", "Cast", "CastLike", "Clip", "DequantizeLinear", "Div", "Identity", "Mul", "Pad"}
    | {"QuantizeLinear", "Relu", "Sign", "Sub"}
)
_CONVOLUTIONS = frozenset({"Conv", "ConvInteger", "QLinearConv"})


@dataclass(frozen=True, slots=True)
class Layout:
    """Order and sizes of the image input."""

    order: str
    """Order of the axes: "NCHW", "NHWC", "NHW" or "NC"; in "NC1", say, 1 is an axis of one beside the pixels."""
    image_shape: tuple[int, int, int]
    """Channels, height, width."""


def input_shape(order: str, image_shape: tuple[int, int, int], batch: int) -> tuple[int, ...]:
    """Shape of a model's own input for a number of images, axes in its own order."""
    channels, height, width = image_shape
    if is_flat(order):
        return tuple({"N": batch, "C": channels * height * width, "1": 1}[axis] for axis in order)
    return tuple({"N": batch, "C": channels, "H": height, "W": width}[axis] for axis in order)


def is_flat(order: str) -> bool:
    """Whether all pixels of an image lie along one axis, channel after channel and row by row."""
    return set(order) <= set("NC1")


def image_layout(
    graph: onnx.GraphProto,
    value: onnx.ValueInfoProto,
    image_size: tuple[int, int] | None = None,
    clean_shape: tuple[int, int, int] | None = None,
) -> Layout:
    """Layout and sizes of an image input.

    Args:
        graph: The graph in topological order.
        value: Its image input.
        image_size: Height and width, for inputs that do not fix them.
        clean_shape: Channels, height and width of the clean images; a flat input of as many values takes them.

    Returns:
        The layout.

    Raises:
        SignatureError: the input is no image, its size must be given, or the size given contradicts it.
    """
    sizes = dimensions(value)
    if sizes is None or len(sizes) not in {2, 3, 4}:
        rank = "of unknown rank" if sizes is None else f"with {len(sizes)} axes"
        raise SignatureError(f"expected an image input with 4 axes, found '{value.name}' {rank}: export it as NCHW")
    flat = _flat_order(sizes)
    if flat:
        shape = _flat_shape(max(size or 0 for size in sizes[1:]), image_size, clean_shape)
        if shape is not None:
            return Layout(flat, shape)
    if len(sizes) == 2:
        raise _flat_error(value.name, sizes[1], image_size)
    if len(sizes) == 3:
        return Layout("NHW", (1, *_spatial(value.name, sizes[1:], image_size)))
    channel_axis, channels = _channel_axis(graph, value.name, sizes)
    spatial = sizes[2:] if channel_axis == 1 else sizes[1:3]
    order = "NCHW" if channel_axis == 1 else "NHWC"
    return Layout(order, (channels, *_spatial(value.name, spatial, image_size)))


def _channel_axis(graph: onnx.GraphProto, name: str, sizes: tuple[int | None, ...]) -> tuple[int, int]:
    axis, channels = _first_convolution(graph, name)
    if axis is None:
        fitting = [axis for axis in (1, 3) if sizes[axis] in CHANNELS]
        axis = fitting[0] if fitting else None
    channels = channels if axis is None else (sizes[axis] or channels)
    if axis not in {1, 3} or channels not in CHANNELS:
        raise SignatureError(
            f"expected an image input with 1, 3 or 4 channels, found '{name}' with axes {_readable(sizes)}: "
            "export the model with a fixed number of channels in NCHW or NHWC order"
        )
    return axis, channels


def _first_convolution(graph: onnx.GraphProto, name: str) -> tuple[int | None, int | None]:
    """Input axis that the first convolution takes for its channels, and their number; None where not to be seen."""
    order: dict[str, tuple[int, ...]] = {name: (0, 1, 2, 3)}
    weights = constants(graph)
    for node in graph.node:
        data = next((value for value in node.input if value in order), None)
        if data is None:
            continue
        if node.op_type in _CONVOLUTIONS and data == node.input[0]:
            weight = weights.get(node.input[3 if node.op_type == "QLinearConv" else 1])
            if weight is None or len(weight.dims) != 4:
                return order[data][1], None
            return order[data][1], weight.dims[1] * attributes(node).get("group", 1)
        if node.op_type == "Transpose":
            permutation = attributes(node).get("perm", [3, 2, 1, 0])
            order[node.output[0]] = tuple(order[data][axis] for axis in permutation)
        elif node.op_type in _KEEPS_AXES:
            order[node.output[0]] = order[data]
    return None, None


def _flat_order(sizes: tuple[int | None, ...]) -> str:
    """Order of the axes where all values of an image lie along one of them; empty if they do not."""
    long = [axis for axis, size in enumerate(sizes) if axis > 0 and size != 1]
    if len(sizes) == 2:
        return "NC"
    if len(long) != 1 or (sizes[long[0]] or 0) <= max(CHANNELS):
        return ""
    return "".join("N" if axis == 0 else "C" if axis in long else "1" for axis in range(len(sizes)))


def _flat_shape(
    pixels: int, image_size: tuple[int, int] | None, clean_shape: tuple[int, int, int] | None
) -> tuple[int, int, int] | None:
    if image_size is None and clean_shape is not None and math.prod(clean_shape) == pixels:
        return clean_shape
    for channels in CHANNELS:
        height, width = image_size or (math.isqrt(pixels // channels),) * 2
        if height * width * channels == pixels:
            return channels, height, width
    return None


def _flat_error(name: str, pixels: int | None, image_size: tuple[int, int] | None) -> SignatureError:
    return SignatureError(
        f"the input '{name}' is a flat vector of {pixels or 'any number of'} values, which is no square image"
        f"{'' if image_size is None else f' and none of size {image_size[0]} x {image_size[1]}'}: pass --image-size H W"
    )


def _spatial(name: str, sizes: tuple[int | None, ...], image_size: tuple[int, int] | None) -> tuple[int, int]:
    wanted = image_size or (None, None)
    if any(own and given and own != given for own, given in zip(sizes, wanted, strict=True)):
        raise SignatureError(
            f"the input '{name}' takes images of {_readable(sizes)}, not {_readable(wanted)}: leave --image-size out"
        )
    height, width = (own or given for own, given in zip(sizes, wanted, strict=True))
    if height is None or width is None:
        raise SignatureError(f"the input '{name}' takes images of any size: pass --image-size H W")
    return height, width


def _readable(sizes: tuple[int | None, ...]) -> str:
    return " x ".join("?" if size is None else str(size) for size in sizes)
