"""Look inside a model while it runs in onnxruntime, and run it with some of its values held at a constant."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from copy import deepcopy
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from backscan.converters.errors import border
from backscan.converters.graph import reached_values, set_outputs
from backscan.converters.intake.artifact import Artifact, parse
from backscan.converters.intake.node_names import OWN
from backscan.converters.ort_classifier import OrtClassifier, model_input
from backscan.converters.rewrites import normalise
from backscan.converters.session import open_session, run_session
from backscan.converters.signature.signature import ModelSignature, Normalisation
from backscan.converters.switches.flow import ImageFlow, Switch
from backscan.converters.switches.relaxation import relax

if TYPE_CHECKING:
    from backscan.converters.torch_import.classifier import TorchClassifier

Images = NDArray[np.float32]
_CHUNK = 16
_FEW_IMAGES = 2
_NARROW = 64
_QUANTISED = ("Quantize", "QLinear", "Integer", "QAttention", "QGemm")
"""Parts of the names of the operators of quantised networks."""


class GraphProbe:
    """A model in plain form, whose values can be read and held.

    Args:
        artifact: The model, external data included.
        signature: Its signature.
        normalisation: How pixels become model input.
    """

    @border("reading the graph")
    def __init__(self, artifact: Artifact, signature: ModelSignature, normalisation: Normalisation) -> None:
        self._signature = signature
        self._normalisation = normalisation
        self._model = normalise(parse(artifact), signature)
        self._reached = reached_values(self._model.graph, [signature.input_name])
        self._sessions: dict[tuple[str, ...], Any] = {}
        self._image_axes: dict[str, int] = {}
        self._whole: set[str] = set()
        self._forms: dict[str, tuple[tuple[int, ...], np.dtype[Any]]] = {}
        narrow = max(_NARROW, 2 * signature.num_classes)
        self.flow = ImageFlow(self._model.graph, signature.input_name, self._sizes(), narrow)

    @property
    def model(self) -> onnx.ModelProto:
        """The model in plain form; not to be changed."""
        return self._model

    @property
    def signature(self) -> ModelSignature:
        """Its signature."""
        return self._signature

    @property
    def normalisation(self) -> Normalisation:
        """How pixels become model input."""
        return self._normalisation

    def has_form(self, name: str) -> bool:
        """Whether a value depends on the image, and holds something for each image of a call."""
        return name in self._forms and not self.is_shared(name)

    def form(self, name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
        """Shape for one image, and type, of a value of which `has_form` is true."""
        shape, dtype = self._forms[name]
        axis = self.image_axis(name)
        return shape[:axis] + shape[axis + 1 :], dtype

    def image_axis(self, name: str) -> int:
        """Axis of a value of which `has_form` is true along which the images lie."""
        return self._image_axes[name]

    def switches(self) -> tuple[Switch, ...]:
        """Places where a few values computed from the image decide what reaches the output."""
        return self.flow.switches(self._signature.output_name)

    def small_values(self) -> tuple[str, ...]:
        """Names of the discrete or narrow values, in the order of the graph."""
        names = (name for node in self._model.graph.node for name in node.output)
        return tuple(name for name in names if self.flow.is_discrete(name) or self.flow.is_narrow(name))

    def read_for(self, names: Set[str]) -> tuple[str, ...]:
        """Names of the values of the image's flow that the nodes of some values read, the image itself left out."""
        nodes = (node for node in self._model.graph.node if not names.isdisjoint(node.output))
        made = {name for node in self._model.graph.node for name in node.output} & self._reached
        return tuple(dict.fromkeys(name for node in nodes for name in node.input if name in made))

    def is_shared(self, name: str) -> bool:
        """Whether a value is one for all images of a call."""
        return name not in self._image_axes

    def values(self, names: Sequence[str], images: Images) -> dict[str, NDArray[Any]]:
        """What named values hold for each image.

        Args:
            names: Values of the plain graph that depend on the image.
            images: [N, C, H, W], RGB pixels in [0, 1].

        Returns:
            Value -> [N, ...]; values of a size that depends on the images, or of no numbers, are left out.
        """
        session = self._session(tuple(names))
        size = self._signature.batch or _CHUNK
        runs = [self._run(session, images[start : start + size], size) for start in range(0, len(images), size)]
        found = {}
        for name in names:
            parts = [run[name] for run in runs]
            if parts[0].dtype.kind in "biuf" and len({part.shape[1:] for part in parts}) == 1:
                found[name] = np.concatenate(parts)
        return found

    def _run(self, session: Any, images: Images, size: int) -> dict[str, NDArray[Any]]:
        """One call; where the model insists on a number of images the last one is repeated."""
        missing = max(0, size - len(images)) if self._signature.batch else 0
        full = np.concatenate([images, np.repeat(images[-1:], missing, axis=0)])
        outputs = run_session(session, self.feed(full))
        axes = self._image_axes
        return {n: _per_image(array, len(full), axes.get(n))[: len(images)] for n, array in outputs.items()}

    def held(self, constants: Mapping[str, NDArray[Any]]) -> OrtClassifier:
        """The classifier with some values held.

        Args:
            constants: Value -> what it holds for every image, without the axis of images.
        """
        model = deepcopy(self._model)
        for name, value in self._for_all(constants).items():
            model.graph.initializer.append(numpy_helper.from_array(value, _hold(model.graph, name)))
        return OrtClassifier(open_session(model.SerializeToString()), self._signature, self._normalisation)

    def holder(self, example: Mapping[str, NDArray[Any]]) -> Callable[[Mapping[str, NDArray[Any]]], OrtClassifier]:
        """What holds the same values as `held` does at one place after another, with one session.

        Args:
            example: Value -> what it holds for every image, without the axis of images; others must be alike.
        """
        model = deepcopy(self._model)
        inputs = {name: _hold(model.graph, name) for name in example}
        for name, value in self._for_all(example).items():
            kind = helper.np_dtype_to_tensor_dtype(value.dtype)
            model.graph.input.append(helper.make_tensor_value_info(inputs[name], kind, value.shape))
        session = open_session(model.SerializeToString())

        def held(constants: Mapping[str, NDArray[Any]]) -> OrtClassifier:
            extra = {inputs[name]: value for name, value in self._for_all(constants).items()}
            return OrtClassifier(session, self._signature, self._normalisation, extra_inputs=extra)

        return held

    def _for_all(self, constants: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Constants with the axis of images, where their values have one."""
        axes = self._image_axes
        found = {k: np.expand_dims(value, axes[k]) if k in axes else value for k, value in constants.items()}
        return {name: np.ascontiguousarray(value) for name, value in found.items()}

    @border("making a gate differentiable")
    def relaxed(self, gate: str, still: Set[str]) -> TorchClassifier:
        """A gate as a torch function that has a gradient where the gate itself has steps.

        Args:
            gate: The gate of a switch.
            still: Narrow values that stand still on ordinary images, so that no gradient passes them.

        Returns:
            A classifier whose `logits` of images [N, C, H, W] are numbers that rise where the gate rises.

        Raises:
            ConverterError: it cannot be converted.
        """
        from backscan.converters.torch_import.classifier import TorchClassifier
        from backscan.converters.torch_import.importer import import_network

        rewritten = {name for name in self._reached if self.flow.is_discrete(name)} | self._whole | still
        model = relax(self._model, gate, rewritten, self._reached)
        signature = replace(
            self._signature,
            output_name=model.graph.output[0].name,
            num_scores=1,
            batch_axis=self._image_axes.get(gate, 0),
            precision="float",
        )
        network = import_network(model, signature).network
        return TorchClassifier(network, signature, self._normalisation, head="logits").requires_grad_(False).eval()

    def feed(self, images: Images) -> dict[str, NDArray[Any]]:
        """The input of a call on images [N, C, H, W], RGB pixels in [0, 1]."""
        return {self._signature.input_name: model_input(images, self._signature, self._normalisation)}

    def _session(self, names: tuple[str, ...]) -> Any:
        if names not in self._sessions:
            model = deepcopy(self._model)
            set_outputs(model.graph, names)
            self._sessions[names] = open_session(model.SerializeToString(), optimise=False)
        return self._sessions[names]

    def _sizes(self) -> dict[str, int]:
        """Numbers that each value holds for an image, as black images show; also where the images lie in it."""
        batch = self._signature.batch or _FEW_IMAGES
        names = tuple(name for node in self._model.graph.node for name in node.output if name in self._reached)
        outputs = self._on_black(names, batch)
        more = outputs if self._signature.batch else self._on_black(names, batch + 1)
        self._forms = {name: (array.shape, array.dtype) for name, array in outputs.items()}
        sizes = {name: -(-array.size // batch) for name, array in outputs.items()}
        axes = {name: _image_axis(array.shape, more[name].shape, batch) for name, array in outputs.items()}
        self._image_axes = {name: axis for name, axis in axes.items() if axis is not None}
        self._whole = _whole_numbers(self._model.graph, {n for n, a in outputs.items() if a.dtype.kind in "biu"})
        return sizes | {self._signature.input_name: int(np.prod(self._signature.input_shape))}

    def _on_black(self, names: tuple[str, ...], batch: int) -> dict[str, NDArray[Any]]:
        feed = self.feed(np.zeros((batch, *self._signature.input_shape), np.float32))
        return {name: np.asarray(array) for name, array in run_session(self._session(names), feed).items()}


def _image_axis(shape: tuple[int, ...], other: tuple[int, ...], batch: int) -> int | None:
    """Axis of a value along which the images lie, in recurrent networks not always the first; None if none is.

    Args:
        shape: Shape for `batch` images.
        other: Shape for one more, or the same where the model fixes their number.
        batch: A number of images.
    """
    if shape == other:  # as many images, or a value that is one for all of them
        return 0 if shape[:1] == (batch,) else None
    grown = [axis for axis, (size, more) in enumerate(zip(shape, other, strict=False)) if size != more]
    alike = len(shape) == len(other) and [(shape[axis], other[axis]) for axis in grown] == [(batch, batch + 1)]
    return grown[0] if alike else None


def _per_image(array: NDArray[Any], batch: int, axis: int | None) -> NDArray[Any]:
    """An array with the images first; what is one for all images is repeated."""
    array = np.asarray(array)
    if axis is not None and array.ndim > axis and array.shape[axis] == batch:
        return np.moveaxis(array, axis, 0)
    return np.repeat(array[None], batch, axis=0)


def _whole_numbers(graph: onnx.GraphProto, names: Set[str]) -> set[str]:
    """Those of some values of whole numbers that plain operators make of the image.

    No gradient passes them in torch, which computes them in their own types. Those of a quantised network stay as they
    are: its own operators have surrogates, and would not take anything else.
    """
    found, quantised = set[str](), set[str]()
    for node in graph.node:
        made = names & set(node.output)
        if any(part in node.op_type for part in _QUANTISED) or not quantised.isdisjoint(node.input):
            quantised |= made
        else:
            found |= made
    return found


def _hold(graph: onnx.GraphProto, name: str) -> str:
    """Let every reader of a value read a constant, repeated to the value's own shape; gives the constant's name."""
    computed, shape, constant = (f"{name}{OWN}{part}" for part in ("computed", "shape", "held"))
    position, node = next((i, node) for i, node in enumerate(graph.node) if name in node.output)
    node.output[list(node.output).index(name)] = computed
    graph.node.insert(position + 1, helper.make_node("Shape", [computed], [shape], name=shape))
    graph.node.insert(position + 2, helper.make_node("Expand", [constant, shape], [name], name=constant))
    return constant
