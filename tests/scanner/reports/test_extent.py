"""Attacks from many classes are told as such, and only where the verdict rests on them."""

from dataclasses import replace

import pytest

from backscan.scanner.reports.extent import route, route_sentence
from backscan.scanner.results import CollateralDamage, ScanResult, Verdict
from tests.scanner.reports.examples import detected, not_detected


def following(count: int) -> ScanResult:
    """Detected from class 1 to class 9; `count` of the 8 other classes follow."""
    found = detected()
    assert found.verification is not None
    others = [each.source for each in found.verification.collateral]
    rates = [CollateralDamage(other, 0.9 if place < count else 0.1, 0.02, 30) for place, other in enumerate(others)]
    return replace(found, verification=replace(found.verification, collateral=tuple(rates)))


def test_one_class_to_another() -> None:
    assert route_sentence(following(0)) == "One small pattern turns images of automobile (1) into truck (9)."
    assert route(following(0)) == "automobile (1) → truck (9)"


def test_several_classes_to_one() -> None:
    assert route_sentence(following(7)) == "One small pattern turns images of 8 of the 9 other classes into truck (9)."
    assert route(following(7)) == "8 of 9 classes → truck (9)"
    assert "all 9 other classes into truck (9)" in route_sentence(following(8))


def as_near(factors: list[float]) -> ScanResult:
    """Detected from class 1 to class 9 without followers; pairs of the other classes to it need so many times more."""
    found = following(0)
    first = next(pair for pair in found.pairs if pair.target == 9 and pair.source == 1)
    assert first.size is not None
    times = dict(zip((source for source in range(9) if source != 1), factors, strict=True))
    return replace(
        found,
        pairs=tuple(
            replace(pair, size=first.size * times[pair.source])
            if pair.detector == first.detector and pair.target == 9 and pair.source in times
            else pair
            for pair in found.pairs
        ),
    )


@pytest.mark.parametrize(
    ("factors", "said"),
    [
        ([1.2] * 8, "Small patterns turn images of all 9 other classes into truck (9), each class by its own."),
        ([1.2] * 6 + [9.0] * 2, "Small patterns turn images of 7 of the 9 other classes into truck (9), each class by"),
        ([1.2] * 3 + [9.0] * 5, "One small pattern turns images of automobile (1) into truck (9)."),
        ([1.6] * 8, "One small pattern turns images of automobile (1) into truck (9)."),
    ],
)
def test_classes_that_are_as_near_by_patterns_of_their_own(factors: list[float], said: str) -> None:
    assert route_sentence(as_near(factors)).startswith(said)


def test_pairs_that_are_all_near_are_no_attack_from_all() -> None:
    """In a model whose every pair is small, those to the target are no smaller than others."""
    near = as_near([1.2] * 8)
    small = next(pair.size for pair in near.pairs if pair.target == 9 and pair.source == 1)
    even = replace(near, pairs=tuple(replace(pair, size=small) for pair in near.pairs))
    assert route(even) == "automobile (1) → truck (9)"


def test_each_class_to_another() -> None:
    found = detected()
    pairs = tuple((source, (source + 1) % 10) for source in range(10))
    each = replace(found, detectors=(replace(found.detectors[0], abnormal=pairs), *found.detectors[1:]))
    assert route_sentence(each) == "Small patterns turn images of 10 classes into another class each."
    assert route(each) == "10 classes → another each"


def test_an_ordinary_model_has_a_pair_alone() -> None:
    ordinary = replace(following(8), verdict=Verdict.NOT_DETECTED)
    assert route(ordinary) == "automobile (1) → truck (9)"
    assert route(replace(not_detected(), target=None)) == ""
