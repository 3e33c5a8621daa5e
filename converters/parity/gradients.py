"""The torch gradient against central differences of onnxruntime, which knows nothing of torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from backscan.converters.ort_classifier import OrtClassifier
from backscan.converters.torch_import.classifier import TorchClassifier

MAX_ERROR = 0.1
_NUM_IMAGES, _NUM_LARGE_IMAGES = 16, 6
_LARGE = 96 * 96  # pixels from which fewer images must do: each is run seven times
_CHANGES = (0.003, 0.03, 0.3)
"""How much of the spread of the scores each step aims to change: a small step drowns in the rounding of float32, a
large one crosses kinks of the activations, so the best of three counts."""
_MAX_PIXEL_CHANGE = 0.1  # root mean square, so that a flat gradient does not lead far out of the image range
_INTEGER_PIXEL_CHANGE = 4 / 255  # smallest step that rounding to whole pixels lets through
_MARGIN = 0.1
"""Distance of pixels from the ends of their range, where the check is repeated inside of it."""
_FLOOR = 1e-30
_ROUNDING = 16 * float(np.finfo(np.float32).eps)
"""Changes of a score, relative to the largest, that rounding alone makes."""
_BISECTIONS = 12
_ZERO = (
    "the gradient at most images is zero, as where scores are rounded, so no pattern could be searched: export the "
    "model with its logits as an output"
)
_INVISIBLE = (
    "the gradient could not be compared with differences of onnxruntime: the file's scores are saturated, or change by "
    "no more than rounding"
)


@dataclass(frozen=True, slots=True)
class GradientCheck:
    """What the comparison says of the gradient."""

    error: float | None
    """Median relative error of the best step; None if no image could tell."""
    warning: str | None = None
    """What is doubtful, None if nothing is."""
    refusal: str = ""
    """Why the gradient cannot be used, empty if it can."""
    is_zero: bool = False
    """Whether that is the model's own doing: it has no gradient, and nothing contradicts it."""


def check_gradient(
    torch_classifier: TorchClassifier, ort_classifier: OrtClassifier, images: NDArray[np.float32]
) -> GradientCheck:
    """Compare the slope along the torch gradient with what onnxruntime gives a step before and behind each image.

    The function differentiated is the margin of the runner-up over the decision, in log-probabilities.

    Args:
        torch_classifier: The imported model.
        ort_classifier: The original in onnxruntime, with the same normalisation.
        images: [N, C, H, W], RGB pixels in [0, 1]; at most 16 (6 if they are large), evenly spread, are used.

    Returns:
        The check; a gradient of zero or against the slope is refused.
    """
    count = _NUM_IMAGES if images[0, 0].size < _LARGE else _NUM_LARGE_IMAGES
    chosen = images[np.unique(np.linspace(0, len(images) - 1, count).round().astype(int))]
    check = _check_at(torch_classifier, ort_classifier, chosen, _MAX_PIXEL_CHANGE * np.sqrt(chosen[0].size))
    if check.warning is None or check.error is None or _takes_whole_numbers(ort_classifier):
        return check
    # Pixels at the ends of their range bend where a model clips them: there one of the two steps changes nothing.
    inside = (_MARGIN + (1 - 2 * _MARGIN) * chosen).astype(np.float32)
    again = _check_at(torch_classifier, ort_classifier, inside, None)
    return check if again.warning or again.refusal else again


def _check_at(
    torch_classifier: TorchClassifier,
    ort_classifier: OrtClassifier,
    chosen: NDArray[np.float32],
    longest: float | None,
) -> GradientCheck:
    """The check at these images, with steps of this length at most; None: none leaves the range of pixels."""
    floor = -np.inf
    if not torch_classifier.has_surrogates:  # steps make any slope on a boundary, so images tell as much there
        chosen, floor = _where_scores_show(ort_classifier, chosen)
    if not len(chosen):
        return GradientCheck(None, warning=_INVISIBLE)
    scores = _log_scores(ort_classifier, chosen)
    pair = np.argsort(scores, axis=1)[:, [-2, -1]]
    gradient = _margin_gradient(torch_classifier, chosen, pair)
    slope = np.linalg.norm(gradient.reshape(len(chosen), -1), axis=1)
    visible = np.isfinite(slope) & (slope > 0)
    if visible.sum() * 2 <= len(chosen):
        return GradientCheck(None, refusal=_ZERO, is_zero=True)
    lines = _Lines(chosen[visible], pair[visible], gradient[visible], slope[visible], scores[visible])
    ratios = [ratio for ratio in _slope_ratios(ort_classifier, lines, floor, longest) if len(ratio)]
    if not ratios:
        return GradientCheck(None, warning=_INVISIBLE)
    return _judge(ratios, has_surrogates=torch_classifier.has_surrogates)


@dataclass(frozen=True, slots=True)
class _Lines:
    """Lines through images along the gradient of torch."""

    images: NDArray[np.float32]
    """[N, C, H, W]."""
    pair: NDArray[np.int64]
    """Runner-up and decision, [N, 2]."""
    gradient: NDArray[np.float32]
    """Of their margin, [N, C, H, W]."""
    slope: NDArray[np.float64]
    """Length of the gradient, [N]."""
    scores: NDArray[np.float64]
    """Of onnxruntime at the images, [N, K], as `_log_scores` gives them."""


