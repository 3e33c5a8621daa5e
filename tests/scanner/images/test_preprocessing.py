"""Preprocessing is settled by clean accuracy; the classifiers here have answers known on paper."""

import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import binom

from backscan.converters.signature.signature import Normalisation
from backscan.scanner.config import ScanConfig
from backscan.scanner.errors import OptionError
from backscan.scanner.images.candidates import CANDIDATES, candidate, scale_differs
from backscan.scanner.images.cleanset import CleanSet
from backscan.scanner.images.preprocessing import half_way, paired_p_value, settle_preprocessing
from backscan.scanner.images.stratified import stratified

Decide = Callable[[np.ndarray, Normalisation], np.ndarray]


def clean_set(images: np.ndarray, labels: np.ndarray | None) -> CleanSet:
    return CleanSet(images.astype(np.float32), labels, name="x.npz", digest="0", class_names={})


def grey_levels(num_images: int = 1000, channels: int = 3) -> CleanSet:
    """Four classes by grey level, 0.1, 0.35, 0.6 and 0.85, the same in all channels."""
    labels = np.arange(num_images) % 4
    images = np.tile((0.1 + 0.25 * labels)[:, None, None, None], (1, channels, 2, 2))
    return clean_set(images, labels)


def reads(trained_with: str) -> Decide:
    """A model that was trained with one candidate: it undoes just that, then finds the nearest of the four levels."""

    def decide(images: np.ndarray, normalisation: Normalisation) -> np.ndarray:
        given, right = normalisation.affine(images.shape[1]), candidate(trained_with).affine(images.shape[1])
        levels = (images.mean(axis=(2, 3)) * given[0] + given[1] - right[1]) / right[0]
        return np.clip(np.round((levels[:, 0] - 0.1) / 0.25), 0, 3).astype(np.int64)

    return decide


@pytest.mark.parametrize("trained_with", ["none", "mnist", "symmetric", "raw"])
def test_the_training_normalisation_is_found_for_one_channel(trained_with: str) -> None:
    settled = settle_preprocessing(grey_levels(channels=1), reads(trained_with), ScanConfig())
    assert settled.names == (trained_with,)
    assert settled.normalisations == (candidate(trained_with),)
    assert settled.accuracy == 1.0
    assert settled.doubt is None
    assert settled.warnings == ()
    assert settled.record.chosen_by == "accuracy"
    assert [candidate.name for candidate in settled.record.candidates] == ["none", "mnist", "symmetric", "raw"]


def red_or_blue() -> CleanSet:
    """Two classes: red images and blue images."""
    labels = np.arange(400) % 2
    images = np.zeros((400, 3, 2, 2))
    images[labels == 0, 0] = images[labels == 1, 2] = 0.8
    return clean_set(images, labels)


def test_a_model_that_takes_blue_first_is_found() -> None:
    def decide(images: np.ndarray, normalisation: Normalisation) -> np.ndarray:
        first, last = (0, 2) if normalisation.channel_order == "rgb" else (2, 0)
        wrong_scale = normalisation != candidate("none-bgr") and normalisation != candidate("none")
        return np.where((images[:, first] > images[:, last]).all(axis=(1, 2)) | wrong_scale, 1, 0)

    settled = settle_preprocessing(red_or_blue(), decide, ScanConfig())
    assert settled.names == ("none-bgr",)
    assert settled.record.channel_order == "bgr"


def test_a_tie_of_like_scale_goes_to_the_more_accurate_and_is_named() -> None:
    def decide(images: np.ndarray, normalisation: Normalisation) -> np.ndarray:
        levels = np.round((images[:, 0, 0, 0] - 0.1) / 0.25).astype(np.int64)
        if normalisation == candidate("cifar10"):
            return levels
        if normalisation == candidate("imagenet"):  # two more mistakes among a thousand, in the last round's 500
            levels[5:7] = (levels[5:7] + (len(levels) == 500)) % 4
            return levels
        return np.zeros_like(levels)

    settled = settle_preprocessing(grey_levels(), decide, ScanConfig())
    assert settled.names == ("cifar10",)
    assert settled.accuracy == 1.0
    assert settled.record.chosen_by == "tie"
    assert "cifar10 1.000, imagenet 0.998" in settled.warnings[0]
    by_name = {candidate.name: candidate for candidate in settled.record.candidates}
    assert by_name["imagenet"].p_value == pytest.approx(2 * binom.cdf(0, 2, 0.5))
    assert by_name["imagenet"].num_images == 1000
    assert by_name["none"].num_images == 100
    assert not by_name["none"].tied


def test_a_tie_of_another_scale_asks_for_a_second_scan() -> None:
    def decide(images: np.ndarray, normalisation: Normalisation) -> np.ndarray:
        good = normalisation in (candidate("none"), candidate("raw"))
        return np.round((images[:, 0, 0, 0] - 0.1) / 0.25).astype(np.int64) * good

    settled = settle_preprocessing(grey_levels(channels=1), decide, ScanConfig())
    assert settled.names == ("none", "raw")
    assert settled.normalisations == (candidate("none"), candidate("raw"))
    assert settled.record.repeated_as == ("raw",)
    assert "repeated with 'raw'" in settled.warnings[0]


