"""Files that are no ONNX model, named as what they are by their first bytes, with what makes an ONNX model of them.

Bytes are compared and nothing else: no file is opened by the library that wrote it, nothing is unpickled.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from backscan.converters.intake.marks import LOOKS


@dataclass(frozen=True, slots=True)
class Kind:
    """What a file is that is no ONNX model."""

    name: str
    """What it is called in a sentence, with its article."""
    remedy: str
    """What gives an ONNX model instead, or what the file is good for."""

    def instead_of(self, expected: str) -> str:
        """The sentence that refuses it."""
        return f"expected {expected}, found {self.name}: {self.remedy}"


_EXPORT = "torch.onnx.export(model.eval(), torch.zeros(1, 3, 224, 224), 'model.onnx')"
_BUILD = f"build the network in its own code, load these weights into it, then {_EXPORT} with the size of its images"
_UNPACK = "unpack it and name the .onnx file in it"
_LANGUAGE = "it holds a language model or its like; image classifiers are not kept so, ask for the ONNX export"

KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "torchscript": Kind(
            "a TorchScript model (a zip with code and pickled data, which are never run here)",
            "torch.onnx.export(torch.jit.load('model.pt').eval(), torch.zeros(1, 3, 224, 224), 'model.onnx', "
            "dynamo=False) with the size of its images",
        ),
        "torch-export": Kind(
            "an exported PyTorch program",
            "torch.onnx.export(torch.export.load('model.pt2'), (), 'model.onnx')",
        ),
        "torch": Kind("a PyTorch file (a zip with pickled data, which is never unpickled here)", _BUILD),
        "torch-old": Kind("a PyTorch file of the old kind (pickled data, which is never unpickled here)", _BUILD),
        "pickle": Kind(
            "pickled Python objects, which are never unpickled here",
            "export the model in the program that pickled it: torch.onnx.export for PyTorch, skl2onnx.to_onnx for "
            "scikit-learn",
        ),
        "keras": Kind(
            "a Keras model",
            "keras.saving.load_model('model.keras').export('model.onnx', format='onnx')",
        ),
        "hdf5": Kind(
            "an HDF5 file, as Keras writes its .h5 models",
            "keras.models.load_model('model.h5').export('model.onnx', format='onnx'); where it has weights alone, "
            "build the network first and load them into it",
        ),
        "tflite": Kind(
            "a TensorFlow Lite model", "python -m tf2onnx.convert --tflite model.tflite --output model.onnx"
        ),
        "saved-model": Kind(
            "the graph of a TensorFlow SavedModel",
            "python -m tf2onnx.convert --saved-model FOLDER --output model.onnx, with the folder that holds it",
        ),
        "frozen-graph": Kind(
            "a frozen TensorFlow graph",
            "python -m tf2onnx.convert --graphdef model.pb --inputs image:0 --outputs scores:0 --output model.onnx, "
            "with the names of its own input and output",
        ),
        "core-ml": Kind(
            "a CoreML model",
            "nothing leads back from CoreML in general: export the network from which it was made",
        ),
        "openvino": Kind(
            "the graph of an OpenVINO model",
            "nothing leads back from OpenVINO: export the network from which it was made",
        ),
        "ort": Kind(
            "a model in onnxruntime's own format (.ort)",
            "name the .onnx file from which it was made, beside it as a rule",
        ),
        "tensorrt": Kind(
            "a TensorRT engine", "it runs on one kind of GPU alone: name the ONNX file that it was built from"
        ),
        "safetensors": Kind(
            "a safetensors file, which holds weights and no network",
            "optimum-cli export onnx --model FOLDER out/ where it is of Hugging Face; else " + _BUILD,
        ),
        "gguf": Kind("a GGUF file", _LANGUAGE),
        "ggml": Kind("a GGML file", _LANGUAGE),
        "onnx-in-zip": Kind("a zip with an ONNX model in it", _UNPACK),
        "saved-model-in-zip": Kind(
            "a zip with a TensorFlow SavedModel in it",
            "unpack it, then python -m tf2onnx.convert --saved-model FOLDER --output model.onnx",
        ),
        "npz": Kind("a zip of arrays (.npz)", "images belong behind --data; name the ONNX model here"),
        "zip": Kind("a zip", _UNPACK),
        "packed": Kind("a packed file (gzip, bzip2, xz, zstd, 7-Zip or tar)", _UNPACK),
        "array": Kind("an array of numbers (.npy)", "images belong behind --data, as .npz; name the ONNX model here"),
        "picture": Kind("a picture", "images belong behind --data; name the ONNX model here"),
        "web-page": Kind(
            "a web page", "the address showed a page about the file: download the file itself (its raw version)"
        ),
        "tensorflow-js": Kind("the graph of a TensorFlow.js model", "export the network from which it was made"),
        "text": Kind("a text", "name the ONNX model itself"),
    }
)
"""Kinds of files by a short name."""

_WITHOUT_MARK: Mapping[str, str] = MappingProxyType(
    {
        ".bin": "weights alone, of OpenVINO or PyTorch",
        ".caffemodel": "a Caffe model",
        ".mat": "data of MATLAB",
        ".params": "weights of MXNet",
        ".pdiparams": "weights of PaddlePaddle",
        ".pdmodel": "the graph of a PaddlePaddle model",
        ".weights": "weights of Darknet",
    }
)
"""What files are by the ending of their name, where their bytes have no mark of their own."""


def by_name(name: str) -> str:
    """What a file may be by its name, for a message about bytes that tell nothing; empty where that tells nothing.

    Args:
        name: Name of the file.
    """
    suffix = name[name.rfind(".") :].lower() if "." in name else ""
    kind = _WITHOUT_MARK.get(suffix, "")
    return f"by its name {kind}, so export the network that it belongs to as ONNX" if kind else ""


def kind_of(data: bytes) -> Kind | None:
    """What a file is by its bytes; None for what may be an ONNX model and for bytes that tell nothing.

    Args:
        data: The whole file.
    """
    name = next(filter(None, (look(data) for look in LOOKS)), "")
    return KINDS[name] if name else None
