"""Whether the answer about an image depends on the other images of a call: alone, in company, in another order."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from backscan.scanner.results import DEPENDS_ON_CALL, GraphFinding
from backscan.scanner.switches.findings import spread, synthetic_images
from backscan.scanner.switches.wild import wild_images

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from backscan.converters import Artifact, OrtClassifier

_ORDINARY, _SYNTHETIC, _SYNTHETIC_ALONE = 20, 6, 18
"""Images of each kind that are asked about beside the wild ones."""
_LONGEST_CALL = 256
_MOST_NUMBERS = 1 << 22
"""Numbers of an input up to which the longest call is made, too."""
_SAME_SCORES = {"float": 1e-4, "half": 3e-2, "quantised": 1e-1}
"""Difference of the scores, relative to the largest one, that rounding explains, by precision of the model.

Float: other kernels for other sizes add in another order, which moved no score of a real model by 1e-5. Half: as
parity. Quantised: a last digit of float32 may move a value by a step, and dynamic quantisation takes its scale from the
whole call by design; larger than a tenth is more than steps explain, and so is one decision in ten.
"""
_SAME_DECISIONS = 0.1
_CALLS_OF_AN_IMAGE, _FEWEST = 5, 4
"""In how many images of a call each is asked about, alone and in company; fewer images say nothing."""


@dataclass(frozen=True, slots=True)
class Difference:
    """How answers in company differ from those alone."""

    gap: float
    """Largest difference of a score, relative to the largest one."""
    decisions: int
    """Images that were decided otherwise in any of the calls."""
    num_images: int
    """Images that were tried."""


def find_dependence(
    artifact: Artifact,
    runtime: OrtClassifier,
    images: NDArray[np.float32] | None,
    *,
    seed: int,
    seconds: float = math.inf,
) -> tuple[GraphFinding, ...]:
    """A finding if answers of the original file depend on the call, else none.

    Args:
        artifact: The model, external data included.
        runtime: It in onnxruntime, with its normalisation.
        images: Ordinary images [N, C, H, W] in [0, 1]; without any, synthetic ones alone.
        seed: Of the synthetic images and of the order.
        seconds: About how long it may take: with less than all images need, fewer are asked about.
    """
    from backscan.converters.switches.batch_sizes import nodes_that_count_images

    if runtime.signature.batch == 1:
        return ()
    nodes = nodes_that_count_images(artifact, runtime.signature)
    difference = compare_calls(runtime, _affordable(runtime, _chosen(runtime, images, seed), seconds), seed=seed)
    if not nodes and not _is_more_than_rounding(difference, runtime.signature.precision):
        return ()
    return (_finding(nodes, difference),)


def _chosen(runtime: OrtClassifier, images: NDArray[np.float32] | None, seed: int) -> NDArray[np.float32]:
    """Ordinary images, and some that no model was trained on: two networks differ most on those.

    Among them are dark and bright ones, which stand out in a call by whatever pixels somebody compares.
    """
    synthetic, wild = synthetic_images(runtime.signature.input_shape, seed), wild_images(runtime.signature.input_shape)
    if images is None or not len(images):
        return np.concatenate([spread(synthetic, _SYNTHETIC_ALONE), wild])
    return np.concatenate([spread(images, _ORDINARY), spread(synthetic, _SYNTHETIC), wild])


def _affordable(runtime: OrtClassifier, images: NDArray[np.float32], seconds: float) -> NDArray[np.float32]:
    """As many of the images, spread over all, as the time allows to be asked about; a few in any case."""
    if math.isinf(seconds):
        return images
    runtime.scores(images[:1])  # the first call makes ready
    started = time.monotonic()
    runtime.scores(images[:1])
    each = _CALLS_OF_AN_IMAGE * max(1e-9, time.monotonic() - started)
    return spread(images, min(len(images), max(_FEWEST, int(seconds / each))))


@np.errstate(invalid="ignore")  # infinity minus infinity, which counts as equal below
def compare_calls(runtime: OrtClassifier, images: NDArray[np.float32], *, seed: int) -> Difference:
    """Scores and decisions of images [N, C, H, W] alone against those in calls of several."""
    from backscan.converters.errors import EngineError
    from backscan.converters.ort_classifier import scores_to_posterior

    def scores(calls: Sequence[NDArray[np.int64]]) -> NDArray[np.float64]:
        return np.concatenate([runtime.scores(images[call]) for call in calls])

    kind = runtime.signature.output_kind
    every = np.arange(len(images))
    try:
        alone = scores([every[index : index + 1] for index in every])
    except EngineError:  # it takes no single image, so that nobody deploys it with one
        alone = scores([every])
    decided = scores_to_posterior(alone, kind).argmax(axis=1)
    largest = max(float(np.abs(alone[np.isfinite(alone)]).max(initial=0)), float(np.finfo(np.float32).tiny))
    gap, differs = 0.0, np.zeros(len(images), bool)
    for calls in _calls(len(images), runtime.signature.input_shape, seed):
        try:
            together = scores(calls)
        except EngineError:  # a size that this model cannot be called with
            continue
        order = np.concatenate(calls)
        same = (together == alone[order]) | (np.isnan(together) & np.isnan(alone[order]))
        change = np.nan_to_num(np.where(same, 0.0, np.abs(together - alone[order])), nan=np.inf)
        gap = max(gap, float(change.max(initial=0)) / largest)
        differs[order[scores_to_posterior(together, kind).argmax(axis=1) != decided[order]]] = True
    return Difference(gap, int(differs.sum()), len(images))


def _calls(count: int, shape: tuple[int, int, int], seed: int) -> Iterator[list[NDArray[np.int64]]]:
    """Ways to distribute images over calls: all together, each the last of two, permuted by fives, a long call."""
    every = np.arange(count)
    yield [every]
    yield [np.array([(index + 1) % count, index]) for index in every]
    permuted = np.random.default_rng(seed).permutation(count)
    yield [permuted[start : start + 5] for start in range(0, count, 5)]
    if _LONGEST_CALL * int(np.prod(shape)) <= _MOST_NUMBERS:
        yield [np.resize(permuted, _LONGEST_CALL)]


def _is_more_than_rounding(difference: Difference, precision: str) -> bool:
    if precision == "quantised" and difference.decisions > _SAME_DECISIONS * difference.num_images:
        return True
    return difference.gap > _SAME_SCORES[precision]


def _finding(nodes: tuple[str, ...], difference: Difference) -> GraphFinding:
    counted = "; nodes whose result depends on the number of images act on the scores" if nodes else ""
    return GraphFinding(
        rule=DEPENDS_ON_CALL,
        severity="warning",
        message="the answer about an image depends on the other images of the call",
        nodes=nodes,
        evidence=f"of {difference.num_images} images alone and in calls of several, {difference.decisions} are decided "
        f"otherwise, and scores differ by {difference.gap:.2g} of the largest{counted}",
    )
