"""Whether speed costs verdicts: the engine beside the later reference on the same victims, images and inference.

    python -m benchmarks.agreement --count 5 --out benchmarks/results

Both search every pair of every victim with the cross-entropy until 0.8 of the images move, and both refine where that
rate is crossed; the scanner's own inference judges both. A replay plays no part, as it sees only the engine's pattern.
Victims that the cache lacks are trained first. A victim takes about half a minute on two cores.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from backscan.scanner import PairResult, ScanConfig
from backscan.scanner.inference.variants import infer_pairs
from benchmarks import command
from benchmarks.accuracy.tables import PAPER_GROUPS
from benchmarks.provenance import circumstances, share
from benchmarks.speed import reference
from benchmarks.speed.report import Subject, scan
from benchmarks.table import Table, page
from benchmarks.victims.images import clean_images
from benchmarks.victims.plans import make_plans
from benchmarks.victims.victims import CACHE, Victim, obtain


@dataclass(frozen=True, slots=True)
class Judged:
    """What one way to search led to."""

    detected: bool
    """Verdict of the inference at its significance."""
    pair: tuple[int | None, int | None]
    """The most extreme pair."""
    p_value: float | None
    """Calibrated p-value."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """A victim searched both ways."""

    group: str
    """Group of the victim."""
    seed: int
    """Seed of its plan."""
    digest: str
    """Digest of its plan."""
    engine: Judged
    """By the engine."""
    slow: Judged
    """By the reference."""
    size_ratio: float
    """Median over the pairs of the engine's size over the reference's."""
    deviation: float
    """Relative standard deviation of that ratio."""

    @property
    def is_equal(self) -> bool:
        """Same verdict, and where that is a detection the same pair."""
        return self.engine.detected == self.slow.detected and (
            not self.engine.detected or self.engine.pair == self.slow.pair
        )


def compare(victim: Victim, data: Path) -> Agreement:
    """Search a victim both ways.

    Args:
        victim: The classifier.
        data: Labelled images that it never saw, as an archive for `--data`.
    """
    run = scan(victim.model, data, ["--preprocess", "none", "--detector", "pairwise"])
    subject = Subject.of(victim.model, data, run.report)
    config, num_classes = ScanConfig.from_dict(run.report["config"]), run.report["model"]["num_classes"]
    engine = [PairResult.from_dict(pair, None) for pair in run.report["pairs"]]
    pairs = [(pair.source, pair.target) for pair in engine]
    slow = [
        reference.as_result(subject.network, subject.images_by_class[descent.pair[0]], descent)
        for descent in reference.search(subject.network, subject.images_by_class, pairs, reference.LATER)
    ]
    ratios = [fast.size / other.size for fast, other in zip(engine, slow, strict=True) if fast.size and other.size]
    return Agreement(
        victim.plan.group,
        victim.plan.seed,
        victim.plan.digest,
        _judged(engine, config, num_classes),
        _judged(slow, config, num_classes),
        size_ratio=statistics.median(ratios),
        deviation=statistics.stdev(ratios) / statistics.mean(ratios),
    )


def _judged(results: Sequence[PairResult], config: ScanConfig, num_classes: int) -> Judged:
    """The most significant of the inferences that a scan would make."""
    said = infer_pairs(results, config, num_classes, detector="pairwise", space="image")
    first = min(said, key=lambda entry: (not entry.detected, entry.calibrated_p_value or 1.0))
    return Judged(first.detected, (first.source, first.target), first.calibrated_p_value)


def as_markdown(rows: Sequence[Agreement], made_by: str) -> str:
    """A table of counts by group, and one of the victims on which the two differ."""
    groups = [group for group in PAPER_GROUPS if any(row.group == group for row in rows)]
    by_group = {group: [row for row in rows if row.group == group] for group in groups}
    counts = Table(
        "Engine and reference (b)",
        "Detected at the default significance by calibrated p; equal is the same verdict and, if detected, the same "
        "pair. Size ratio and its relative deviation are those of a victim's pairs, medians over victims.",
        ("group", "equal", "engine detects", "reference detects", "size ratio", "deviation"),
        tuple(
            (
                group,
                share(sum(row.is_equal for row in members), len(members)),
                str(sum(row.engine.detected for row in members)),
                str(sum(row.slow.detected for row in members)),
                f"{statistics.median(row.size_ratio for row in members):.3f}",
                f"{statistics.median(row.deviation for row in members):.3f}",
            )
            for group, members in by_group.items()
        ),
    )
    differing = Table(
        "Where they differ",
        "Every victim that is not equal.",
        ("victim", "engine", "reference"),
        tuple(
            (f"{row.group} {row.seed}", *(_told(way) for way in (row.engine, row.slow)))
            for row in rows
            if not row.is_equal
        ),
    )
    heading = f"Made by `{made_by}` {circumstances(('torch', 'onnxruntime'))}."
    return page("Speed and verdicts", heading, counts.markdown(), differing.markdown())


def _told(way: Judged) -> str:
    said = "detected" if way.detected else "not detected"
    value = "" if way.p_value is None else f", p = {way.p_value:.3g}"
    return f"{said}, {way.pair[0]} to {way.pair[1]}{value}"


def main() -> None:
    """Compare, print and keep."""
    parser = command.parser(__doc__, out="agreement.json and agreement.md")
    parser.add_argument("--preset", default="digits", help="scale of the victims")
    parser.add_argument("--groups", nargs="*", default=list(PAPER_GROUPS), help="groups of victims")
    parser.add_argument("--count", type=int, default=5, help="victims of each group")
    parser.add_argument("--cache", type=Path, default=CACHE, help="folder that keeps victims")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for group in arguments.groups:
        for plan in make_plans(arguments.preset, group, range(arguments.count)):
            [victim] = obtain([plan], cache=arguments.cache)
            images = clean_images(plan)
            with tempfile.TemporaryDirectory() as folder:
                data = Path(folder) / "images.npz"
                np.savez(data, x=images.images.transpose(0, 2, 3, 1), y=images.labels)
                rows.append(compare(victim, data))
            print(rows[-1], flush=True)
    report = as_markdown(rows, f"python -m benchmarks.agreement --count {arguments.count}")
    print(report)
    figures = [{**asdict(row), "equal": row.is_equal} for row in rows]
    command.publish(arguments.out, "agreement", report, figures)
