"""Structures by their words, and what dropout and one score mean for training them again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.victims.datasets import LabelledImages, synthetic
from benchmarks.victims.export import opened, to_onnx
from benchmarks.victims.schedule import Schedule
from benchmarks.victims.small_networks import SMALL_NETWORKS, OneScored, Structure
from benchmarks.victims.training import fit

pytestmark = pytest.mark.filterwarnings(
    "ignore:You are using the legacy TorchScript-based ONNX export:DeprecationWarning"
)
SHORT = Schedule(epochs=2, batch_size=32, learning_rate=3e-3, weight_decay=0.0, channels_last=True)


@pytest.mark.parametrize("name", [name for name in SMALL_NETWORKS if "one score" not in name])
def test_every_structure_gives_a_score_for_each_class(name: str) -> None:
    shape = (1, 8, 8) if name.startswith("digit") else (3, 32, 32)
    network = SMALL_NETWORKS[name](shape, 7).eval()
    assert network(torch.zeros(2, *shape)).shape == (2, 7)


def test_words_say_what_follows_what() -> None:
    layers = list(Structure("b8 p o s12 r16 a f5")((3, 16, 16), 4))
    kinds = [type(layer).__name__.strip("_") for layer in layers]
    convolutions = ["Conv2d", "BatchNorm2d", "ReLU", "MaxPool2d", "Dropout", "Conv2d", "ReLU", "Residual"]
    assert kinds == [*convolutions, "AdaptiveAvgPool2d", "Flatten", "Linear", "ReLU", "Linear"]
    assert layers[-1].out_features == 4
    depthwise = next(iter(Structure("d6")((3, 8, 8), 2)))
    assert (depthwise.groups, depthwise.stride) == (3, (2, 2))


def test_one_score_is_two_logits_in_training_and_a_probability_in_the_file() -> None:
    network = OneScored(Structure("f4"))((1, 2, 2), 2)
    images = torch.rand(5, 1, 2, 2)
    logits = network.train()(images)
    probability = network.eval()(images)
    assert (logits.shape, probability.shape) == ((5, 2), (5, 1))
    torch.testing.assert_close(probability[:, 0], logits.softmax(dim=1)[:, 1])
    with pytest.raises(ValueError, match="expected two classes"):
        OneScored(Structure("f4"))((1, 2, 2), 3)


def trained(words: str, seed: int = 3, **changes: object) -> bytes:
    data = synthetic(np.random.default_rng(0)).train
    schedule = Schedule(**{**{name: getattr(SHORT, name) for name in SHORT.__slots__}, **changes})
    return to_onnx(fit(Structure(words)((3, 8, 8), 4), data, schedule, seed=seed), (3, 8, 8))


@pytest.mark.parametrize("changes", [{}, {"augment": True}, {"adversarial": 0.02}])
def test_training_again_gives_the_same_file_with_dropout_and_batch_norm(changes: dict[str, object]) -> None:
    first = trained("b8 p o f8 o", **changes)
    torch.manual_seed(99)  # what ran before does not matter
    assert trained("b8 p o f8 o", **changes) == first
    assert trained("b8 p o f8 o", seed=4, **changes) != first


def test_a_run_with_dropout_that_was_killed_continues_as_if_it_had_not_been(tmp_path: Path) -> None:
    data = synthetic(np.random.default_rng(0)).train

    def made(checkpoint: Path | None) -> bytes:
        network = Structure("c8 o f8")((3, 8, 8), 4)
        return to_onnx(fit(network, data, SHORT, seed=1, checkpoint=checkpoint), (3, 8, 8))

    kept = tmp_path / "state.pt"
    real = nn.Module.state_dict
    saved = []

    def killing(self: nn.Module, *args: object, **kwargs: object) -> object:
        if isinstance(self, nn.Sequential):
            saved.append(1)
            if len(saved) == 2:
                raise KeyboardInterrupt
        return real(self, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(nn.Module, "state_dict", killing)
        with pytest.raises(KeyboardInterrupt):
            made(kept)
    assert kept.exists()
    assert made(kept) == made(None)


def test_adversarial_training_makes_a_network_that_a_step_of_the_gradient_changes_less() -> None:
    data = synthetic(np.random.default_rng(0), noise=0.15)

    def after_a_step(adversarial: float) -> float:
        schedule = Schedule(epochs=12, batch_size=32, learning_rate=3e-3, weight_decay=0.0, adversarial=adversarial)
        network = fit(Structure("c8 f8")((3, 8, 8), 4), data.train, schedule, seed=1)
        images = torch.tensor(data.test.images, requires_grad=True)
        labels = torch.tensor(data.test.labels)
        [gradient] = torch.autograd.grad(nn.functional.cross_entropy(network(images), labels), images)
        moved = LabelledImages((images + 0.15 * gradient.sign()).clamp(0, 1).detach().numpy(), data.test.labels)
        return float(np.mean(opened(to_onnx(network, (3, 8, 8))).decisions(moved.images) == moved.labels))

    assert after_a_step(0.15) > after_a_step(0.0) + 0.1
