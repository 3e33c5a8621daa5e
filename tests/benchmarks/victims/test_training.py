"""Training: augmentation, resuming after a kill, and networks beside each other against one at a time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.victims.augmentation import move_and_mirror
from benchmarks.victims.datasets import LabelledImages, synthetic
from benchmarks.victims.export import opened, to_onnx
from benchmarks.victims.networks import NETWORKS, digit_net, resnet20
from benchmarks.victims.schedule import Schedule
from benchmarks.victims.training import Run, fit, fit_together

SHAPE = (3, 8, 8)
SCHEDULE = Schedule(epochs=3, batch_size=16, learning_rate=1e-3, weight_decay=1e-4, label_smoothing=0.1, augment=True)


def random_images(count: int, seed: int) -> LabelledImages:
    """In float64, where the order of additions decides nothing visible."""
    rng = np.random.default_rng(seed)
    return LabelledImages(rng.random((count, *SHAPE)), rng.integers(0, 4, count))


def small_resnet() -> nn.Module:
    return resnet20(SHAPE, 4).double()


def test_moving_and_mirroring_against_loops() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(6, 2, 5, 7, generator=generator)
    shifts = torch.tensor([[0, 0], [1, -2], [-4, 4], [3, 0], [0, 0], [2, 1]])
    mirrored = torch.tensor([False, False, False, False, True, True])
    moved = move_and_mirror(images, shifts, mirrored)
    for index, (down, right) in enumerate(shifts.tolist()):
        expected = torch.zeros(2, 5, 7)
        for row in range(5):
            for column in range(7):
                if 0 <= row + down < 5 and 0 <= column + right < 7:
                    expected[:, row, column] = images[index, :, row + down, column + right]
        torch.testing.assert_close(moved[index], expected.flip(2) if mirrored[index] else expected)


@pytest.mark.parametrize("augment", [False, True])
def test_training_again_gives_the_same_network(augment: bool) -> None:
    schedule = Schedule(epochs=2, batch_size=16, learning_rate=1e-3, weight_decay=0.0, augment=augment)
    train = synthetic(np.random.default_rng(0)).train
    first, again, other = (fit(digit_net(SHAPE, 4), train, schedule, seed=seed) for seed in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters(), strict=True))


def test_a_killed_run_continues_where_it_was_to_the_same_network(tmp_path: Path) -> None:
    train, path = random_images(50, 0), tmp_path / "run.pt"
    whole = fit(small_resnet(), train, SCHEDULE, seed=5)
    begun = Run(small_resnet(), train, SCHEDULE, seed=5, checkpoint=path).steps()
    for _ in range(9):  # of four an epoch: it ends in the middle of the third
        next(begun)
    begun.close()
    continued = Run(small_resnet(), train, SCHEDULE, seed=5, checkpoint=path)
    assert len(list(continued.steps())) == 4, "only the third epoch is left"
    for name, tensor in whole.state_dict().items():
        torch.testing.assert_close(continued.network.state_dict()[name], tensor, rtol=0, atol=0)


def test_networks_that_train_beside_each_other_become_what_they_become_alone() -> None:
    trains = [random_images(count, seed) for count, seed in ((46, 1), (20, 2), (46, 3))]
    together = fit_together([Run(small_resnet(), train, SCHEDULE, seed=7) for train in trains])
    for train, network in zip(trains, together, strict=True):
        alone = fit(small_resnet(), train, SCHEDULE, seed=7)
        assert not network.training
        for name, tensor in alone.state_dict().items():
            assert torch.equal(network.state_dict()[name], tensor), name


@pytest.mark.parametrize("name", ["digit_net", "small_net", "resnet20", "conv3 bn", "digit mlp2"])
@pytest.mark.filterwarnings("ignore:You are using the legacy TorchScript-based ONNX export:DeprecationWarning")
def test_exported_networks_decide_as_the_trained_ones(name: str) -> None:
    classes = 2 if name.startswith("one score") else 4
    dataset = synthetic(np.random.default_rng(0), num_classes=classes, shape=(3, 16, 16))
    schedule = Schedule(epochs=8, batch_size=32, learning_rate=3e-3, weight_decay=0.0)
    network = fit(NETWORKS[name](dataset.shape, classes), dataset.train, schedule, seed=0)
    decisions = opened(to_onnx(network, dataset.shape)).decisions(dataset.test.images)
    with torch.no_grad():
        scores = network(torch.from_numpy(dataset.test.images)).numpy()
    expected = scores.argmax(axis=1) if scores.shape[1] > 1 else (scores[:, 0] > 0.5).astype(np.int64)
    np.testing.assert_array_equal(decisions, expected)
    assert np.mean(decisions == dataset.test.labels) > 0.9


def test_resnet20_has_the_papers_size() -> None:
    network = resnet20((3, 32, 32), 10)
    assert sum(weights.numel() for weights in network.parameters()) == pytest.approx(0.27e6, rel=0.01)
    assert sum(isinstance(module, nn.Conv2d | nn.Linear) for module in network.modules()) == 20
