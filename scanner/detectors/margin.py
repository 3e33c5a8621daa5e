"""The data-free detector: how far each class can lead over all others, on images that nobody gave.

For every class the largest margin log p(t|x) - max log p(c|x) over images in [0, 1], ascended from uniform noise (the
maximum-margin statistic of Wang, Xiang, Miller & Kesidis, "MM-BD"). A planted target leads by more than the others:
K statistics, a null fitted to all but the largest, p = 1 - G(largest)^K, calibrated by a bootstrap of the same.

It only informs. What it finds is one odd image per class, no pattern that could be replayed on other images, and a
verdict has to be demonstrated; so its p-value does not make the thresholds of those that demonstrate stricter.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from backscan.scanner.detectors.targets import search_in_groups
from backscan.scanner.search.seeds import generator

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from backscan.kernels import NullFamily
    from backscan.scanner.config import ScanConfig
    from backscan.scanner.detectors.base import Examination
    from backscan.scanner.results import Inference, NullFit, TargetResult

NAME = "margin"

STARTS = 30
"""Points of noise from which a class is ascended."""
STEPS = 150
"""Steps of each."""
# Length of the first and of the last step, as shares of the way from black to white: the first ones cross the whole
# range of images, the last ones settle.
_FIRST_STEP, _LAST_STEP = 0.05, 0.0005
# A null needs two statistics beside the largest.
_FEWEST_CLASSES = 3


def search(examination: Examination) -> Iterator[TargetResult]:
    """The largest margin of every wanted class over the others."""
    return search_in_groups(
        examination, lambda targets: _largest_margins(examination, targets), images_per_target=STARTS
    )


def infer(targets: Sequence[TargetResult], config: ScanConfig, num_classes: int) -> Inference:
    """Whether the class that leads by most does so by more than the others let expect."""
    from backscan.kernels.order import anomaly_indices
    from backscan.scanner.results import Inference

    margins = {entry.target: entry.value for entry in targets if entry.value is not None}
    row = np.array(list(margins.values()))
    leader = max(margins, key=lambda label: margins[label], default=None)
    null, p_value, calibrated, remarks = _test(row, config)
    return Inference(
        detector=NAME,
        space="image",
        norm=config.norm,
        statistic="margin",
        inference="principal",
        num_pairs=len(margins),
        values=(tuple(margins.get(label) for label in range(num_classes)),),
        null=null,
        source=None,
        target=leader,
        p_value=p_value,
        calibrated_p_value=calibrated,
        bootstrap_draws=0 if calibrated is None else config.bootstrap_draws,
        detected=False,
        decides=False,
        anomaly_index=float(min(anomaly_indices(-row).max(), 1e6)) if len(row) >= _FEWEST_CLASSES else None,
        remarks=remarks,
    )


def _largest_margins(examination: Examination, targets: Sequence[int]) -> list[TargetResult]:
    """Ascend the margins of some classes from noise, all in one batch; nothing if the time is up."""
    import torch

    from backscan.scanner.results import PairStatus, TargetResult

    classifier = examination.classifier
    images = torch.cat([_noise(examination, target) for target in targets]).to(classifier.device)
    wanted = torch.tensor(targets, device=images.device).repeat_interleave(STARTS)
    largest = torch.full((len(images),), -math.inf, device=images.device)
    for length in np.geomspace(_FIRST_STEP, _LAST_STEP, STEPS).tolist():
        if examination.stopped():
            return []
        images.requires_grad_()
        margins = _margins(classifier.log_posterior(images), wanted)
        largest = torch.maximum(largest, margins.detach())
        (gradient,) = torch.autograd.grad(margins.sum(), images)
        images = _stepped(images.detach(), gradient, length)
    with torch.no_grad():
        largest = torch.maximum(largest, _margins(classifier.log_posterior(images), wanted))
    leads = largest.reshape(len(targets), STARTS).amax(dim=1).tolist()
    return [
        TargetResult(NAME, target, PairStatus.REACHED, lead if math.isfinite(lead) else None, rate=None, steps=STEPS)
        for target, lead in zip(targets, leads, strict=True)
    ]


def _noise(examination: Examination, target: int) -> Tensor:
    """Uniform images to start from, the same whatever classes share the batch."""
    import torch

    shape = (STARTS, *examination.classifier.signature.input_shape)
    noise: Tensor = torch.rand(shape, generator=generator(examination.config.seed, target))
    return noise


def _margins(log_posterior: Tensor, targets: Tensor) -> Tensor:
    """By how much each image's target leads, [N, K] -> [N]: the margin of logits too, for they differ by a constant."""
    index = targets.unsqueeze(1)
    others = log_posterior.scatter(1, index, -math.inf).amax(dim=1)
    margins: Tensor = log_posterior.gather(1, index).squeeze(1) - others
    return margins


