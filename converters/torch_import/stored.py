"""Numbers stored in a file: which tensors hold weights, and the same file with other numbers in some of them.

Writing touches the numbers of the named tensors and nothing else: type, shape, names, nodes, metadata and the place of
external data stay. A tensor of 8-bit numbers that a DequantizeLinear makes floats of is known by the name of those
floats, and written through their scale.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import ml_dtypes
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from backscan.converters.errors import ArtifactError, ConverterError
from backscan.converters.graph import attributes, constant_tensor, consumers, set_nodes
from backscan.converters.intake.artifact import Artifact, digest, entries, external_tensors, parse

_FLOATS: Mapping[int, Any] = MappingProxyType(
    {TensorProto.FLOAT: np.float32, TensorProto.FLOAT16: np.float16, TensorProto.BFLOAT16: ml_dtypes.bfloat16}
)
_WHOLE: Mapping[int, Any] = MappingProxyType(
    {
        TensorProto.INT8: np.int8,
        TensorProto.UINT8: np.uint8,
        TensorProto.INT16: np.int16,
        TensorProto.UINT16: np.uint16,
        TensorProto.INT32: np.int32,
    }
)
"""Types of quantised weights that are written back."""


@dataclass(frozen=True, slots=True)
class Quantised:
    """Floats that a DequantizeLinear makes of a stored tensor."""

    stored: str
    """Name of the stored tensor."""
    scale: NDArray[np.float32]
    """Scale, in a shape that broadcasts to the tensor."""
    zero: NDArray[np.int64]
    """Zero point, in the same shape."""

    def floats(self, numbers: NDArray[Any]) -> NDArray[np.float32]:
        """What the node makes of stored numbers."""
        centred = (numbers.astype(np.int64) - self.zero).astype(np.float32)
        return centred * self.scale

    def numbers(self, floats: NDArray[np.float32], kind: Any) -> NDArray[Any]:
        """The stored numbers that come nearest to some floats."""
        limits = np.iinfo(kind)
        nearest = np.rint(floats.astype(np.float64) / self.scale) + self.zero
        return np.clip(nearest, limits.min, limits.max).astype(kind)


@dataclass(frozen=True, slots=True)
class Written:
    """A file with other numbers in some of its tensors."""

    artifact: Artifact
    """The file."""
    tensors: tuple[str, ...]
    """Names of the stored tensors that changed, sorted."""


def stored_names(artifact: Artifact) -> frozenset[str]:
    """Names under which weights of a file can be written: initialisers, constants, and floats of quantised ones."""
    graph = parse(artifact).graph
    known = _tensors(graph)
    plain = {name for name, tensor in known.items() if tensor.data_type in _FLOATS}
    return frozenset(plain | _quantised(graph, known).keys())


def dequantised(graph: onnx.GraphProto) -> None:
    """Put floats in the place of stored quantised tensors and their DequantizeLinear, in a graph without Constants."""
    known = _tensors(graph)
    found = _quantised(graph, known)
    for name, quantised in found.items():
        floats = quantised.floats(numpy_helper.to_array(known[quantised.stored]))
        graph.initializer.append(numpy_helper.from_array(floats, name))
    if found:
        set_nodes(graph, [node for node in graph.node if not (node.output and node.output[0] in found)])


def write_weights(artifact: Artifact, weights: Mapping[str, NDArray[np.float32]]) -> Written:
    """The same file with other numbers in some of its tensors.

    Args:
        artifact: The file with its external data.
        weights: New numbers by name, as `stored_names` has them, in the shape that the file has.

    Returns:
        The file, and which tensors changed once the numbers are of the stored type.

    Raises:
        ConverterError: a name or shape that the file does not have.
    """
    model = onnx.load_model_from_string(artifact.data)
    known, whole = _tensors(model.graph), parse(artifact).graph
    folded = _tensors(whole)
    quantised = _quantised(whole, folded)
    external = {location: bytearray(data) for location, data in artifact.external.items()}
    changed = set()
    for name, floats in weights.items():
        target = quantised[name].stored if name in quantised else name
        if target not in known or tuple(folded[target].dims) != floats.shape:
            raise ConverterError(f"expected a stored tensor {target[:80]!a} of shape {list(floats.shape)}, found none")
        old = numpy_helper.to_array(folded[target])
        kind = (_WHOLE if name in quantised else _FLOATS)[folded[target].data_type]
        new = quantised[name].numbers(floats, kind) if name in quantised else floats.astype(kind)
        if new.tobytes() != np.asarray(old).astype(kind).tobytes():
            _write(known[target], new, external)
            changed.add(target)
    for node in model.graph.node:
        _keep_floats(node, known)
    data = model.SerializeToString()
    bytes_beside = {location: bytes(content) for location, content in external.items()}
    own = digest(data, bytes_beside)
    return Written(
        replace(artifact, data=data, external=MappingProxyType(bytes_beside), sha256=own), tuple(sorted(changed))
    )


def with_locations(artifact: Artifact, name: str) -> Artifact:
    """The same file with its external data under names of its own: `name`, then `name.1` and so on."""
    model = onnx.load_model_from_string(artifact.data)
    renamed = {old: f"{name}.{index}" if index else name for index, old in enumerate(sorted(artifact.external))}
    for tensor in external_tensors(model):
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = renamed[entry.value]
    external = {renamed[old]: data for old, data in artifact.external.items()}
    data = model.SerializeToString()
    return replace(artifact, data=data, external=MappingProxyType(external), sha256=digest(data, external))


def differences(before: Artifact, after: Artifact, *, but: Collection[str] = ()) -> tuple[tuple[str, ...], bool]:
    """Names of the stored tensors in which two files differ, sorted, and whether anything else differs.

    Args:
        before: A file.
        after: Another.
        but: Names of nodes, as `parse` gives them, in which they may differ: such nodes may come, go or change, and
            with them constants that nothing else reads. One that came stands between a value and who reads that:
            without it, its first input has the name of its output.
    """
    first = parse(before)
    models = [first, parse(_without_added(after, frozenset(but) - {node.name for node in first.graph.node}))]
    tensors = [_tensors(model.graph) for model in models]
    names = {
        name
        for name in tensors[0].keys() & tensors[1].keys()
        if tensors[0][name].dims != tensors[1][name].dims
        or numpy_helper.to_array(tensors[0][name]).tobytes() != numpy_helper.to_array(tensors[1][name]).tobytes()
    }
    for model, known in zip(models, tensors, strict=True):
        for name in known:
            for part in ("raw_data", "float_data", "int32_data"):
                known[name].ClearField(part)
        for node in model.graph.node:
            if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value_floats":
                del node.attribute[0].floats[:]
        for nodes in [node for node in model.graph.node if node.name in but]:
            model.graph.node.remove(nodes)
    if but:
        _drop_unread(models[1].graph, besides=tensors[0])
    return tuple(sorted(names)), models[0] != models[1]


def _without_added(artifact: Artifact, added: Container[str]) -> Artifact:
    """The file without some nodes, before any without a name is named by its place."""
    model = onnx.load_model_from_string(artifact.data)
    makers = {name: (node, index) for node in model.graph.node for index, name in enumerate(node.output)}
    for node in model.graph.node:
        if node.name in added and node.input and node.output and node.input[0] in makers:
            maker, index = makers[node.input[0]]
            maker.output[index] = node.output[0]
            makers[node.output[0]] = maker, index  # for the next one behind it
    set_nodes(model.graph, [node for node in model.graph.node if node.name not in added])
    return replace(artifact, data=model.SerializeToString())


def _drop_unread(graph: onnx.GraphProto, *, besides: Container[str]) -> None:
    """Take initialisers out that no node reads and no output is, but for those of some names."""
    read = {*consumers(graph), *(value.name for value in graph.output)}
    kept = [tensor for tensor in graph.initializer if tensor.name in besides or tensor.name in read]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def _tensors(graph: onnx.GraphProto) -> dict[str, TensorProto]:
    """Initialisers and what Constant nodes hold, by the name of the value."""
    found = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.output:
            tensor = constant_tensor(node)
            if tensor is not None:
                held = next((attribute.t for attribute in node.attribute if attribute.HasField("t")), tensor)
                found[node.output[0]] = held
    return found


def _keep_floats(node: onnx.NodeProto, known: Mapping[str, TensorProto]) -> None:
    """Write back what stands in a Constant as a bare list of floats, of which `_tensors` has a copy."""
    if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value_floats":
        node.attribute[0].floats[:] = numpy_helper.to_array(known[node.output[0]]).tolist()


def _quantised(graph: onnx.GraphProto, known: Mapping[str, TensorProto]) -> dict[str, Quantised]:
    """Floats made of stored whole numbers by one DequantizeLinear each, by name."""
    readers: dict[str, int] = {}
    for node in graph.node:
        for name in node.input:
            readers[name] = readers.get(name, 0) + 1
    outputs = {value.name for value in graph.output}
    found = {}
    for node in graph.node:
        if node.op_type != "DequantizeLinear" or node.input[0] not in known or node.output[0] in outputs:
            continue
        tensor, rest = known[node.input[0]], list(node.input[1:])
        alone = readers[node.input[0]] == 1 and node.input[0] not in outputs
        if tensor.data_type in _WHOLE and alone and all(name in known for name in rest if name):
            quantised = _scales(node, tensor, known)
            if quantised is not None:
                found[node.output[0]] = quantised
    return found


def _scales(node: onnx.NodeProto, tensor: TensorProto, known: Mapping[str, TensorProto]) -> Quantised | None:
    """Scale and zero point of a DequantizeLinear, broadcast; None where they go by blocks or are no 32-bit floats."""
    settings = attributes(node)
    scale = numpy_helper.to_array(known[node.input[1]])
    rank, axis = len(tensor.dims), settings.get("axis", 1)
    axis += rank if axis < 0 else 0
    if settings.get("block_size", 0) or scale.dtype != np.float32 or settings.get("output_dtype", 0) or scale.ndim > 1:
        return None
    if scale.size > 1 and (axis >= rank or scale.size != tensor.dims[axis]):
        return None
    shape = [1] * rank
    if scale.size > 1:
        shape[axis] = scale.size
    given = node.input[2] if len(node.input) > 2 else ""
    zero = numpy_helper.to_array(known[given]) if given else np.zeros(scale.shape, np.int64)
    return Quantised(node.input[0], scale.reshape(shape), zero.astype(np.int64).reshape(shape))


def _write(tensor: TensorProto, numbers: NDArray[Any], external: Mapping[str, bytearray]) -> None:
    """Put numbers where the tensor has its own: in a file beside, in its bytes, or in the list of its type."""
    content = numbers.astype(numbers.dtype.newbyteorder("<"), copy=False).tobytes()
    if tensor.data_location == TensorProto.EXTERNAL:
        told = entries(tensor)
        start = int(told.get("offset", "0"))
        if int(told.get("length", len(content))) != len(content):
            raise ArtifactError(
                f"tensor '{tensor.name[:80]}' has another length than its shape: export the model again"
            )
        external[told["location"]][start : start + len(content)] = content
    elif tensor.HasField("raw_data"):
        tensor.raw_data = content
    elif tensor.data_type == TensorProto.FLOAT:
        tensor.float_data[:] = numbers.reshape(-1).tolist()
    else:  # 16-bit floats as their bits, whole numbers as they are
        bits = numbers.view(np.uint16) if numbers.dtype.itemsize == 2 and tensor.data_type in _FLOATS else numbers
        tensor.int32_data[:] = bits.reshape(-1).tolist()
