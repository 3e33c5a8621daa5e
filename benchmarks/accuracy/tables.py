"""The tables of a study: one function a table, in the order of XMK section 5."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

import numpy as np

from benchmarks.accuracy.comparison import comparison
from benchmarks.accuracy.fine_pruning import LARGEST_LOSS
from benchmarks.accuracy.outcomes import JUDGES, Judge, anomaly, matrix
from benchmarks.accuracy.study import Examined, Study
from benchmarks.provenance import share
from benchmarks.table import Table

SIGNIFICANCE = 0.05
_ATTACK_GONE = 0.2

PAPER_GROUPS = ("BD-P-S", "BD-G-S", "BD-G-M", "Clean")
"""The groups of XMK section 5.2.1."""

# XMK Tables 2 to 5 and section 5.2.3: shares of 25 victims in the groups above.
_PAPER: Mapping[tuple[str, float], tuple[float, float, float, float]] = MappingProxyType(
    {
        ("AD-J-P", 0.05): (0.92, 0.92, 1.00, 1.00),
        ("AD-Jp-P", 0.05): (0.92, 0.92, 1.00, 1.00),
        ("AD-Jc-P", 0.05): (0.96, 0.92, 1.00, 1.00),
        ("AD-J-C", 0.05): (0.96, 0.92, 1.00, 1.00),
        ("AD-J-P-L1", 0.05): (1.00, 0.92, 1.00, 1.00),
        ("AD-J naive", 0.05): (0.48, 0.44, 0.52, 1.00),
        ("AD-J-P, features", 0.05): (0.88, 1.00, 1.00, 1.00),
        ("AD-J-P", 0.2): (0.96, 0.92, 1.00, 1.00),
        ("AD-Jp-P", 0.2): (0.96, 0.92, 1.00, 0.96),
        ("AD-Jc-P", 0.2): (0.96, 0.92, 1.00, 0.96),
        ("AD-J-C", 0.2): (0.96, 0.92, 1.00, 1.00),
        ("AD-J-P-L1", 0.2): (1.00, 0.92, 1.00, 0.92),
        ("AD-J-P", 0.01): (0.84, 0.92, 1.00, 1.00),
        ("AD-Jp-P", 0.01): (0.88, 0.92, 1.00, 1.00),
        ("AD-Jc-P", 0.01): (0.88, 0.92, 1.00, 1.00),
        ("AD-J-C", 0.01): (0.96, 0.92, 1.00, 1.00),
        ("AD-J-P-L1", 0.01): (1.00, 0.92, 1.00, 1.00),
    }
)
# XMK Table 2 for Neural Cleanse, which counts right targets.
_PAPER_CLEANSE: Mapping[str, tuple[float, float, float, float]] = MappingProxyType(
    {
        "NC-L1-1.5": (0.36, 0.16, 1.00, 0.84),
        "NC-L2-1.5": (0.56, 0.64, 1.00, 0.72),
        "NC-L1-1.0": (0.40, 0.28, 1.00, 0.76),
        "NC-L1-1.5-0.5": (0.36, 0.16, 0.88, 0.96),
    }
)
_ANOMALY_THRESHOLD = 2.0
_PAPER_NAMES = MappingProxyType({0.05: "Table 2", 0.2: "Table 3", 0.01: "Table 4"})


def tables(study: Study) -> list[Table]:
    """All tables of a study."""
    return [
        victims(study),
        *(detection(study, significance, of) for significance in (0.05, 0.2, 0.01) for of in ("pair", "target")),
        pooled(study),
        other_embeddings(study),
        goal_rates(study),
        numbers_of_images(study),
        large_pattern(study),
        *comparison(study),
        fine_pruning(study),
        seconds(study),
    ]


def victims(study: Study) -> Table:
    """Clean accuracy, attack success and collateral damage. XMK Table 1 and Figure 7."""
    rows = [(name, str(len(group)), *_effects(group)) for name, group in study.groups.items()]
    return Table(
        "Victims",
        "XMK Table 1 and Figure 7, by onnxruntime on the exported file: mean and standard deviation; collateral damage "
        "is the median and the largest share of an uninvolved class's images that go to the target with the pattern.",
        ("group", "victims", "clean accuracy", "attack success", "collateral damage"),
        tuple(rows),
    )


def _effects(group: Sequence[Examined]) -> tuple[str, str, str]:
    rows = [examined.victim for examined in group]
    success = [row.success_rate for row in rows if row.success_rate is not None]
    collateral = [rate for row in rows for rate in row.collateral_rates]
    spread = f"{np.median(collateral):.3f}, {max(collateral):.3f}" if collateral else ""
    return _mean([row.accuracy for row in rows]), _mean(success), spread


def _mean(values: Sequence[float]) -> str:
    return f"{np.mean(values):.3f} ± {np.std(values):.3f}" if values else ""


def detection(study: Study, significance: float, of: str) -> Table:
    """The paper's variants on its four groups. XMK Tables 2, 3, 4 and 5."""
    rows = [
        (
            name,
            *(
                _beside(study.share(group, judge, significance=significance, of=of), name, significance, place, of)
                for place, group in enumerate(PAPER_GROUPS)
            ),
        )
        for name, judge in JUDGES.items()
    ]
    return Table(
        f"Variants of the paper at {significance:g}, right {of} named",
        f"XMK {_PAPER_NAMES[significance]} (naive: Table 5); published p-value. Victims judged rightly: alarm with the "
        f"right {of}, or no alarm on Clean; in brackets the paper's share of 25, which counts right pairs.",
        ("variant", *PAPER_GROUPS),
        tuple(rows),
    )


