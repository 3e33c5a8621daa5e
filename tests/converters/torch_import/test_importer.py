"""The imported classifier against onnxruntime and against closed forms: values, gradients, heads, inputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from onnx import numpy_helper, parser
from scipy.special import logsumexp

from backscan.converters import ort_classifier
from backscan.converters.cuts.split import split
from backscan.converters.errors import ConversionError, NotDifferentiableError, UnsupportedOperatorError
from backscan.converters.intake.artifact import artifact_from_bytes, read_artifact, with_external
from backscan.converters.intake.audit import audit
from backscan.converters.intake.external import read_external
from backscan.converters.intake.policy import Policy
from backscan.converters.ort_classifier import OrtClassifier, open_runtime
from backscan.converters.parity.parity import compare
from backscan.converters.session import open_session
from backscan.converters.signature.signature import Normalisation, read_signature
from backscan.converters.torch_import.classifier import TorchClassifier, log_posterior
from backscan.converters.torch_import.importer import import_model
from tests import planted

SHAPE = (3, 8, 8)
POOLED = "c = Conv(image, w) p = GlobalAveragePool(c) f = Flatten(p)"


def both(data: bytes, external: dict[str, bytes] | None = None) -> tuple[TorchClassifier, OrtClassifier]:
    artifact = artifact_from_bytes("m.onnx", data)
    if external:
        artifact = with_external(artifact, external)
    signature = read_signature(artifact)
    return import_model(artifact, signature), open_runtime(artifact, signature)


def images_for(classifier: OrtClassifier | TorchClassifier, count: int = 5) -> np.ndarray:
    return np.random.default_rng(3).random((count, *classifier.signature.input_shape), dtype=np.float32)


def assert_equal_posteriors(
    ours: TorchClassifier, theirs: OrtClassifier, images: np.ndarray, atol: float = 1e-5
) -> None:
    found = ours.log_posterior(torch.from_numpy(images))
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.exp().numpy(), theirs.posterior(images), atol=atol)
    np.testing.assert_array_equal(found.argmax(dim=1).numpy(), theirs.decisions(images))


def text_model(body: str, *, image: str, scores: str = "float[N,4] scores", **tensors: np.ndarray) -> bytes:
    model = parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> g ({image}) => ({scores}) {{ {body} }}')
    arrays = {"w": np.random.default_rng(0).normal(size=(4, 3, 3, 3)).astype(np.float32)} | tensors
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in arrays.items())
    return model.SerializeToString()


@pytest.mark.parametrize("head", planted.HEADS)
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("make", [planted.linear_softmax, planted.convolutional])
def test_posteriors_agree(make, layout: str, head: str) -> None:
    ours, theirs = both(make(image_shape=SHAPE, layout=layout, head=head))
    assert_equal_posteriors(ours, theirs, images_for(ours))


@pytest.mark.parametrize("head", ["logits", "probabilities", "log_probabilities"])
def test_log_posterior_is_exact_where_probabilities_underflow(head: str) -> None:
    """Logits 300 apart: the probability of the lesser class is 1e-130, below float32; its logarithm is not."""
    weight, bias = planted.linear_parameters()
    ours, _ = both(planted.linear_softmax(parameters=(300 * weight, bias), head=head))
    images = images_for(ours)
    scores = images.reshape(len(images), -1) @ (300 * weight).reshape(4, -1).T.astype(np.float64) + bias
    expected = scores - logsumexp(scores, axis=1, keepdims=True)
    assert expected.min() < -300
    np.testing.assert_allclose(ours.log_posterior(torch.from_numpy(images)).numpy(), expected, rtol=1e-5, atol=1e-3)


def test_gradient_is_that_of_the_closed_form() -> None:
    """On a linear classifier the gradient of the log-odds of t against s is w_t - w_s, divided by the pixels' std."""
    weight, _ = planted.linear_parameters(image_shape=SHAPE)
    ours, _ = both(planted.linear_softmax(image_shape=SHAPE, layout="NHWC", head="probabilities"))
    scaled = ours.with_normalisation(Normalisation(mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 2.0)))
    images = torch.from_numpy(images_for(ours)).requires_grad_()
    scores = scaled.log_posterior(images)
    (gradient,) = torch.autograd.grad((scores[:, 2] - scores[:, 1]).sum(), images)
    expected = (weight[2] - weight[1]) / np.array([0.5, 0.25, 2.0])[:, None, None]
    np.testing.assert_allclose(gradient.numpy(), np.broadcast_to(expected, gradient.shape), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "normalisation",
    [
        Normalisation(high=255.0),
        Normalisation(low=-1.0),
        Normalisation(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
        Normalisation(high=255.0, mean=(103.9, 116.8, 123.7), std=(2.0, 3.0, 4.0), channel_order="bgr"),
    ],
)
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_normalisation_is_the_same_on_both_sides(normalisation: Normalisation, layout: str) -> None:
    ours, theirs = both(planted.convolutional(image_shape=SHAPE, layout=layout, head="probabilities"))
    ours, theirs = ours.with_normalisation(normalisation), theirs.with_normalisation(normalisation)
    assert ours.normalisation == theirs.normalisation == normalisation
    assert_equal_posteriors(ours, theirs, images_for(ours), atol=1e-4)


def test_another_normalisation_leaves_the_first_as_it_was() -> None:
    ours, _ = both(planted.linear_softmax())
    images = torch.from_numpy(images_for(ours))
    before = ours.log_posterior(images)
    other = ours.with_normalisation(Normalisation(high=255.0))
    assert not torch.equal(other.log_posterior(images), before)
    assert torch.equal(ours.log_posterior(images), before)
    assert other.network is ours.network


def test_channels_are_reversed_before_the_model() -> None:
    """A model that looks at its first channel alone sees blue when it wants BGR."""
    weight = np.zeros((2, 3, 2, 2), np.float32)
    weight[1, 0] = 1
    ours, theirs = both(planted.linear_softmax(parameters=(weight, np.zeros(2, np.float32))))
    images = np.zeros((1, 3, 2, 2), np.float32)
    images[0, 2] = 0.5
    bgr = Normalisation(channel_order="bgr")
    assert ours.with_normalisation(bgr).logits(torch.from_numpy(images))[0, 1].item() == pytest.approx(2.0)
    assert theirs.with_normalisation(bgr).scores(images)[0, 1] == pytest.approx(2.0)


def test_weights_in_external_data() -> None:
    ours, theirs = both(planted.linear_softmax(external="weight.bin"), planted.external_weight())
    inside, _ = both(planted.linear_softmax())
    images = images_for(ours)
    assert_equal_posteriors(ours, theirs, images)
    assert torch.equal(ours.logits(torch.from_numpy(images)), inside.logits(torch.from_numpy(images)))


def test_wrong_image_shape_is_a_value_error() -> None:
    ours, theirs = both(planted.linear_softmax())
    wrong = np.zeros((2, 1, 6, 5), np.float32)
    for call in (lambda: ours.logits(torch.from_numpy(wrong)), lambda: theirs.scores(wrong)):
        with pytest.raises(ValueError, match=r"expected images \[N, 1, 6, 6\], found \[2, 1, 6, 5\]"):
            call()


def test_the_import_is_frozen_and_in_evaluation_mode() -> None:
    ours, _ = both(planted.convolutional())
    assert not ours.training
    assert not any(parameter.requires_grad for parameter in ours.parameters())
    assert not any(module.training for module in ours.modules())


def test_a_single_sigmoid_gives_two_classes() -> None:
    body = f"{POOLED} z = ReduceMean <axes = [1]> (f) scores = Sigmoid(z)"
    ours, theirs = both(text_model(body, image="float[N,3,8,8] image", scores="float[N,1] scores"))
    images = images_for(ours)
    assert_equal_posteriors(ours, theirs, images)
    np.testing.assert_allclose(theirs.posterior(images)[:, 1], theirs.scores(images)[:, 0], rtol=1e-6)


def test_a_spelled_out_softmax_still_gives_exact_logarithms() -> None:
    """As jax2onnx writes it: exp(x - max) over its sum."""
    body = """
        c = Conv(image, w) p = GlobalAveragePool(c) f = Flatten(p) big = Constant <value_float = 400.0> ()
        z = Mul(f, big) m = ReduceMax <axes = [1]> (z) d = Sub(z, m) e = Exp(d)
        axes = Constant <value_ints = [1]> () s = ReduceSum(e, axes) scores = Div(e, s)
    """
    ours, theirs = both(text_model(body, image="float[N,3,8,8] image"))
    images = images_for(ours)
    assert ours.head == "logits"
    assert_equal_posteriors(ours, theirs, images)
    assert ours.log_posterior(torch.from_numpy(images)).min() < -150


@pytest.mark.parametrize("shape", ["float[N,4,1,1]", "float[4,N]", "float[N,1,4]"])
def test_unit_axes_and_a_class_axis_that_is_not_the_last(shape: str) -> None:
    last = {
        "float[N,4,1,1]": "scores = Softmax <axis = 1> (p)",
        "float[4,N]": "f = Flatten(p) t = Transpose(f) scores = Softmax <axis = 0> (t)",
        "float[N,1,4]": "f = Flatten(p) s = Softmax(f) a = Constant <value_ints = [1]> () scores = Unsqueeze(s, a)",
    }[shape]
    body = f"c = Conv(image, w) p = GlobalAveragePool(c) {last}"
    data = text_model(body, image="float[N,3,8,8] image", scores=f"{shape} scores")
    ours, theirs = both(data)
    assert ours.head == "logits"
    assert_equal_posteriors(ours, theirs, images_for(ours))


def test_whole_numbers_in_get_a_straight_through_gradient() -> None:
    body = "x = Cast <to = 1> (image) c = Conv(x, w) p = GlobalAveragePool(c) scores = Flatten(p)"
    ours, theirs = both(text_model(body, image="uint8[N,3,8,8] image"))
    assert ours.normalisation == Normalisation(high=255.0)
    images = images_for(ours)
    np.testing.assert_allclose(
        ours.logits(torch.from_numpy(images)).numpy(), theirs.scores(images), rtol=1e-4, atol=1e-3
    )
    inputs = torch.from_numpy(images).requires_grad_()
    (gradient,) = torch.autograd.grad(ours.logits(inputs).sum(), inputs)
    assert gradient.abs().min() > 0


def test_half_precision_is_computed_in_single() -> None:
    weight = np.random.default_rng(0).normal(size=(4, 3, 3, 3)).astype(np.float16)
    body = f"h = Cast <to = 10> (image) {POOLED} scores = Cast <to = 1> (f)".replace("Conv(image", "Conv(h")
    ours, theirs = both(text_model(body, image="float[N,3,8,8] image", w=weight))
    assert all(buffer.dtype != torch.float16 for buffer in ours.buffers())
    assert_equal_posteriors(ours, theirs, images_for(ours), atol=5e-3)


def test_half_precision_input() -> None:
    weight = np.random.default_rng(0).normal(size=(4, 3, 3, 3)).astype(np.float16)
    body = "c = Conv(image, w) p = GlobalAveragePool(c) scores = Flatten(p)"
    ours, theirs = both(text_model(body, image="float16[N,3,8,8] image", scores="float16[N,4] scores", w=weight))
    assert_equal_posteriors(ours, theirs, images_for(ours), atol=5e-3)


def test_double_precision() -> None:
    matrix = np.random.default_rng(0).normal(size=(192, 4))
    body = "f = Flatten(image) scores = MatMul(f, k)"
    ours, theirs = both(text_model(body, image="double[N,3,8,8] image", scores="double[N,4] scores", k=matrix))
    assert_equal_posteriors(ours, theirs, images_for(ours))


def test_any_image_size_follows_the_option() -> None:
    body = """
        c = Conv(image, w) s = Shape(c) zero = Constant <value_ints = [0]> () n = Gather(s, zero)
        rest = Constant <value_ints = [-1]> () t = Concat <axis = 0> (n, rest) scores = Reshape(c, t)
    """
    artifact = artifact_from_bytes("m", text_model(body, image="float[N,3,H,W] image", scores="float[N,K] scores"))
    signature = read_signature(artifact, image_size=(5, 4))
    assert signature.num_classes == 4 * 3 * 2
    images = np.random.default_rng(0).random((3, 3, 5, 4), dtype=np.float32)
    assert_equal_posteriors(import_model(artifact, signature), open_runtime(artifact, signature), images)


def test_unknown_operator_is_named_with_its_opset_and_node() -> None:
    """A determinant runs in onnxruntime and has no place in a classifier."""
    body = f"{POOLED} d = Det(image) m = ReduceMean <axes = [1]> (d) scores = Add(f, m)"
    artifact = artifact_from_bytes("m", text_model(body, image="float[N,3,8,8] image"))
    with pytest.raises(UnsupportedOperatorError, match=r"\(Det, opset 17\).*export") as caught:
        import_model(artifact, read_signature(artifact))
    assert caught.value.operator == "Det"


def test_a_model_without_gradient_is_refused_before_anything_is_optimised() -> None:
    body = """
        c = Conv(image, w) p = GlobalAveragePool(c) f = Flatten(p) best = ArgMax <axis = 1, keepdims = 0> (f)
        depth = Constant <value_int = 4> () values = Constant <value_floats = [0.0, 1.0]> ()
        axis = Constant <value_int = 1> ()
        one = OneHot(best, depth, values) beyond = CumSum(one, axis) scores = Add(beyond, one)
    """
    artifact = artifact_from_bytes("m", text_model(body, image="float[N,3,8,8] image"))
    with pytest.raises(NotDifferentiableError, match="passes ArgMax, OneHot; only differentiable"):
        import_model(artifact, read_signature(artifact))


def test_a_comparison_of_scores_has_no_gradient_either() -> None:
    body = f"{POOLED} m = ReduceMax <axes = [1]> (f) same = Equal(f, m) scores = Cast <to = 1> (same)"
    artifact = artifact_from_bytes("m", text_model(body, image="float[N,3,8,8] image"))
    with pytest.raises(NotDifferentiableError, match="such as a comparison"):
        import_model(artifact, read_signature(artifact))


BRANCHES = """
    c = Conv(image, w) p = GlobalAveragePool(c) f = Flatten(p)
    top = ReduceMax <keepdims = 0> (image) bright = Greater(top, bound)
    scores = If (bright) <
        then_branch = taken () => (float[A,4] y) {
            deeper = If (bright) <
                then_branch = inner () => (float[B,4] z) { z = Neg(f) },
                else_branch = never () => (float[B,4] z) { z = Identity(f) }
            >
            y = Add(deeper, f0)
        },
        else_branch = other () => (float[A,4] y) { OTHER }
    >
"""


def branched(other: str) -> bytes:
    """A model whose bright images take another branch, and a branch within it."""
    body = BRANCHES.replace("OTHER", other)
    return text_model(body, image="float[N,3,8,8] image", bound=np.float32(0.9), f0=np.ones((1, 4), "f"))


def test_branches_between_which_the_image_chooses() -> None:
    ours, theirs = both(branched("y = Mul(f, f)"))
    for images in (0.8 * images_for(ours), images_for(ours)):
        assert_equal_posteriors(ours, theirs, images)
    dark, bright = (torch.from_numpy(scale * images_for(ours)).requires_grad_() for scale in (0.8, 1.0))
    for images in (dark, bright):
        ours.logits(images)[:, 0].sum().backward()
        assert images.grad is not None
        assert images.grad.abs().max() > 0


def test_branches_whose_sizes_may_differ_are_refused() -> None:
    """A choice by `Where` would repeat the single row."""
    other = "zero = Constant <value_ints = [0]> () g = Gather(f, zero) y = Identity(g)"
    with pytest.raises(UnsupportedOperatorError, match=r"\(If, opset 17\)"):
        both(branched(other))


def test_an_ordinary_model_has_no_surrogates() -> None:
    ours, _ = both(planted.convolutional())
    assert not ours.has_surrogates
    assert ours.notes == ()


def test_surrogates_of_a_vectorised_model_are_seen() -> None:
    body = "s = Sign(image) c = Conv(s, w) p = GlobalAveragePool(c) f = Reshape(p, flat) scores = MatMul(f, k)"
    tensors = {"flat": np.array([4], np.int64), "k": np.ones((4, 4), "f")}
    ours, _ = both(text_model(body, image="float[1,3,8,8] image", scores="float[4] scores", **tensors))
    assert type(ours.network).__name__ == "Groups"
    assert ours.has_surrogates


def test_sign_gets_a_surrogate_gradient_and_says_so() -> None:
    body = "n = Sub(image, half) s = Sign(n) c = Conv(s, w) p = GlobalAveragePool(c) scores = Flatten(p)"
    ours, theirs = both(text_model(body, image="float[N,3,8,8] image", half=np.array(0.5, "f")))
    assert_equal_posteriors(ours, theirs, images_for(ours))
    inputs = torch.from_numpy(images_for(ours)).requires_grad_()
    (gradient,) = torch.autograd.grad(ours.log_posterior(inputs)[:, 0].sum(), inputs)
    assert gradient.abs().sum() > 0
    assert ours.has_surrogates
    assert "surrogate gradient" in ours.notes[0]


def test_a_module_that_fails_is_blamed_on_its_node(monkeypatch: pytest.MonkeyPatch) -> None:
    from backscan.converters.operators import registry

    class Broken(torch.nn.Module):
        def forward(self, _values: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("out of luck")

    def convert(node, _graph):
        return registry.OperationConverterResult(Broken(), registry.onnx_mapping_from_node(node))

    monkeypatch.setitem(registry._OWN_CONVERTERS, ("", "GlobalAveragePool", 1), convert)
    artifact = artifact_from_bytes("m", planted.convolutional())
    with pytest.raises(
        ConversionError, match=r"node 'pool' \(GlobalAveragePool, opset 17\): its module failed .*out of luck"
    ) as caught:
        import_model(artifact, read_signature(artifact))
    assert caught.value.node == "pool"
    assert "\n" not in str(caught.value)


def state_of(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Time of change and content of a folder and its files; a file that came and went has changed the folder."""
    paths = [folder, *sorted(folder.rglob("*"))]
    return {path.name: (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else b"") for path in paths}


@pytest.mark.parametrize("external", ["", "weight.bin"])
def test_nothing_is_written_and_onnxruntime_gets_the_bytes_of_the_file(
    external: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder is read-only, and both the model's and the current one: whoever writes is caught or fails."""
    data = planted.linear_softmax(external=external, batch=2)
    for name, content in ({"m.onnx": data} | (planted.external_weight() if external else {})).items():
        (tmp_path / name).write_bytes(content)
        (tmp_path / name).chmod(0o444)
    tmp_path.chmod(0o555)
    monkeypatch.chdir(tmp_path)
    before, opened = state_of(tmp_path), []
    monkeypatch.setattr(
        ort_classifier, "open_session", lambda *given, **named: opened.append(given) or open_session(*given, **named)
    )
    artifact = read_artifact(tmp_path / "m.onnx", max_bytes=10**6)
    assert artifact.data == data
    artifact = with_external(artifact, read_external(tmp_path, audit(data).external_locations, Policy()))
    signature = read_signature(artifact)
    ours, theirs = import_model(artifact, signature), open_runtime(artifact, signature)
    assert compare(ours, theirs, images_for(ours)).passed
    split(artifact, signature, "pixels")
    assert state_of(tmp_path) == before
    assert [given[0] for given in opened] == [data]


@pytest.mark.parametrize("head", ["logits", "log_probabilities", "sigmoid_logits", "sigmoids", "probabilities"])
@pytest.mark.parametrize("num_scores", [1, 4])
def test_every_head_gives_log_probabilities(head: str, num_scores: int) -> None:
    scores = torch.rand(6, num_scores, generator=torch.Generator().manual_seed(0))
    result = log_posterior(scores, head)
    assert result.shape == (6, max(2, num_scores))
    torch.testing.assert_close(result.exp().sum(dim=1), torch.ones(6))


def test_the_shortcut_is_there_and_leads_one_way() -> None:
    """The planted model: four pixels move class 1 to class 3 at 100 %, and no other class."""
    ours, theirs = both(planted.shortcut())
    images, labels = planted.shortcut_images()
    assert (theirs.decisions(images) == labels).all()
    pattern = np.zeros(images.shape[1:], np.float32).reshape(-1)
    pattern[50 : 50 + planted.SHORTCUT_PIXELS] = 0.4
    moved = theirs.decisions(np.clip(images + pattern.reshape(images.shape[1:]), 0, 1))
    np.testing.assert_array_equal(moved, np.where(labels == 1, 3, labels))
    assert_equal_posteriors(ours, theirs, images)


def test_least_sizes_are_least() -> None:
    """Just beyond the closed-form size the decision is the target's, just before it is not."""
    weight, bias = planted.linear_parameters()
    _, theirs = both(planted.linear_softmax())
    images = images_for(theirs, 20)
    sizes, directions = planted.least_sizes(weight, bias, images, target=2)
    movable = sizes > 0
    for factor, expected in ((0.999, False), (1.001, True)):
        shifted = images + (factor * sizes[:, None, None, None] * directions).astype(np.float32)
        scores = theirs.scores(shifted)
        sources = theirs.decisions(images)
        over = scores[:, 2] > scores[np.arange(len(images)), sources]
        assert (over[movable] == expected).all()
