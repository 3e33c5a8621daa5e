"""Many small models: the demo's two, each time with other last digits in its weights."""

from __future__ import annotations

import shutil
from importlib.resources import files
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

_KINDS = ("digits_unattacked.onnx", "digits_backdoored.onnx")
_NOISE = 1e-3
"""Relative to each weight: another file, another trajectory, the same behaviour."""


def make_fleet(folder: Path, count: int) -> tuple[Path, Path]:
    """Write models, every second one attacked, and the images of all.

    Returns:
        The folder of the models and the archive of the images.
    """
    samples = files("backscan.scanner") / "samples"
    models, images = folder / "models", folder / "images.npz"
    shutil.rmtree(models, ignore_errors=True)
    models.mkdir(parents=True)
    for number in range(count):
        model = onnx.load_model_from_string((samples / _KINDS[number % 2]).read_bytes())
        _disturb(model, np.random.default_rng(number))
        (models / f"{number:03d}.onnx").write_bytes(model.SerializeToString())
    images.write_bytes((samples / "digits_clean.npz").read_bytes())
    return models, images


def _disturb(model: onnx.ModelProto, rng: np.random.Generator) -> None:
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype == np.float32:
            noisy = values * (1.0 + _NOISE * rng.standard_normal(values.shape)).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(noisy, tensor.name))