def _stepped(images: Tensor, gradient: Tensor, length: float) -> Tensor:
    """Images moved uphill by a share of the way from black to white, and kept in range."""
    flat = gradient.flatten(1).nan_to_num(0.0)
    norms = flat.norm(dim=1).clamp_min(1e-30).reshape(-1, *[1] * (images.dim() - 1))
    moved: Tensor = images + length * math.sqrt(flat.shape[1]) * flat.reshape(images.shape) / norms
    return moved.clamp(0.0, 1.0)


def _test(
    margins: NDArray[np.float64], config: ScanConfig
) -> tuple[NullFit | None, float | None, float | None, tuple[str, ...]]:
    """Null, published and calibrated p-value of the largest margin, and what a reader should know."""
    if len(margins) < _FEWEST_CLASSES:
        return None, None, None, (f"expected at least {_FEWEST_CLASSES} classes to compare, found {len(margins)}",)
    if margins.min() <= 0.0:
        return None, None, None, ("a class leads on no image at all, so no null was fitted to the margins",)
    from backscan.kernels import NULL_FAMILIES, FitStatus, calibrated_p_value
    from backscan.scanner.results import NullFit

    family = NULL_FAMILIES[config.null]
    fits = family.fit(np.sort(margins)[None, :-1], None)
    parameters, status = tuple(fits.parameters[0].tolist()), FitStatus(fits.statuses[0])
    null = NullFit(
        family=config.null,
        parameters={
            name: value for name, value in zip(family.parameter_names, parameters, strict=True) if math.isfinite(value)
        },
        cutoff=None,
        largest=float(margins.max()),
        sample_size=len(margins) - 1,
        status=status.name.lower(),
    )
    if status != FitStatus.REACHED:
        return null, None, None, ("the null could not be fitted to the margins, which differ too little",)
    log_p = float(_log_p_values(margins[None], family)[0])
    p_value = max(math.exp(log_p), sys.float_info.min)  # never 0
    if config.bootstrap_draws == 0:
        return null, p_value, None, ()
    rng = np.random.default_rng(config.seed)
    draws = family.sample(rng, parameters, (config.bootstrap_draws, len(margins)))
    return null, p_value, calibrated_p_value(log_p, _log_p_values(draws, family)), ()


def _log_p_values(rows: NDArray[np.float64], family: NullFamily) -> NDArray[np.float64]:
    """Logarithm of 1 - G(largest)^K with G fitted to the others of each row, [B, K] -> [B]; 0 without a fit.

    The others are fitted as they are, not conditional on lying below the largest: with a handful of classes the
    conditional fit often runs to the boundary, and the bootstrap repairs what this one gets wrong.
    """
    from backscan.kernels import FitStatus
    from backscan.kernels.order import log_order_p_value

    ordered = np.sort(rows, axis=1)
    fits = family.fit(ordered[:, :-1], None)
    reached = fits.statuses == FitStatus.REACHED
    found = np.zeros(len(rows))
    log_sf = family.log_sf(ordered[reached, -1], fits.parameters[reached])
    found[reached] = log_order_p_value(log_sf, rows.shape[1])
    return found
