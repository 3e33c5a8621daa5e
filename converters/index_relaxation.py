"""When the largest values of a tensor stand at given places: the condition behind the comparison of an index.

`Equal(TopK(x).indices, places)` has no gradient in any step of it. It holds where x at each place is the first,
second, ... largest value: where it exceeds x at the next place, and at all that are no place. These differences have
gradients, and they are concave, so that an ascent is not caught where two values are equal.
"""

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
_FAR_BELOW = 1e9


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
    chosen = add("Gather", data, store(places), axis=axis)
    others = _largest_other(data, axis, places, add, store)
    following = add("Concat", add("Gather", data, store(places[1:]), axis=axis), others, axis=axis)
    ahead = add("Sub", add("Sub", chosen, following), margin)
    return add("Min", add("Sub", add("Sub", chosen, others), margin), ahead)


def _largest_other(data: str, axis: int, places: NDArray[np.int64], add: Add, store: Store) -> str:
    """The largest value that stands at none of the places; one of them would cancel out where two values are equal."""
    largest = add("TopK", data, store(np.array([len(places) + 1])), outputs=2, axis=axis)
    at_place = (add("Equal", f"{largest}/1", store(np.array(place))) for place in places)
    taken = add("Sum", *[add("Cast", equal, to=TensorProto.FLOAT) for equal in at_place])
    rest = add("Sub", largest, add("Mul", taken, store(np.array(_FAR_BELOW, np.float32))))
    return add("TopK", rest, store(np.array([1])), outputs=2, axis=axis)
