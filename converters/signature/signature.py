"""What goes into the model and what comes out: read from the graph, then confirmed by running it on noise."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from backscan.converters.errors import ConverterError, EngineError, OutputNameError, SignatureError, border
from backscan.converters.graph import dimensions, free_inputs, needed_nodes, operators, opset, sort_nodes
from backscan.converters.intake.artifact import Artifact, parse
from backscan.converters.intake.tasks import Task, other_task
from backscan.converters.session import Arrays, noise, open_session, run_session
from backscan.converters.signature.additions import with_batch_axis, with_outputs
from backscan.converters.signature.choosers import Choice, candidates, choices, chosen_from
from backscan.converters.signature.columns import asked_column, with_column
from backscan.converters.signature.layout import Layout, image_layout, input_shape
from backscan.converters.signature.other_outputs import embedding_task, embeddings, forms_of_outputs
from backscan.converters.signature.output import (
    OutputForm,
    choose_output,
    images_apart,
    output_forms,
    output_kind,
    score_rows,
)

if TYPE_CHECKING:
    import onnxruntime

HALF = frozenset({onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16})
"""Element types of 16-bit floats."""
_VALUES_AT_ONCE = 1 << 22
"""Values of images that pass together: layers make some twenty times as many of them."""
_MOST_AXES_ALONE = 3
"""Axes that the input of one image has, at most, where there is none for the images."""
_OF_LABELS = frozenset({"logits", "sigmoids"})
"""Kinds of scores that may be of several labels at once."""
_FREE_BATCHES = (2, 3)
"""Images of the calls with noise, where any number will do."""
_QUANTISED = operators(
    "ConvInteger DequantizeLinear DynamicQuantizeLinear MatMulInteger QLinearConv QLinearMatMul QuantizeLinear"
)


@dataclass(frozen=True, slots=True)
class Normalisation:
    """How a pixel in [0, 1] becomes what the model was trained on: `(low + (high - low) * pixel - mean) / std`."""

    low: float = 0.0
    """Model value of a black pixel, before mean and std."""
    high: float = 1.0
    """Model value of a white pixel, before mean and std."""
    mean: tuple[float, ...] = (0.0,)
    """Mean per channel in the model's channel order, or one for all, in units of [low, high]."""
    std: tuple[float, ...] = (1.0,)
    """Standard deviation per channel in the model's channel order, or one for all, positive."""
    channel_order: str = "rgb"
    """Order of the channels: "rgb", or "bgr" for models that want them reversed."""
    pixel_order: str = "chw"
    """How colour images lie in a row of numbers: "chw", channel after channel, or "hwc", pixel after pixel."""
    standardise: bool = False
    """Whether each image is then brought to mean 0 and standard deviation 1 over all its numbers."""

    def __post_init__(self) -> None:
        if self.channel_order not in {"rgb", "bgr"}:
            raise ValueError(f"expected channel order 'rgb' or 'bgr', found {self.channel_order!r}")
        if self.pixel_order not in {"chw", "hwc"}:
            raise ValueError(f"expected pixel order 'chw' or 'hwc', found {self.pixel_order!r}")
        if not self.high > self.low:
            raise ValueError(f"expected high above low, found low {self.low} and high {self.high}")
        if not all(deviation > 0 for deviation in self.std):
            raise ValueError(f"expected positive standard deviations, found {self.std}")

    def affine(self, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Factor and offset per channel: model value = factor * pixel + offset, channels in RGB order.

        Images that are standardised are so after that.

        Args:
            channels: Number of channels of the model.

        Returns:
            Two tuples of length `channels`.

        Raises:
            ValueError: `mean` or `std` has neither one entry nor one for each channel.
        """
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in {1, channels}:
                wanted = f"1 or {channels} values" if channels > 1 else "1 value"
                raise ValueError(f"expected {wanted} of {name}, found {len(values)}")
        mean, std = (np.broadcast_to(np.asarray(values, float), channels) for values in (self.mean, self.std))
        if self.channel_order == "bgr":
            mean, std = mean[::-1], std[::-1]
        return tuple(((self.high - self.low) / std).tolist()), tuple(((self.low - mean) / std).tolist())


@dataclass(frozen=True, slots=True)
class ModelSignature:
    """Inputs and outputs of an image classifier."""

    input_name: str
    """Name of the image input."""
    input_shape: tuple[int, int, int]
    """Channels, height and width (C, H, W), whatever the layout."""
    layout: str
    """Order of the input's axes: "NCHW", "NHWC", "NHW" (no channel axis) or "NC" (flat pixels; "NC1" and
    the like with an axis of one beside them)."""
    dtype: str
    """numpy name of the input's type, such as "float32"."""
    batch: int | None
    """Images that a call takes, None if any number."""
    output_name: str
    """Name of the output that classifies."""
    output_kind: str
    """Its scores: "logits", "probabilities", "log_probabilities" or "sigmoids" (one per class, each in [0, 1])."""
    num_classes: int
    """Number of classes K; a single score counts as two classes."""
    num_scores: int
    """Numbers that the output gives for an image: K, or 1 for a binary classifier."""
    batch_axis: int
    """Axis of the output that counts images."""
    opset: int
    """Version of ONNX's own operators."""
    producer: str
    """Exporter as the file names it."""
    other_outputs: tuple[str, ...]
    """Names of the remaining outputs."""
    precision: str
    """Arithmetic inside: "float", "half" (16-bit floats) or "quantised"."""
    through_copy: bool = False
    """Whether the file is called through what `readable` makes of it."""
    notes: tuple[str, ...] = ()
    """What the user should know about the reading, one sentence each."""

    def model_shape(self, batch: int) -> tuple[int, ...]:
        """Shape of the model's own input for a number of images."""
        return input_shape(self.layout, self.input_shape, batch)

    def images_at_once(self, most: int) -> int:
        """Images that pass together: so many of small ones, of photographs what their layers leave memory for."""
        return max(1, min(most, _VALUES_AT_ONCE // math.prod(self.input_shape)))


def pixel_normalisation(signature: ModelSignature) -> Normalisation:
    """The plainest normalisation: pixels as they are, or over the whole range of an integer input."""
    dtype = np.dtype(signature.dtype)
    if np.issubdtype(dtype, np.floating):
        return Normalisation()
    return Normalisation(low=-128.0, high=127.0) if dtype == np.int8 else Normalisation(high=255.0)


@border("finding out what the model takes and gives")
def read_signature(
    artifact: Artifact,
    *,
    output_name: str | None = None,
    image_size: tuple[int, int] | None = None,
    clean_shape: tuple[int, int, int] | None = None,
) -> ModelSignature:
    """Find out what a model takes and gives.

    Args:
        artifact: The model, external data included.
        output_name: The output that classifies, where there is a choice.
        image_size: Height and width, for models that take any.
        clean_shape: Channels, height and width of the clean images, for models that take them as a row of numbers.

    Returns:
        The signature; batch size, output and its kind as onnxruntime shows them on noise.

    Raises:
        ArtifactError: the model cannot be parsed.
        SignatureError: it is no image classifier, or output or image size must be named.
        EngineError: onnxruntime cannot open or run it.
    """
    wanted = _Wanted(output_name, image_size, clean_shape)
    column = asked_column(artifact, output_name)
    if column is not None:
        return _read_column(artifact, wanted, *column)
    try:
        return _read(artifact, wanted)
    except OutputNameError:
        raise
    except SignatureError as error:
        batched = with_batch_axis(artifact)
        signature = None if batched is None else _read_alone(batched, wanted)
        if signature is None:
            raise _with_task(error, other_task(parse(artifact, fold_external=False).graph)) from error
        return signature


def _read_column(artifact: Artifact, wanted: _Wanted, output: str, column: int) -> ModelSignature:
    """The signature of one label of a model of several.

    Raises:
        OutputNameError: the output has no such column, or is one choice among its classes.
    """
    whole = read_signature(artifact, output_name=output, image_size=wanted.image_size, clean_shape=wanted.clean_shape)
    if column >= whole.num_scores or whole.num_scores < 2 or whole.output_kind not in _OF_LABELS or whole.through_copy:
        raise OutputNameError(
            f"'{wanted.output_name}' asks for one label of '{output}', which gives {whole.num_scores} "
            f"{whole.output_kind}: pass --output-name with '{output}' itself, or with a column, from 0, of scores of "
            "several labels"
        )
    signature = _read(with_column(artifact, str(wanted.output_name)), wanted)
    note = f"column {column} of output '{output}' is read as two classes: the label does not hold (0), or does (1)"
    return replace(signature, through_copy=True, notes=(note, *signature.notes))


def _with_task(error: SignatureError, task: Task | None) -> SignatureError:
    """The error, with what the model may be instead of a classifier of images."""
    return error if task is None or str(task) in str(error) else SignatureError(f"{error}; this looks like {task}")


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What is known from outside the file."""

    output_name: str | None
    """The output that classifies, where the user names it."""
    image_size: tuple[int, int] | None
    """Height and width, where the user gives them."""
    clean_shape: tuple[int, int, int] | None
    """Channels, height and width of the clean images."""


def _read_alone(batched: Artifact, wanted: _Wanted) -> ModelSignature | None:
    """The signature of a model of one image that got a batch axis; None if that makes no classifier of it."""
    try:
        signature = _read(batched, wanted)
    except OutputNameError:
        raise
    except ConverterError:
        return None
    note = f"the input '{signature.input_name}' has no batch axis: the model is called with one image at a time"
    return replace(signature, through_copy=True, notes=(note, *signature.notes))


@dataclass(frozen=True, slots=True)
class Outputs:
    """What the outputs of a file hold, as onnxruntime shows it on noise."""

    model: onnx.ModelProto
    """The file, its nodes in order."""
    value: onnx.ValueInfoProto
    """Its image input."""
    layout: Layout
    """How images lie in that."""
    batch: int | None
    """Images that a call takes, None if any number."""
    runs: tuple[Arrays, ...]
    """What came out."""
    chosen: Mapping[str, Choice]
    """Outputs that hold what was chosen among scores."""
    forms: Mapping[str, OutputForm]
    """Outputs, and values chosen from, that give one vector of scores for an image."""

    @property
    def declared(self) -> list[str]:
        """Names of the outputs."""
        return [output.name for output in self.model.graph.output]


def read_outputs(
    artifact: Artifact, image_size: tuple[int, int] | None, clean_shape: tuple[int, int, int] | None
) -> Outputs:
    """Run a file on noise; arguments and errors as for `read_signature`."""
    model = parse(artifact, fold_external=False)
    session = open_session(artifact.data, artifact.external)  # first, because it checks every node against its schema
    sort_nodes(model.graph)
    value = _image_input(model.graph)
    layout = image_layout(model.graph, value, image_size, clean_shape)
    found = choices(model.graph, value.name, through_joins=True)
    if found:
        sources = [choice.source for behind in found.values() for choice in behind]
        session = open_session(with_outputs(artifact, sources).data, artifact.external)
    batch, runs = _run_on_noise(session, value, layout, _numpy_dtype(value))
    forms = output_forms(runs, batch)
    if batch != 1 and len(dimensions(value) or ()) <= _MOST_AXES_ALONE:
        forms = images_apart(forms, runs)
    return Outputs(model, value, layout, batch, tuple(runs), chosen_from(found, forms), forms)


def _read(artifact: Artifact, wanted: _Wanted) -> ModelSignature:
    read = read_outputs(artifact, wanted.image_size, wanted.clean_shape)
    model, declared, chosen, forms = read.model, read.declared, read.chosen, read.forms
    if wanted.output_name is not None and wanted.output_name in chosen:
        raise _chosen_error(wanted.output_name, chosen[wanted.output_name])
    name = _classifying(read, candidates(forms, declared, chosen, wanted.output_name), wanted.output_name)
    form = forms[name]
    hidden = name not in declared
    return ModelSignature(
        input_name=read.value.name,
        input_shape=read.layout.image_shape,
        layout=read.layout.order,
        dtype=_numpy_dtype(read.value).name,
        batch=read.batch,
        output_name=name,
        output_kind=output_kind(model.graph, name, score_rows(read.runs[-1][name], form.batch_axis, form.num_scores)),
        num_classes=max(2, form.num_scores),
        num_scores=form.num_scores,
        batch_axis=form.batch_axis,
        opset=opset(model),
        producer=" ".join(part for part in (model.producer_name, model.producer_version) if part),
        other_outputs=tuple(other for other in declared if other != name),
        precision=_precision(model, name),
        through_copy=hidden,
        notes=(_hidden_note(name, chosen),) if hidden else (),
    )


def _classifying(read: Outputs, fitting: Mapping[str, OutputForm], wanted: str | None) -> str:
    """The output that classifies; embeddings do not.

    Raises:
        SignatureError: none does, several do, or the one asked for does not.
    """
    graph = read.model.graph
    no_scores = embeddings(graph, fitting, read.runs)
    if no_scores and (wanted in no_scores or no_scores == set(fitting)):
        raise SignatureError(f"expected scores of classes, found {embedding_task(sorted(no_scores))}")
    scores = {name: form for name, form in fitting.items() if name not in no_scores}
    try:
        return choose_output(graph, scores, read.declared, wanted)
    except OutputNameError:
        raise
    except SignatureError as error:
        if scores:
            raise
        shapes = {name: tuple(value.shape) for name, value in read.runs[-1].items() if name in read.declared}
        batch = read.batch or _FREE_BATCHES[-1]
        raise _with_task(error, forms_of_outputs(shapes, read.layout.image_shape, batch)) from error


def _chosen_error(name: str, choice: Choice) -> OutputNameError:
    return OutputNameError(
        f"'{name}' gives what {choice.operator} chose among the scores '{choice.source}', which are no scores of one "
        f"class each: leave --output-name out, or pass '{choice.source}'"
    )


def _hidden_note(name: str, chosen: Mapping[str, Choice]) -> str:
    """What is said where the class scores are no output of the model."""
    made = [f"'{output}' by {choice.operator}" for output, choice in chosen.items() if choice.source == name]
    return f"no output gives the class scores, so '{name}' inside the model is taken, from which come {', '.join(made)}"


def _image_input(graph: onnx.GraphProto) -> onnx.ValueInfoProto:
    inputs = free_inputs(graph)
    if len(inputs) == 1:
        return inputs[0]
    images = [value for value in inputs if len(dimensions(value) or ()) == 4]
    raise SignatureError(
        f"expected one input without a default, found {len(inputs)} "
        f"({', '.join(value.name for value in inputs) or 'none'}; {len(images)} look like images): "
        "export the model with the image as its only input and the others as constants"
    )


def _numpy_dtype(value: onnx.ValueInfoProto) -> np.dtype[Any]:
    code = value.type.tensor_type.elem_type
    try:
        dtype = np.dtype(helper.tensor_dtype_to_np_dtype(code))
    except KeyError:
        dtype = np.dtype(object)
    if dtype.name not in {"float16", "float32", "float64", "uint8", "int8", "int32", "int64"}:
        name = onnx.TensorProto.DataType.Name(code)
        raise SignatureError(f"expected an input of numbers, found '{value.name}' of type {name}: export it as float")
    return dtype


def _run_on_noise(
    session: onnxruntime.InferenceSession, value: onnx.ValueInfoProto, layout: Layout, dtype: np.dtype[Any]
) -> tuple[int | None, list[Arrays]]:
    """Batch size and outputs on noise, twice so that the batch axis shows.

    A free batch is run at 2 and at 3; a fixed one again with another first image.
    """
    declared = (dimensions(value) or (None,))[0]

    def images(batch: int) -> NDArray[Any]:
        return noise(input_shape(layout.order, layout.image_shape, batch), dtype, seed=batch)

    def run(images: NDArray[Any]) -> Arrays:
        return run_session(session, {value.name: images})

    if declared is None:
        try:
            return None, [run(images(batch)) for batch in _FREE_BATCHES]
        except EngineError:  # the file says that any batch will do, and a constant inside says otherwise
            declared = 1
    fixed = images(declared)
    runs = [run(fixed)]
    if declared > 1:
        fixed[0] = fixed[0, ..., ::-1]
        runs.append(run(fixed))
    return declared, runs


def _precision(model: onnx.ModelProto, output: str) -> str:
    nodes = needed_nodes(model.graph, {output})
    contributed = {node.op_type for node in nodes if node.domain == "com.microsoft"}
    if _QUANTISED & {node.op_type for node in nodes} or any("QLinear" in operator for operator in contributed):
        return "quantised"
    return "half" if any(tensor.data_type in HALF for tensor in model.graph.initializer) else "float"
