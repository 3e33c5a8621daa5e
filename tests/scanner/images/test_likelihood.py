"""Readings that are as accurate are told apart by how likely they make the labels."""

import numpy as np
import pytest

from backscan.converters import Normalisation
from backscan.scanner.config import ScanConfig
from backscan.scanner.images.candidates import candidate
from backscan.scanner.images.likelihood import surprise, too_sure
from backscan.scanner.images.preprocessing import settle_preprocessing
from tests.scanner.images.test_preprocessing import grey_levels

RNG = np.random.default_rng(4)
TRUE = RNG.exponential(0.1, 400)


def test_surprise_is_minus_the_log_of_the_posterior_and_bounded() -> None:
    np.testing.assert_allclose(surprise(np.array([1.0, 0.5, 0.0], np.float32)), [0.0, np.log(2), -np.log(1e-6)])


@pytest.mark.parametrize(
    ("other", "is_out"),
    [
        (TRUE * 2.5, True),
        (TRUE * 1.4, False),
        (TRUE + RNG.permutation(np.r_[14.0, np.zeros(399)]), False),
        (TRUE.copy(), False),
    ],
    ids=["much more", "not half as much again", "one image", "the same"],
)
def test_a_reading_is_out_by_much_more_surprise_at_most_images(other: np.ndarray, is_out: bool) -> None:
    surprises = {"none": TRUE, "other": other}
    assert too_sure(surprises, {"none": 1.0, "other": 3.0}) == (frozenset({"other"}) if is_out else frozenset())
    assert too_sure(surprises, {"none": 3.0, "other": 1.0}) == frozenset(), "a smaller scale is never too sure"


def right_under(*names: str):
    """A model that decides rightly under some readings, and under no other."""
    good = [candidate(name) for name in names]

    def decide(images: np.ndarray, normalisation: Normalisation) -> np.ndarray:
        return np.round((images[:, 0, 0, 0] - 0.1) / 0.25).astype(np.int64) * (normalisation in good)

    return decide


def sure(**posteriors: float):
    """What such a model gives the labels, image after image a little more or less."""

    def posterior(images: np.ndarray, labels: np.ndarray, normalisation: Normalisation) -> np.ndarray:
        [own] = [value for name, value in posteriors.items() if candidate(name) == normalisation]
        assert len(labels) == len(images)
        return np.clip(own + 0.01 * np.sin(np.arange(len(images))), 0, 1).astype(np.float32)

    return posterior


def test_of_tied_readings_the_one_is_out_that_makes_the_model_too_sure() -> None:
    settled = settle_preprocessing(
        grey_levels(channels=1), right_under("none", "raw"), ScanConfig(), posterior=sure(none=0.9, raw=0.6)
    )
    assert settled.names == ("none",)
    [warning] = settled.warnings
    assert "preprocessing 'raw' explains the images as well, but makes the model far surer than it is right" in warning
    assert (settled.record.chosen_by, settled.record.repeated_as) == ("likelihood", ())
    asked = {each.name: (each.tied, each.surprise) for each in settled.record.candidates if each.surprise is not None}
    assert asked == {
        "none": (True, pytest.approx(-np.log(0.9), abs=0.01)),
        "raw": (False, pytest.approx(-np.log(0.6), abs=0.01)),
    }


@pytest.mark.parametrize("raw", [0.89, 0.99], ids=["alike", "surer and right"])
def test_readings_stay_tied_where_the_larger_does_not_make_it_too_sure(raw: float) -> None:
    settled = settle_preprocessing(
        grey_levels(channels=1), right_under("none", "raw"), ScanConfig(), posterior=sure(none=0.9, raw=raw)
    )
    assert settled.names == ("none", "raw")
    assert settled.record.chosen_by == "tie"
    assert "repeated with 'raw'" in settled.warnings[0]


def test_a_single_accurate_reading_asks_for_no_likelihood() -> None:
    settled = settle_preprocessing(grey_levels(channels=1), right_under("mnist"), ScanConfig(), posterior=sure())
    assert (settled.names, settled.record.chosen_by) == (("mnist",), "accuracy")
