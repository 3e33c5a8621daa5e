"""What each way of judging concludes from kept rows, and whether that is right."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from backscan.scanner import Inference, ScanConfig
from backscan.scanner.config import MANY_CLASSES
from backscan.scanner.detectors import DETECTORS, TARGET_DETECTORS, Searched
from backscan.scanner.inference.correction import corrected_p_value
from backscan.scanner.inference.order_test import Terms, assess
from backscan.scanner.inference.rates import logit_of_rate
from backscan.scanner.inference.transfer import infer_transfers
from backscan.scanner.inference.variants import INFERENCES
from backscan.scanner.pipeline.conclusion import infer_from
from backscan.scanner.results import (
    EncodedArray,
    IndividualSize,
    IndividualStatus,
    PairResult,
    PairStatus,
    SupportRecord,
    TargetResult,
    Trajectory,
    Transfer,
    TransferStatus,
)
from benchmarks.accuracy.rows import ScanRow, Sizes, VictimRow
from benchmarks.accuracy.scans import SETTINGS

DRAWS = 199
"""Draws of each calibration: a fifth of the scanner's, so that tables of many victims take minutes."""


FEW_CLASSES = "transferability"
"""What is searched of models with few classes; it is judged in one way."""


@dataclass(frozen=True, slots=True)
class Judge:
    """One way to conclude from one or several searches."""

    settings: tuple[str, ...]
    """What was searched: names in `scans.SETTINGS`."""
    statistics: tuple[str, ...] = ("plain",)
    """Statistics of each search; all of them share the significance."""
    inference: str = "principal"
    """Name in the table of inferences."""
    null: str = "gamma"
    """Name in the table of null families."""
    published: bool = False
    """Whether the published p-value decides instead of the calibrated one."""
    goal_rate: float | None = None
    """Judge sizes at this rate, one of `condense.LOWER_RATES`; None is where the search stopped."""
    together: bool = False
    """Whether the conclusions are combined as `scanner check` does by default; else each counts by itself."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one way of judging says about one victim."""

    p_value: float
    """Deciding p-value, corrected for several statistics; 1 where there is none."""
    source: int | None
    """Source class of the most extreme pair."""
    target: int | None
    """Its target class."""

    def alarms(self, significance: float) -> bool:
        """Whether it says that there is a backdoor."""
        return self.p_value <= significance

    def names_target(self, victim: VictimRow, significance: float) -> bool:
        """Whether it alarms and names a target class of the attack."""
        return self.alarms(significance) and self.target in dict(victim.targets).values()

    def names_pair(self, victim: VictimRow, significance: float) -> bool:
        """Whether it alarms and names a (source, target) pair of the attack."""
        return self.alarms(significance) and (self.source, self.target) in victim.targets


@dataclass(frozen=True, slots=True)
class Anomaly:
    """What a detector that pools the sources says about one victim."""

    target: int | None
    """The class that stands out most."""
    index: float | None
    """By how many deviations, estimated by the median absolute deviation; None with too few classes."""
    p_value: float | None
    """Calibrated p-value, of detectors that have one."""


@dataclass(frozen=True, slots=True)
class _Test:
    """One statistic of one search."""

    published: float
    """Order-statistic p-value."""
    deciding: float
    """The p-value that decides."""
    source: int | None
    """Source class of the most extreme pair."""
    target: int | None
    """Its target class."""


JUDGES: Mapping[str, Judge] = MappingProxyType(
    {
        "AD-J-P": Judge(("J",), published=True),
        "AD-Jp-P": Judge(("Jp",), published=True),
        "AD-Jc-P": Judge(("Jc",), published=True),
        "AD-J-C": Judge(("J",), inference="corrected", published=True),
        "AD-J-P-L1": Judge(("J, L1",), published=True),
        "AD-J naive": Judge(("J",), inference="naive", published=True),
        "AD-J-P, features": Judge(("features J",), published=True),
    }
)
"""The variants of XMK sections 5.2.2 and 5.2.3 and Table 5, with the published p-value."""

