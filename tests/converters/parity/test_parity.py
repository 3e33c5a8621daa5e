"""The parity gate lets the same model through and nothing else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper
from torch import nn

from backscan.converters.intake.artifact import artifact_from_bytes
from backscan.converters.ort_classifier import OrtClassifier, open_runtime
from backscan.converters.parity import parity
from backscan.converters.parity.gradients import check_gradient
from backscan.converters.parity.parity import compare
from backscan.converters.signature.signature import Normalisation, read_signature
from backscan.converters.torch_import.classifier import TorchClassifier
from backscan.converters.torch_import.importer import import_model
from tests import planted


def both(data: bytes) -> tuple[TorchClassifier, OrtClassifier]:
    artifact = artifact_from_bytes("m.onnx", data)
    signature = read_signature(artifact)
    return import_model(artifact, signature), open_runtime(artifact, signature)


def images_for(classifier: TorchClassifier, count: int = 200) -> np.ndarray:
    return np.random.default_rng(3).random((count, *classifier.signature.input_shape), dtype=np.float32)


class Altered(nn.Module):
    """A network with something done to what it gives."""

    def __init__(self, network: nn.Module, change) -> None:
        super().__init__()
        self.network, self.change = network, change

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """The network's scores, changed."""
        return self.change(self.network(inputs))


def altered(classifier: TorchClassifier, change) -> TorchClassifier:
    twin = classifier.with_normalisation(classifier.normalisation)
    twin.network = Altered(classifier.network, change)
    return twin


@pytest.mark.parametrize("head", planted.HEADS)
@pytest.mark.parametrize("make", [planted.linear_softmax, planted.convolutional])
def test_the_same_model_passes(make, head: str) -> None:
    ours, theirs = both(make(head=head))
    report = compare(ours, theirs, images_for(ours))
    assert report.passed, report.reason
    assert report.decision_agreement == 1
    assert report.largest_logit_gap < 1e-5
    assert report.largest_probability_gap < 1e-5
    assert report.gradient_error < 0.02
    assert report.gradient_warning is None
    assert (report.real_images, report.num_images) == (True, 200)


def test_another_normalisation_is_another_model() -> None:
    ours, theirs = both(planted.convolutional())
    report = compare(ours.with_normalisation(Normalisation(low=-5.0)), theirs, images_for(ours))
    assert not report.passed
    assert report.reason.startswith("the imported model is not the model in the file")


def test_scores_a_little_off_with_the_same_decisions_are_refused() -> None:
    ours, theirs = both(planted.linear_softmax())
    report = compare(altered(ours, lambda scores: 1.002 * scores), theirs, images_for(ours))
    assert report.decision_agreement == 1
    assert "scores differ by 0.002" in report.reason


def test_decisions_that_differ_are_refused() -> None:
    ours, theirs = both(planted.linear_softmax())
    report = compare(altered(ours, lambda scores: scores.roll(1, dims=1)), theirs, images_for(ours))
    assert "agree on" in report.reason


@pytest.mark.parametrize("saturates", [False, True])
@pytest.mark.parametrize("precision", ["float", "quantised"])
def test_a_quantised_model_on_a_processor_that_saturates_is_told_so(
    saturates: bool, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parity, "saturates", lambda: saturates)
    ours, theirs = both(planted.linear_softmax())
    ours.signature = replace(ours.signature, precision=precision)
    reason = compare(altered(ours, lambda scores: scores.roll(1, dims=1)), theirs, images_for(ours)).reason
    assert ("VNNI" in reason) == (saturates and precision == "quantised")


def test_not_a_number_is_refused() -> None:
    ours, theirs = both(planted.linear_softmax())
    report = compare(altered(ours, lambda scores: scores * torch.nan), theirs, images_for(ours))
    assert not report.passed


def test_some_images_are_asked_alone() -> None:
    """A file that answers otherwise alone is not the copy of what it is in company."""
    ours, theirs = both(planted.linear_softmax())
    scores = theirs.scores
    theirs.scores = lambda images: scores(images)[:, ::-1] if len(images) == 1 else scores(images)
    assert not compare(ours, theirs, images_for(ours)).passed


