"""Models that insist on a number of images, called with any number of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from onnx import numpy_helper, parser

from backscan.converters.intake.artifact import artifact_from_bytes
from backscan.converters.ort_classifier import OrtClassifier, open_runtime
from backscan.converters.signature.signature import read_signature
from backscan.converters.torch_import.batching import Groups, Rows
from backscan.converters.torch_import.classifier import TorchClassifier
from backscan.converters.torch_import.importer import import_model
from tests import planted


def both(data: bytes) -> tuple[TorchClassifier, OrtClassifier]:
    artifact = artifact_from_bytes("m.onnx", data)
    signature = read_signature(artifact)
    return import_model(artifact, signature), open_runtime(artifact, signature)


def fixed(batch: int, body: str, *, scores: str, **tensors: np.ndarray) -> bytes:
    model = parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 17]> g (float[{batch},3,6,6] image) => ({scores} scores) {{ {body} }}'
    )
    rng = np.random.default_rng(0)
    arrays = {"w": rng.normal(size=(4, 3, 2, 2)), "m": rng.normal(size=(36, 4)), "e": rng.normal(size=(1, 1, 4))}
    arrays = {name: array.astype(np.float32) for name, array in arrays.items()} | tensors
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in arrays.items())
    return model.SerializeToString()


def shape(*sizes: int) -> np.ndarray:
    return np.array(sizes, np.int64)


def assert_same_for_any_number(ours: TorchClassifier, theirs: OrtClassifier) -> None:
    """Scores for 1 to 7 images as onnxruntime gives them, each image alone as among others, with the same gradient."""
    images = np.random.default_rng(1).random((7, *ours.signature.input_shape), dtype=np.float32)
    expected = theirs.scores(images)
    for count in (1, 4, 7):
        found = ours.logits(torch.from_numpy(images[:count])).numpy()
        np.testing.assert_allclose(found, expected[:count], rtol=1e-4, atol=1e-5)
    inputs = torch.from_numpy(images).requires_grad_()
    (together,) = torch.autograd.grad(ours.log_posterior(inputs)[:, 1].sum(), inputs)
    alone = torch.from_numpy(images[2:3]).requires_grad_()
    (single,) = torch.autograd.grad(ours.log_posterior(alone)[:, 1].sum(), alone)
    torch.testing.assert_close(together[2:3], single, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("make", [planted.linear_softmax, planted.convolutional])
def test_a_batch_written_into_reshapes_is_freed(make, batch: int) -> None:
    ours, theirs = both(make(batch=batch))
    assert isinstance(ours.network, Rows)
    assert_same_for_any_number(ours, theirs)
    assert ours.notes == ()


@pytest.mark.parametrize("batch", [1, 2])
def test_a_class_token_is_repeated_for_every_image(batch: int) -> None:
    """As vision transformers exported at a fixed batch: the token stands in the file once per image."""
    body = """
        c = Conv <strides = [2, 2]> (image, w) f = Reshape(c, patches) t = Transpose <perm = [0, 2, 1]> (f)
        all = Concat <axis = 1> (e, t) n = Softmax <axis = 1> (all)
        scores = Gather <axis = 1> (n, zero)
    """
    token = np.repeat(np.random.default_rng(2).normal(size=(1, 1, 4)).astype(np.float32), batch, axis=0)
    data = fixed(
        batch, body, scores=f"float[{batch},4]", patches=shape(batch, 4, 9), zero=np.array(0, np.int64), e=token
    )
    ours, theirs = both(data)
    assert isinstance(ours.network, Rows)
    assert_same_for_any_number(ours, theirs)


UNFREEABLE = """
    c = Conv <strides = [2, 2]> (image, w) f = Reshape(c, flat) scores = MatMul(f, m)
"""


def test_a_batch_of_one_that_is_flattened_away_is_vectorised() -> None:
    """The image becomes a vector without any batch axis, so no rewriting can bring one back."""
    ours, theirs = both(fixed(1, UNFREEABLE, scores="float[4]", flat=shape(36)))
    assert isinstance(ours.network, Groups)
    assert ours.network.at_once
    assert_same_for_any_number(ours, theirs)


def test_images_of_a_batch_that_are_mixed_up_are_vectorised_in_groups() -> None:
    """The two images of a call are laid side by side; -1 in the wrong place would shuffle them."""
    body = """
        c = Conv <strides = [2, 2]> (image, w) s = Transpose <perm = [1, 0, 2, 3]> (c) r = Reshape(s, wide)
        back = Transpose <perm = [1, 0, 2]> (r) f = Reshape(back, flat) scores = MatMul(f, m)
    """
    ours, theirs = both(fixed(2, body, scores="float[2,4]", wide=shape(4, 2, 9), flat=shape(2, 36)))
    assert isinstance(ours.network, Groups)
    assert_same_for_any_number(ours, theirs)


def test_what_cannot_be_vectorised_is_called_for_each_image_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_function):
        raise RuntimeError("vmap: data-dependent control flow")

    monkeypatch.setattr(torch.func, "vmap", refuse)
    ours, theirs = both(fixed(1, UNFREEABLE, scores="float[4]", flat=shape(36)))
    assert not ours.network.at_once
    assert "slow" in ours.notes[0]
    assert_same_for_any_number(ours, theirs)


def test_no_images_give_no_rows() -> None:
    _, theirs = both(planted.linear_softmax(batch=3))
    assert theirs.posterior(np.zeros((0, 1, 6, 6), np.float32)).shape == (0, 4)


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("operator", ["LSTM", "GRU", "RNN"])
def test_first_states_of_a_fixed_batch_serve_any_number_of_images(operator: str, batch: int) -> None:
    """As recurrent models exported at a fixed batch: first state and lengths stand in the file once per image."""
    gates = {"LSTM": 16, "GRU": 12, "RNN": 4}[operator]
    body = f"""
        rows = Reshape(image, three) t = Transpose <perm = [1, 0, 2]> (rows)
        y, last = {operator} <hidden_size = 4> (t, wr, rr, b, lengths, first)
        one = Squeeze(last, zero) scores = Gemm(one, head)
    """
    draw = np.random.default_rng(0)
    sizes = {"wr": (1, gates, 18), "rr": (1, gates, 4), "b": (1, 2 * gates), "head": (4, 3)}
    tensors = {name: (draw.normal(size=size) / 2).astype(np.float32) for name, size in sizes.items()}
    state = np.repeat(draw.normal(size=(1, 1, 4)), batch, axis=1).astype(np.float32)
    tensors |= {"three": shape(batch, 6, 18), "zero": shape(0), "first": state}
    data = fixed(batch, body, scores=f"float[{batch},3]", lengths=np.full(batch, 6, np.int32), **tensors)
    assert_same_for_any_number(*both(data))