_STATISTICS = (
    ("plain",),
    ("reverse-controlled",),
    ("residual",),
    ("target-wise",),
    ("target-contrast",),
    ("plain", "target-wise"),
    ("plain", "target-contrast"),
    ("plain", "reverse-controlled"),
    ("plain", "reverse-controlled", "target-contrast"),
    ("source-normalised",),
    ("source-normalised", "target-contrast"),
    ("plain", "source-normalised", "target-contrast"),
    ("source-adjusted",),
    ("source-adjusted", "target-contrast"),
    ("residual", "target-contrast"),
    ("plain", "residual", "target-contrast"),
)
_SEARCHES = {"image": ("pairwise",), "features": ("features J",), "both": ("pairwise", "features J")}

_DETECTOR_OF = {
    "pairwise": "pairwise",
    "features J": "features",
    "window": "window",
    "large-window": "large-window",
    "mask": "mask",
}
_WITNESSES = tuple(_DETECTOR_OF)
_STATISTICS_TOGETHER = {
    "": ("source-adjusted", "margin-contrast"),
    " and commonality": ("source-adjusted", "margin-contrast", "commonality"),
    " by contrasts of sizes alone": ("source-adjusted", "target-contrast"),
    " without contrasts": ("source-adjusted",),
}
_SEARCHES_TOGETHER = {
    "": _WITNESSES,
    " without masks": _WITNESSES[:4],
    " without windows": (*_WITNESSES[:2], "mask"),
    " without large windows": (*_WITNESSES[:3], "mask"),
    " without features": ("pairwise", *_WITNESSES[2:]),
}

CANDIDATES: Mapping[str, Judge] = MappingProxyType(
    {
        **{
            f"together{searches}{what}": Judge(settings, statistics, "distinct", "inverse-gaussian", together=True)
            for searches, settings in _SEARCHES_TOGETHER.items()
            for what, statistics in _STATISTICS_TOGETHER.items()
        },
        "together, whatever looks alike": Judge(
            _WITNESSES, _STATISTICS_TOGETHER[""], "unconfused", "inverse-gaussian", together=True
        ),
        **{
            f"{search}, leave-target-out": Judge(settings, ("plain",), "leave-target-out", "inverse-gaussian")
            for search, settings in _SEARCHES.items()
        },
        "image, gamma, published p: plain": Judge(("pairwise",), published=True),
        "image, J, gamma: plain": Judge(("J",)),
        "image, L1, gamma: plain": Judge(("L1",)),
        "image, exponential: plain": Judge(("pairwise",), null="exponential"),
        **{
            f"{search}, {null}: {' + '.join(statistics)}": Judge(settings, statistics, null=null)
            for search, settings in _SEARCHES.items()
            for null in ("gamma", "inverse-gaussian")
            for statistics in _STATISTICS
        },
    }
)
"""Ways to conclude, among which the default is chosen."""


def default() -> str:
    """The candidate that `scanner check` concludes by: its own searches, statistics and null."""
    config = ScanConfig()
    together = config.combination == "together"
    settings = tuple(setting for name in MANY_CLASSES for setting, own in _DETECTOR_OF.items() if own == name)
    judge = Judge(settings, config.statistics, config.inference, config.null, together=together)
    return next(name for name, candidate in CANDIDATES.items() if candidate == judge)


def outcome(rows: Sequence[ScanRow], judge: Judge, *, draws: int = DRAWS) -> Outcome:
    """What a way of judging concludes.

    Args:
        rows: A row for each of the judge's settings.
        judge: How to conclude.
        draws: Draws of the calibration.
    """
    if judge.together:
        return together(concluded(rows, judge, draws=draws))
    return combined([test for row in rows for test in _tests(row, judge, draws)])


