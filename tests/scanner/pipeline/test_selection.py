"""Which images a scan uses: drawn by class, a fifth held out; the model's decisions where labels are missing."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from backscan.scanner.config import ScanConfig
from backscan.scanner.images.cleanset import CleanSet
from backscan.scanner.inference.verdict import Judgement
from backscan.scanner.pipeline.record import Images, Record, Run, Stopped
from backscan.scanner.pipeline.selection import split_images
from backscan.scanner.progress import SilentProgress
from backscan.scanner.results import Verdict
from tests.scanner.reports import examples

COUNTS = {0: 20, 1: 8, 2: 7, 3: 0}


def a_clean_set(folder: Path, *, labelled: bool = True, counts: dict[int, int] = COUNTS) -> CleanSet:
    """Images whose pixels are their class, in tenths."""
    labels = np.repeat(list(counts), list(counts.values()))
    pixels = np.broadcast_to(labels[:, None, None] / 10, (len(labels), 2, 2)).astype(np.float32)
    np.savez(folder / "images.npz", x=pixels, **({"y": labels} if labelled else {}))
    return CleanSet.load(folder / "images.npz", found_beside_model=True)


class Model:
    """Decides what the pixels say; counts how often it is asked."""

    asked = 0
    facts = SimpleNamespace(num_classes=4)

    def decisions(self, images: np.ndarray) -> np.ndarray:
        """Classes in tenths."""
        self.asked += 1
        return np.round(images[:, 0, 0, 0] * 10).astype(np.int64)


@pytest.fixture
def record() -> Record:
    artifact = SimpleNamespace(name="m.onnx", sha256="m", data=b"", external={})
    return Record(artifact, None, ScanConfig(), examples.no_verdict().provenance, SilentProgress())


def chosen(clean: CleanSet, record: Record, model: Model | None = None, **options: int) -> Images:
    return record.take(split_images(Run(ScanConfig(**options), record, None), model or Model(), clean))


def test_a_fifth_is_held_out_and_at_least_three(tmp_path, record):
    """20 images: 4 held out. 8: 3, and 5 are just enough. 7: 3, and 4 are too few."""
    images = chosen(a_clean_set(tmp_path), record)
    assert {label: len(of) for label, of in images.search().items()} == {0: 16, 1: 5}
    assert {label: len(of) for label, of in images.held_out().items()} == {0: 4, 1: 3, 2: 3}
    for by_class in (images.search(), images.held_out()):
        for label, of in by_class.items():
            assert of.shape[1:] == (1, 2, 2)
            np.testing.assert_allclose(of, label / 10)


def test_no_image_is_searched_and_held_out(tmp_path, record):
    drawn = chosen(a_clean_set(tmp_path), record).drawn
    for label, indices in drawn.optimise.items():
        assert not set(indices.tolist()) & set(drawn.held_out[label].tolist())


def test_what_is_used_is_recorded(tmp_path, record):
    clean = a_clean_set(tmp_path)
    chosen(clean, record, images_per_class=9)
    data = record.get(Images).record
    assert (data.images_per_class, data.held_out_per_class) == ((9, 5, 0, 0), (4, 3, 3, 0))
    assert (data.num_images, data.labels, data.name, data.found_beside_model) == (35, "given", "images.npz", True)
    assert data.digest == clean.digest
    told = record.result(Judgement(Verdict.NOT_DETECTED, ())).not_tested
    assert "attacks from classes 2, 3: too few images of them" in told


def test_decisions_are_asked_for_only_without_labels(tmp_path, record):
    model = Model()
    with_labels = chosen(a_clean_set(tmp_path), record, model)
    assert model.asked == 0
    without = chosen(a_clean_set(tmp_path, labelled=False), record, model)
    assert model.asked == 1
    assert record.get(Images).record.labels == "decisions"
    assert {label: of.tolist() for label, of in without.drawn.optimise.items()} == {
        label: of.tolist() for label, of in with_labels.drawn.optimise.items()
    }


def test_the_seed_decides_the_draw(tmp_path, record):
    clean = a_clean_set(tmp_path)
    first, again, other = (chosen(clean, record, seed=seed).drawn.optimise[0] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert first.tolist() != other.tolist()


def test_without_any_class_nothing_is_said(tmp_path, record):
    with pytest.raises(Stopped, match="no class has enough images to search with: add images") as caught:
        chosen(a_clean_set(tmp_path, counts={0: 7, 1: 3}), record)
    assert caught.value.stop.verdict is Verdict.INCONCLUSIVE
    assert record.get(Images).record.images_per_class == (0, 0, 0, 0)
