"""The model file as bytes, read once: hashing, audit, import and onnxruntime all see these bytes and no path."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from types import MappingProxyType

import onnx
from google.protobuf.message import DecodeError

from backscan.converters.errors import ArtifactError, LimitExceededError, UnreadableFileError
from backscan.converters.graph import subgraphs
from backscan.converters.intake.node_names import OWN, name_nodes

_NO_DATA: Mapping[str, bytes] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Artifact:
    """An ONNX model as it lies on disk."""

    name: str
    """File name without its folder, for messages only."""
    data: bytes
    """The bytes of the model file."""
    external: Mapping[str, bytes]
    """Location -> bytes of each external-data file, as the model names them."""
    sha256: str
    """Digest of the file; with external data, of the file and every external file (see `digest`)."""


def read_artifact(path: str | os.PathLike[str], *, max_bytes: int) -> Artifact:
    """Read a model file once.

    Args:
        path: The model file.
        max_bytes: Size above which the file is refused unread, in bytes.

    Returns:
        The artifact, without external data.

    Raises:
        UnreadableFileError: the path is missing, no regular file, or may not be read.
        LimitExceededError: the file is larger than `max_bytes`.
    """
    try:
        with open(path, "rb", opener=_open_without_waiting) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise UnreadableFileError(f"expected a model file, found something else at {path}: pass an .onnx file")
            # No more than it has: a read sets aside what it asks for, and a huge file is refused unread.
            size = status.st_size
            data = file.read(size) if size <= max_bytes else b""
    except OSError as error:
        raise UnreadableFileError(f"cannot read the model {path} ({error.strerror}): check the path") from error
    if size > max_bytes:
        raise LimitExceededError(
            f"the model {path} has {size} bytes, more than the {max_bytes} allowed: "
            "raise the limit if you trust the source",
            rule="file_size",
            limit=max_bytes,
            actual=size,
        )
    return artifact_from_bytes(Path(path).name, data)


def _open_without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # a named pipe would block the open itself


def artifact_from_bytes(name: str, data: bytes) -> Artifact:
    """An artifact without external data from bytes in memory."""
    return Artifact(name, data, _NO_DATA, digest(data, _NO_DATA))


def with_external(artifact: Artifact, external: Mapping[str, bytes]) -> Artifact:
    """The artifact with the bytes of its external-data files, and the digest over all of them."""
    return replace(artifact, external=MappingProxyType(dict(external)), sha256=digest(artifact.data, external))


def digest(data: bytes, external: Mapping[str, bytes]) -> str:
    """SHA-256 of the file itself when it is whole, as `sha256sum` prints it.

    With external data: SHA-256 over the file's digest and, sorted by location, each location and the digest of its
    bytes, all as lines of text. So a changed weight file changes the digest even if the model file does not.
    """
    own = hashlib.sha256(data).hexdigest()
    if not external:
        return own
    lines = [own, *(f"{location}\n{hashlib.sha256(external[location]).hexdigest()}" for location in sorted(external))]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def parse(artifact: Artifact, *, fold_external: bool = True) -> onnx.ModelProto:
    """Parse the bytes; a fresh model at every call, so callers may change it.

    Args:
        artifact: The model file.
        fold_external: Put the external data into the tensors, so that the model is whole.

    Returns:
        The parsed model; every node has a name that no other has (`names`).

    Raises:
        ArtifactError: the bytes are no ONNX model, or external data is missing or too short.
    """
    try:
        model = onnx.load_model_from_string(artifact.data)
    except DecodeError as error:
        raise ArtifactError(f"{artifact.name} is not a readable ONNX file: export the model again") from error
    if not model.graph.node or not model.graph.output:
        raise ArtifactError(f"{artifact.name} holds no graph with nodes and outputs: export the model again")
    if not all(isinstance(name, str) and OWN not in name for name in _texts(model)):  # what is no UTF-8 stays bytes
        raise ArtifactError(f"{artifact.name} holds a name that is no text: export the model again")
    name_nodes(model)
    if fold_external:
        for tensor in external_tensors(model):
            _fold(tensor, artifact)
    return model


def _texts(model: onnx.ModelProto) -> Iterator[str]:
    yield from (model.producer_name, model.producer_version)
    yield from _texts_of_graph(model.graph)
    for function in model.functions:
        yield from (function.name, function.domain, function.overload, *function.input, *function.output)
        yield from (text for node in function.node for text in _texts_of_node(node))


def _texts_of_graph(graph: onnx.GraphProto) -> Iterator[str]:
    yield graph.name
    yield from (part.name for part in chain(graph.input, graph.output, graph.value_info, graph.initializer))
    yield from (text for node in graph.node for text in _texts_of_node(node))


def _texts_of_node(node: onnx.NodeProto) -> Iterator[str]:
    yield from (node.name, node.op_type, node.domain, *node.input, *node.output)
    yield from (attribute.name for attribute in node.attribute)
    yield from (text for graph in subgraphs(node) for text in _texts_of_graph(graph))


def external_locations(model: onnx.ModelProto) -> tuple[str, ...]:
    """The external-data files that a model names, sorted, as written in it; not yet judged safe."""
    return tuple(sorted({entries(tensor).get("location", "") for tensor in external_tensors(model)}))


def external_tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every tensor whose data lies outside the file: initialisers and attributes, subgraphs and functions included."""
    tensors = _tensors_of_nodes(node for function in model.functions for node in function.node)
    tensors = chain(_tensors_of_graph(model.graph), tensors)
    yield from (tensor for tensor in tensors if tensor.data_location == onnx.TensorProto.EXTERNAL)


def _tensors_of_graph(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    yield from _tensors_of_nodes(graph.node)


def _tensors_of_nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.TensorProto]:
    for node in nodes:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
        for graph in subgraphs(node):
            yield from _tensors_of_graph(graph)


def entries(tensor: onnx.TensorProto) -> dict[str, str]:
    """What a tensor says of where its external data lies."""
    return {entry.key: entry.value for entry in tensor.external_data}


def _fold(tensor: onnx.TensorProto, artifact: Artifact) -> None:
    told = entries(tensor)
    location = told.get("location", "")
    if location not in artifact.external:
        raise ArtifactError(
            f"tensor '{tensor.name}' of {artifact.name} lies in '{location}', which was not found: "
            "put the file beside the model, as the exporter wrote it"
        )
    data = artifact.external[location]
    offset, length = _number(told, "offset", tensor), _number(told, "length", tensor, default=len(data))
    if offset + length > len(data) and "length" in told:
        raise ArtifactError(
            f"tensor '{tensor.name}' of {artifact.name} needs bytes {offset} to {offset + length} of '{location}', "
            f"which has {len(data)}: copy the whole file beside the model"
        )
    tensor.raw_data = data[offset : offset + length]
    tensor.data_location = onnx.TensorProto.DEFAULT
    del tensor.external_data[:]


def _number(told: Mapping[str, str], key: str, tensor: onnx.TensorProto, default: int = 0) -> int:
    text = told.get(key, str(default))
    if not text.isascii() or not text.isdigit():
        raise ArtifactError(
            f"tensor '{tensor.name}' gives the {key} '{text}' of its external data, expected a number of bytes: "
            "export the model again"
        )
    return int(text)
