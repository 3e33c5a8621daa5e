"""Units inside a model: how far they move on images, the model with some of them moved, and with some of them held.

A *layer* is a value of the graph that is a function of another one element by element, such as a `Relu` of a
convolution; a *unit* is a channel of it, or one of its elements. Units are moved where the function takes its input, so
that they only take values which it can give.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from backscan.converters.errors import border
from backscan.converters.graph import opset, producers, set_outputs
from backscan.converters.intake.node_names import OWN
from backscan.converters.ort_classifier import OrtClassifier, decided
from backscan.converters.session import open_session, run_session
from backscan.converters.signature.output import score_rows

if TYPE_CHECKING:
    from torch import Tensor

    from backscan.converters.switches.probe import GraphProbe

Images = NDArray[np.float32]

_CHUNK = 16
_MOST_ROWS = 64
_MOST_NUMBERS = 1 << 26
"""Numbers that a call of moved units may compute for all its rows."""
_FINE = 1 << 15
"""Numbers of a layer up to which each is looked at by itself; of larger layers channels are."""
_AXES_AS_INPUT = 18
"""Version of the operators from which on reductions take their axes as an input."""


@dataclass(frozen=True, slots=True)
class Layer:
    """Units side by side."""

    before: str
    """Value that moves them."""
    after: str
    """Value that holds them."""
    node: str
    """Name of the node that computes it."""
    signs: tuple[int, ...]
    """Ways to move: 1 up, -1 down."""
    shape: tuple[int, ...]
    """Shape of both values for one image."""
    image_axis: int
    """Axis of both values along which the images lie."""
    cost: int
    """Numbers that are computed from it for one image."""
    fine: bool
    """Whether every element is looked at, and not just channels."""


@dataclass(frozen=True, slots=True)
class Ranges:
    """What a layer holds on some images: of every element, or of every channel and then in a shape that fits both."""

    before: tuple[NDArray[np.float64], NDArray[np.float64]]
    """Least and largest number of what moves the units."""
    after: tuple[NDArray[np.float64], NDArray[np.float64]]
    """Least and largest number of the units."""


class UnitProbe:
    """A model whose units can be watched, moved and held.

    Args:
        probe: The model.
    """

    def __init__(self, probe: GraphProbe) -> None:
        self._probe = probe
        self._graph = probe.model.graph
        self._signature = probe.signature

    @cached_property
    def cost(self) -> int:
        """Numbers that the whole model computes for an image."""
        return self._numbers(self._probe.flow.depends_on(self._signature.input_name))

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """All layers, from the image on, without what switches of the graph are made of."""
        gates = {switch.gate for switch in self._probe.switches()}
        found = []
        for each in self._probe.flow.activations():
            shared = self._probe.is_shared(each.before) or self._probe.is_shared(each.after)
            if shared or each.after in gates or each.after == self._signature.output_name:
                continue
            (shape, kind), (other, _) = self._probe.form(each.before), self._probe.form(each.after)
            axis = self._probe.image_axis(each.before)
            if kind.kind == "f" and shape and shape == other and axis == self._probe.image_axis(each.after):
                cost = self._numbers(self._probe.flow.depends_on(each.before))
                fine = math.prod(shape) <= _FINE and 4 * cost <= self.cost
                signs = (1,) if each.rises else (1, -1)
                found.append(Layer(each.before, each.after, each.node, signs, shape, axis, cost, fine))
        return tuple(found)

    @border("watching the units of the graph")
    def ranges(self, layers: Sequence[Layer], images: Images) -> list[Ranges]:
        """How far the units of some layers move on images [N, C, H, W] in [0, 1]."""
        model = deepcopy(self._probe.model)
        names = [[_reduced(model, value, layer) for value in (layer.before, layer.after)] for layer in layers]
        set_outputs(model.graph, list(dict.fromkeys(name for pairs in names for pair in pairs for name in pair)))
        session = open_session(model.SerializeToString())
        axes = {name: layer.image_axis for layer, pairs in zip(layers, names, strict=True) for p in pairs for name in p}
        least: dict[str, NDArray[np.float64]] = {}
        for feed in self._feeds(images):
            for name, array in run_session(session, feed).items():
                extreme, found = np.fmin if name.endswith("ReduceMin") else np.fmax, array.squeeze(axes[name])
                least[name] = extreme(least.get(name, found), found).astype(np.float64)
        return [Ranges(*((least[low], least[high]) for low, high in pair)) for pair in names]

    @border("reading a layer")
    def read(self, layer: Layer, images: Images) -> NDArray[Any]:
        """What moves the units of a layer on images, [N, ...]."""
        return self._probe.values([layer.before], images)[layer.before]

    @border("moving a unit")
    def mover(self, layer: Layer) -> Callable[[Images, NDArray[Any]], NDArray[np.int64]]:
        """What decides images [N, C, H, W] with given values [N, ...] before a layer; gives decisions [N]."""
        model = deepcopy(self._probe.model)
        node = producers(model.graph)[layer.before]
        node.output[list(node.output).index(layer.before)] = f"{layer.before}{OWN}computed"
        kind = helper.np_dtype_to_tensor_dtype(self._probe.form(layer.before)[1])
        shape: list[int | None] = [*layer.shape]
        shape.insert(layer.image_axis, self._signature.batch)
        model.graph.input.append(helper.make_tensor_value_info(layer.before, kind, shape))
        session = open_session(model.SerializeToString())
        return lambda images, values: self._decisions(session, images, layer, values)

    @border("making a layer differentiable")
    def twin(self, layer: Layer) -> Callable[[Tensor], Tensor]:
        """What moves the units of a layer as a torch function: images [N, C, H, W] in [0, 1] -> numbers [N, M].

        Raises:
            ConverterError: it cannot be converted.
        """
        classifier = self._probe.relaxed(layer.before, set())
        return lambda images: classifier.logits(images).reshape(len(images), -1)

    @border("holding a unit")
    def held(self, layer: Layer, units: NDArray[np.bool_], values: NDArray[Any]) -> OrtClassifier:
        """The classifier with some units held.

        Args:
            layer: The layer.
            units: Which of its elements, in its shape.
            values: What they hold, in its shape.
        """
        model = deepcopy(self._probe.model)
        graph, dtype = model.graph, self._probe.form(layer.after)[1]
        computed, chosen, constant = (f"{layer.after}{OWN}{part}" for part in ("computed", "units", "held"))
        position, node = next((i, node) for i, node in enumerate(graph.node) if layer.after in node.output)
        node.output[list(node.output).index(layer.after)] = computed
        for name, array in ((chosen, units), (constant, values.astype(dtype))):
            for_all = np.ascontiguousarray(np.expand_dims(array, layer.image_axis))
            graph.initializer.append(numpy_helper.from_array(for_all, name))
        graph.node.insert(position + 1, helper.make_node("Where", [chosen, constant, computed], [layer.after]))
        return OrtClassifier(open_session(model.SerializeToString()), self._signature, self._probe.normalisation)

    def _decisions(self, session: Any, images: Images, layer: Layer, values: NDArray[Any]) -> NDArray[np.int64]:
        size = self._signature.batch or max(1, min(_MOST_ROWS, _MOST_NUMBERS // max(1, layer.cost)))
        parts = []
        for start in range(0, len(images), size):
            rows = np.minimum(np.arange(start, start + (self._signature.batch or size)), len(images) - 1)
            rows = rows if self._signature.batch else np.unique(rows)
            moved = np.ascontiguousarray(np.moveaxis(values[rows], 0, layer.image_axis))
            feed = {layer.before: moved} | self._probe.feed(images[rows])
            needed = {value.name for value in session.get_inputs()}
            outputs = run_session(session, {name: array for name, array in feed.items() if name in needed})
            found = outputs[self._signature.output_name]
            scores = score_rows(found, self._signature.batch_axis, self._signature.num_scores)
            parts.append(scores[: len(images) - start])
        return decided(np.concatenate(parts).astype(np.float64), self._signature.output_kind)

    def _feeds(self, images: Images) -> list[dict[str, NDArray[Any]]]:
        """Inputs of some calls; where the model insists on a number of images the last one is repeated."""
        size = self._signature.batch or _CHUNK
        rows = [np.minimum(np.arange(start, start + size), len(images) - 1) for start in range(0, len(images), size)]
        return [self._probe.feed(images[each]) for each in rows]

    def _numbers(self, names: set[str]) -> int:
        return sum(math.prod(self._probe.form(name)[0]) for name in names if self._probe.has_form(name))


def _reduced(model: onnx.ModelProto, value: str, layer: Layer) -> tuple[str, str]:
    """Add the least and the largest of a value over images, and over the places of a channel; gives their names."""
    places = [axis for axis in range(len(layer.shape)) if axis != channel_axis(layer.shape)]
    behind = [axis + (axis >= layer.image_axis) for axis in places]
    axes = [layer.image_axis] if layer.fine else sorted([layer.image_axis, *behind])
    number = f"{value}{OWN}number"
    names = [f"{number}/{operator}" for operator in ("ReduceMin", "ReduceMax")]
    if any(number in node.output for node in model.graph.node):  # two layers may be moved by one value
        return names[0], names[1]
    nodes = [helper.make_node("Cast", [value], [number], to=TensorProto.FLOAT)]
    given, options = [number], dict[str, Any](axes=axes)
    if opset(model) >= _AXES_AS_INPUT:
        model.graph.initializer.append(numpy_helper.from_array(np.array(axes, np.int64), f"{number}/axes"))
        given, options = [number, f"{number}/axes"], {}
    for operator, name in zip(("ReduceMin", "ReduceMax"), names, strict=True):
        nodes.append(helper.make_node(operator, given, [name], keepdims=1, **options))
    model.graph.node.extend(nodes)
    return names[0], names[1]


def channel_axis(shape: Sequence[int]) -> int:
    """The axis of the units in the shape of a layer for one image: channels of maps, features of tokens."""
    return 0 if len(shape) != 2 else 1
