"""When the largest values of a tensor stand at given places: the condition behind the comparison of an index.

`Equal(TopK(x).indices, places)` has no gradient in any step of it. It holds where x at each place is the first,
second, ... largest value: where it exceeds x at the next place, and at all that are no place. These differences have
gradients, and sums of what is missing are concave, so that an ascent is not caught where two values are equal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

Add = Callable[..., str]
Store = Callable[[NDArray[Any]], str]

_THROUGH = ("Cast", "Identity")
_MOST_PLACES = 64
_FAR = 1e9
_FIRST = np.array([0])


def index_source(
    name: str, makers: Mapping[str, onnx.NodeProto], constants: Mapping[str, TensorProto], other: str
) -> tuple[onnx.NodeProto, NDArray[np.int64]] | None:
    """The node whose index a value is, and the places that it is compared with; None where it is no such index.

    Args:
        name: One side of a comparison.
        makers: Value -> node that makes it.
        constants: Stored tensors.
        other: The other side.
    """
    node = makers.get(name)
    while node is not None and node.op_type in _THROUGH:
        name = node.input[0]
        node = makers.get(name)
    if node is None or other not in constants or (node.op_type, name) != ("TopK", node.output[-1]):
        return None
    options = {attribute.name: attribute.i for attribute in node.attribute}
    places = numpy_helper.to_array(constants[other]).reshape(-1).astype(np.int64)
    if not options.get("largest", 1) or not 0 < len(places) <= _MOST_PLACES:
        return None
    return node, places


def largest_at(data: str, axis: int, places: NDArray[np.int64], margin: str, add: Add, store: Store) -> str:
    """Add nodes that tell how far each of the places is from where it is to stand; not negative where it stands there.

    Args:
        data: Value whose largest elements are looked for, along `axis`.
        axis: That axis.
        places: Where they are to stand, the largest first.
        margin: Value by which one place must exceed the next.
        add: Adds a node; gives the name of its first output.
        store: Stores a constant; gives its name.

    Returns:
        Value as large as the index along the other axes, and as long as `places` along this.
    """
    count = len(places)
    zero = store(np.array(0, np.float32))
    chosen = add("Gather", data, store(places), axis=axis)
    others = _largest_others(data, axis, places, add, store)
    following = add(
        "Concat",
        add("Gather", data, store(places[1:]), axis=axis),
        add("Gather", others, store(_FIRST), axis=axis),
        axis=axis,
    )
    ahead = add("Sub", add("Sub", chosen, following), margin)
    # Each place is held against another value, so that a step moves as many of them as there are places.
    rivals = add("Gather", others, store(np.arange(count)[::-1].copy()), axis=axis)
    above = add("Sub", add("Sub", chosen, rivals), margin)
    return add("Add", add("Min", ahead, zero), add("Min", above, zero))


def _largest_others(data: str, axis: int, places: NDArray[np.int64], add: Add, store: Store) -> str:
    """The largest values that stand at none of the places, as many as there are places.

    One of the places among them would cancel out where two values are equal. Where there are fewer, far lower values
    fill up.
    """
    count = len(places)
    far = store(np.array(_FAR, np.float32))
    low = add("Sub", add("Gather", data, store(np.zeros(2 * count, np.int64)), axis=axis), far)
    largest = add("TopK", add("Concat", data, low, axis=axis), store(np.array([2 * count])), outputs=2, axis=axis)
    at_place = [add("Equal", f"{largest}/1", store(np.array(place))) for place in places]
    taken = add("Sum", *(add("Cast", equal, to=TensorProto.FLOAT) for equal in at_place))
    rest = add("Sub", largest, add("Mul", taken, far))
    return add("TopK", rest, store(np.array([count])), outputs=2, axis=axis)