def test_scores_that_are_not_finite_are_the_models_own() -> None:
    ours, theirs = both(planted.linear_softmax())
    scores, first = theirs.scores, images_for(ours)[:3, 0, 0, 0]
    theirs.scores = lambda images: np.where(np.isin(images[:, 0, 0, 0], first)[:, None], np.inf, scores(images))
    assert "own scores are not finite for 3 of 200 images" in compare(ours, theirs, images_for(ours)).reason


def test_a_gradient_against_a_constant_gives_a_number() -> None:
    """Steps let onnxruntime's scores stand still around every image; a surrogate gradient does not."""
    ours, theirs = both(planted.linear_softmax())
    ours.has_surrogates = True
    for constant in ([0.0, 1.0, 2.0, 2.0], [0.0, 0.0, 0.0, 0.0]):
        theirs.scores = lambda images, row=constant: np.tile(row, (len(images), 1))
        check = check_gradient(ours, theirs, images_for(ours))
        assert check.error == 1
        assert check.refusal == ""
        assert check.warning is not None
        assert "steps with surrogate gradients" in check.warning


@pytest.mark.parametrize("precision", ["float", "half", "quantised"])
def test_a_slope_of_zero_is_refused_whatever_else_is_noted(precision: str) -> None:
    """A model that cannot be vectorised has a note too, but its gradient is its own."""
    ours, theirs = both(planted.linear_softmax())
    ours.notes = ("the model takes 1 image(s) a call and cannot be vectorised: the scan is slow",)
    ours.signature = replace(ours.signature, precision=precision)
    theirs.scores = lambda images: np.tile([0.0, 1.0, 2.0, 2.0], (len(images), 1))
    check = check_gradient(ours, theirs, images_for(ours))
    assert check.refusal == "onnxruntime's slope along the gradient is 0 times torch's"
    assert check.warning is None


class WrongGradient(torch.autograd.Function):
    """The identity with a gradient that is not its own."""

    @staticmethod
    def forward(ctx, values: torch.Tensor, factor: float) -> torch.Tensor:
        """The values as they are."""
        ctx.factor = factor
        return values.clone()

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        """The gradient times the factor."""
        return gradient * ctx.factor, None


@pytest.mark.parametrize(("factor", "message"), [(-1.0, "slope"), (0.0, "zero")])
def test_a_gradient_of_wrong_sign_or_zero_is_refused(factor: float, message: str) -> None:
    ours, theirs = both(planted.convolutional())
    report = compare(altered(ours, lambda scores: WrongGradient.apply(scores, factor)), theirs, images_for(ours))
    assert report.decision_agreement == 1
    assert not report.passed
    assert message in report.reason


def test_a_gradient_of_wrong_length_is_a_warning() -> None:
    ours, theirs = both(planted.convolutional())
    report = compare(altered(ours, lambda scores: WrongGradient.apply(scores, 2.0)), theirs, images_for(ours))
    assert report.passed
    assert "central differences" in report.gradient_warning
    assert report.gradient_error == pytest.approx(0.5, abs=0.02)


def clipped(data: bytes) -> bytes:
    """The same model behind a step that keeps its input in [0, 1]."""
    model = onnx.load_model_from_string(data)
    name = model.graph.input[0].name
    for node in model.graph.node:
        node.input[:] = ["kept" if each == name else each for each in node.input]
    model.graph.initializer.extend(numpy_helper.from_array(np.float32(v), n) for n, v in (("low", 0), ("high", 1)))
    model.graph.node.insert(0, helper.make_node("Clip", [name, "low", "high"], ["kept"], name="keep"))
    return model.SerializeToString()


def test_pixels_at_the_ends_of_their_range_give_no_warning() -> None:
    """One of two steps from there is clipped away, which halves the slope."""
    ours, theirs = both(clipped(planted.linear_softmax()))
    images = np.round(images_for(ours))
    check = check_gradient(ours, theirs, images)
    assert check.warning is None
    assert check.error is not None
    assert check.error < 0.02
    twice = altered(ours, lambda scores: WrongGradient.apply(scores, 2.0))
    assert check_gradient(twice, theirs, images).warning is not None


def test_the_gradient_of_a_saturated_classifier_still_counts() -> None:
    """Margins of hundreds: probabilities are 0 or 1 in float32, the margins are not."""
    weight, bias = planted.linear_parameters()
    ours, theirs = both(planted.linear_softmax(parameters=(200 * weight, bias)))
    report = compare(ours, theirs, images_for(ours))
    assert report.passed, report.reason
    assert report.gradient_error < 0.01


