"""From victims and scans in the cache to the rows that are kept of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from backscan.kernels import size_offset
from backscan.scanner import ScanConfig, ScanResult
from backscan.scanner.process.decisions import FEWEST_IMAGES
from backscan.scanner.results import PairResult, PairStatus, TargetResult
from benchmarks.accuracy.fine_pruning import last_layer, prune
from benchmarks.accuracy.rows import ScanRow, Sizes, VictimRow
from benchmarks.accuracy.scans import PARTS, SETTINGS, KeptScan, search_digest
from benchmarks.victims.datasets import LabelledImages
from benchmarks.victims.export import opened
from benchmarks.victims.victims import Victim

LOWER_RATES = (0.4, 0.5, 0.6, 0.7)
"""Goal rates at which sizes are read from the trajectories of the setting J. XMK Figure 11."""
MARGINS = "pairwise"
"""Setting whose rows tell the clean margins, which are the same of every detector."""
_CURVES = ("BD-P-S", 0, "J")
_DIGITS = 5


def victim_row(victim: Victim, test: LabelledImages | None) -> VictimRow:
    """What is kept of a victim; Fine-Pruning is measured on images that it never saw, if there are any."""
    plan, effect = victim.plan, victim.effect
    return VictimRow(
        preset=plan.preset,
        group=plan.group,
        seed=plan.seed,
        digest=plan.digest,
        targets=plan.targets,
        accuracy=rounded(effect.accuracy),
        success_rate=None if effect.success_rate is None else rounded(effect.success_rate),
        collateral_rates=tuple(map(rounded, effect.collateral_rates.values())),
        pruned=None if victim.pattern is None or test is None else prune(victim, test),
        network=plan.network,
        seconds=None if victim.seconds is None else rounded(victim.seconds),
        head=_head(victim),
    )


def scan_rows(victim: Victim, setting: str, kept: KeptScan) -> Iterator[ScanRow]:
    """What is kept of a scan: a row for each part of it, the time of all in the first."""
    if setting not in PARTS:
        yield scan_row(victim, setting, kept)
        return
    for place, (detector, part) in enumerate(PARTS[setting].items()):
        pairs = tuple(pair for pair in kept.result.pairs if pair.detector == detector)
        targets = tuple(entry for entry in kept.result.targets if entry.detector == detector)
        result = replace(kept.result, pairs=pairs, targets=targets, detectors=(), deciding=None)
        yield scan_row(victim, part, KeptScan(result, 0.0 if place else kept.seconds))


def scan_row(victim: Victim, setting: str, kept: KeptScan) -> ScanRow:
    """What is kept of a scan by one detector."""
    plan, result = victim.plan, kept.result
    num_classes = result.model.num_classes or 0
    pairs = {f"{pair.source}:{pair.target}": pair for pair in result.pairs}
    order = ScanConfig.from_dict(result.config).order
    offsets = {
        name: size_offset(pair.trajectory.sizes, pair.trajectory.rates, order)
        for name, pair in pairs.items()
        if pair.status.counts
    }
    rates = LOWER_RATES if setting == "J" else ()
    return ScanRow(
        group=plan.group,
        seed=plan.seed,
        digest=plan.digest,
        setting=setting,
        search=search_digest(SETTINGS[setting]),
        images=min(result.data.images_per_class) if result.data else 0,
        seconds=rounded(kept.seconds),
        verdict=result.verdict.value,
        confirmed=None if result.verification is None else result.verification.confirmed,
        sizes=_matrix(result.pairs, num_classes) if pairs else _row(result, num_classes),
        statuses={name: pair.status.value for name, pair in pairs.items() if pair.status is not PairStatus.REACHED},
        initial_rates={name: rounded(pair.initial_rate) for name, pair in pairs.items() if pair.initial_rate},
        offsets={name: rounded(offset) for name, offset in offsets.items() if offset > 0.0},
        sizes_at={f"{rate:g}": _matrix([at_rate(p, rate) for p in result.pairs], num_classes) for rate in rates},
        likeness=_likeness(victim, result),
        transfers=_transfers(pairs),
        trajectories=_trajectories(pairs) if (plan.group, plan.seed, setting) == _CURVES else {},
        margins=_margins(result.pairs, num_classes) if setting == MARGINS else (),
        **_individuals(result.pairs, num_classes),
        **_window(result.targets, num_classes),
    )


def at_rate(pair: PairResult, rate: float) -> PairResult:
    """The pair as if the search had stopped at another rate: its size where the trajectory first crosses that rate.

    Between two steps the size is interpolated in the rate. A pair that starts above it has no size, one that never
    gets there keeps its own.
    """
    sizes, rates = pair.trajectory.sizes, pair.trajectory.rates
    last = next((index for index, reached in enumerate(rates) if reached >= rate), None)
    if last is None or not pair.status.counts:
        return pair
    if last == 0:
        return replace(pair, status=pair.status.ALREADY_CONFUSED, size=None)
    share = (rate - rates[last - 1]) / (rates[last] - rates[last - 1])
    return replace(pair, size=sizes[last - 1] + share * (sizes[last] - sizes[last - 1]))


def rounded(value: float) -> float:
    """The value with five significant digits."""
    return float(f"{value:.{_DIGITS}g}")


def _head(victim: Victim) -> tuple[tuple[float, ...], ...]:
    """Norm of each class's weights in the last layer, and its bias; empty where the network ends otherwise."""
    try:
        layer = last_layer(victim.model.read_bytes())
    except ValueError:
        return ()
    norms = np.linalg.norm(layer.weight, axis=1)
    return tuple(map(rounded, norms.tolist())), tuple(map(rounded, layer.bias.tolist()))


