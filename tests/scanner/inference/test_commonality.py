"""Commonality from pairs to conclusions: what is planted stands out, names of classes do not matter, few images."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from backscan.kernels import quantile_with_error
from backscan.scanner.config import ScanConfig
from backscan.scanner.errors import OptionError
from backscan.scanner.images.cleanset import CleanSet
from backscan.scanner.inference.commonality import OF_TARGETS, commonality_matrix
from backscan.scanner.inference.variants import infer_pairs, with_reciprocals
from backscan.scanner.pipeline.rejudge import infer
from backscan.scanner.pipeline.scan import scan
from backscan.scanner.reports import RENDERERS, render
from backscan.scanner.results import IndividualSize, IndividualStatus, PairResult, PairStatus, ScanResult, Trajectory
from tests.scanner.pipeline.scans import QUICK, write_images, write_model

NUM_CLASSES, NUM_IMAGES = 10, 25
CONFIG = ScanConfig(detectors=("pairwise",), statistics=("commonality",), bootstrap_draws=199, threads=1)


def pairs_of(*, target: int | None = 4, names: np.ndarray | None = None, seed: int = 0) -> list[PairResult]:
    """Pairs whose common pattern needs about twice the quantile, and towards one target no more than it."""
    rng, names = np.random.default_rng(seed), np.arange(NUM_CLASSES) if names is None else names
    found = []
    for source in range(NUM_CLASSES):
        for own in range(NUM_CLASSES):
            if source == own:
                continue
            images = tuple(rng.lognormal(0.0, 0.3, NUM_IMAGES).tolist())
            quantile, error = quantile_with_error(images, 0.8)
            size = quantile * (1.0 if own == target else 2.0) * rng.lognormal(0.0, 0.1)
            alone = IndividualSize(IndividualStatus.FOUND, quantile, error, size, images)
            found.append(
                PairResult(
                    detector="pairwise",
                    source=int(names[source]),
                    target=int(names[own]),
                    status=PairStatus.REACHED,
                    size=size,
                    initial_rate=0.1,
                    rate=0.8,
                    steps=3,
                    trajectory=Trajectory((0.0, size / 3, size / 2, size), (0.1, 0.3, 0.5, 0.8)),
                    individual_size=alone,
                )
            )
    return found


def judged(pairs: list[PairResult], config: ScanConfig = CONFIG):
    return infer_pairs(pairs, config, NUM_CLASSES, detector="pairwise", space="image")


def test_a_planted_target_stands_out():
    of_pairs, of_targets = judged(pairs_of())
    assert (of_pairs.statistic, of_targets.statistic) == ("commonality", OF_TARGETS)
    assert of_pairs.target == of_targets.target == 4
    assert of_targets.targets is not None
    assert of_targets.targets.named == (4,)
    assert np.argmax(of_targets.targets.t) == 4
    assert of_targets.calibrated_p_value < 0.001
    assert of_targets.detected
    assert all(0.0 < error < 20.0 for error in of_targets.targets.errors)
    assert of_targets.targets.errors[3] < 1.0


def test_nothing_planted_is_not_detected():
    assert not any(entry.detected for entry in judged(pairs_of(target=None, seed=3)))


def test_names_of_classes_do_not_matter():
    names = np.random.default_rng(1).permutation(NUM_CLASSES)
    plain, renamed = judged(pairs_of())[1], judged(pairs_of(names=names))[1]
    assert renamed.target == names[plain.target]
    np.testing.assert_allclose(np.array(renamed.targets.t)[names], plain.targets.t, rtol=1e-9)


def test_a_source_with_few_images_takes_no_part():
    pairs = [
        replace(pair, individual_size=IndividualSize(IndividualStatus.FEW_IMAGES)) if pair.source == 2 else pair
        for pair in pairs_of()
    ]
    of_pairs, of_targets = judged(pairs)
    assert of_pairs.num_pairs == 81
    assert set(of_pairs.values[2]) == {None}
    assert of_targets.target == 4
    assert any("1 classes have too few images" in remark for remark in of_pairs.remarks)


def test_confusion_is_worth_as_much_to_single_images():
    prepared = with_reciprocals(pairs_of(), inference="corrected", order=3)
    found = commonality_matrix(prepared, NUM_CLASSES)
    assert any(pair.offset for pair in prepared)
    for pair in prepared:
        expected = (pair.individual_size.size + pair.offset) / (pair.size + pair.offset)
        assert found[pair.source, pair.target] == pytest.approx(expected)


def test_images_are_what_the_errors_come_from():
    same = [
        replace(pair, individual_size=replace(pair.individual_size, images=(pair.individual_size.size,) * 25))
        for pair in pairs_of()
    ]
    np.testing.assert_allclose(judged(same)[1].targets.errors, 0.0, atol=1e-9)


@pytest.fixture(scope="module")
def reported(tmp_path_factory) -> ScanResult:
    """A scan of a planted model that asks for commonality, once killed and resumed."""
    folder = tmp_path_factory.mktemp("commonality")
    model, images = write_model(folder), write_images(folder, per_class=40)
    config = replace(QUICK, statistics=("plain", "commonality"))
    clean = CleanSet.load(images)
    first = scan(model, clean, config, journal=folder / "journal")
    again = scan(model, clean, config, journal=folder / "journal", resume=True)
    assert comparable(again) == comparable(first)
    return first


def comparable(result: ScanResult) -> dict:
    document = result.to_dict()
    return {name: value for name, value in document.items() if name not in ("timings", "finished", "provenance")}


def test_a_scan_reports_what_single_images_need(reported):
    assert [entry.statistic for entry in reported.detectors] == ["plain", "commonality", OF_TARGETS]
    for pair in reported.pairs:
        assert len(pair.individual_size.images) == NUM_IMAGES
        assert pair.individual_size.status is IndividualStatus.FOUND
        # The same pattern on some of the images needs about as much.
        assert pair.individual_size.common_size == pytest.approx(pair.size, rel=0.2)
    assert ScanResult.from_dict(reported.to_dict()).detectors == reported.detectors


def test_every_report_renders(reported):
    for name in RENDERERS:
        assert render(reported, name)


def test_other_statistics_from_the_report(reported):
    again = infer(reported, {"statistics": ("commonality",)})
    assert [entry.calibrated_p_value for entry in again.detectors] == [
        entry.calibrated_p_value for entry in reported.detectors[1:]
    ]


def test_a_report_without_individual_sizes_cannot_give_it(tmp_path):
    result = scan(write_model(tmp_path), CleanSet.load(write_images(tmp_path)), QUICK)
    assert all(pair.individual_size is None for pair in result.pairs)
    with pytest.raises(OptionError, match="what single images need"):
        infer(result, {"statistics": ("commonality",)})


def test_a_journal_without_individual_sizes_is_searched_again(tmp_path):
    model, clean = write_model(tmp_path), CleanSet.load(write_images(tmp_path, per_class=40))
    scan(model, clean, QUICK, journal=tmp_path / "journal")
    config = replace(QUICK, statistics=("commonality",))
    found = scan(model, clean, config, journal=tmp_path / "journal", resume=True)
    assert all(pair.individual_size is not None for pair in found.pairs)