def concluded(rows: Sequence[ScanRow], judge: Judge, *, draws: int = DRAWS) -> tuple[Inference, ...]:
    """All conclusions of the scanner's own step 11 from what rows keep of a search; arguments as of `outcome`."""
    by_setting = {row.setting: row for row in rows}
    detectors = tuple(_DETECTOR_OF[setting] for setting in judge.settings)
    config = replace(
        ScanConfig(),
        detectors=detectors,
        statistics=judge.statistics,
        inference=judge.inference,
        null=judge.null,
        bootstrap_draws=draws,
    )
    margins = next((row.margins for row in rows if row.margins), ())
    pairs = tuple(pair for setting in judge.settings for pair in _pairs(by_setting[setting], margins))
    targets = tuple(entry for setting in judge.settings for entry in _targets(by_setting[setting]))
    num_classes = max(len(row.sizes[0]) for row in rows)
    cut = "features" if any(pair.detector == "features" for pair in pairs) else None
    searched = Searched(detectors, num_classes, cut, pairs, targets=targets)
    return infer_from(searched, config)[1]


def together(conclusions: Sequence[Inference]) -> Outcome:
    """What several witnesses say together: the most extreme of the conclusions that decide."""
    deciding = [entry for entry in conclusions if entry.decides and entry.calibrated_p_value is not None]
    if not deciding:
        return Outcome(1.0, None, None)
    first = min(deciding, key=lambda entry: (entry.calibrated_p_value, entry.p_value))
    p_value = corrected_p_value(first, conclusions, published=False)
    return Outcome(1.0 if p_value is None else p_value, first.source, first.target)


_NOTHING = Trajectory((), ())


def _pairs(row: ScanRow, margins: Sizes) -> Iterator[PairResult]:
    """The pairs of a row, as a report has them, with the clean margins of their model if those are known."""
    detector = _DETECTOR_OF[row.setting]
    for source, sizes in enumerate(row.sizes if detector in DETECTORS else ()):
        for target, size in enumerate(sizes):
            if source == target:
                continue
            status = PairStatus(row.statuses.get(f"{source}:{target}", "reached"))
            if size is None and status.counts:
                continue  # a model that could not be cut has no pairs on features
            rate = row.initial_rates.get(f"{source}:{target}", 0.0)
            yield PairResult(
                detector,
                source,
                target,
                status,
                size,
                rate,
                None,
                0,
                _NOTHING,
                individual_size=_single(row, source, target),
                clean_margin=margins[source][target] if margins else None,
            )


def _single(row: ScanRow, source: int, target: int) -> IndividualSize | None:
    """What single images need, of a row that has it."""
    if not row.individual:
        return None
    size, common = row.individual[source][target], row.common[source][target]
    if size is None:
        return IndividualSize(IndividualStatus.FEW_IMAGES)
    return IndividualSize(IndividualStatus.FOUND, size, row.individual_errors[source][target], common)


def _targets(row: ScanRow) -> Iterator[TargetResult]:
    """The windows or masks of a row, without their contents."""
    detector, supports = _DETECTOR_OF[row.setting], dict(_supports(row))
    if detector == "mask":
        for target, size in enumerate(row.sizes[0]):
            status = PairStatus.STEP_LIMIT if size is None else PairStatus.REACHED
            yield TargetResult(detector, target, status, size, None, 0, support=supports.get(target))
        return
    for target, support in supports.items():
        hits, count = sum(support.hits), sum(support.counts)
        value = logit_of_rate(hits, count)
        yield TargetResult(detector, target, PairStatus.REACHED, value, hits / count, 0, support=support)


def _supports(row: ScanRow) -> Iterator[tuple[int, SupportRecord]]:
    """What is known by target of the images that follow a content."""
    for target in range(len(row.hits)):
        asked = {source: counts[target] for source, counts in enumerate(row.counts) if counts[target]}
        hits = [int(row.hits[source][target] or 0) for source in asked]
        counts = [int(count or 0) for count in asked.values()]
        if asked:
            content = EncodedArray.encode(np.zeros((1, 0), np.float32))
            yield target, SupportRecord(row.side, (), content, tuple(asked), tuple(hits), tuple(counts))


def concluded_of_few(row: ScanRow) -> tuple[Inference, ...]:
    """The conclusions about a row of a model of few classes, by the scanner's own code."""
    pairs = []
    for name, (rate, error, way) in row.transfers.items():
        source, target = map(int, name.split(":"))
        pairs.append(
            PairResult(
                FEW_CLASSES,
                source,
                target,
                PairStatus(row.statuses.get(name, PairStatus.REACHED.value)),
                row.sizes[source][target],
                0.0,
                1.0,
                0,
                Trajectory((), ()),
                transfer=Transfer(TransferStatus.FOUND, 0, rate, error, way, 1.0),
            )
        )
    return infer_transfers(pairs, ScanConfig(), len(row.sizes), detector=FEW_CLASSES)


