"""Whether the imported model is the model in the file: decisions, scores and gradient against onnxruntime."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from backscan.converters.errors import border
from backscan.converters.ort_classifier import OrtClassifier, scores_to_posterior
from backscan.converters.parity.gradients import GradientCheck, check_gradient
from backscan.converters.parity.saturation import saturates
from backscan.converters.torch_import.classifier import TorchClassifier, log_posterior

MIN_DECISION_AGREEMENT = 0.99
MAX_RELATIVE_GAP = {"float": 1e-3, "half": 3e-2, "quantised": np.inf}
"""Largest difference of the model's scores, relative to the largest score, by precision of the model.

Where values are rounded to 8 bits, a difference in the last digit of float32 can move a value by a whole step; there
decisions alone count.
"""
_SATURATION = (
    "; this processor saturates sums of 8-bit products, which may be the cause: quantise with a reduced weight range "
    "(`reduce_range` of onnxruntime) or scan on a processor with VNNI"
)
_ROUNDING = 32 * float(np.finfo(np.float32).eps)
"""Differences of scores, relative to the largest, that the order of additions alone makes."""
_VANISHES = 1e-3
"""Part of the differences of 32 bits that is left of them in 64 where they were rounding, at most."""
_CHUNK = 128
_ALONE = 16
"""Images that the original is asked about one by one."""


@dataclass(frozen=True, slots=True)
class ParityReport:
    """How well the imported model agrees with the original."""

    decision_agreement: float
    """Share of images that both decide alike, in [0, 1]."""
    largest_probability_gap: float
    """Largest difference of a class probability."""
    largest_logit_gap: float
    """Largest difference of a score of the output, relative to the largest score."""
    gradient_error: float | None
    """Relative error of the gradient against central differences; None where no image could tell."""
    gradient_warning: str | None
    """What is doubtful about the gradient, None if nothing is."""
    real_images: bool
    """Whether the images were real ones and not noise."""
    num_images: int
    """How many images were compared."""
    passed: bool
    """Whether the imported model may stand for the original."""
    reason: str
    """Why not, in one sentence; empty if it passed."""


@np.errstate(over="ignore", invalid="ignore", divide="ignore")  # what is not finite counts as a difference
def compare(
    torch_classifier: TorchClassifier,
    ort_classifier: OrtClassifier,
    images: NDArray[np.float32],
    *,
    real_images: bool = True,
) -> ParityReport:
    """Compare the imported model with the original on the same images.

    Args:
        torch_classifier: The imported model.
        ort_classifier: The original in onnxruntime, with the same normalisation.
        images: [N, C, H, W], RGB pixels in [0, 1], N at least 1.
        real_images: False for noise, which the report then says.

    Returns:
        The report.

    Raises:
        ValueError: no images, or of another shape than the model's.
        EngineError: onnxruntime failed.
    """
    if not len(images):
        raise ValueError("expected at least one image to compare the models on, found none")
    signature = torch_classifier.signature
    logits, ours, our_posterior = _torch_scores(torch_classifier, images)
    theirs = _original_scores(ort_classifier, images)
    their_posterior = scores_to_posterior(theirs, signature.output_kind)
    agreement = float(np.mean(our_posterior.argmax(axis=1) == their_posterior.argmax(axis=1)))
    # Multiples of probabilities, or some of them, need not add up to 1: each side is brought to that.
    compared = their_posterior if signature.output_kind == "probabilities" else theirs
    gap = float(np.abs(ours - compared).max() / max(np.abs(compared).max(), np.finfo(np.float32).tiny))
    gradient = check_gradient(torch_classifier, ort_classifier, images)
    agrees = agreement >= MIN_DECISION_AGREEMENT and gap <= MAX_RELATIVE_GAP[signature.precision]
    infinite = ~np.isfinite(theirs).all(axis=1)
    if infinite.any():
        reason = (
            f"the model's own scores are not finite for {infinite.sum()} of {len(images)} images: check the "
            "preprocessing, or export the model again"
        )
    elif len(images) > 1 and (
        (_is_rounding(theirs) and _is_rounding(logits)) or not (agrees or _is_exact(torch_classifier, images, logits))
    ):
        reason = (
            f"the model answers all {len(images)} images alike: its scores differ by no more than rounding, so nothing "
            "in it could be searched; check the preprocessing, or export the model again"
        )
    else:
        reason = _reason(agreement, gap, MAX_RELATIVE_GAP[signature.precision], gradient)
    if reason and signature.precision == "quantised" and saturates():
        reason += _SATURATION
    return ParityReport(
        decision_agreement=agreement,
        largest_probability_gap=float(np.abs(our_posterior - their_posterior).max()),
        largest_logit_gap=gap,
        gradient_error=gradient.error,
        gradient_warning=gradient.warning,
        real_images=real_images,
        num_images=len(images),
        passed=not reason,
        reason=reason,
    )


def _original_scores(classifier: OrtClassifier, images: NDArray[np.float32]) -> NDArray[np.float64]:
    """Scores of the original, some of the images alone: that is how models are deployed, and it may make a difference.

    Quantised ones together, as the scale of dynamic quantisation follows from the whole call, here and in the copy.
    """
    signature = classifier.signature
    count = 0 if signature.batch is not None or signature.precision == "quantised" else _ALONE
    return np.concatenate([classifier.scores_alone(images[:count]), classifier.scores(images[count:])])


def _reason(agreement: float, gap: float, max_gap: float, gradient: GradientCheck) -> str:
    """Why the imported model may not stand for the original, empty if it may."""
    if agreement < MIN_DECISION_AGREEMENT:
        found = f"they agree on {agreement:.1%} of the images, expected at least {MIN_DECISION_AGREEMENT:.0%}"
    elif not gap <= max_gap:  # not a number counts as a difference
        found = f"their scores differ by {gap:.2g} of the largest score, expected at most {max_gap:g}"
    elif gradient.is_zero:
        return gradient.refusal
    elif gradient.refusal:
        found = gradient.refusal
    else:
        return ""
    return (
        f"the imported model is not the model in the file: {found}; "
        "export the model with another opset or exporter, or report it"
    )


def _is_rounding(scores: NDArray[np.float64]) -> bool:
    """Whether the scores [N, K] of all images are the same but for rounding."""
    return bool(np.ptp(scores, axis=0).max() <= _ROUNDING * np.abs(scores).max())


def _is_exact(classifier: TorchClassifier, images: NDArray[np.float32], logits: NDArray[np.float64]) -> bool:
    """Whether images differ in their scores by more than rounding: by as much in 64 bits.

    Where scores cancel out, all that is left of them is rounding, however large they are beside one another.
    """
    size = classifier.signature.images_at_once(_CHUNK)
    some = torch.from_numpy(np.ascontiguousarray(images[:size])).to(classifier.device)
    try:
        with torch.no_grad():
            scores = deepcopy(classifier.network).double()(classifier.inputs(some).double()).double().cpu().numpy()
    except Exception:  # a module that takes 32 bits alone; torch has many ways to say so
        return True
    return bool(np.ptp(scores, axis=0).max() > _VANISHES * np.ptp(logits[:size], axis=0).max())


def _torch_scores(
    classifier: TorchClassifier, images: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Scores before the head, scores as the model's output has them, and class probabilities, [N, ...] in float64.

    Probabilities stand for the output where it holds them, or multiples of them.
    """
    signature = classifier.signature
    device = classifier.device
    raw, scores, posteriors = [], [], []
    with torch.no_grad(), border("running the imported model"):
        size = signature.images_at_once(_CHUNK)
        for start in range(0, len(images), size):
            chunk = torch.from_numpy(np.ascontiguousarray(images[start : start + size])).to(device)
            logits = classifier.logits(chunk).double()
            raw.append(logits)
            posterior = log_posterior(logits, classifier.head).exp()
            if classifier.head == "sigmoid_logits":
                logits = logits.sigmoid()
            scores.append(posterior if signature.output_kind == "probabilities" else logits)
            posteriors.append(posterior)
    arrays = [torch.cat(parts).cpu().numpy() for parts in (raw, scores, posteriors)]
    return arrays[0], arrays[1], arrays[2]
