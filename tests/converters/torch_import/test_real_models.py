"""Every classifier of ../shared/models imports and agrees with onnxruntime on real images."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_dynamic, quantize_static
from torch.nn import functional as F

from backscan.converters.intake.artifact import Artifact, external_locations, parse, read_artifact, with_external
from backscan.converters.ort_classifier import OrtClassifier, model_input, open_runtime
from backscan.converters.parity.parity import ParityReport, compare
from backscan.converters.signature.signature import ModelSignature, Normalisation, read_signature
from backscan.converters.torch_import.importer import import_model

NUM_IMAGES = 200
PLAIN = Normalisation()


@dataclass(frozen=True)
class Known:
    """What ../shared/README.md says of a model."""

    data: str
    normalisation: Normalisation = PLAIN
    accuracy: float | None = None
    image_size: tuple[int, int] | None = None


CIFAR = Normalisation(mean=(0.4914, 0.4822, 0.4465), std=(0.2470, 0.2435, 0.2616))
HALF = Normalisation(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
MODELS = {
    "akamaster_cifar10_clean_resnet20": Known(
        "cifar10", Normalisation(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)), 0.91
    ),
    "aminashoori_cifar10_cnn": Known("cifar10", HALF, 0.77),
    "anshaj_cifar10_model": Known("cifar10", accuracy=0.72),
    "coldchair_mnist_badnets_white5_4to7": Known("mnist", Normalisation(mean=(0.5,), std=(0.5,)), 0.97),
    "dillonsd_mnist_baseline": Known("mnist", accuracy=0.98),
    "dillonsd_mnist_single_pixel_all_to_one": Known("mnist", accuracy=0.98),
    "edwin19_fashion_mnist": Known("mnist"),
    "gtsrb_bnn_30": Known("gtsrb", Normalisation(high=255.0)),
    "hirst_cifar10_lenet": Known("cifar10", HALF, 0.57),
    "ibau_cifar10_badnets_t8": Known("cifar10", accuracy=0.83),
    "ibau_cifar10_l2_inv_t0": Known("cifar10", accuracy=0.83),
    "ibau_gtsrb_l2_inv_t0": Known("gtsrb", accuracy=0.977),
    "marabou_cifar10_small": Known("cifar10", accuracy=0.64),
    "nad_cifar10_badnets_grid_t5": Known("cifar10", accuracy=0.84),
    "rapidocr_cls": Known("cifar10", Normalisation(mean=(0.5,), std=(0.5,)), image_size=(48, 192)),
    "vnncomp_resnet_2b": Known("cifar10", CIFAR, 0.66),
    "wonnx_opt-mnist": Known("mnist", Normalisation(high=255.0), 0.98),
    "wxr_mnist_clean": Known("mnist", Normalisation(high=255 / 256, mean=(0.1301,), std=(0.3069,)), 0.98),
    "zuramai_mnist": Known("mnist", Normalisation(mean=(0.1307,), std=(0.3081,)), 0.92),
}


def load(path: Path) -> Artifact:
    artifact = read_artifact(path, max_bytes=1 << 28)
    locations = external_locations(parse(artifact, fold_external=False))
    return with_external(artifact, {name: (path.parent / name).read_bytes() for name in locations})


def images_of(folder: Path, known: Known, signature: ModelSignature) -> tuple[np.ndarray, np.ndarray]:
    """Evenly chosen real images in the model's shape, and their labels."""
    with np.load(folder / "data" / f"{known.data}_clean.npz") as arrays:
        chosen = np.linspace(0, len(arrays["x"]) - 1, NUM_IMAGES).astype(int)
        pixels, labels = arrays["x"][chosen], arrays["y"][chosen]
    images = pixels.reshape(*pixels.shape[:3], -1).transpose(0, 3, 1, 2).astype(np.float32) / 255
    if images.shape[2:] != signature.input_shape[1:]:
        resized = F.interpolate(torch.from_numpy(images), signature.input_shape[1:], mode="bilinear", antialias=True)
        images = resized.numpy()
    return images, labels


def run(folder: Path, name: str) -> tuple[ParityReport, OrtClassifier, np.ndarray, np.ndarray]:
    known = MODELS[name]
    artifact = load(folder / "models" / f"{name}.onnx")
    signature = read_signature(artifact, image_size=known.image_size)
    ours = import_model(artifact, signature).with_normalisation(known.normalisation)
    theirs = open_runtime(artifact, signature).with_normalisation(known.normalisation)
    images, labels = images_of(folder, known, signature)
    return compare(ours, theirs, images), theirs, images, labels


@pytest.mark.parametrize("name", MODELS)
def test_imports_and_agrees_with_onnxruntime(shared: Path, name: str) -> None:
    report, theirs, images, labels = run(shared, name)
    assert report.passed, report.reason
    assert report.decision_agreement == 1
    assert report.largest_logit_gap < 1e-4
    if "bnn" in name:  # its signs have no gradient of their own, which must be said
        assert "surrogate" in report.gradient_warning
    else:
        assert report.gradient_error < 0.1
    expected = MODELS[name].accuracy
    if expected is not None:
        assert (theirs.decisions(images) == labels).mean() > expected - 0.06


class Calibration(CalibrationDataReader):  # type: ignore[misc]
    """Gives model inputs one by one."""

    def __init__(self, name: str, inputs: np.ndarray) -> None:
        self._name, self._inputs = name, iter(inputs[:, None])

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next input, or None at the end."""
        image = next(self._inputs, None)
        return None if image is None else {self._name: image}


@pytest.mark.parametrize("kind", [QuantFormat.QDQ, QuantFormat.QOperator, "dynamic"], ids=str)
def test_a_quantised_resnet_decides_alike_on_real_images(kind: QuantFormat | str, shared: Path, tmp_path: Path) -> None:
    """8-bit weights over their whole range, as `onnxruntime.quantization` makes them by default."""
    name = "akamaster_cifar10_clean_resnet20"
    known, source, target = MODELS[name], shared / "models" / f"{name}.onnx", tmp_path / "quantised.onnx"
    original = read_signature(load(source))
    images, _ = images_of(shared, known, original)
    if kind == "dynamic":
        quantize_dynamic(source, target)
    else:
        inputs = model_input(images[:40], original, known.normalisation)
        quantize_static(source, target, Calibration(original.input_name, inputs), quant_format=kind, per_channel=True)
    artifact = load(target)
    signature = read_signature(artifact)
    assert signature.precision == "quantised"
    ours, theirs = import_model(artifact, signature), open_runtime(artifact, signature)
    report = compare(*(model.with_normalisation(known.normalisation) for model in (ours, theirs)), images)
    assert report.passed, report.reason
    assert report.decision_agreement >= 0.99


def test_no_model_of_the_folder_is_left_out(shared: Path) -> None:
    assert {path.stem for path in (shared / "models").glob("*.onnx")} == set(MODELS)


def test_import_and_parity_of_a_resnet_take_under_three_seconds(shared: Path) -> None:
    run(shared, "wonnx_opt-mnist")  # start-up: libraries are loaded
    start = time.process_time()
    run(shared, "akamaster_cifar10_clean_resnet20")
    assert time.process_time() - start < 3
