"""Whether one content sends abnormally many images to a target: by target, and by pair of source and target.

Content and place were searched on other images than are counted here, so the luck of the search does not enter. The
targets are compared by the logit of the pooled rate (`target_test`), and that decides. The pairs have a beta-binomial
null and a p-value of their own, which only informs: on trained networks natural pairs lie outside that null too often.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from backscan.scanner.inference.content import words_of

if TYPE_CHECKING:
    from backscan.scanner.config import ScanConfig
    from backscan.scanner.results import Inference, TargetResult

_FEWEST_TARGETS = 3
# Above this median rate ordinary content works almost anywhere, and a planted one is hard to tell.
_MOST_MEDIAN = 0.25
# With more classes a source that no pair is asked of has an empty row: a thousand classes would have a million places.
_MOST_ROWS = 71


def logit_of_rate(hits: int, count: int) -> float:
    """logit((h + 1/2) / (n + 1)): a rate on a scale on which unattacked targets are about normal."""
    return math.log((hits + 0.5) / (count - hits + 0.5))


def told_apart(hits: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """The logits of the targets' rates, the others than the first three no closer than images can tell, [K].

    Where nearly all rates are 0, or 1, the others agree to the last digit, and one image, or one that was not asked,
    would set a target apart from them. Where they are spread by less than half of the binomial error of their median
    rate - all of it they cannot be, without the first three - that error times the normal scores of their order is
    added.

    Args:
        hits: Images that follow, of each target, [K].
        counts: Images that were asked, of each, [K], at least 1.
    """
    from backscan.kernels import MOST_TOGETHER

    values = np.array([logit_of_rate(int(h), int(n)) for h, n in zip(hits, counts, strict=True)])
    order = values.argsort(kind="stable")
    rest = order[: values.size - min(MOST_TOGETHER, values.size // 3)]
    if rest.size < _FEWEST_TARGETS:
        return values
    middle = rest[rest.size // 2]
    rate = (hits[middle] + 1) / (counts[middle] + 2)
    error = 1.0 / math.sqrt(counts[middle] * rate * (1.0 - rate))
    if values[rest].std(ddof=1) >= error / 2:
        return values
    from scipy.special import ndtri

    # Blom's approximation of the expected order statistics of normal values.
    values[rest] += error * ndtri((np.arange(1, rest.size + 1) - 0.375) / (rest.size + 0.25))
    return values


def infer_rates(
    targets: Sequence[TargetResult], config: ScanConfig, num_classes: int, *, detector: str
) -> tuple[Inference, ...]:
    """What the rates of all targets, and of all pairs, say.

    Args:
        targets: Results of the search, with their supports.
        config: Significance, draws and seed.
        num_classes: Classes K of the model.
        detector: Name in the table of detectors.

    Returns:
        The conclusion by target, whose source is the class that follows most, and that by pair, if there are results.
    """
    hits, counts = _matrices(targets, num_classes)
    remarks = _remarks(targets, counts, detector)
    by_target = _by_target(hits, counts, config, detector, remarks)
    if not targets:
        return (by_target,)
    return by_target, _by_pair(hits, counts, config, detector, remarks)


def _matrices(targets: Sequence[TargetResult], num_classes: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Hits and images by source and target, [K, K]; no images where a pair was not asked."""
    hits, counts = np.zeros((2, num_classes, num_classes), np.int64)
    for entry in targets:
        if entry.support is not None:
            sources = list(entry.support.sources)
            hits[sources, entry.target], counts[sources, entry.target] = entry.support.hits, entry.support.counts
    return hits, counts


def _remarks(targets: Sequence[TargetResult], counts: NDArray[np.int64], detector: str) -> tuple[str, ...]:
    """What a reader should know."""
    supports = [entry.support for entry in targets if entry.support is not None]
    words = words_of(detector)
    if not supports:
        return (words.nothing,)
    side = supports[0].side
    remarks = [words.extent.format(side=side)]
    rates = [entry.rate for entry in targets if entry.rate is not None]
    if words.smaller and np.median(rates) > _MOST_MEDIAN:
        remarks.append(
            f"{words.ordinary.format(side=side)} sends {np.median(rates):.0%} of the images to the median "
            f"target, and {words.smaller} less than a quarter: what is planted stands out little"
        )
    left_out = sorted(set(range(len(counts))) - {source for each in supports for source in each.sources})
    if left_out:
        named = ", ".join(map(str, left_out[:8])) + (" and so on" if len(left_out) > 8 else "")
        remarks.append(f"source class {named} left out, with fewer than 20 images, or of many classes by the seed")
    return tuple(remarks)


