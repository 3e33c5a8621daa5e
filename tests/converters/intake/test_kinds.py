"""Files and folders that are no ONNX model, named as what they are by their bytes, with what makes one of them."""

from __future__ import annotations

import io
import pickle
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper

from backscan.converters.errors import ArtifactError
from backscan.converters.intake.audit import audit
from backscan.converters.intake.folders import other_models
from backscan.converters.intake.kinds import KINDS, kind_of
from tests import planted


def field(number: int, content: bytes) -> bytes:
    """A field of a protocol buffer, up to 127 bytes long."""
    tag = number << 3 | 2
    head = bytes([tag]) if tag < 128 else bytes([tag & 127 | 128, tag >> 7])
    return head + bytes([len(content)]) + content


def zipped(*names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, b"content of a member")
    return buffer.getvalue()


def saved(thing: object, *, as_zip: bool = True) -> bytes:
    buffer = io.BytesIO()
    torch.save(thing, buffer, _use_new_zipfile_serialization=as_zip)
    return buffer.getvalue()


def scripted() -> bytes:
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)), buffer)
    return buffer.getvalue()


def tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("model.onnx"), io.BytesIO(b""))
    return buffer.getvalue()


def arrays() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, x=np.zeros(3))
    return buffer.getvalue()


HEADER = b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
NODE = field(1, b"image") + field(2, b"Placeholder")
FILES = {
    "torch": saved({"weight": torch.zeros(3)}),
    "torch-old": saved({"weight": torch.zeros(3)}, as_zip=False),
    "torch-export": zipped("exported/archive_format", "exported/models/model.json"),
    "pickle": pickle.dumps({"weight": [1.0, 2.0]}, protocol=4),
    "keras": zipped("metadata.json", "config.json", "model.weights.h5"),
    "hdf5": b"\x89HDF\r\n\x1a\n" + bytes(100),
    "tflite": b"\x1c\0\0\0TFL3" + bytes(100),
    "ort": b"\x18\0\0\0ORTM" + bytes(100),
    "saved-model": b"\x08\x01" + field(2, field(1, b"serve")),
    "frozen-graph": field(1, NODE) + field(1, NODE) + field(4, b"\x08\x1b"),
    "core-ml": b"\x08\x04" + field(2, field(1, b"image")) + field(403, b"layers"),
    "openvino": b'<?xml version="1.0"?>\n<net name="model" version="11">\n</net>',
    "tensorrt": b"ftrt" + bytes(60),
    "safetensors": len(HEADER).to_bytes(8, "little") + HEADER + bytes(4),
    "gguf": b"GGUF\x03\0\0\0" + bytes(60),
    "ggml": b"lmgg" + bytes(60),
    "onnx-in-zip": zipped("model/readme.txt", "model/net.onnx"),
    "saved-model-in-zip": zipped("m/saved_model.pb", "m/variables/variables.index"),
    "npz": arrays(),
    "zip": zipped("a.txt"),
    "packed": tar(),
    "array": b"\x93NUMPY\x01\0" + bytes(60),
    "picture": b"\x89PNG\r\n\x1a\n" + bytes(60),
    "web-page": b"\n<!DOCTYPE html>\n<html><head>",
    "tensorflow-js": b'{"format": "graph-model", "modelTopology": {"node": []}}',
    "text": b"this is no model\n",
}


def test_there_is_a_file_of_every_kind() -> None:
    assert FILES.keys() | {"torchscript"} == KINDS.keys()


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_named_as_what_it_is(name: str) -> None:
    assert kind_of(FILES[name]) == KINDS[name]
    with pytest.raises(ArtifactError) as refused:
        audit(FILES[name])
    assert str(refused.value) == f"expected an ONNX model, found {KINDS[name].name}: {KINDS[name].remedy}"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_traced_network_is_told_from_weights() -> None:
    assert kind_of(scripted()) == KINDS["torchscript"]


class Bomb:
    """What would end the test if it were unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (pytest.exit, ("unpickled",))


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_nothing_is_unpickled(protocol: int) -> None:
    assert kind_of(pickle.dumps(Bomb(), protocol=protocol)) == KINDS["pickle"]
    assert kind_of(saved(Bomb())) == KINDS["torch"]


def test_onnx_models_and_damaged_ones_are_no_other_kind() -> None:
    whole = planted.convolutional()
    assert kind_of(whole) is None
    for end in range(len(whole) - 1, 40, -97):
        assert kind_of(whole[:end]) is None
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [value], [])
    for producer in ("TFL3", "ORTM", "GGUF", "{"):
        assert kind_of(helper.make_model(graph, producer_name=producer).SerializeToString()) is None


@pytest.mark.parametrize("data", [b"", b"\x08", b"\x80", b"PK\x03\x04", bytes(9), b"\xff" * 64, b"\x80\x02\x8a."])
def test_short_and_odd_bytes_do_no_harm(data: bytes) -> None:
    kind_of(data)


def test_a_zip_whose_directory_lies_does_no_harm() -> None:
    data = zipped("a/data.pkl")
    place = data.index(b"PK\x01\x02")
    assert kind_of(data[: place + 28] + b"\xff\xff" + data[place + 30 :]) is not None
    assert kind_of(b"PK\x03\x04" + b"PK\x01\x02" * 20_000) == KINDS["zip"]


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (("m/saved_model.pb", "m/variables/variables.index"), "tf2onnx.convert --saved-model"),
        (("m.mlpackage/Manifest.json", "m.mlpackage/Data/com.apple.CoreML/model.mlmodel"), "a CoreML package"),
        (("config.json", "model.safetensors"), "optimum-cli export onnx --model"),
        (("a.pt", "b.pt", "c.h5", "notes.txt"), "found 2 .pt files, 1 .h5 files: `scanner inspect FILE`"),
        (("notes.txt",), "found none: name the model itself"),
    ],
)
def test_a_folder_without_onnx_files_is_told_by_what_lies_in_it(
    tmp_path: Path, files: tuple[str, ...], said: str
) -> None:
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert said in other_models(tmp_path)


@pytest.mark.parametrize("name", ["model.bin", "NET.WEIGHTS", "net.caffemodel"])
def test_bytes_without_a_mark_are_told_by_their_name(name: str) -> None:
    numbers = np.random.default_rng(0).normal(size=100).astype(np.float32).tobytes()
    with pytest.raises(ArtifactError, match=r"found 400 bytes of something else: by its name .*export the network"):
        audit(numbers, name=name)
    with pytest.raises(ArtifactError, match="the file is damaged or no model"):
        audit(numbers, name="model.onnx")
    with pytest.raises(ArtifactError, match="found pickled Python objects"):
        audit(FILES["pickle"], name=name)
    assert audit(planted.convolutional(), name=name).accepted
