"""Which pairs of a model with many classes are searched, and what the statistics make of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from backscan.converters import artifact_from_bytes, import_model, read_signature
from backscan.scanner.config import ScanConfig
from backscan.scanner.errors import OptionError
from backscan.scanner.images.cleanset import CleanSet
from backscan.scanner.inference.order_test import Screened, Terms, assess
from backscan.scanner.inference.variants import positions
from backscan.scanner.pipeline import pairs
from backscan.scanner.pipeline.ends import Interrupted
from backscan.scanner.pipeline.rejudge import infer
from backscan.scanner.pipeline.scan import scan
from backscan.scanner.process.parent import PreparedSearch
from backscan.scanner.results import ScanResult, Verdict
from backscan.scanner.search import screening
from backscan.scanner.search.batch import Sources
from backscan.scanner.search.first_order import FARTHEST, NUM_IMAGES, FirstOrder
from backscan.scanner.search.norms import NORMS
from backscan.scanner.search.screening import choose, draw, is_screened, left_out
from backscan.scanner.search.spaces import ClippedImage
from benchmarks.victims.prototypes import Prototypes
from tests.scanner.pipeline.scans import QUICK


def every(num_classes: int) -> list[tuple[int, int]]:
    return [(s, t) for s in range(num_classes) for t in range(num_classes) if s != t]


@pytest.mark.parametrize(
    ("options", "num_classes", "expected"),
    [
        ({}, 71, False),
        ({}, 72, True),
        ({"screen": "off"}, 1000, False),
        ({"screen": "on"}, 10, True),
        ({"targets": (3,)}, 1000, False),
        ({"pairs": ((1, 3),)}, 1000, False),
        ({"step_rule": "plain"}, 1000, False),
        ({"statistics": ("residual",)}, 1000, False),
        ({"statistics": ("plain", "residual")}, 1000, True),
    ],
)
def test_auto_screens_many_classes_where_it_can(options, num_classes, expected):
    assert is_screened(ScanConfig(**options), num_classes, statistic="plain") is expected


@pytest.mark.parametrize("options", [{"targets": (3,)}, {"step_rule": "plain"}, {"statistics": ("residual",)}])
def test_a_screen_that_cannot_be_is_refused(options):
    with pytest.raises(OptionError, match="with --screen on: change it or leave --screen out"):
        is_screened(ScanConfig(screen="on", **options), 43, statistic="plain")


def test_the_draw_follows_the_seed_alone():
    pairs = every(43)
    assert draw(pairs, 0) == draw(pairs, 0) != draw(pairs, 1)
    assert len(draw(pairs, 0)) == 300
    assert draw(pairs[:20], 0) == set(pairs[:20])


def test_every_target_and_every_source_keeps_its_smallest():
    sizes = {pair: 10.0 + index for index, pair in enumerate(every(8))} | {(6, 2): 0.1}
    chosen = choose(sizes, 8)
    assert (6, 2) in chosen
    assert all(sum(t == target for _, t in chosen) >= 4 for target in range(8))
    assert all(sum(s == source for s, _ in chosen) >= 2 for source in range(8))
    assert chosen <= sizes.keys()


def test_a_target_that_is_near_everything_hides_no_other():
    sizes = {pair: 1.0 if pair[1] == 0 else 5.0 for pair in every(30)} | {(7, 3): 2.0}
    assert (7, 3) in choose(sizes, 30)


def test_the_report_says_what_is_left_out():
    text = left_out(1806, set(every(5)), {(0, 1), (6, 7)})
    assert text.startswith(
        "1785 of 1806 class pairs, which were only estimated: searched were 1 with the smallest estimates"
    )


def first_order(space: ClippedImage, *, num_classes: int) -> FirstOrder:
    return FirstOrder(space, goal_rate=0.8, norm=NORMS["l2"], sources_per_pass=max(2, num_classes // 3))


def opened(generator: Prototypes) -> ClippedImage:
    artifact = artifact_from_bytes("prototypes.onnx", generator.model())
    return ClippedImage(import_model(artifact, read_signature(artifact)))


def images_of(generator: Prototypes) -> dict[int, torch.Tensor]:
    pixels, labels = generator.images(NUM_IMAGES)
    images = torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)).astype(np.float32)) / 255
    return {label: images[torch.from_numpy(labels == label)] for label in range(generator.num_classes)}


def estimated(generator: Prototypes, counted: dict[int, torch.Tensor] | None = None) -> dict[tuple[int, int], float]:
    space, by_class = opened(generator), images_of(generator)
    every_image = {label: torch.ones(NUM_IMAGES, dtype=torch.bool) for label in by_class}
    sources = Sources.gather(by_class, space, counted or every_image)
    pairs = every(generator.num_classes)
    found = first_order(space, num_classes=generator.num_classes).sizes(sources, pairs, stopped=lambda: False)
    return dict(zip(pairs, found, strict=True))


def test_the_estimate_for_a_linear_classifier_is_the_distance_on_paper():
    """Between nearest prototypes a margin is linear, so the least pattern of one direction is known exactly."""
    generator = Prototypes(3, seed=2)
    points, images = generator.prototypes(), images_of(generator)
    sizes = estimated(generator)
    for source, target in every(2):
        direction = (points[target] - points[source]) / np.linalg.norm(points[target] - points[source])
        halfway = 0.5 * (points[source] + points[target])
        needed = np.sort((halfway - images[source].flatten(1).double().numpy()) @ direction)[7]  # the 8th of 10 images
        assert sizes[source, target] == pytest.approx(needed, rel=1e-3)


def test_images_that_do_not_count_have_no_say():
    generator = Prototypes(3, seed=2)
    counted = {label: torch.arange(NUM_IMAGES) < 5 for label in range(3)}
    fewer = estimated(generator, counted)
    all_images = estimated(generator)
    assert all(fewer[pair] != all_images[pair] and 0.0 < fewer[pair] < FARTHEST for pair in fewer)


def test_a_target_that_comes_no_nearer_is_farthest_and_one_that_is_there_is_at_zero():
    shape, ones = (2, 1, 1, 1, 1), torch.ones(2, 1, dtype=torch.bool)
    estimate = first_order(None, num_classes=3)._at_goal
    margins = torch.tensor([[-1.0], [0.5]])
    assert estimate(margins, torch.zeros(shape), ones).tolist() == [FARTHEST, 0.0]
    assert estimate(margins, torch.full(shape, 0.5), ones).tolist() == [2.0, 0.0]


def test_an_estimate_shows_one_planted_pair_among_all_and_stops_when_told():
    generator = Prototypes(43, seed=3, planted=(30, 11))
    sizes = estimated(generator)
    assert min(sizes, key=lambda pair: sizes[pair]) == (30, 11)
    assert (30, 11) in choose(sizes, 43)
    space = opened(generator)
    sources = Sources.gather({0: torch.zeros(1, 3, 16, 16)}, space, {0: torch.ones(1, dtype=torch.bool)})
    assert first_order(space, num_classes=43).sizes(sources, [(0, 1)], stopped=lambda: True) == []


def test_screened_pairs_are_judged_against_those_drawn():
    rng = np.random.default_rng(5)
    matrix = np.where(np.eye(43, dtype=bool), np.nan, rng.gamma(5.0, size=(43, 43)))
    drawn = positions(sorted(draw(every(43), 0)), 43)
    searched = np.where(drawn, matrix, np.nan)
    source, target = next((s, t) for s, t in every(43) if not drawn[s, t])
    searched[source, target] = 60.0
    found = assess(searched, Terms(bootstrap_draws=99), Screened(drawn, 1806))
    assert (found.source, found.target, found.num_pairs) == (source, target, 1806)
    assert found.calibrated_p_value == 0.01
    assert found.null is not None
    assert found.null.sample_size == drawn.sum() - drawn.sum(axis=0).max()
    assert "1806 pairs were searched" in found.remarks[0]


def test_a_perfect_screen_of_ideal_nulls_fires_no_more_often_than_it_may():
    """All pairs that a full search could find are seen: the worst case for false alarms. 40 matrices at 0.2."""
    rng, fired = np.random.default_rng(6), 0
    for _ in range(40):
        matrix = np.where(np.eye(43, dtype=bool), np.nan, rng.gamma(5.0, size=(43, 43)))
        drawn = positions(sorted(draw(every(43), int(rng.integers(1 << 30)))), 43)
        p_value = assess(matrix, Terms(bootstrap_draws=99), Screened(drawn, 1806)).calibrated_p_value
        fired += p_value is not None and p_value <= 0.2
    assert fired <= 15  # 8 expected; more than 15 has a probability of 0.3 %


def test_what_is_drawn_is_apart_from_other_draws_of_the_seed():
    pairs = every(43)
    pilots = np.random.default_rng(0).permutation(len(pairs))[:300]
    assert draw(pairs, 0) != {pairs[index] for index in pilots}


NUM_CLASSES = 16
PLANTED = (6, 13)


@pytest.fixture
def few_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """So few pairs are drawn that most of sixteen classes' 240 are left out."""
    monkeypatch.setattr(screening, "NUM_DRAWN", 60)
    monkeypatch.setattr(screening, "_KEPT_PER_TARGET", 1)
    monkeypatch.setattr(screening, "_KEPT_PER_SOURCE", 1)


