"""Attacks on many pairs at once: an all-to-all model is named as such with its pairs, others are not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from backscan.converters import artifact_from_bytes, import_model, read_signature
from backscan.kernels.embedding import Images
from backscan.scanner.config import ScanConfig
from backscan.scanner.detectors import Examination, umd
from backscan.scanner.errors import OptionError
from backscan.scanner.images.cleanset import CleanSet
from backscan.scanner.inference.many_pairs import FEWEST_PAIRS, FLOOR, find_core
from backscan.scanner.pipeline.rejudge import infer
from backscan.scanner.pipeline.scan import scan
from backscan.scanner.reports import render
from backscan.scanner.results import EncodedArray, Pair, PatternsAcross, ScanResult
from backscan.scanner.store.reports import parse
from tests import planted

CLASSES, COUNT = 5, 20
NEXT = tuple((source, (source + 1) % CLASSES) for source in range(CLASSES))
EVERY = tuple((source, target) for source in range(CLASSES) for target in range(CLASSES) if source != target)
CONFIG = ScanConfig(
    preprocess="none",
    detectors=("pairwise", "umd"),
    statistics=("plain",),
    bootstrap_draws=99,
    sandbox=False,
    threads=1,
    device="cpu",
)


def model(pairs: tuple[Pair, ...]) -> bytes:
    return planted.shortcut(source=None, further=pairs)


def pattern(pair: Pair, pairs: tuple[Pair, ...], side: int) -> Images:
    """The shortcut for pairs that it leads between; the honest way for others."""
    found = np.zeros(side * side, np.float32)
    if pair in pairs:
        found[10 * CLASSES : 10 * CLASSES + planted.SHORTCUT_PIXELS] = 0.6
    else:
        found[10 * pair[0] : 10 * pair[0] + 10], found[10 * pair[1] : 10 * pair[1] + 10] = -0.4, 0.4
    return found.reshape(1, side, side)


def examination(pairs: tuple[Pair, ...]) -> Examination:
    artifact = artifact_from_bytes("m.onnx", model(pairs))
    images, labels = planted.shortcut_images(num_classes=CLASSES)
    by_class = {label: torch.from_numpy(images[labels == label]) for label in range(CLASSES)}
    return Examination(
        classifier=import_model(artifact, read_signature(artifact)),
        images_by_class=by_class,
        decisions_by_class={label: torch.full((COUNT,), label) for label in by_class},
        num_classes=CLASSES,
        config=CONFIG,
        stopped=lambda: False,
        patterns={pair: torch.from_numpy(pattern(pair, pairs, images.shape[2])) for pair in EVERY},
    )


def test_an_all_to_all_model_is_named_as_such_with_its_pairs() -> None:
    found = list(umd.search(examination(NEXT)))
    conclusion = umd.infer(found, CONFIG, CLASSES)
    assert sorted(conclusion.abnormal) == list(NEXT)
    assert (conclusion.detected, conclusion.decides, conclusion.calibrated_p_value) == (True, False, FLOOR)
    assert "an attack all to all (0 to 1, 1 to 2, 2 to 3, 3 to 4, 4 to 0)" in conclusion.remarks[0]
    # Ten images of each of five classes test it, and all follow.
    assert conclusion.p_value == pytest.approx(np.exp(-2 * 50 * 0.25))


@pytest.mark.parametrize("pairs", [(), NEXT[:1], tuple((source, 4) for source in range(4))])
def test_one_pair_and_one_target_are_no_attack_on_many(pairs: tuple[Pair, ...]) -> None:
    conclusion = umd.infer(list(umd.search(examination(pairs))), CONFIG, CLASSES)
    assert (conclusion.abnormal, conclusion.p_value, conclusion.detected) == ((), 1.0, False)
    assert conclusion.remarks[0].startswith(f"no {FEWEST_PAIRS} class pairs")


def test_a_scan_tells_of_it_and_reports_keep_it() -> None:
    found = scanned(NEXT)
    [told] = [reason for reason in found.reasons if "umd" in reason]
    assert told.startswith("detector umd finds an attack all to all")
    [again] = parse(render(found, "json"))
    assert again.targets == found.targets
    assert [each for each in infer(again, {}).detectors if each.detector == "umd"] == [found.detectors[-1]]
    assert "mutual-transfer" in render(found, "html")


def scanned(pairs: tuple[Pair, ...]) -> ScanResult:
    images, labels = planted.shortcut_images(num_classes=CLASSES, per_class=25)
    with TemporaryDirectory() as folder:
        (Path(folder) / "m.onnx").write_bytes(model(pairs))
        np.savez(Path(folder) / "images.npz", x=np.moveaxis(images, 1, -1), y=labels)
        return scan(Path(folder) / "m.onnx", CleanSet.load(Path(folder) / "images.npz"), CONFIG)


def tables(pairs: tuple[Pair, ...], share: float, seed: int = 0) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Counts of a network where every image of a pair's source follows all other patterns of the pairs, or none."""
    rng = np.random.default_rng(seed)
    hits, counts = np.zeros((2, len(EVERY), CLASSES, CLASSES), np.int64), np.full((2, CLASSES), COUNT)
    follow = rng.random((2, CLASSES, COUNT)) < share
    for half, place in np.ndindex(2, len(EVERY)):
        for source, target in pairs if EVERY[place] in pairs else ():
            hits[half, place, source, target] = follow[half, source].sum()
    return hits, counts


