"""What each way of judging concludes from a kept scan, and whether that is right."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from backscan.scanner import Inference, ScanConfig
from backscan.scanner.inference import infer_pairs
from backscan.scanner.results import PairResult
from benchmarks.scans import KeptScan
from benchmarks.victims import Victim

DRAWS = 999


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
    """Judge sizes at this rate, read from the trajectories; None is where the search stopped."""


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

    def names_target(self, victim: Victim, significance: float) -> bool:
        """Whether it alarms and names a target class of the attack."""
        return self.alarms(significance) and self.target in dict(victim.plan.targets).values()

    def names_pair(self, victim: Victim, significance: float) -> bool:
        """Whether it alarms and names a (source, target) pair of the attack."""
        return self.alarms(significance) and (self.source, self.target) in victim.plan.targets


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
    ("residual-reverse-controlled",),
    ("target-wise",),
    ("plain", "target-wise"),
    ("plain", "reverse-controlled"),
    ("plain", "reverse-controlled", "target-wise"),
    ("residual", "target-wise"),
    ("residual-reverse-controlled", "target-wise"),
    ("residual", "residual-reverse-controlled", "target-wise"),
    ("plain", "residual-reverse-controlled", "target-wise"),
)
_SEARCHES = {"image": ("pairwise",), "features": ("features J",), "both": ("pairwise", "features J")}

CANDIDATES: Mapping[str, Judge] = MappingProxyType(
    {
        "image, gamma, published p: plain": Judge(("pairwise",), published=True),
        "image, J, gamma: plain": Judge(("J",)),
        "image, L1, gamma: plain": Judge(("L1",)),
        "image, gamma: source-normalised": Judge(("pairwise",), ("source-normalised",)),
        **{
            f"{search}, {null}: {' + '.join(statistics)}": Judge(settings, statistics, null=null)
            for search, settings in _SEARCHES.items()
            for null in ("gamma", "inverse-gaussian")
            for statistics in _STATISTICS
        },
    }
)
"""Ways to conclude, among which the default is chosen."""


def outcome(scans: Sequence[KeptScan], judge: Judge, *, draws: int = DRAWS) -> Outcome:
    """What a way of judging concludes.

    Args:
        scans: A scan for each of the judge's settings.
        judge: How to conclude.
        draws: Draws of the calibration.
    """
    inferences = [each for scan in scans for each in _inferences(scan, judge, draws)]
    return combined(inferences, published=judge.published)


def _inferences(scan: KeptScan, judge: Judge, draws: int) -> tuple[Inference, ...]:
    config = replace(
        ScanConfig.from_dict(scan.result.config),
        statistics=judge.statistics,
        inference=judge.inference,
        null=judge.null,
        published_p=judge.published,
        bootstrap_draws=0 if judge.published else draws,
        threads=1,
    )
    pairs = scan.result.pairs
    if judge.goal_rate is not None:
        pairs = tuple(at_rate(pair, judge.goal_rate) for pair in pairs)
    num_classes = scan.result.model.num_classes
    if not pairs or num_classes is None:
        return ()
    return infer_pairs(pairs, config, num_classes, detector=config.detectors[0], space="")


def combined(inferences: Sequence[Inference], *, published: bool) -> Outcome:
    """The most extreme of several inferences, its p-value corrected for their number."""
    tested = [(p, each) for p, each in _p_values(inferences, published=published)]
    if not tested:
        return Outcome(1.0, None, None)
    p_value, most_extreme = min(tested, key=lambda entry: (entry[0], entry[1].p_value))
    return Outcome(min(1.0, len(tested) * p_value), most_extreme.source, most_extreme.target)


def _p_values(inferences: Sequence[Inference], *, published: bool) -> Iterator[tuple[float, Inference]]:
    for each in inferences:
        p_value = each.p_value if published else each.calibrated_p_value
        if p_value is not None and each.decides:
            yield p_value, each


def at_rate(pair: PairResult, rate: float) -> PairResult:
    """The pair as if the search had stopped at another rate: its size where the trajectory first crosses that rate.

    Between two steps the size is interpolated in the rate.
    """
    sizes, rates = pair.trajectory.sizes, pair.trajectory.rates
    last = next((index for index, reached in enumerate(rates) if reached >= rate), None)
    if last is None or not pair.status.counts:
        return pair
    if last == 0:
        return replace(pair, status=pair.status.ALREADY_CONFUSED, size=None)
    share = (rate - rates[last - 1]) / (rates[last] - rates[last - 1])
    return replace(pair, size=sizes[last - 1] + share * (sizes[last] - sizes[last - 1]))
