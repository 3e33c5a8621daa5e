"""One contract for each table of variants, run over every entry: an entry is tested by being there."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import FrozenInstanceError, asdict, replace

import numpy as np
import pytest
import torch

from backscan.converters.signature.signature import Normalisation
from backscan.kernels.nulls import NULL_FAMILIES, FitStatus
from backscan.scanner.config import FEW_CLASSES, PRESETS, ScanConfig
from backscan.scanner.detectors import DETECTORS, RATE_DETECTORS, TARGET_DETECTORS, Searched
from backscan.scanner.errors import OptionError
from backscan.scanner.images.candidates import CANDIDATES, candidate
from backscan.scanner.inference.statistics import STATISTICS
from backscan.scanner.inference.variants import INFERENCES, with_reciprocals
from backscan.scanner.reports import RENDERERS, format_of, render
from backscan.scanner.results import (
    Inference,
    PairResult,
    PairStatus,
    TargetResult,
    Trajectory,
    Transfer,
    TransferStatus,
)
from backscan.scanner.search.norms import NORMS
from backscan.scanner.search.objectives import OBJECTIVES
from backscan.scanner.search.spaces import SPACES
from backscan.scanner.search.steps import STEP_RULES
from tests.scanner.reports import examples

TABLES: dict[str, Mapping[str, object]] = {
    "OBJECTIVES": OBJECTIVES,
    "NORMS": NORMS,
    "SPACES": SPACES,
    "STEP_RULES": STEP_RULES,
    "STATISTICS": STATISTICS,
    "INFERENCES": INFERENCES,
    "NULL_FAMILIES": NULL_FAMILIES,
    "DETECTORS": DETECTORS,
    "TARGET_DETECTORS": TARGET_DETECTORS,
    "RATE_DETECTORS": RATE_DETECTORS,
    "RENDERERS": RENDERERS,
    "CANDIDATES": CANDIDATES,
    "PRESETS": PRESETS,
}
# Options of the configuration that take the name of an entry.
OPTIONS = {
    "objective": OBJECTIVES,
    "norm": NORMS,
    "space": SPACES,
    "step_rule": STEP_RULES,
    "inference": INFERENCES,
    "null": NULL_FAMILIES,
    "preprocess": CANDIDATES,
}
REPEATABLE = {"detectors": DETECTORS, "statistics": STATISTICS}


@pytest.mark.parametrize("name", TABLES)
def test_a_table_cannot_be_changed(name):
    with pytest.raises(TypeError):
        TABLES[name]["new"] = None
    assert TABLES[name]


@pytest.mark.parametrize(("option", "entry"), [(option, entry) for option, table in OPTIONS.items() for entry in table])
def test_every_entry_is_an_option_and_survives_a_report(option, entry):
    config = replace(ScanConfig(), **{option: entry})
    config.check()
    assert ScanConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize("option", OPTIONS)
def test_no_other_name_is_an_option(option):
    with pytest.raises(OptionError, match=f"expected --{option.replace('_', '-')} to be one of .*, found 'nothing'"):
        replace(ScanConfig(), **{option: "nothing"}).check()


@pytest.mark.parametrize("option", REPEATABLE)
def test_repeatable_options_take_every_entry_once(option):
    names = tuple(REPEATABLE[option])
    config = replace(ScanConfig(), **{option: names})
    config.check()
    assert ScanConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    flag = f"--{option.removesuffix('s')}"
    none = () if option == "detectors" else (((), "none"),)  # no detector is the choice of the scan
    for given, found in (*none, ((names[0], names[0]), names[0])):
        with pytest.raises(OptionError, match=f"expected at least one {flag}, each of them once, found {found}"):
            replace(ScanConfig(), **{option: given}).check()
    with pytest.raises(OptionError, match=f"expected {flag} to be one of .*, found 'nothing'"):
        replace(ScanConfig(), **{option: ("nothing",)}).check()


def frozen(*tensors: torch.Tensor) -> list[torch.Tensor]:
    return [tensor.clone() for tensor in tensors]


def unchanged(before: list[torch.Tensor], *after: torch.Tensor) -> bool:
    return all(torch.equal(one, two) for one, two in zip(before, after, strict=True))


@pytest.mark.parametrize("name", OBJECTIVES)
def test_objectives_weigh_the_images_that_take_part(name):
    generator = torch.Generator().manual_seed(0)
    log_p = -torch.rand(3, 6, generator=generator)
    log_rest = torch.log1p(-log_p.exp())
    decided = torch.rand(3, 6, generator=generator) < 0.3
    counted = torch.rand(3, 6, generator=generator) < 0.8
    given = frozen(log_p, log_rest, decided, counted)
    weights = OBJECTIVES[name].log_weights(log_p, log_rest, decided, counted)
    assert (weights.shape, weights.dtype) == (log_p.shape, torch.float32)
    assert unchanged(given, log_p, log_rest, decided, counted)
    assert weights[~counted].eq(-math.inf).all(), "images that do not count never take part"
    takes_part = weights.isfinite()
    assert takes_part[counted & ~decided].all(), "images that are still to be moved always do"
    assert takes_part[counted & decided].any() != OBJECTIVES[name].only_undecided
    with pytest.raises(FrozenInstanceError):
        OBJECTIVES[name].only_correct = True


@pytest.mark.parametrize("name", NORMS)
def test_norms_are_norms(name):
    generator = torch.Generator().manual_seed(1)
    a, b = (torch.randn(4, 3, 5, 5, generator=generator) for _ in range(2))
    given = frozen(a, b)
    norm = NORMS[name]
    assert (norm(a).shape, norm(a).dtype) == ((4,), torch.float64)
    torch.testing.assert_close(norm(-3 * a), 3 * norm(a))
    assert (norm(a + b) <= norm(a) + norm(b)).all()
    assert (norm(a) > 0).all()
    assert norm(torch.zeros_like(a)).eq(0).all()
    torch.testing.assert_close(norm(a[1:2]), norm(a)[1:2], msg="a pattern's size does not depend on the others")
    assert unchanged(given, a, b)


@pytest.mark.parametrize("name", STEP_RULES)
def test_steps_go_downhill_and_pairs_do_not_mix(name):
    rule = STEP_RULES[name]
    direction = torch.randn(4, 1, 3, 3, generator=torch.Generator().manual_seed(2))
    scale = torch.tensor([0.0, -1.0, -5.0, 2.0])
    given = frozen(direction, scale)
    step = rule.step(direction, scale)
    assert (step.shape, step.dtype) == (direction.shape, direction.dtype)
    assert ((step * direction).flatten(1).sum(dim=1) > 0).all()
    torch.testing.assert_close(rule.step(direction[2:3], scale[2:3]), step[2:3])
    assert rule.step(torch.zeros_like(direction), scale).eq(0).all()
    assert 1 <= rule.fewest < rule.most
    assert unchanged(given, direction, scale)


def reciprocals(seed: int = 0) -> np.ndarray:
    values = np.random.default_rng(seed).gamma(5.0, size=(6, 6))
    np.fill_diagonal(values, np.nan)
    values[4] = np.nan  # a source without images
    values[1, 2] = np.nan  # a pair that is already confused
    return values


@pytest.mark.parametrize("name", STATISTICS)
def test_statistics_compare_what_counts(name):
    statistic, values = STATISTICS[name], reciprocals()
    before = values.copy()
    found = statistic(values)
    by_pair = found.shape == values.shape
    assert by_pair or found.shape == (1, 6)
    assert found.dtype == np.float64
    np.testing.assert_array_equal(values, before)
    assert not by_pair or np.isnan(found[np.isnan(values)]).all(), "what does not count has no statistic"
    assert (found[~np.isnan(found)] > 0).all()
    stack = np.stack([values, reciprocals(1)])
    np.testing.assert_array_equal(statistic(stack), [found, statistic(reciprocals(1))], "leading axes do not mix")
    # A common factor on all sizes must not move the ranks.
    factors = (statistic(7 * values) / found)[~np.isnan(found)]
    np.testing.assert_allclose(factors, factors[0], rtol=1e-12)
    larger = values.copy()
    larger[0, 3] *= 10
    row = 0 if by_pair else -1
    assert statistic(larger)[row, 3] > found[row, 3], "a smaller pattern is more suspicious"


def pairs(num_classes: int = 6, seed: int = 0) -> list[PairResult]:
    sizes = 1 / np.random.default_rng(seed).gamma(8.0, size=(num_classes, num_classes))
    return [
        PairResult(
            "pairwise",
            s,
            t,
            PairStatus.REACHED,
            float(sizes[s, t]),
            0.1,
            0.8,
            3,
            Trajectory((0.0, sizes[s, t] / 3, 2 * sizes[s, t] / 3, sizes[s, t]), (0.1, 0.3, 0.6, 0.8)),
        )
        for s in range(num_classes)
        for t in range(num_classes)
        if s != t
    ]


@pytest.mark.parametrize("name", INFERENCES)
def test_inferences_fill_in_reciprocals_and_nothing_else(name):
    given = [*pairs(), replace(pairs()[0], status=PairStatus.ALREADY_CONFUSED, size=None)]
    found = with_reciprocals(given, inference=name, order=3)
    for before, after in zip(given, found, strict=True):
        assert replace(after, offset=None, reciprocal=None) == before
        if not after.status.counts:
            assert (after.offset, after.reciprocal) == (None, None)
            continue
        assert (after.offset is not None) is INFERENCES[name].corrects_confusion
        assert (after.offset or 0.0) >= 0.0
        assert after.reciprocal == pytest.approx(1 / (after.size + (after.offset or 0.0)))


@pytest.mark.parametrize("name", NULL_FAMILIES)
def test_null_families_fit_below_a_cutoff(name):
    family = NULL_FAMILIES[name]
    rows = (
        np.random.default_rng(3).gamma(4.0, size=(3, 60))
        if name != "exponential"
        else (np.random.default_rng(3).exponential(size=(3, 60)))
    )
    before, cutoffs = rows.copy(), rows.max(axis=1) * 1.2
    for limits in (cutoffs, None):
        fits = family.fit(rows, limits)
        assert fits.parameters.shape == (3, len(family.parameter_names))
        assert (fits.statuses == FitStatus.REACHED).all()
        parameters = tuple(fits.parameters[0].tolist())
        values = np.linspace(0.1, 20.0, 40)
        tails = [family.sf(float(value), parameters) for value in values]
        assert all(0.0 <= tail <= 1.0 for tail in tails)
        assert tails == sorted(tails, reverse=True)
        np.testing.assert_allclose([family.cdf(float(v), parameters) for v in values], 1 - np.array(tails), atol=1e-12)
        # The density is minus the slope of the tail.
        slope = -(family.sf(2.0 + 1e-5, parameters) - family.sf(2.0 - 1e-5, parameters)) / 2e-5
        assert math.exp(family.log_pdf(np.array([2.0]), parameters)[0]) == pytest.approx(slope, rel=1e-5)
        [value] = family.quantiles(np.array([math.log(0.01)]), parameters)
        assert family.sf(float(value), parameters) == pytest.approx(0.01, rel=1e-9)
        draws = family.sample(np.random.default_rng(0), parameters, (2, 500))
        assert draws.shape == (2, 500)
        assert (draws > 0).all()
    np.testing.assert_array_equal(rows, before)
    scaled = family.fit(7.0 * rows, 7.0 * cutoffs)
    tail = family.sf(14.0, tuple(scaled.parameters[0].tolist()))
    assert tail == pytest.approx(family.sf(2.0, tuple(family.fit(rows, cutoffs).parameters[0].tolist())), rel=1e-6)


@pytest.mark.parametrize("name", NULL_FAMILIES)
def test_null_families_fail_by_a_status(name):
    """Fewer than two values, or all the same, have no fit; nothing is raised."""
    family = NULL_FAMILIES[name]
    assert (family.fit(np.ones((2, 1)), None).statuses == FitStatus.FAILED).all()
    assert (family.fit(np.full((1, 5), 2.0), np.array([3.0])).statuses != FitStatus.REACHED).all()


@pytest.mark.parametrize("name", DETECTORS)
def test_detectors_conclude_from_pairs(name):
    transfer = Transfer(TransferStatus.FOUND, 9, 0.3, 0.05, 0.5, 1.0) if name in FEW_CLASSES else None
    given = [replace(pair, detector=name, transfer=transfer) for pair in pairs()]
    config = ScanConfig(bootstrap_draws=19, threads=1, statistics=("source-adjusted", "target-contrast"))
    searched = Searched((name,), 6, cut="features")
    found = DETECTORS[name].infer(given, searched, config)
    assert found == DETECTORS[name].infer(given, searched, config), "the same pairs give the same conclusion"
    for inference in found:
        assert isinstance(inference, Inference)
        assert inference.detector == name
        assert inference.decides is (inference.p_value is not None)
        for p_value in (inference.p_value, inference.calibrated_p_value):
            assert p_value is None or 0.0 < p_value <= 1.0
        assert inference.target in range(6)
        assert inference.source is None or inference.source in range(6)


# What works with the patterns of pairs has nothing to say of values alone; `test_umd` holds it to the same.
BY_VALUES = [name for name, detector in TARGET_DETECTORS.items() if detector.chosen_patterns is None]


@pytest.mark.parametrize("name", BY_VALUES)
def test_detectors_of_targets_inform_and_decide_nothing(name):
    given = [
        TargetResult(name, target, PairStatus.REACHED, value, None, 9)
        for target, value in enumerate(np.random.default_rng(0).gamma(20.0, size=6).tolist())
    ]
    config = ScanConfig(bootstrap_draws=19, detectors=(name,))
    config.check()
    found = TARGET_DETECTORS[name].infer(given, config, 6)
    assert found == TARGET_DETECTORS[name].infer(given, config, 6)
    assert (found.detector, found.decides, found.source, found.num_pairs) == (name, False, None, 6)
    assert found.target in range(6)
    assert math.isfinite(found.anomaly_index if found.anomaly_index is not None else found.p_value)
    assert [len(row) for row in found.values] == [6]


@pytest.mark.parametrize("name", RENDERERS)
def test_reports_are_pure_text(name):
    for result in (examples.hostile(), examples.no_verdict(), examples.bare()):
        text = render(result, name)
        assert text == render(result, name)
        assert text.endswith("\n")
        text.encode("utf-8", "backslashreplace")
    assert render([examples.detected(3), examples.no_verdict()], name)


@pytest.mark.parametrize("name", RENDERERS)
def test_reports_are_chosen_by_their_suffix(name):
    assert RENDERERS[name].about
    for suffix in RENDERERS[name].suffixes:
        assert format_of(f"folder.json/report{suffix}") == name
        assert format_of(f"REPORT{suffix.upper()}") == name


def test_suffixes_belong_to_one_format():
    suffixes = [suffix for renderer in RENDERERS.values() for suffix in renderer.suffixes]
    assert len(set(suffixes)) == len(suffixes)
    with pytest.raises(OptionError, match=r"expected --report to end in .*\.json.*, found 'report\.pdf'"):
        format_of("report.pdf")


@pytest.mark.parametrize("name", CANDIDATES)
def test_candidates_are_normalisations_that_say_what_they_do(name):
    normalisation = candidate(name)
    channels = 3 if len(normalisation.mean) == 3 or normalisation.channel_order == "bgr" else 1
    factor, offset = normalisation.affine(channels)
    assert len(factor) == len(offset) == channels
    assert all(value > 0 for value in factor)
    assert name.endswith("-bgr") is (normalisation.channel_order == "bgr")
    assert Normalisation(**asdict(normalisation)) == normalisation
    with pytest.raises(FrozenInstanceError):
        normalisation.low = 0.5


@pytest.mark.parametrize("name", [name for name in CANDIDATES if not name.endswith("-bgr")])
def test_every_candidate_has_its_twin_for_the_other_order_of_colours(name):
    forwards, backwards = candidate(name), candidate(f"{name}-bgr")
    assert backwards.channel_order == "bgr"
    assert backwards.affine(3) == forwards.affine(3)


def test_no_two_candidates_are_the_same():
    assert len({candidate(name) for name in CANDIDATES}) == len(CANDIDATES)
    assert candidate("none") == Normalisation()


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_valid_configurations(name):
    ScanConfig().with_preset(name).check()