def scanned(folder: Path, *, planted: tuple[int, int] | None = PLANTED, journal: Path | None = None, **options):
    model, data = Prototypes(NUM_CLASSES, seed=5, planted=planted).write(folder, images_per_class=20)
    config = replace(QUICK, images_per_class=20, images_in_report=False, **options)
    return scan(model, CleanSet.load(data), config, journal=journal, resume=journal is not None)


def without_times(result: ScanResult) -> ScanResult:
    return replace(result, timings={})


@pytest.mark.usefixtures("few_drawn")
def test_a_screened_scan_names_the_planted_pair_and_what_it_left_out(tmp_path: Path):
    found = scanned(tmp_path, screen="on", statistics=("plain", "target-contrast"))
    assert (found.verdict, found.source, found.target) == (Verdict.BACKDOOR_DETECTED, *PLANTED)
    [record] = found.screens
    assert (record.detector, record.num_pairs, record.num_drawn) == ("pairwise", 240, 60)
    assert len(found.pairs) == record.num_drawn + record.num_chosen < 120
    drawn = draw(every(NUM_CLASSES), 0)
    assert {(p.source, p.target) for p in found.pairs if not p.chosen} == drawn
    assert PLANTED not in drawn
    assert [entry.statistic for entry in found.detectors] == ["plain"]
    assert found.detectors[0].num_pairs == 240
    told = " ".join(found.not_tested)
    assert f"{240 - len(found.pairs)} of 240 class pairs, which were only estimated" in told
    assert "statistic target-contrast, which needs every pair (--screen off): judged by plain" in told
    assert infer(ScanResult.from_dict(found.to_dict()), {}).detectors == found.detectors
    with pytest.raises(OptionError, match="expected --statistic plain alone for a scan that searched only some"):
        infer(found, {"statistics": ("plain", "residual")})


