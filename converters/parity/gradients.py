"""The torch gradient against central differences of onnxruntime, which knows nothing of torch."""

from __future__ import annotations

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


@dataclass(frozen=True, slots=True)
class GradientCheck:
    """What the comparison says of the gradient."""

    error: float | None
    """Median relative error of the best step; None if no image could tell."""
    warning: str | None = None
    """What is doubtful, None if nothing is."""
    refusal: str = ""
    """Why the gradient cannot be used, empty if it can."""


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
    if check.warning is None or _takes_whole_numbers(ort_classifier):
        return check
    # Pixels at the ends of their range bend where a model clips them: there one of the two steps changes nothing.
    inside = (_MARGIN + (1 - 2 * _MARGIN) * chosen).astype(np.float32)
    again = _check_at(torch_classifier, ort_classifier, inside, None)
    return check if again.warning or again.refusal else again


def _check_at(
    torch_classifier: TorchClassifier,
    ort_classifier: OrtClassifier,
    images: NDArray[np.float32],
    longest: float | None,
) -> GradientCheck:
    """The check at these images, with steps of this length at most; None: none leaves the range of pixels."""
    scores = _log_scores(ort_classifier, images)
    pair = np.argsort(scores, axis=1)[:, [-2, -1]]
    spread = float(np.median(np.ptp(scores, axis=1)))
    gradient = _margin_gradient(torch_classifier, images, pair)
    slope = np.linalg.norm(gradient.reshape(len(images), -1), axis=1)
    visible = np.isfinite(slope) & (slope > 0)
    if visible.sum() * 2 <= len(images):
        return GradientCheck(None, refusal="the gradient at most images is zero, so no pattern could be searched")
    images, pair, gradient, slope = (array[visible] for array in (images, pair, gradient, slope))
    steepest = np.abs(gradient).reshape(len(images), -1).max(axis=1) / slope
    most = _MARGIN / steepest if longest is None else np.full(len(images), longest)
    ratios = _slope_ratios(ort_classifier, images, pair, gradient, slope, spread, most)
    return _judge(ratios, has_surrogates=torch_classifier.has_surrogates)


def _judge(ratios: NDArray[np.float64], *, has_surrogates: bool) -> GradientCheck:
    """Judge onnxruntime's slope over torch's, [steps, N]: all 1 where both are the same function."""
    errors = np.median(np.abs(ratios - 1), axis=1)
    error, best = float(errors.min()), float(np.median(ratios, axis=1).max())
    if best < 0 or (best == 0 and not has_surrogates):
        return GradientCheck(error, refusal=f"onnxruntime's slope along the gradient is {best:.2g} times torch's")
    if error < MAX_ERROR:
        return GradientCheck(error)
    cause = "; the model has steps with surrogate gradients" if has_surrogates else ""
    warning = f"central differences of onnxruntime differ from the gradient by {error:.0%}{cause}"
    return GradientCheck(error, warning=warning)


def _slope_ratios(
    ort_classifier: OrtClassifier,
    images: NDArray[np.float32],
    pair: NDArray[np.int64],
    gradient: NDArray[np.float32],
    slope: NDArray[np.float64],
    spread: float,
    most: NDArray[np.float64],
) -> NDArray[np.float64]:
    pixels = np.sqrt(images[0].size)
    lower = _INTEGER_PIXEL_CHANGE * pixels if _takes_whole_numbers(ort_classifier) else 0.0
    ratios = []
    for change in _CHANGES:
        step = np.clip(change * spread / slope, max(lower, _FLOOR), most)
        shift = (gradient * (step / slope)[:, None, None, None]).astype(np.float32)
        ahead, behind = (_margin(_log_scores(ort_classifier, images + sign * shift), pair) for sign in (1, -1))
        ratios.append((ahead - behind) / (2 * step * slope))
    return np.array(ratios)


def _takes_whole_numbers(ort_classifier: OrtClassifier) -> bool:
    return ort_classifier.signature.dtype.startswith(("int", "uint"))


def _log_scores(ort_classifier: OrtClassifier, images: NDArray[np.float32]) -> NDArray[np.float64]:
    """Scores of onnxruntime whose differences are those of log-probabilities, [N, K]."""
    scores = ort_classifier.scores(images)
    is_log = ort_classifier.signature.output_kind in {"logits", "log_probabilities"}
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
