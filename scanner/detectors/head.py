"""The detector that needs nothing but the file: which class its last layer favours, and which class noise is taken for.

A shortcut to a target class leaves two traces that cost next to nothing to read. The last layer weighs features that
are never negative, and a class that many of them speak for has a large mean weight h_t. And on images of uniform noise
the scores of that class are large, u_t. Each of both is compared with those of the other classes, as Student's t with
K - 2 degrees; the tails are joined by Fisher's F_t = -2 (log tail of h_t + log tail of u_t), and the largest F of K
classes by the same from normal numbers.

It only informs. Classes that noise resembles exist without an attack, so that its p-value is no level: on strangers'
unattacked networks the noise alone is below .05 on one in ten. Every class is a target here, and none has a pattern.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from backscan.scanner.inference.target_test import against_others
from backscan.scanner.search.seeds import generator

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from backscan.scanner.config import ScanConfig
    from backscan.scanner.detectors.base import Examination
    from backscan.scanner.results import Inference, TargetResult

    Vector = NDArray[np.float64]

NAME = "head"

NOISE_IMAGES = 200
_AT_ONCE = 8
_PORTIONS_LOOKED_AT = 3
"""Portions of noise on which the features must not be negative."""
_MOST_SECONDS = 60.0
"""Time that the noise may take, judged by its first images; else the weights speak alone."""
_FEWEST_CLASSES = 4
"""A spread of the others needs three of them."""
_MOST_NUMBERS = 1 << 22
"""Numbers that are drawn at once."""
# Keeps the noise apart from every other use of the seed.
_NOISE = 17


def search(examination: Examination) -> Iterator[TargetResult]:
    """Mean weight and mean score on noise of every class; targets that were left out are the others here."""
    from backscan.scanner.results import PairStatus, TargetResult

    noise = _noise(examination)
    weights, scores = _mean_weights(examination, noise), _scores_on(noise, examination)
    for target in range(examination.num_classes):
        weight, score = (None if row is None else float(row[target]) for row in (weights, scores))
        yield TargetResult(NAME, target, PairStatus.REACHED, weight, rate=None, steps=0, score_on_noise=score)


def infer(targets: Sequence[TargetResult], config: ScanConfig, num_classes: int) -> Inference:
    """Whether a class stands out from the others in the last layer and on noise together."""
    from scipy import stats

    from backscan.scanner.results import Inference

    del num_classes
    witnesses, labels = _witnesses(targets)
    joined, remarks = np.zeros(0), tuple[str, ...]()
    p_value = calibrated = leader = None
    if not witnesses or len(labels) < _FEWEST_CLASSES:
        remarks = (_obstacle(labels),)
    else:
        t = {name: against_others(values) for name, values in witnesses.items()}
        joined = fisher(np.stack(list(t.values()))[None])[0]
        place = int(joined.argmax())
        leader = labels[place]
        by_class = float(stats.chi2.sf(joined[place], 2 * len(t)))
        p_value = max(-math.expm1(len(labels) * math.log1p(-min(by_class, 1.0 - 1e-12))), sys.float_info.min)
        calibrated = _calibrated(float(joined[place]), len(t), len(labels), config)
        told = [f"{name} t = {values[place]:.1f}" for name, values in t.items()]
        remarks = (f"class {leader} stands out most: {', '.join(told)}", *_without(witnesses))
    return Inference(
        detector=NAME,
        space="image",
        norm=config.norm,
        statistic="weights-and-noise",
        inference="principal",
        num_pairs=len(labels),
        values=(tuple(joined.tolist()),) if len(joined) else (),
        null=None,
        source=None,
        target=leader,
        p_value=p_value,
        calibrated_p_value=calibrated,
        bootstrap_draws=0 if calibrated is None else config.bootstrap_draws,
        detected=False,
        decides=False,
        remarks=remarks,
    )


def fisher(t: Vector) -> Vector:
    """-2 times the sum of log tails of what several witnesses [B, W, K] say of each class, [B, K]."""
    from scipy import stats

    joined: Vector = -2.0 * stats.t.logsf(t, t.shape[-1] - 2).sum(axis=1)
    return joined


def _calibrated(largest: float, num_witnesses: int, num_classes: int, config: ScanConfig) -> float | None:
    """Share of samples of normal numbers whose largest F is as large; None without draws."""
    if config.bootstrap_draws == 0:
        return None
    rng = np.random.default_rng((config.seed, _NOISE))
    at_once = max(1, _MOST_NUMBERS // (num_witnesses * num_classes))
    as_large = 0
    for start in range(0, config.bootstrap_draws, at_once):
        number = min(at_once, config.bootstrap_draws - start)
        t = against_others(rng.standard_normal((number, num_witnesses, num_classes)))
        as_large += int((fisher(t).max(axis=1) >= largest).sum())
    return (1 + as_large) / (1 + config.bootstrap_draws)


def _witnesses(targets: Sequence[TargetResult]) -> tuple[dict[str, Vector], list[int]]:
    """What is known of all classes, and which classes those are."""
    ordered = sorted(targets, key=lambda entry: entry.target)
    columns = {
        "mean weight in the last layer": [entry.value for entry in ordered],
        "score on noise": [entry.score_on_noise for entry in ordered],
    }
    known = {name: np.array(column, float) for name, column in columns.items() if column and None not in column}
    return known, [entry.target for entry in ordered]


def _obstacle(labels: Sequence[int]) -> str:
    if len(labels) < _FEWEST_CLASSES:
        return f"expected at least {_FEWEST_CLASSES} classes to compare, found {len(labels)}"
    return "neither the last layer nor scores on noise could be read"


def _without(witnesses: dict[str, Vector]) -> tuple[str, ...]:
    if len(witnesses) == 2:
        return ()
    if "score on noise" in witnesses:
        return ("the last layer is no linear one behind a ReLU, so only noise speaks",)
    return ("noise takes too long on this model, so only the last layer speaks",)


def _noise(examination: Examination) -> Sequence[Tensor]:
    """Uniform images in portions that pass together."""
    import torch

    classifier = examination.classifier
    noise = torch.rand(
        (NOISE_IMAGES, *classifier.signature.input_shape), generator=generator(examination.config.seed, _NOISE)
    )
    size = examination.images_per_pass(_AT_ONCE)
    return [noise[start : start + size].to(classifier.device) for start in range(0, NOISE_IMAGES, size)]


def _mean_weights(examination: Examination, noise: Sequence[Tensor]) -> Vector | None:
    """Mean weight of each class in the last layer, [K]; None without one whose features are never negative."""
    from backscan.converters.cuts.last_layer import last_layer

    if examination.stopped():
        return None
    layer = last_layer(examination.classifier, noise[0])
    if layer is None or len(layer.weight) != examination.num_classes:
        return None
    features = layer.features(examination.classifier, noise[:_PORTIONS_LOOKED_AT])
    if features.numel() == 0 or float(features.min()) < 0.0:
        return None
    found: Vector = layer.weight.double().mean(dim=1).cpu().numpy()
    return found


def _scores_on(noise: Sequence[Tensor], examination: Examination) -> Vector | None:
    """Mean over images of noise of each class's log-posterior less the mean of all classes, [K]; None if it is late."""
    import torch

    rows: list[Tensor] = []
    started, done = time.monotonic(), 0
    with torch.no_grad():
        for part in noise:
            if examination.stopped() or (time.monotonic() - started) * NOISE_IMAGES > _MOST_SECONDS * max(1, done):
                return None
            rows.append(examination.classifier.log_posterior(part).double().cpu())
            done += len(part)
    scores = torch.cat(rows)
    found: Vector = (scores - scores.mean(dim=1, keepdim=True)).mean(dim=0).numpy()
    return found if np.isfinite(found).all() else None