@pytest.mark.usefixtures("few_drawn")
def test_a_screened_scan_without_a_finding_says_what_that_rests_on(tmp_path: Path):
    found = scanned(tmp_path, planted=None, screen="on")
    assert found.verdict is Verdict.NOT_DETECTED
    assert found.reasons[-1] == (
        f"detector pairwise searched {len(found.pairs)} of 240 pairs: one that a first estimate did not show among the "
        "smallest would have been missed"
    )


@pytest.mark.usefixtures("few_drawn")
def test_a_screened_scan_that_is_interrupted_goes_on_without_new_estimates(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(pairs, "_SOURCES_PER_CHUNK", {"cpu": 4})
    whole = scanned(tmp_path, screen="on")
    searched = PreparedSearch.optimise

    def interrupted(self, pairs, **options):
        if pairs[0][0] > 3:
            raise KeyboardInterrupt
        return searched(self, pairs, **options)

    monkeypatch.setattr(PreparedSearch, "optimise", interrupted)
    with pytest.raises(Interrupted):
        scanned(tmp_path, screen="on", journal=tmp_path / "journal")
    asked: list[int] = []
    monkeypatch.setattr(PreparedSearch, "estimate", lambda *_, **__: pytest.fail("estimated again"))
    monkeypatch.setattr(
        PreparedSearch,
        "optimise",
        lambda self, pairs, **options: asked.append(pairs[0][0]) or searched(self, pairs, **options),
    )
    resumed = scanned(tmp_path, screen="on", journal=tmp_path / "journal")
    assert asked == [4, 8, 12]
    assert without_times(resumed) == without_times(whole)


def test_off_is_the_full_scan_and_so_is_auto_with_few_classes(tmp_path: Path):
    full, usual = scanned(tmp_path, screen="off"), scanned(tmp_path)
    assert len(full.pairs) == 240
    assert full.screens == ()
    assert not any(pair.chosen for pair in full.pairs)
    assert without_times(usual) == replace(without_times(full), config={**full.config, "screen": "auto"})
