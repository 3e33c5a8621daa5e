"""Colours in a row of numbers, and images standardised one by one: found by accuracy, computed as in the file."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from onnx import numpy_helper, parser

from backscan.converters.intake.artifact import artifact_from_bytes
from backscan.converters.ort_classifier import open_runtime
from backscan.converters.signature.signature import ModelSignature, Normalisation, read_signature
from backscan.converters.torch_import.importer import import_model
from backscan.scanner.config import ScanConfig
from backscan.scanner.images.candidates import scale_differs
from backscan.scanner.images.cleanset import CleanSet
from backscan.scanner.images.preprocessing import Settlement, settle_preprocessing

CLASSES, SHAPE = 6, (3, 6, 6)
_DRAW = np.random.default_rng(0)
CENTRES = _DRAW.random((CLASSES, *SHAPE), dtype=np.float32)
LABELS = np.arange(240) % CLASSES
IMAGES = np.clip(CENTRES[LABELS] + _DRAW.normal(0, 0.1, (240, *SHAPE)), 0, 1).astype(np.float32)
CLEAN = CleanSet(IMAGES, LABELS, name="x.npz", digest="0", class_names={})


def by_hand(images: np.ndarray, *, order: str, standard: bool) -> np.ndarray:
    """Rows of numbers as a training script makes them."""
    rows = (images.transpose(0, 2, 3, 1) if order == "hwc" else images).reshape(len(images), -1).astype(np.float64)
    if standard:
        rows = (rows - rows.mean(axis=1, keepdims=True)) / np.maximum(rows.std(axis=1, keepdims=True), 108**-0.5)
    return rows


def parameters(order: str, *, standard: bool) -> tuple[np.ndarray, np.ndarray]:
    """Weights and offsets of the classes; the later classes are louder, so that the scale of an image matters."""
    centres = by_hand(CENTRES, order=order, standard=standard)
    if not standard:
        return centres, -0.5 * np.square(centres).sum(axis=1)
    loudness = np.linspace(1, 3, CLASSES)
    return centres / 10 * loudness[:, None], -10.8 * loudness


def nearest(order: str, *, standard: bool = False, sizes: str = "N,108", picky: bool = False) -> bytes:
    """The class whose centre is nearest; `picky`: of standardised rows, the one that is just like an image."""
    weights, bias = parameters(order, standard=standard)
    model = parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 17]> g (float[{sizes}] image) => (float[N,6] scores) '
        "{ row = Reshape(image, whole) plain = MatMul(row, centres) near = Add(plain, bias) "
        + ("off = Abs(near) scores = Neg(off) }" if picky else "scores = Identity(near) }")
    )
    tensors = {"centres": weights.T, "bias": bias}
    model.graph.initializer.extend(numpy_helper.from_array(a.astype(np.float32), n) for n, a in tensors.items())
    model.graph.initializer.append(numpy_helper.from_array(np.array([-1, 108]), "whole"))
    return model.SerializeToString()


def settled(data: bytes, config: ScanConfig | None = None, *, clean: CleanSet = CLEAN) -> tuple[Settlement, Any]:
    artifact = artifact_from_bytes("m.onnx", data)
    signature = read_signature(artifact, clean_shape=SHAPE)
    runtime = open_runtime(artifact, signature)
    flat = "H" not in signature.layout
    found = settle_preprocessing(
        clean, lambda images, n: runtime.with_normalisation(n).decisions(images), config or ScanConfig(), flat=flat
    )
    return found, runtime


@pytest.mark.parametrize("order", ["chw", "hwc"])
@pytest.mark.parametrize("sizes", ["N,108", "N,1,108", "1,108"])
def test_where_colours_lie_is_judged_by_accuracy(order, sizes):
    found, _ = settled(nearest(order, sizes=sizes))
    assert found.names[0] == ("none" if order == "chw" else "none-hwc")
    assert found.accuracy == 1.0
    assert found.record.pixel_order == order
    judged = {each.name: each.accuracy for each in found.record.candidates}
    assert judged["none" if order == "hwc" else "none-hwc"] < 0.7


@pytest.mark.parametrize("order", ["chw", "hwc"])
def test_it_is_judged_where_the_rest_is_given(order):
    found, _ = settled(nearest(order), ScanConfig(preprocess="none"))
    assert (found.names, found.record.pixel_order) == (("none" if order == "chw" else "none-hwc",), order)
    assert found.accuracy == 1.0
    assert found.record.chosen_by == "option"
    assert len(found.warnings) == (order == "hwc")


def test_images_with_axes_of_their_own_have_one_order():
    found, _ = settled(nearest("chw", sizes="N,3,6,6"))
    assert found.names[0] == "none"
    assert not any("hwc" in each.name for each in found.record.candidates)


@pytest.mark.parametrize("order", ["chw", "hwc"])
def test_images_standardised_one_by_one_are_found(order):
    dull = IMAGES * np.linspace(0.1, 1, len(IMAGES), dtype=np.float32)[:, None, None, None]
    clean = CleanSet(dull, LABELS, name="x.npz", digest="0", class_names={})
    found, _ = settled(nearest(order, standard=True, picky=True), clean=clean)
    assert found.names[0] == ("standardised" if order == "chw" else "standardised-hwc")
    assert found.record.standardise
    common = [each.accuracy for each in found.record.candidates if not each.name.startswith("standardised")]
    assert found.accuracy is not None
    assert found.accuracy > max(common) + 0.1


@pytest.mark.parametrize("order", ["chw", "hwc"])
@pytest.mark.parametrize("standard", [True, False])
@pytest.mark.parametrize("sizes", ["N,108", "N,3,6,6"])
def test_file_and_copy_compute_what_training_did(order, standard, sizes):
    if "6" in sizes and order == "hwc":
        sizes = "N,6,6,3"
    artifact = artifact_from_bytes("m.onnx", nearest(order, standard=standard, sizes=sizes))
    signature: ModelSignature = read_signature(artifact, clean_shape=SHAPE)
    reading = Normalisation(pixel_order=order, standardise=standard)
    images = np.concatenate([IMAGES[:5], np.full((1, *SHAPE), 0.4, np.float32)])
    weights, bias = parameters(order, standard=standard)
    expected = by_hand(images, order=order, standard=standard) @ weights.T + bias
    runtime = open_runtime(artifact, signature).with_normalisation(reading)
    np.testing.assert_allclose(runtime.scores(images), expected, rtol=1e-4, atol=1e-3)
    copy = import_model(artifact, signature).with_normalisation(reading)
    inputs = torch.from_numpy(images).requires_grad_()
    scores = copy.logits(inputs)
    np.testing.assert_allclose(scores.detach().numpy(), expected, rtol=1e-4, atol=1e-3)
    (gradient,) = torch.autograd.grad(scores[:, 1].sum(), inputs)
    assert gradient.isfinite().all()
    step = np.zeros_like(images)
    step[:, 1, 2, 3] = 1e-3
    slope = (
        by_hand(images + step, order=order, standard=standard) - by_hand(images - step, order=order, standard=standard)
    ) @ weights[1] / 2e-3  # fmt: skip
    np.testing.assert_allclose(gradient[:, 1, 2, 3], slope, rtol=1e-2, atol=1e-2)


def test_a_scale_of_each_image_is_another_scale():
    assert scale_differs(Normalisation(), Normalisation(standardise=True), 3)
    assert not scale_differs(Normalisation(standardise=True), Normalisation(standardise=True), 3)
