"""Which pairs of a model with many classes are searched, and what the statistics make of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from backscan.converters import artifact_from_bytes, import_model, read_signature
from backscan.scanner import screen
from backscan.scanner.batch import Sources
from backscan.scanner.config import ScanConfig
from backscan.scanner.errors import OptionError
from backscan.scanner.glance import FARTHEST, NUM_IMAGES, Glance, _crossings
from backscan.scanner.hypothesis import Screened, Terms, assess
from backscan.scanner.norms import NORMS
from backscan.scanner.objectives import OBJECTIVES
from backscan.scanner.screen import choose, draw, is_screened, left_out, positions
from backscan.scanner.spaces import ClippedImage
from benchmarks.prototypes import Prototypes


def every(num_classes: int) -> list[tuple[int, int]]:
    return [(s, t) for s in range(num_classes) for t in range(num_classes) if s != t]


@pytest.mark.parametrize(
    ("options", "num_classes", "expected"),
    [
        ({}, 100, False),
        ({}, 101, True),
        ({"screen": "off"}, 1000, False),
        ({"screen": "on"}, 10, True),
        ({"targets": (3,)}, 1000, False),
        ({"pairs": ((1, 3),)}, 1000, False),
        ({"step_rule": "plain"}, 1000, False),
        ({"statistics": ("residual",)}, 1000, False),
    ],
)
def test_auto_screens_many_classes_where_it_can(options, num_classes, expected):
    assert is_screened(ScanConfig(**options), num_classes) is expected


@pytest.mark.parametrize("options", [{"targets": (3,)}, {"step_rule": "plain"}, {"statistics": ("residual",)}])
def test_a_screen_that_cannot_be_is_refused(options):
    with pytest.raises(OptionError, match="with --screen on: change it or leave --screen out"):
        is_screened(ScanConfig(screen="on", **options), 43)


def test_the_draw_follows_the_seed_alone():
    pairs = every(43)
    assert draw(pairs, 0) == draw(pairs, 0) != draw(pairs, 1)
    assert len(draw(pairs, 0)) == 600
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
        "1785 of 1806 class pairs, which had only a short look: searched were 1 that looked smallest"
    )


def test_the_estimate_is_the_crossing_or_the_way_there():
    sizes = torch.tensor([[0.0] * 4, [1.0] * 4, [2.0] * 4])
    margins = torch.tensor([[-4.0, -3.0, -1.0, 1.0], [-3.0, -1.0, -2.0, 2.0], [-2.0, 1.0, -3.0, 3.0]])
    # Half way after 2; crossed between 1 and 2; moving away; there at once.
    assert _crossings(sizes, margins).tolist() == [4.0, 1.5, FARTHEST, 0.0]


def test_a_short_look_shows_one_planted_pair_among_all():
    generator = Prototypes(43, seed=3, planted=(30, 11))
    artifact = artifact_from_bytes("prototypes.onnx", generator.model())
    space = ClippedImage(import_model(artifact, read_signature(artifact)))
    pixels, labels = generator.images(NUM_IMAGES)
    images = torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)).astype(np.float32)) / 255
    by_class = {label: images[torch.from_numpy(labels == label)] for label in range(43)}
    sources = Sources.gather(by_class, space, {c: torch.ones(NUM_IMAGES, dtype=torch.bool) for c in by_class})
    glance = Glance(space, OBJECTIVES["ce"], 0.2, 0.8, NORMS["l2"], lanes=25)
    sizes = dict(zip(every(43), glance.run(sources, every(43), stopped=lambda: False), strict=True))
    assert min(sizes, key=lambda pair: sizes[pair]) == (30, 11)
    assert (30, 11) in choose(sizes, 43)
    assert glance.run(sources, every(43), stopped=lambda: True) == []


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
    pilots = np.random.default_rng(0).permutation(len(pairs))[:600]
    assert draw(pairs, 0) != {pairs[index] for index in pilots}
    assert screen.STATISTIC == "plain"