def _beside(counted: str, name: str, significance: float, place: int, of: str) -> str:
    """A cell with the paper's figure."""
    paper = _PAPER.get((name, significance))
    return counted if paper is None or of == "target" or not counted else f"{counted} [{paper[place]:.2f}]"


def pooled(study: Study) -> Table:
    """Detectors that search a target class with all others as sources. XMK Table 2, lower half."""
    rows = [(name, *_pooled_cells(study, name)) for name in (*_PAPER_CLEANSE, "TABOR", "margin")]
    return Table(
        "Detectors that pool the sources",
        "Neural Cleanse and TABOR at a REDUCED effort (10 images per class, 300 steps), anomaly index above 2; "
        "`margin` needs no images, calibrated p at 0.05. Right: alarm with the right target, or none on Clean; in "
        "brackets XMK Table 2. What to see: attacks from one class are what such detectors miss.",
        ("variant", *study.groups),
        tuple(rows),
    )


def _pooled_cells(study: Study, setting: str) -> Iterator[str]:
    for group, members in study.groups.items():
        rights = [_pooled_right(each, setting) for each in members if setting in each.scans]
        counted, paper = share(sum(rights), len(rights)), _PAPER_CLEANSE.get(setting)
        beside = counted and paper is not None and group in PAPER_GROUPS
        yield f"{counted} [{paper[PAPER_GROUPS.index(group)]:.2f}]" if beside and paper else counted


def _pooled_right(examined: Examined, setting: str) -> bool:
    found = anomaly(examined.scans[setting])
    if setting == "margin":
        alarms = found.p_value is not None and found.p_value <= SIGNIFICANCE
    else:
        alarms = found.index is not None and found.index > _ANOMALY_THRESHOLD
    targets = dict(examined.victim.targets).values()
    return alarms and found.target in targets if targets else not alarms


def other_embeddings(study: Study) -> Table:
    """The image beside the features of the first convolution. XMK section 5.2.3."""
    judges = {"image": Judge(("J",), published=True), "features": Judge(("features J",), published=True)}
    judges |= {"image, cross-entropy": Judge(("pairwise",), published=True)}
    rows = [
        (
            f"{name}, right {of}",
            *(study.share(group, judge, significance=SIGNIFICANCE, of=of) for group in study.groups),
        )
        for name, judge in judges.items()
        for of in ("pair", "target")
    ]
    return Table(
        "Patterns on the image and on features",
        "XMK section 5.2.3 at 0.05, published p, J unless named. The paper's feature space finds 0.88, 1.00, 1.00 of "
        "BD-P-S, BD-G-S, BD-G-M, alarms on 0 of 25 Clean, and finds the one multiplicative (p = 2e-13) and the patch "
        "attack it tries; in the image space it finds the multiplicative one and not the patch.",
        ("search", *study.groups),
        tuple(rows),
    )


def goal_rates(study: Study) -> Table:
    """Detection against the goal rate. XMK Figure 11."""
    rates = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
    rows = [
        (name, *(study.share(name, _at(rate), significance=SIGNIFICANCE, of="pair") for rate in rates))
        for name in ("BD-P-S", "Clean")
    ]
    return Table(
        "Goal rate",
        "XMK Figure 11: AD-J-P at 0.05, published p, right pair named; the paper's least is 0.80 of BD-P-S, rising "
        "with the rate. Rates below 0.8 are read from the same trajectories; 0.9 is a search of its own, with "
        "cross-entropy.",
        ("group", *(f"{rate:g}" for rate in rates)),
        tuple(rows),
    )