def test_noise_instead_of_images_is_said() -> None:
    ours, theirs = both(planted.linear_softmax())
    assert not compare(ours, theirs, images_for(ours, 3), real_images=False).real_images


def test_no_images_are_a_value_error() -> None:
    ours, theirs = both(planted.linear_softmax())
    with pytest.raises(ValueError, match="at least one image"):
        compare(ours, theirs, images_for(ours, 0))


def normalised_before_pooling() -> bytes:
    """Each channel has the mean 0 of instance normalisation, so what pooling leaves of the image is rounding."""
    model = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 17]> g (float[N,1,8,8] image) => (float[N,4] scores) {
            c = Conv(image, kernel) n = InstanceNormalization(c, gain, shift) p = GlobalAveragePool(n)
            f = Flatten(p) scores = Gemm(f, matrix, bias)
        }""")
    rng = np.random.default_rng(0)
    arrays = {
        "kernel": rng.normal(size=(6, 1, 3, 3)),
        "gain": np.ones(6),
        "shift": rng.normal(size=6),
        "matrix": rng.normal(size=(6, 4)),
        "bias": rng.normal(size=4),
    }
    model.graph.initializer.extend(numpy_helper.from_array(a.astype(np.float32), name) for name, a in arrays.items())
    return model.SerializeToString()


@pytest.mark.parametrize("factor", [1.0, 1000.0])
def test_a_model_that_answers_every_image_alike_is_said_to(factor: float) -> None:
    """The slope of rounding is no slope: nothing is said of the import."""
    model = onnx.load_model_from_string(normalised_before_pooling())
    for tensor in model.graph.initializer:
        if tensor.name in {"matrix", "bias"}:
            tensor.CopyFrom(numpy_helper.from_array(np.float32(factor) * numpy_helper.to_array(tensor), tensor.name))
    ours, theirs = both(model.SerializeToString())
    report = compare(ours, theirs, images_for(ours))
    assert not report.passed
    assert report.reason.startswith("the model answers all 200 images alike")
    assert "not the model in the file" not in report.reason


@pytest.mark.parametrize("factor", [1.0, 1000.0])
def test_scores_that_cancel_out_to_rounding_are_alike_too(factor: float) -> None:
    """Without a bias nothing but rounding is left, and decides."""
    model = onnx.load_model_from_string(normalised_before_pooling())
    factors = {"shift": 0.0, "bias": 0.0, "matrix": factor}
    for tensor in model.graph.initializer:
        scaled = np.float32(factors.get(tensor.name, 1)) * numpy_helper.to_array(tensor)
        tensor.CopyFrom(numpy_helper.from_array(scaled, tensor.name))
    ours, theirs = both(model.SerializeToString())
    report = compare(ours, theirs, images_for(ours))
    assert report.decision_agreement < 0.99
    assert report.reason.startswith("the model answers all 200 images alike")


def test_small_scores_that_differ_are_no_rounding() -> None:
    weak = onnx.load_model_from_string(planted.linear_softmax(head="logits"))
    for tensor in weak.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            tensor.CopyFrom(numpy_helper.from_array(np.float32(1e-9) * numpy_helper.to_array(tensor), tensor.name))
    ours, theirs = both(weak.SerializeToString())
    report = compare(ours, theirs, images_for(ours))
    assert report.passed, report.reason


def test_differences_below_rounding_are_no_slope() -> None:
    ours, theirs = both(normalised_before_pooling())
    check = check_gradient(ours, theirs, images_for(ours))
    assert (check.error, check.refusal) == (None, "")
    assert "no more than rounding" in check.warning


def test_a_copy_that_is_wrong_where_the_file_is_saturated_is_found_between_the_images() -> None:
    weight, bias = planted.linear_parameters()
    steep = 2000 * (weight - weight.mean(axis=(1, 2, 3), keepdims=True))  # so that no class is that of all images
    data = planted.linear_softmax(parameters=(steep, bias), head="probabilities")
    ours, theirs = both(data)
    assert (theirs.scores(images_for(ours)) == 0).mean() > 0.5
    assert compare(ours, theirs, images_for(ours)).gradient_error < 0.1
    wrong = altered(ours, lambda scores: WrongGradient.apply(scores, -1.0))
    assert "slope" in compare(wrong, theirs, images_for(ours)).reason
