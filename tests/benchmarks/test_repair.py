"""The table of repairs counts what it says, and a repair is measured from the files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from backscan.scanner import CleanSet, ScanConfig
from backscan.scanner.results import Verdict
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
    assert not [line for line in lines if "added to the image" in line]
    (blind,) = [line for line in lines if "all, blind" in line]
    assert "1 of 1" in blind


@pytest.fixture
def victim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Victim:
    """An attacked network, and eighty images that its repair takes."""
    path = tmp_path / "victim.onnx"
    path.write_bytes(convolutional(num_classes=10, image_shape=(1, 8, 8)))
    (plan,) = make_plans("numerals", "chessboard, one-way", [0])
    labels = np.tile(np.arange(10), 8)
    images = np.random.default_rng(0).random((80, 1, 8, 8), np.float32)
    monkeypatch.setattr(repair, "clean_images", lambda *_, **__: LabelledImages(images, labels))
    return Victim(plan, path, np.full((1, 8, 8), 0.1, np.float32), Effect(1.0, 1.0, {}))


def test_a_network_without_a_kept_scan_is_repaired_blindly(victim: Victim, tmp_path: Path) -> None:
    effort = repair.Effort(images=4, steps=2, methods=("unlearn", "prune", "bound-activations"))
    before = victim.model.read_bytes()
    found = repair.repaired(victim, effort, tmp_path, None)
    assert found["recovered"] is False
    for method in ("before", "unlearn", "bound-activations"):
        assert set(found[method]) == {"accuracy", "success"}
    assert "obstacle" in found["prune"]
    assert victim.model.read_bytes() == before
    json.dumps(found, allow_nan=False)


def test_scans_of_repaired_files_are_counted() -> None:
    rows = [row("a", 0.05, 0.95) for _ in range(4)]
    for each, verdict in zip(rows, ("not_detected", "not_detected", "inconclusive", "backdoor_detected"), strict=True):
        each["unlearn"] |= {"verdict": verdict}
        each["added"] = True
    lines = repair.summary(rows, ["unlearn"])
    assert all("2 of 4 (7% to 93%), 1 inconclusive" in line for line in lines[2:])
    assert any("added to the image" in line for line in lines)


def test_repairs_of_unattacked_networks_are_told_by_what_changes() -> None:
    rows = [{"before": {"accuracy": 0.7}, "minimax": {"accuracy": after}} for after in (0.7, 0.697, 0.68, 0.71)]
    *_, line = repair.unattacked_summary(rows, ["minimax", "unlearn"])
    assert line.startswith("| minimax | 4 | 70.0% | 69.7% | 2.0% | 1.0% | 2 of 4 (7% to 93%) | - |")


def test_a_repaired_file_is_scanned_as_the_defender_would(
    victim: Victim, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def scan(path: Path, clean: CleanSet, config: ScanConfig) -> SimpleNamespace:
        asked.append((path.read_bytes(), len(clean.images), config.preprocess))
        return SimpleNamespace(verdict=Verdict.INCONCLUSIVE)

    monkeypatch.setattr(repair, "scan", scan)
    effort = repair.Effort(images=4, steps=2, methods=("fine-tune", "bound-activations"), scan_again=True)
    found = repair.repaired(victim, effort, tmp_path, None)
    assert found["fine-tune"]["verdict"] == "inconclusive"
    assert "verdict" not in found["bound-activations"]
    ((data, count, preprocess),) = asked
    assert data != victim.model.read_bytes()
    assert (count, preprocess) == (40, "none")


def test_an_unattacked_network_has_no_pattern_to_measure(victim: Victim, tmp_path: Path) -> None:
    plain = replace(victim, pattern=None)
    found = repair.repaired(plain, repair.Effort(images=4, steps=1, methods=("minimax",)), tmp_path, None)
    assert set(found["before"]) == set(found["minimax"]) == {"accuracy"}


def test_the_defenders_images_never_measure() -> None:
    images = np.arange(40, dtype=np.float32).reshape(40, 1, 1, 1)
    test = LabelledImages(images, np.tile(np.arange(2), 20))
    learning, measuring = repair._parts(test, 5)
    assert len(learning.labels) == 10
    assert not set(learning.images.ravel()) & set(measuring.images.ravel())
