"""Which images a scan uses: drawn by class, a fifth held out; the model's decisions where labels are missing."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from backscan.scanner.config import ScanConfig
from backscan.scanner.images.cleanset import CleanSet
from backscan.scanner.pipeline.record import Draft, Settled
from backscan.scanner.pipeline.selection import Images, select
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

    def decisions(self, images: np.ndarray) -> np.ndarray:
        """Classes in tenths."""
        self.asked += 1
        return np.round(images[:, 0, 0, 0] * 10).astype(np.int64)


@pytest.fixture
def draft() -> Draft:
    example = examples.no_verdict()
    return Draft(model=example.model, config={}, provenance=example.provenance, progress=SilentProgress())


def chosen(clean: CleanSet, draft: Draft, model: Model | None = None, **options: int) -> Images:
    return select(model or Model(), clean, SimpleNamespace(num_classes=4), ScanConfig(**options), draft)


def test_a_fifth_is_held_out_and_at_least_three(tmp_path, draft):
    """20 images: 4 held out. 8: 3, and 5 are just enough. 7: 3, and 4 are too few."""
    images = chosen(a_clean_set(tmp_path), draft)
    assert {label: len(of) for label, of in images.optimised().items()} == {0: 16, 1: 5}
    assert {label: len(of) for label, of in images.held_out().items()} == {0: 4, 1: 3, 2: 3}
    for by_class in (images.optimised(), images.held_out()):
        for label, of in by_class.items():
            assert of.shape[1:] == (1, 2, 2)
            np.testing.assert_allclose(of, label / 10)


def test_no_image_is_searched_and_held_out(tmp_path, draft):
    drawn = chosen(a_clean_set(tmp_path), draft).drawn
    for label, indices in drawn.optimise.items():
        assert not set(indices.tolist()) & set(drawn.held_out[label].tolist())


def test_what_is_used_is_recorded(tmp_path, draft):
    clean = a_clean_set(tmp_path)
    chosen(clean, draft, images_per_class=9)
    data = draft.fields["data"]
    assert (data.images_per_class, data.held_out_per_class) == ((9, 5, 0, 0), (4, 3, 3, 0))
    assert (data.num_images, data.labels, data.name, data.found_beside_model) == (35, "given", "images.npz", True)
    assert data.digest == clean.digest
    assert draft.result(Verdict.NOT_DETECTED, ()).not_tested == ("attacks from classes 2, 3: too few images of them",)


def test_decisions_are_asked_for_only_without_labels(tmp_path, draft):
    model = Model()
    with_labels = chosen(a_clean_set(tmp_path), draft, model)
    assert model.asked == 0
    without = chosen(a_clean_set(tmp_path, labelled=False), draft, model)
    assert model.asked == 1
    assert draft.fields["data"].labels == "decisions"
    np.testing.assert_array_equal(without.labels, with_labels.labels)


def test_the_seed_decides_the_draw(tmp_path, draft):
    clean = a_clean_set(tmp_path)
    first, again, other = (chosen(clean, draft, seed=seed).drawn.optimise[0] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert first.tolist() != other.tolist()


def test_without_any_class_nothing_is_said(tmp_path, draft):
    with pytest.raises(Settled, match="no class has enough images to search with: add images") as caught:
        chosen(a_clean_set(tmp_path, counts={0: 7, 1: 3}), draft)
    assert caught.value.verdict is Verdict.INCONCLUSIVE
    assert draft.fields["data"].images_per_class == (0, 0, 0, 0)
