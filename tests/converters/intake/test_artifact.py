"""Reading the model file: once, whole, with a digest that covers external data."""

from __future__ import annotations

import hashlib
import os

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from backscan.converters.errors import ArtifactError, LimitExceededError, UnreadableFileError
from backscan.converters.intake.artifact import (
    artifact_from_bytes,
    digest,
    external_locations,
    parse,
    read_artifact,
    with_external,
)

WEIGHT = np.arange(6, dtype=np.float32).reshape(3, 2)


def model_with_external_weight(**entries: str) -> bytes:
    weight = numpy_helper.from_array(WEIGHT, "w")
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    for key, value in {"location": "w.bin", **entries}.items():
        weight.external_data.add(key=key, value=value)
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3])
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 2])
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", [value], [out], [weight])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString()


def test_reads_bytes_and_plain_sha256(tmp_path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"abc")
    artifact = read_artifact(path, max_bytes=3)
    assert (artifact.name, artifact.data) == ("m.onnx", b"abc")
    assert artifact.sha256 == hashlib.sha256(b"abc").hexdigest()


def test_refuses_a_file_over_the_limit(tmp_path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"x" * 11)
    with pytest.raises(LimitExceededError, match="11 bytes, more than the 10 allowed") as caught:
        read_artifact(path, max_bytes=10)
    assert (caught.value.limit, caught.value.actual) == (10, 11)


def test_missing_path_folder_and_pipe_are_unreadable(tmp_path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "none.onnx", tmp_path, tmp_path / "pipe"):
        with pytest.raises(UnreadableFileError):
            read_artifact(path, max_bytes=10)


@pytest.mark.parametrize("data", [b"", b"not a model", b"\x08\x07"])
def test_bytes_that_are_no_model(data: bytes) -> None:
    with pytest.raises(ArtifactError, match=r"m\.onnx"):
        parse(artifact_from_bytes("m.onnx", data))


def test_external_data_is_folded_from_memory() -> None:
    artifact = artifact_from_bytes("m.onnx", model_with_external_weight(offset="4", length="24"))
    assert external_locations(parse(artifact, fold_external=False)) == ("w.bin",)
    whole = with_external(artifact, {"w.bin": b"head" + WEIGHT.tobytes() + b"tail"})
    model = parse(whole)
    assert external_locations(model) == ()
    np.testing.assert_array_equal(numpy_helper.to_array(model.graph.initializer[0]), WEIGHT)
    onnx.checker.check_model(model)


def test_digest_covers_external_data() -> None:
    artifact = artifact_from_bytes("m.onnx", b"model")
    first, second = (with_external(artifact, {"w": data}).sha256 for data in (b"1", b"2"))
    assert len({artifact.sha256, first, second}) == 3
    assert digest(b"model", {"a": b"1", "b": b"2"}) == digest(b"model", {"b": b"2", "a": b"1"})


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"offset": "-1"}, "the offset '-1'"),
        ({"length": "99"}, "needs bytes 0 to 99"),
        ({"location": "other"}, "other"),
    ],
)
def test_bad_external_data_is_refused(entries: dict[str, str], message: str) -> None:
    artifact = artifact_from_bytes("m.onnx", model_with_external_weight(**entries))
    with pytest.raises(ArtifactError, match=message):
        parse(with_external(artifact, {"w.bin": WEIGHT.tobytes()}))


def test_missing_external_data_names_tensor_and_file() -> None:
    with pytest.raises(ArtifactError, match=r"tensor 'w' of m\.onnx lies in 'w\.bin'"):
        parse(artifact_from_bytes("m.onnx", model_with_external_weight()))