def _by_target(
    hits: NDArray[np.int64], counts: NDArray[np.int64], config: ScanConfig, detector: str, remarks: tuple[str, ...]
) -> Inference:
    from backscan.kernels import order_p_value
    from backscan.scanner.inference.target_test import NUM_DRAWS, target_test
    from backscan.scanner.results import TARGET_RATE, without_nan

    asked = counts.sum(axis=0) > 0
    values = np.full(len(counts), np.nan)
    values[asked] = told_apart(hits.sum(axis=0)[asked], counts.sum(axis=0)[asked])
    test = target_test(values, seed=config.seed)
    source = target = p_value = None
    if test.p_value is not None:
        target = test.order[0]
        source = int(np.argmax(np.where(counts[:, target] > 0, hits[:, target] / np.maximum(counts[:, target], 1), -1)))
        p_value = max(order_p_value(float(test.tails[target]), int(asked.sum())), sys.float_info.min)
        if len(test.named) > 1:
            remarks = (*remarks, f"targets {', '.join(map(str, test.named))} stand out together")
    return _inference(
        config,
        detector,
        TARGET_RATE,
        remarks,
        values=(without_nan(values),),
        num_pairs=int(asked.sum()),
        source=source,
        target=target,
        p_value=p_value,
        calibrated_p_value=test.p_value,
        bootstrap_draws=NUM_DRAWS if test.p_value is not None else 0,
    )


def _by_pair(
    hits: NDArray[np.int64], counts: NDArray[np.int64], config: ScanConfig, detector: str, remarks: tuple[str, ...]
) -> Inference:
    from backscan.scanner.results import PAIR_RATE, NullFit, without_nan

    asked = counts > 0
    rates = np.where(asked, hits / np.maximum(counts, 1), np.nan)
    found: dict[str, object] = {"source": None, "target": None, "p_value": None, "calibrated_p_value": None}
    null = None
    num_excluded = int(asked.sum(axis=0).max())
    if (asked.sum(axis=0) > 0).sum() >= _FEWEST_TARGETS and asked.sum() > 2 * num_excluded:
        from backscan.kernels import judge_rates

        test = judge_rates(
            hits[asked],
            counts[asked],
            num_excluded,
            num_draws=config.bootstrap_draws,
            rng=np.random.default_rng(config.seed),
        )
        pairs = np.argwhere(asked)
        source, target = pairs[np.lexsort((-rates[asked], test.tails))[0]].tolist()
        found = {
            "source": source,
            "target": target,
            "p_value": max(test.p_value, sys.float_info.min),
            "calibrated_p_value": test.calibrated_p_value,
            "bootstrap_draws": config.bootstrap_draws,
        }
        null = NullFit(
            family="beta-binomial",
            parameters={"mean": test.mean, "correlation": test.correlation},
            cutoff=test.cutoff,
            largest=float(np.nanmax(rates)),
            sample_size=test.num_fitted,
            status="reached",
        )
    many = len(rates) > _MOST_ROWS
    values = tuple(() if many and np.isnan(row).all() else without_nan(row) for row in rates)
    return _inference(
        config,
        detector,
        PAIR_RATE,
        remarks,
        values=values,
        num_pairs=int(asked.sum()),
        null=null,
        decides=False,
        **found,
    )


def _inference(
    config: ScanConfig, detector: str, statistic: str, remarks: tuple[str, ...], **found: object
) -> Inference:
    """A conclusion; `found` are the fields that differ."""
    from backscan.scanner.results import Inference

    fields: dict[str, object] = {"null": None, "bootstrap_draws": 0, **found}
    deciding = fields["p_value" if config.published_p else "calibrated_p_value"]
    detected = isinstance(deciding, float) and deciding <= config.significance
    return Inference(
        detector=detector,
        space="image",
        norm=config.norm,
        statistic=statistic,
        inference="principal",
        detected=detected,
        remarks=remarks,
        **fields,  # type: ignore[arg-type]
    )