def _at(rate: float) -> Judge:
    if rate > 0.8:
        return Judge(("goal 0.9",), published=True)
    return Judge(("J",), published=True, goal_rate=rate if rate < 0.8 else None)


def numbers_of_images(study: Study) -> Table:
    """Detection against images per class. XMK Figure 13."""
    settings = ("5 images", "10 images", "25 images", "50 images", "pairwise")
    rows = [
        (f"{name}, {'published' if published else 'calibrated'} p", *_by_images(study, name, settings, published))
        for name in ("BD-P-S", "BD-G-S", "Clean")
        for published in (True, False)
    ]
    return Table(
        "Images per class",
        "XMK Figure 13 at 0.05, cross-entropy, plain statistic, right pair named; `pairwise` takes up to 100 "
        "(digits have 48). In the paper J finds more than 0.80 of BD-P-S with 10 images per class, level from 25.",
        ("group", *settings),
        tuple(rows),
    )


def _by_images(study: Study, group: str, settings: Sequence[str], published: bool) -> Iterator[str]:
    for setting in settings:
        judge = Judge((setting,), published=published)
        yield study.share(group, judge, significance=SIGNIFICANCE, of="pair")


def large_pattern(study: Study) -> Table:
    """Whether a pattern larger than needed hides. XMK section 5.3.4."""
    rows = [cells for name in ("J", "pairwise") if (cells := _large_pattern_cells(study, name))]
    return Table(
        "Patterns larger than needed (BD-G-S-large)",
        "XMK section 5.3.4 at 0.05, published p. The paper plants a norm of 1.2 and finds 25 of 25 victims; sizes "
        "found are 0.101 ± 0.017 for the planted pair and 1.243 ± 0.321 for others; the patterns are chessboards. "
        "What to see: the size found is the least that works, whatever was planted. Likeness is the cosine of the "
        "found and the planted pattern.",
        ("setting", "right pair", "size, planted pair", "size, other pairs", "likeness"),
        tuple(rows),
    )


def _large_pattern_cells(study: Study, setting: str) -> tuple[str, ...]:
    group = "BD-G-S-large"
    members = [each for each in study.groups.get(group, ()) if setting in each.scans]
    planted, others = [], []
    for each in members:
        sizes = matrix(each.scans[setting].sizes)
        for pair in each.victim.targets:
            planted.append(float(sizes[pair]))
            sizes[pair] = np.nan
        others += sizes[~np.isnan(sizes)].tolist()
    likeness = [row.likeness for row in (each.scans[setting] for each in members) if row.likeness is not None]
    right = study.share(group, Judge((setting,), published=True), significance=SIGNIFICANCE, of="pair")
    return (setting, right, _mean(planted), _mean(others), _mean(likeness)) if members else ()


def fine_pruning(study: Study) -> Table:
    """What Fine-Pruning leaves of each attack. XMK section 5.2.2 and reference [15]."""
    rows = []
    for name, group in study.groups.items():
        pruned = [each.victim.pruned for each in group if each.victim.pruned is not None]
        if not pruned:
            continue
        means = [
            f"{np.mean([before for before, _ in pairs]):.3f} to {np.mean([after for _, after in pairs]):.3f}"
            for pairs in ([each.accuracy for each in pruned], [each.success for each in pruned])
        ]
        removed = sum(each.success[1] <= _ATTACK_GONE for each in pruned)
        rows.append((name, f"{np.mean([each.share for each in pruned]):.2f}", *means, share(removed, len(pruned))))
    return Table(
        "Fine-Pruning",
        f"Units of the penultimate layer pruned until the clean accuracy loses {LARGEST_LOSS:g}; the attack counts as "
        f"removed if at most {_ATTACK_GONE:g} of the source images still go to the target. It says nothing of models "
        "without an attack.",
        ("group", "share pruned", "clean accuracy", "attack success", "attacks removed"),
        tuple(rows),
    )


def seconds(study: Study) -> Table:
    """Processor time of a scan. XMK section 5.4."""
    times: dict[str, list[float]] = {}
    for group in study.groups.values():
        for examined in group:
            for name, kept in examined.scans.items():
                times.setdefault(name, []).append(kept.seconds)
    rows = [(name, str(len(each)), f"{np.median(each):.1f}", f"{max(each):.1f}") for name, each in times.items()]
    return Table(
        "Seconds a model",
        "XMK section 5.4 reports 698 s for AD and 912 s for Neural Cleanse on CIFAR-10 (Tesla M60). Processor time of "
        "the whole scan, all threads.",
        ("setting", "scans", "median", "largest"),
        tuple(rows),
    )
