"""A model cut in two: both parts together are the model, and the cut artifact adds what it is told."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from onnx import numpy_helper, parser

from backscan.converters.cuts.split import cut_candidates, split
from backscan.converters.errors import ConverterError
from backscan.converters.intake.artifact import artifact_from_bytes, with_external
from backscan.converters.signature.signature import Normalisation, read_signature
from backscan.converters.torch_import.importer import import_model
from tests import planted

NORMALISATION = Normalisation(mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 2.0))


def residual() -> bytes:
    """An image that forks: past the fork only what joins both ways again is a place to cut."""
    body = """
        stem = Conv(image, w) left = Relu(stem) right = Neg(stem) joined = Add(left, right)
        p = GlobalAveragePool(joined) scores = Flatten(p)
    """
    values = "(float[N,3,6,6] image) => (float[N,4] scores)"
    model = parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> g {values} {{ {body} }}')
    weight = np.random.default_rng(0).normal(size=(4, 3, 3, 3)).astype(np.float32)
    model.graph.initializer.append(numpy_helper.from_array(weight, "w"))
    return model.SerializeToString()


def test_candidates_are_what_all_of_the_image_passes() -> None:
    artifact = artifact_from_bytes("m", residual())
    candidates = cut_candidates(artifact, read_signature(artifact))
    assert [candidate.name for candidate in candidates] == ["stem", "joined", "p"]
    assert [candidate.name for candidate in candidates if candidate.is_first_convolution] == ["stem"]
    assert [candidate.shape for candidate in candidates] == [(4, 4, 4), (4, 4, 4), (4, 1, 1)]
    assert {candidate.operator for candidate in candidates} == {"Conv", "Add", "GlobalAveragePool"}


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("head", ["logits", "probabilities"])
@pytest.mark.parametrize("batch", [None, 1, 3])
def test_both_parts_together_are_the_model_at_every_cut(layout: str, head: str, batch: int | None) -> None:
    artifact = artifact_from_bytes("m", planted.convolutional(layout=layout, head=head, batch=batch))
    signature = read_signature(artifact)
    classifier = import_model(artifact, signature).with_normalisation(NORMALISATION)
    images = np.random.default_rng(0).random((4, 3, 8, 8), dtype=np.float32)
    expected = classifier.log_posterior(torch.from_numpy(images))
    candidates = cut_candidates(artifact, signature)
    assert {"filtered", "normal", "active", "pooled", "features"} <= {candidate.name for candidate in candidates}
    for candidate in candidates:
        parts = split(artifact, signature, candidate.name, normalisation=NORMALISATION)
        features = parts.front(torch.from_numpy(images))
        assert features.shape[1:] == parts.shape == candidate.shape
        torch.testing.assert_close(parts.back(features), expected, rtol=1e-4, atol=1e-5)
        pattern = np.random.default_rng(1).normal(size=(1, *parts.shape)).astype(np.float32)
        moved = np.log(parts.original.adding(pattern).posterior(images))
        found = parts.back.log_posterior(features + torch.from_numpy(pattern))
        np.testing.assert_allclose(found.numpy(), moved, rtol=1e-3, atol=1e-4)
        assert np.abs(moved - expected.numpy()).max() > 0.05, "the pattern changed nothing"


def test_nothing_added_is_the_original() -> None:
    artifact = artifact_from_bytes("m", residual())
    signature = read_signature(artifact)
    parts = split(artifact, signature, "stem")
    images = np.random.default_rng(0).random((4, 3, 6, 6), dtype=np.float32)
    expected = import_model(artifact, signature).log_posterior(torch.from_numpy(images)).exp().numpy()
    found = parts.original.adding(np.zeros((1, *parts.shape), np.float32)).posterior(images)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_both_parts_are_differentiable() -> None:
    artifact = artifact_from_bytes("m", residual())
    parts = split(artifact, read_signature(artifact), "stem")
    images = torch.rand(2, 3, 6, 6, generator=torch.Generator().manual_seed(0)).requires_grad_()
    features = parts.front(images)
    (at_cut,) = torch.autograd.grad(parts.back(features)[:, 0].sum(), features, retain_graph=True)
    (at_image,) = torch.autograd.grad(parts.back(features)[:, 0].sum(), images)
    assert at_cut.abs().sum() > 0
    assert at_image.abs().sum() > 0


def test_external_data_stays_outside() -> None:
    artifact = artifact_from_bytes("m", planted.linear_softmax(external="weight.bin"))
    artifact = with_external(artifact, planted.external_weight())
    signature = read_signature(artifact)
    parts = split(artifact, signature, "pixels")
    images = np.random.default_rng(0).random((3, 1, 6, 6), dtype=np.float32)
    pattern = np.full((1, 36), 0.1, np.float32)
    shifted = parts.original.adding(pattern).posterior(images)
    np.testing.assert_allclose(shifted, parts.original.adding(0 * pattern).posterior(images + 0.1), atol=1e-5)


@pytest.mark.parametrize("name", ["left", "nowhere", "scores"])
def test_a_value_that_part_of_the_image_goes_round_is_refused(name: str) -> None:
    artifact = artifact_from_bytes("m", residual())
    with pytest.raises(ConverterError, match="choose one of stem, joined, p"):
        split(artifact, read_signature(artifact), name)