def _matrix(pairs: Iterable[PairResult], num_classes: int) -> Sizes:
    sizes: list[list[float | None]] = [[None] * num_classes for _ in range(num_classes)]
    for pair in pairs:
        if pair.status.counts and pair.size is not None:
            sizes[pair.source][pair.target] = rounded(pair.size)
    return tuple(map(tuple, sizes))


def _individuals(pairs: Sequence[PairResult], num_classes: int) -> dict[str, Any]:
    """What single images need, where that was measured."""
    known = [(pair, pair.individual_size) for pair in pairs if pair.individual_size is not None]
    if not known:
        return {}
    named = {"individual": "size", "individual_errors": "error", "common": "common_size"}
    return {
        name: _table({pair.key[1:]: getattr(individual, field) for pair, individual in known}, num_classes)
        for name, field in named.items()
    }


def _margins(pairs: Sequence[PairResult], num_classes: int) -> Sizes:
    """Clean margins of the pairs, where the scan told them."""
    known = {pair.key[1:]: pair.clean_margin for pair in pairs if pair.clean_margin is not None}
    return _table(known, num_classes) if known else ()


def measured_margins(model: Path, images: LabelledImages) -> Sizes:
    """The same by onnxruntime on all of some images, where enough are decided as their class."""
    runtime = opened(model)
    scores, num_classes = runtime.scores(images.images), runtime.signature.num_classes
    found: dict[tuple[int, int], float | None] = {}
    for source in range(num_classes):
        own = scores[(images.labels == source) & (scores.argmax(axis=1) == source)]
        margins = np.median(own[:, source : source + 1] - own, axis=0) if len(own) >= FEWEST_IMAGES else ()
        found |= {(source, target): float(each) for target, each in enumerate(margins) if target != source}
    return _table(found, num_classes)


def _window(targets: Sequence[TargetResult], num_classes: int) -> dict[str, Any]:
    """Hits and counts of a window by source and target, where one was searched."""
    known = [(entry.target, entry.support) for entry in targets if entry.support is not None]
    if not known:
        return {}
    hits: dict[tuple[int, int], float | None] = {}
    counts: dict[tuple[int, int], float | None] = {}
    for target, support in known:
        pairs = [(source, target) for source in support.sources]
        hits |= dict(zip(pairs, support.hits, strict=True))
        counts |= dict(zip(pairs, support.counts, strict=True))
    return {
        "side": known[0][1].side,
        "hits": _table(hits, num_classes),
        "counts": _table(counts, num_classes),
    }


def window_rates(row: ScanRow) -> list[float]:
    """Share of all images that the content of each searched target sends to it, of a row that has hits and counts."""
    hits, counts = (np.array(each, np.float64) for each in (row.hits, row.counts))
    asked, sent = np.nansum(counts, axis=0), np.nansum(hits, axis=0)
    return [float(sent[target] / asked[target]) for target in np.flatnonzero(asked)]


def _table(values: Mapping[tuple[int, int], float | None], num_classes: int) -> Sizes:
    """Values of pairs as a matrix."""
    cells = [[values.get((source, target)) for target in range(num_classes)] for source in range(num_classes)]
    return tuple(tuple(None if value is None else rounded(value) for value in row) for row in cells)


def _row(result: ScanResult, num_classes: int) -> Sizes:
    values: list[float | None] = [None] * num_classes
    for entry in result.targets:
        values[entry.target] = None if entry.value is None else rounded(entry.value)
    return (tuple(values),)


def _likeness(victim: Victim, result: ScanResult) -> float | None:
    """Cosine of the found and the planted pattern, where they live in the same space."""
    found = next((each for each in result.patterns if each.space == "image"), None)
    if found is None or victim.pattern is None or (found.source, found.target) not in victim.plan.targets:
        return None
    one, other = found.values.decode().ravel(), victim.pattern.ravel()
    if one.shape != other.shape or victim.plan.attack.attack not in ("pixel", "chessboard"):
        return None
    return rounded(float(np.dot(one, other)) / math.sqrt(float(np.dot(one, one)) * float(np.dot(other, other))))


def _transfers(pairs: Mapping[str, PairResult]) -> dict[str, tuple[float, float, float]]:
    found = {}
    for name, pair in pairs.items():
        each = pair.transfer
        if each is not None and each.rate is not None and each.error is not None and each.own_size and each.back_size:
            found[name] = (rounded(each.rate), rounded(each.error), rounded(each.own_size / each.back_size))
    return found


def _trajectories(pairs: Mapping[str, PairResult]) -> dict[str, tuple[tuple[float, ...], tuple[float, ...]]]:
    return {
        name: (tuple(map(rounded, pair.trajectory.sizes)), tuple(map(rounded, pair.trajectory.rates)))
        for name, pair in pairs.items()
    }