def of_few_classes(row: ScanRow) -> Outcome:
    """What they say together."""
    conclusions = concluded_of_few(row)
    found = min(conclusions, key=lambda each: 2.0 if each.calibrated_p_value is None else each.calibrated_p_value)
    p_value = corrected_p_value(found, conclusions, published=False)
    return Outcome(1.0 if p_value is None else p_value, found.source, found.target)


def combined(tests: Sequence[_Test]) -> Outcome:
    """The most extreme of several tests, its p-value corrected for their number."""
    if not tests:
        return Outcome(1.0, None, None)
    extreme = min(tests, key=lambda test: (test.deciding, test.published))
    return Outcome(min(1.0, len(tests) * extreme.deciding), extreme.source, extreme.target)


def _tests(row: ScanRow, judge: Judge, draws: int) -> Iterator[_Test]:
    reciprocals = _Reciprocals(row.digest, row.setting, judge.goal_rate, judge.inference, _reciprocals(row, judge))
    if np.isnan(reciprocals.values).all():
        return
    for statistic in judge.statistics:
        test = _test(reciprocals, statistic, judge.null, 0 if judge.published else draws)
        if test is not None:
            yield test


@dataclass(frozen=True, slots=True)
class _Reciprocals:
    """A matrix that is told apart by where it comes from, so that tests which judges share are made once."""

    digest: str
    """Digest of the victim's plan."""
    setting: str
    """What was searched."""
    goal_rate: float | None
    """Rate at which sizes are judged, as of `Judge`."""
    inference: str
    """Name in the table of inferences, which may correct sizes."""
    values: NDArray[np.float64] = field(compare=False)
    """[K, K], NaN where a pair does not count."""


@cache
def _test(reciprocals: _Reciprocals, statistic: str, null: str, draws: int) -> _Test | None:
    """One test, by the scanner's own code; without draws the published p-value decides."""
    variant = INFERENCES[reciprocals.inference]
    terms = Terms(
        statistic=statistic,
        left_out=variant.left_out,
        beyond_tail=variant.beyond_tail,
        null=null,
        published_p=draws == 0,
        bootstrap_draws=draws,
        tells_power=False,
    )
    found = assess(reciprocals.values, terms)
    deciding = found.p_value if draws == 0 else found.calibrated_p_value
    if found.p_value is None or deciding is None:
        return None
    return _Test(found.p_value, deciding, found.source, found.target)


def _reciprocals(row: ScanRow, judge: Judge) -> NDArray[np.float64]:
    """Reciprocals of the sizes that a judge compares, [K, K], NaN where a pair does not count."""
    sizes = matrix(row.sizes if judge.goal_rate is None else row.sizes_at[f"{judge.goal_rate:g}"])
    if INFERENCES[judge.inference].corrects_confusion:
        for pair, offset in row.offsets.items():
            source, target = map(int, pair.split(":"))
            sizes[source, target] += offset
    reciprocals: NDArray[np.float64] = 1.0 / sizes
    return reciprocals


def matrix(sizes: Sizes) -> NDArray[np.float64]:
    """Sizes as an array, NaN where there is none."""
    return np.array([[np.nan if size is None else size for size in row] for row in sizes], np.float64)


def anomaly(row: ScanRow) -> Anomaly:
    """What Neural Cleanse or the margins conclude from a row, by the scanner's own code."""
    config = replace(ScanConfig(bootstrap_draws=DRAWS), **SETTINGS[row.setting])
    (detector,) = config.detectors
    [values] = row.sizes
    targets = [
        TargetResult(detector, target, PairStatus.REACHED, value, rate=None, steps=0)
        for target, value in enumerate(values)
    ]
    found: Inference = TARGET_DETECTORS[detector].infer(targets, config, len(values))
    return Anomaly(found.target, found.anomaly_index, found.calibrated_p_value)
