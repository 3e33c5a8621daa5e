"""The table of repairs counts what it says, and a repair is measured from the files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import repair
from benchmarks.victims.datasets import LabelledImages
from benchmarks.victims.plans import make_plans
from benchmarks.victims.poison import Effect
from benchmarks.victims.victims import Victim
from tests.planted import convolutional


def row(group: str, success: float, accuracy: float, *, recovered: bool = True) -> dict[str, object]:
    before = {"accuracy": 0.95, "success": 1.0}
    return {
        "group": group,
        "recovered": recovered,
        "before": before,
        "unlearn": {"accuracy": accuracy, "success": success},
    }


def test_counts_are_of_low_success_and_of_small_losses() -> None:
    rows = [row("a", 0.05, 0.945), row("a", 0.05, 0.93), row("a", 0.5, 0.95), row("b", 0.0, 0.95, recovered=False)]
    lines = repair.summary(rows, ["unlearn", "prune"])
    (of_a,) = [line for line in lines if line.startswith("| a |")]
    assert "2 of 3" in of_a
    assert "1 of 3" in of_a
    assert not [line for line in lines if "prune" in line]
    (blind,) = [line for line in lines if "all, blind" in line]
    assert "1 of 1" in blind


@pytest.fixture
def victim(tmp_path: Path) -> Victim:
    path = tmp_path / "victim.onnx"
    path.write_bytes(convolutional(num_classes=10, image_shape=(1, 8, 8)))
    (plan,) = make_plans("numerals", "chessboard, one-way", [0])
    return Victim(plan, path, np.full((1, 8, 8), 0.1, np.float32), Effect(1.0, 1.0, {}))


def test_a_network_without_a_kept_scan_is_repaired_blindly(
    victim: Victim, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = np.tile(np.arange(10), 8)
    images = np.random.default_rng(0).random((80, 1, 8, 8), np.float32)
    monkeypatch.setattr(repair, "clean_images", lambda *_, **__: LabelledImages(images, labels))
    effort = repair.Effort(images=4, steps=2, methods=("unlearn", "prune", "bound-activations"))
    before = victim.model.read_bytes()
    found = repair.repaired(victim, effort, tmp_path, None)
    assert found["recovered"] is False
    for method in ("before", "unlearn", "bound-activations"):
        assert set(found[method]) == {"accuracy", "success"}
    assert "obstacle" in found["prune"]
    assert victim.model.read_bytes() == before
    json.dumps(found, allow_nan=False)


def test_the_defenders_images_never_measure() -> None:
    images = np.arange(40, dtype=np.float32).reshape(40, 1, 1, 1)
    test = LabelledImages(images, np.tile(np.arange(2), 20))
    learning, measuring = repair._parts(test, 5)
    assert len(learning.labels) == 10
    assert not set(learning.images.ravel()) & set(measuring.images.ravel())
