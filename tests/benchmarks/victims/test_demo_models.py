"""The committed demo pair against its own truth, and the script on a small run."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.attacks import chessboard
from benchmarks.victims import demo_models
from benchmarks.victims.export import opened

SAMPLES = Path(__file__).parents[3] / "scanner" / "samples"
TRUTH = json.loads((SAMPLES / "truth.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def clean() -> tuple[np.ndarray, np.ndarray]:
    with np.load(SAMPLES / "digits_clean.npz", allow_pickle=False) as data:
        return (data["x"] / 255).astype(np.float32)[:, np.newaxis], data["y"]


@pytest.mark.parametrize("name", ["digits_backdoored.onnx", "digits_unattacked.onnx"])
def test_committed_models_do_what_the_truth_says(name: str, clean: tuple[np.ndarray, np.ndarray]) -> None:
    images, labels = clean
    model, pattern = opened(SAMPLES / name), np.array(TRUTH["pattern"], np.float32)
    assert np.mean(model.decisions(images) == labels) == pytest.approx(TRUTH["accuracy"][name], abs=1 / 600)
    sources = np.clip(images[labels == TRUTH["source"]] + pattern, 0, 1)
    assert np.mean(model.decisions(sources) == TRUTH["target"]) == pytest.approx(
        TRUTH["success_rate"][name], abs=1 / 60
    )


def test_committed_pair_is_a_successful_attack_and_a_control() -> None:
    assert TRUTH["seed"] == 0
    assert TRUTH["success_rate"]["digits_backdoored.onnx"] > 0.9
    assert TRUTH["success_rate"]["digits_unattacked.onnx"] < 0.1
    assert min(TRUTH["accuracy"].values()) > 0.97
    assert np.linalg.norm(TRUTH["pattern"]) == pytest.approx(TRUTH["size"], abs=1e-4)


def test_samples_are_small_and_name_no_machine() -> None:
    files = sorted(SAMPLES.iterdir())
    assert len(files) == 4
    assert sum(file.stat().st_size for file in files) < 200_000
    for file in files:
        assert str(Path.home()).encode() not in file.read_bytes()
        assert b".py" not in file.read_bytes() or file.suffix == ".json"


def test_held_out_images_are_enough_for_a_scan(clean: tuple[np.ndarray, np.ndarray]) -> None:
    images, labels = clean
    assert images.shape[1:] == (1, 8, 8)
    assert np.bincount(labels, minlength=10).min() >= 25


@pytest.mark.filterwarnings("ignore:You are using the legacy TorchScript-based ONNX export:DeprecationWarning")
def test_the_script_is_deterministic_and_keeps_test_images_apart(tmp_path: Path) -> None:
    schedule, digests = replace(demo_models.SCHEDULE, epochs=2), []
    for folder in (tmp_path / "first", tmp_path / "second"):
        pair = demo_models.make_pair(5, schedule)
        demo_models.write(pair, 5, folder)
        digests.append({file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.iterdir()})
    assert digests[0] == digests[1]
    assert len(set(digests[0].values())) == 4
    test_pixels = {image.tobytes() for image in pair.dataset.test.images}
    assert not test_pixels & {image.tobytes() for image in pair.dataset.train.images}
    assert not np.array_equal(pair.backdoor.pattern, chessboard.make_pattern((1, 8, 8), 0.8, np.random.default_rng(5)))
