"""Where no common candidate explains the images: rarer ones and a search take over, and a doubt is named."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from backscan.converters.signature.signature import Normalisation
from backscan.scanner.config import ScanConfig
from backscan.scanner.images.candidates import CANDIDATES, candidate, fitting_candidates
from backscan.scanner.images.cleanset import CleanSet
from backscan.scanner.images.doubtful import is_better
from backscan.scanner.images.preprocessing import settle_preprocessing

Decide = Callable[[np.ndarray, Normalisation], np.ndarray]
RARE = [name for name in CANDIDATES if name in fitting_candidates(3, None, rare=True)]


def grey_levels(classes: int = 20) -> CleanSet:
    """Classes by grey level, the same in all channels."""
    labels = np.arange(1000) % classes
    images = np.tile(((labels + 0.5) / classes)[:, None, None, None], (1, 3, 2, 2)).astype(np.float32)
    return CleanSet(images, labels, name="x.npz", digest="0", class_names={})


def reads(right: Normalisation, *, seen: set[Normalisation] | None = None, classes: int = 20) -> Decide:
    """A model that undoes one normalisation, in that order of colours, and finds the nearest of the levels."""

    def decide(images: np.ndarray, normalisation: Normalisation) -> np.ndarray:
        if seen is not None:
            seen.add(normalisation)
        given, own = (np.array(each.affine(images.shape[1])) for each in (normalisation, right))
        levels = ((images.mean(axis=(2, 3)) * given[0] + given[1] - own[1]) / own[0])[:, -1]
        found = np.clip(np.floor(levels * classes), 0, classes - 1).astype(np.int64)
        return found if normalisation.channel_order == right.channel_order else classes - 1 - found

    return decide


@pytest.mark.parametrize("name", ["caffe-bgr", "caffe", "raw-centred-bgr", "raw-centred", "centred-bgr"])
def test_rarer_candidates_are_found(name):
    settled = settle_preprocessing(grey_levels(), reads(candidate(name)), ScanConfig())
    assert settled.names[0] == name
    assert settled.accuracy == 1.0
    assert settled.doubt is None
    judged = {each.name: each for each in settled.record.candidates}
    assert set(fitting_candidates(3, None)) <= set(judged)
    assert not judged["none"].tied


def test_the_table_has_every_candidate_once_common_or_rare():
    assert [*fitting_candidates(3, None), *RARE] == [name for name in CANDIDATES if "mnist" not in name]
    assert list(fitting_candidates(1, None, rare=True)) == [
        "raw-centred",
        "efficientnet-lite",
        "centred",
        "fashion-mnist",
        "standardised",
    ]


@pytest.mark.parametrize("name", ["none", "imagenet", "raw-bgr"])
def test_what_fits_is_left_alone(name):
    seen = set[Normalisation]()
    settled = settle_preprocessing(grey_levels(), reads(candidate(name), seen=seen), ScanConfig(), confidence=sure(1.0))
    assert settled.names[0] == name
    assert seen == set(fitting_candidates(3, None).values())


def sure(value: float) -> Callable[[np.ndarray, Normalisation], float]:
    return lambda images, _: value if len(images) else 0.0


def test_a_rarer_one_that_is_no_better_changes_nothing():
    """A weak model: right for 17 of the 20 classes under `none`, and for a fifth of the others under `centred`."""

    def decide(images: np.ndarray, normalisation: Normalisation) -> np.ndarray:
        found = reads(candidate("none"))(images, Normalisation())
        if normalisation in (candidate("none"), candidate("centred")):
            wrong = (found > 16) & ((normalisation == candidate("none")) | (np.arange(len(found)) % 100 >= 20))
            return np.where(wrong, 0, found)
        return np.zeros_like(found)

    settled = settle_preprocessing(grey_levels(), decide, ScanConfig())
    assert settled.names == ("none",)
    assert settled.warnings == ()


@pytest.mark.parametrize(("low", "high", "order"), [(-2.2, 5.5, "rgb"), (-40.0, 60.0, "bgr"), (0.0, 1.9, "rgb")])
def test_a_scale_that_nobody_lists_is_searched(low, high, order):
    right = Normalisation(low=low, high=high, channel_order=order)
    settled = settle_preprocessing(grey_levels(8), reads(right, classes=8), ScanConfig())
    assert settled.names == ("searched",)
    assert settled.record.channel_order == order
    assert settled.accuracy is not None
    assert settled.accuracy > 0.8
    assert settled.doubt is None
    assert "no known preprocessing explains the images well" in settled.warnings[0]


def test_a_stated_order_of_colours_holds_for_the_search_too():
    right = Normalisation(low=-3.0, high=5.0, channel_order="bgr")
    settled = settle_preprocessing(grey_levels(8), reads(right, classes=8), ScanConfig(channel_order="rgb"))
    assert settled.record.channel_order == "rgb"
    assert settled.doubt is not None


def three_in_four(images: np.ndarray, _: Normalisation) -> np.ndarray:
    found = reads(candidate("none"))(images, Normalisation())
    return np.where(found % 4 == 0, 1, found)


@pytest.mark.parametrize("config", [ScanConfig(), ScanConfig(preprocess="none"), ScanConfig(mean=(0.1,))])
def test_a_model_that_is_surer_than_right_is_a_doubt_by_name(config):
    settled = settle_preprocessing(grey_levels(), three_in_four, config, confidence=sure(0.98))
    assert settled.doubt is None
    assert "mean highest posterior is 0.98 where its accuracy is 0.75" in settled.warnings[-1]
    assert not any("posterior" in text for text in quiet(config))


def quiet(config: ScanConfig) -> tuple[str, ...]:
    """Warnings where the model is about as sure as it is right, and where it is not known how sure it is."""
    known = settle_preprocessing(grey_levels(), three_in_four, config, confidence=sure(0.89))
    return known.warnings + settle_preprocessing(grey_levels(), three_in_four, config).warnings


def test_better_is_plainly_better():
    base = np.arange(1000) % 10 < 8
    assert not is_better(base, base)
    assert is_better(np.ones(1000, bool), base)
    assert not is_better(base, np.ones(1000, bool))
    slightly = base.copy()
    slightly[np.flatnonzero(~base)[:40]] = True
    assert not is_better(slightly, base)
    few = np.array([True] * 8 + [False] * 12)
    assert not is_better(np.arange(20) < 10, few)