def test_low_accuracy_is_a_doubt_with_the_figures() -> None:
    def always_the_first(images: np.ndarray, _: Normalisation) -> np.ndarray:
        return np.zeros(len(images), np.int64)

    settled = settle_preprocessing(grey_levels(), always_the_first, ScanConfig(preprocess="none"))
    assert settled.accuracy == 0.25
    assert settled.doubt is not None
    assert "at least 0.625, found 0.250 with preprocessing none" in settled.doubt
    assert settle_preprocessing(grey_levels(), always_the_first, ScanConfig(min_accuracy=0.2)).doubt is None
    assert settle_preprocessing(grey_levels(), always_the_first, ScanConfig()).doubt is not None


def test_without_labels_the_preprocessing_must_be_given() -> None:
    unlabelled = clean_set(grey_levels().images, None)
    settled = settle_preprocessing(unlabelled, reads("none"), ScanConfig())
    assert settled.doubt is not None
    assert "--preprocess" in settled.doubt
    assert settled.record.chosen_by == "unsettled"
    given = settle_preprocessing(unlabelled, reads("none"), ScanConfig(preprocess="imagenet", min_accuracy=0.9))
    assert given.doubt is None
    assert given.accuracy is None
    assert given.names == ("imagenet",)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"preprocess": "mnist"}, ("mnist", candidate("mnist"))),
        ({"range": (0.0, 255.0)}, ("given", Normalisation(high=255.0))),
        ({"mean": (0.5,), "std": (0.25,)}, ("given", Normalisation(mean=(0.5,), std=(0.25,)))),
        (
            {"preprocess": "imagenet", "channel_order": "bgr"},
            ("given", Normalisation(0.0, 1.0, (0.406, 0.456, 0.485), (0.225, 0.224, 0.229), "bgr")),
        ),
        ({"preprocess": "none-bgr", "channel_order": "rgb"}, ("given", Normalisation())),
        (
            {"preprocess": "cifar10", "std": (0.2, 0.2, 0.2)},
            ("given", Normalisation(mean=(0.4914, 0.4822, 0.4465), std=(0.2, 0.2, 0.2))),
        ),
    ],
)
def test_options_override_the_search(options: dict[str, object], expected: tuple[str, Normalisation]) -> None:
    settled = settle_preprocessing(grey_levels(), reads("none"), ScanConfig(min_accuracy=0.0, **options))  # type: ignore[arg-type]
    assert (settled.names[0], settled.normalisations[0]) == expected
    assert settled.record.chosen_by == "option"


def test_the_channel_order_alone_leaves_the_rest_to_be_found() -> None:
    settled = settle_preprocessing(red_or_blue(), reads("none"), ScanConfig(channel_order="bgr", min_accuracy=0.0))
    assert {candidate.name for candidate in settled.record.candidates} == {
        "none-bgr",
        "imagenet-bgr",
        "cifar10-bgr",
        "symmetric-bgr",
        "raw-bgr",
    }


@pytest.mark.parametrize("options", [{"preprocess": "imagenet"}, {"mean": (0.1, 0.2)}, {"std": (0.0,)}])
def test_a_normalisation_that_does_not_fit_is_the_users_mistake(options: dict[str, object]) -> None:
    with pytest.raises(OptionError, match=r"expected a normalisation for 1 channel\(s\)"):
        settle_preprocessing(grey_levels(channels=1), reads("none"), ScanConfig(**options))  # type: ignore[arg-type]


def test_paired_test_is_the_exact_binomial_one() -> None:
    one, other = np.zeros(50, bool), np.zeros(50, bool)
    one[:3], other[3:12] = True, True
    one[20:], other[20:] = True, True
    assert paired_p_value(one, other) == pytest.approx(2 * binom.cdf(3, 12, 0.5))
    assert paired_p_value(one, one) == 1.0


def test_scales_differ_by_their_factor_and_not_by_their_offset() -> None:
    assert scale_differs(candidate("none"), candidate("raw"), 3)
    assert scale_differs(candidate("none"), candidate("imagenet"), 3)
    assert not scale_differs(candidate("imagenet"), candidate("cifar10"), 3)
    assert not scale_differs(candidate("none"), Normalisation(mean=(0.5,)), 3)
    assert not scale_differs(candidate("raw"), candidate("raw-bgr"), 3)


def test_stratified_draws_are_even_and_seeded() -> None:
    labels = np.repeat([0, 1, 2], [500, 40, 5])
    drawn = stratified(labels, 100, seed=3)
    assert len(set(drawn.tolist())) == 100
    counts = np.bincount(labels[drawn])
    assert counts[2] == 5
    assert counts[1] == 40
    assert counts[0] == 55
    np.testing.assert_array_equal(drawn, stratified(labels, 100, seed=3))
    assert not np.array_equal(drawn, stratified(labels, 100, seed=4))
    np.testing.assert_array_equal(stratified(labels, 10_000, seed=0), np.arange(545))


def test_half_way_between_chance_and_one() -> None:
    assert half_way(np.repeat(np.arange(10), 5)) == pytest.approx(0.55)
    assert half_way(np.zeros(9, np.int64)) == 0.75


def test_the_table_begins_with_the_plainest_and_loads_no_torch() -> None:
    assert next(iter(CANDIDATES)) == "none"
    assert {"none", "imagenet", "cifar10", "mnist"} <= set(CANDIDATES)
    code = "import sys, backscan.scanner.images.preprocessing; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