def _judge(ratios: Sequence[NDArray[np.float64]], *, has_surrogates: bool) -> GradientCheck:
    """Judge onnxruntime's slope over torch's, [N] for each step: all 1 where both are the same function."""
    error = min(float(np.median(np.abs(ratio - 1))) for ratio in ratios)
    best = max(float(np.median(ratio)) for ratio in ratios)
    if best < 0 or (best == 0 and not has_surrogates):
        return GradientCheck(error, refusal=f"onnxruntime's slope along the gradient is {best:.2g} times torch's")
    if error < MAX_ERROR:
        return GradientCheck(error)
    cause = "; the model has steps with surrogate gradients" if has_surrogates else ""
    warning = f"central differences of onnxruntime differ from the gradient by {error:.0%}{cause}"
    return GradientCheck(error, warning=warning)


def _slope_ratios(
    ort_classifier: OrtClassifier, lines: _Lines, floor: float, longest: float | None
) -> list[NDArray[np.float64]]:
    """Slope of onnxruntime over that of torch for each step, of the images where its scores can show one."""
    pixels, slope = np.sqrt(lines.images[0].size), lines.slope
    lower = _INTEGER_PIXEL_CHANGE * pixels if _takes_whole_numbers(ort_classifier) else 0.0
    steepest = np.abs(lines.gradient).reshape(len(slope), -1).max(axis=1) / slope
    most = _MARGIN / steepest if longest is None else np.full(len(slope), longest)
    spread = float(np.median(np.ptp(lines.scores, axis=1))) or 1.0  # scores that are all the same have none
    largest = 1.0 if not _is_log(ort_classifier) else float(np.abs(lines.scores).max())
    ratios = []
    for change in _CHANGES:
        step = np.clip(change * spread / slope, max(lower, _FLOOR), most)
        shift = (lines.gradient * (step / slope)[:, None, None, None]).astype(np.float32)
        sides = [_log_scores(ort_classifier, lines.images + sign * shift) for sign in (1, -1)]
        ahead, behind = (_margin(side, lines.pair) for side in sides)
        shows = np.isfinite(ahead - behind) & (2 * step * slope > _ROUNDING * largest)
        for side in sides:
            shows &= np.take_along_axis(side, lines.pair, axis=1).min(axis=1) > floor
        ratios.append(((ahead - behind) / (2 * step * slope))[shows])
    return ratios


def _where_scores_show(ort_classifier: OrtClassifier, images: NDArray[np.float32]) -> tuple[NDArray[np.float32], float]:
    """Images at which the scores of the file can show a slope, and the value below which they show none.

    Probabilities of a confident model are 0, or at a lower bound, for all classes but one. Where most images are so,
    points on the boundary between two of them stand in, where two classes are about as likely.
    """
    if _is_log(ort_classifier):
        return images, -np.inf
    scores = _log_scores(ort_classifier, images)
    is_lowest = scores == scores.min()
    floor = float(scores.min()) if is_lowest.sum() > 1 else -np.inf
    shown = images[_runner_up(scores) > floor]
    if 2 * len(shown) < len(images):
        between = _between(ort_classifier, images)
        shown = between[_runner_up(_log_scores(ort_classifier, between)) > floor] if len(between) else between
    return shown, floor


def _runner_up(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    second: NDArray[np.float64] = np.sort(scores, axis=1)[:, -2]
    return second


def _between(ort_classifier: OrtClassifier, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """For each image a point towards another one, of another decision, where the decision is about to change."""
    decisions = ort_classifier.decisions(images)
    differs = decisions[:, None] != decisions[None]
    starts = images[differs.any(axis=1)]
    ends = images[differs.argmax(axis=1)[differs.any(axis=1)]]
    own = decisions[differs.any(axis=1)]
    low, high = np.zeros(len(starts)), np.ones(len(starts))
    for _ in range(_BISECTIONS if len(starts) else 0):
        middle = (low + high) / 2
        keeps = ort_classifier.decisions(_mixed(starts, ends, middle)) == own
        low, high = np.where(keeps, middle, low), np.where(keeps, high, middle)
    return _mixed(starts, ends, low)


def _mixed(starts: NDArray[np.float32], ends: NDArray[np.float32], shares: NDArray[np.floating]) -> NDArray[np.float32]:
    share = shares[:, None, None, None]
    mixed: NDArray[np.float32] = (starts * (1 - share) + ends * share).astype(np.float32)
    return mixed


def _is_log(ort_classifier: OrtClassifier) -> bool:
    return ort_classifier.signature.output_kind in {"logits", "log_probabilities"}


def _takes_whole_numbers(ort_classifier: OrtClassifier) -> bool:
    return ort_classifier.signature.dtype.startswith(("int", "uint"))


def _log_scores(ort_classifier: OrtClassifier, images: NDArray[np.float32]) -> NDArray[np.float64]:
    """Scores of onnxruntime whose differences are those of log-probabilities, [N, K]."""
    scores = ort_classifier.scores(images)
    is_log = _is_log(ort_classifier)
    if scores.shape[1] == 1:
        scores = np.concatenate([np.zeros_like(scores) if is_log else 1 - scores, scores], axis=1)
    return scores if is_log else np.log(np.maximum(scores, _FLOOR))


def _margin(scores: NDArray[np.float64], pair: NDArray[np.int64]) -> NDArray[np.float64]:
    chosen = np.take_along_axis(scores, pair, axis=1)
    difference: NDArray[np.float64] = chosen[:, 0] - chosen[:, 1]
    return difference


def _margin_gradient(
    classifier: TorchClassifier, images: NDArray[np.float32], pair: NDArray[np.int64]
) -> NDArray[np.float32]:
    device = classifier.device
    inputs = torch.from_numpy(np.ascontiguousarray(images)).to(device).requires_grad_()
    chosen = classifier.log_posterior(inputs).gather(1, torch.from_numpy(pair).to(device))
    (gradient,) = torch.autograd.grad((chosen[:, 0] - chosen[:, 1]).sum(), inputs)
    array: NDArray[np.float32] = gradient.cpu().numpy()
    return array