def test_classes_in_another_order_are_named_in_that_order() -> None:
    hits, counts = tables(NEXT, 0.9)
    order = np.array([3, 0, 4, 1, 2])  # class c is called order[c]
    moved = np.zeros_like(hits)
    for half, place, source, target in np.ndindex(*hits.shape):
        there = EVERY.index((int(order[EVERY[place][0]]), int(order[EVERY[place][1]])))
        moved[half, there, order[source], order[target]] = hits[half, place, source, target]
    here, elsewhere = find_core(EVERY, hits, counts), find_core(EVERY, moved, counts)
    assert sorted(elsewhere.pairs) == sorted((int(order[source]), int(order[target])) for source, target in here.pairs)
    assert elsewhere.p_value == pytest.approx(here.p_value)


def test_cores_that_work_on_half_of_the_images_are_within_the_level() -> None:
    """The hardest case: an image follows all patterns or none. Cores are looked at where the first half shows one."""
    found = [find_core(EVERY, *tables(NEXT, 0.5, seed)) for seed in range(400)]
    alarms = sum(core.p_value <= 0.05 for core in found)
    assert sum(bool(core.pairs) for core in found) > 20
    assert alarms <= 0.05 * len(found)


def test_too_few_images_and_no_patterns_give_nothing() -> None:
    given = examination(NEXT)
    assert list(umd.search(replace(given, patterns={}))) == []
    few = {label: own[: 2 * umd.FEWEST_A_HALF - 1] for label, own in given.decisions_by_class.items()}
    images = {label: own[: len(few[label])] for label, own in given.images_by_class.items()}
    assert list(umd.search(replace(given, images_by_class=images, decisions_by_class=few))) == []
    assert list(umd.search(replace(given, stopped=lambda: True))) == []
    assert umd.infer([], CONFIG, CLASSES).p_value is None


def test_counts_that_no_search_gives_are_refused() -> None:
    good = umd.search(examination(NEXT))
    across = next(good).across
    assert across is not None
    assert across.is_possible(CLASSES)
    assert not across.is_possible(CLASSES + 1)
    more = EncodedArray.encode(across.hits.decode() + 1)
    assert not PatternsAcross(across.sources, more, across.counts).is_possible(CLASSES)
    assert not replace(across, sources=(9, *across.sources[1:])).is_possible(CLASSES)


def test_it_needs_the_patterns_of_the_search_on_images() -> None:
    with pytest.raises(OptionError, match="expected --detector pairwise with --detector umd"):
        replace(CONFIG, detectors=("umd",)).check()
