"""What a report shows beside the verdict: the recovered pattern, images before and after, and controls."""

from __future__ import annotations

import base64
import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from backscan.scanner.detectors import DETECTORS
from backscan.scanner.images.png import png
from backscan.scanner.results import Controls, EncodedArray, Example, FoundPattern
from backscan.scanner.search.spaces import SPACES, picture

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from backscan.scanner.pipeline.replay import OriginalFile
    from backscan.scanner.results import Inference, PairResult
    from backscan.scanner.search.spaces import Shape

_MOST_EXAMPLES = 4


def found_pattern(pair: PairResult, inference: Inference, shape: Shape) -> FoundPattern:
    """The pattern of a pair with its sizes.

    Args:
        pair: The pair.
        inference: The conclusion about it.
        shape: Channels, height and width of images.
    """
    if pair.pattern is None or pair.size is None:
        raise ValueError(f"expected a pattern for pair {pair.source} -> {pair.target}, found none")
    values = pair.pattern.astype(np.float64)
    return FoundPattern(
        detector=pair.detector,
        source=pair.source,
        target=pair.target,
        space=inference.space,
        size=pair.size,
        size_l1=float(np.abs(values).sum()),
        size_l2=float(np.sqrt(np.square(values).sum())),
        largest_change=float(np.abs(values).max()),
        values=EncodedArray.encode(pair.pattern),
        picture=_picture(pair, inference.space, shape),
    )


def _picture(pair: PairResult, space: str, shape: Shape) -> EncodedArray | None:
    """What a pattern changes of the card of its space; None of one that shows itself, or acts inside the model."""
    on_features = DETECTORS[pair.detector].acts_on_features
    if on_features or space not in SPACES or pair.pattern is None:
        return None
    return EncodedArray.encode(picture(SPACES[space], pair.pattern, shape))


def examples(file: OriginalFile, pair: PairResult, images: NDArray[np.float32]) -> tuple[Example, ...]:
    """Held-out source images before and after the pattern, those that the pattern moves first.

    Args:
        file: The original file.
        pair: The pair, with its pattern: one that changes images, or in the shape of features, which no image shows.
        images: Held-out images of the source class, [n, C, H, W] in [0, 1].
    """
    if pair.pattern is None:
        return ()
    changed = file.changed(images, pair.pattern, pair.detector)
    after = file.decide_with(images, pair.pattern, pair.detector)
    return _chosen_examples((images, changed), (file.decide(images), after), pair.source, pair.target)


def covered_examples(
    file: OriginalFile, found: FoundPattern, images: NDArray[np.float32], changed: NDArray[np.float32]
) -> tuple[Example, ...]:
    """Held-out source images before and after content took the place of a part, those that it moves first."""
    return _chosen_examples((images, changed), (file.decide(images), file.decide(changed)), found.source, found.target)


def _chosen_examples(
    images: tuple[NDArray[np.float32], NDArray[np.float32] | None],
    decisions: tuple[NDArray[np.int64], NDArray[np.int64]],
    source: int,
    target: int,
) -> tuple[Example, ...]:
    """At most four images with their decisions before and after; without a picture where the change is not seen."""
    (shown, changed), (before, after) = images, decisions
    moved_first = np.argsort((after != target) | (before == target), kind="stable")[:_MOST_EXAMPLES]
    return tuple(
        Example(
            label=source,
            decision_before=int(before[i]),
            decision_after=int(after[i]),
            before_png=encode_png(shown[i]),
            after_png="" if changed is None else encode_png(changed[i]),
        )
        for i in moved_first
    )


def controls(pairs: Sequence[PairResult], source: int | None, target: int | None) -> Controls | None:
    """The reversed pair and the medians, for the most extreme pair."""
    sizes = {(pair.source, pair.target): pair.size for pair in pairs if pair.size is not None}
    if source is None or target is None or not sizes:
        return None
    to_target = [size for (_, other), size in sizes.items() if other == target]
    from_source = [size for (other, to), size in sizes.items() if other == source and to != target]
    return Controls(
        source=source,
        target=target,
        size=sizes.get((source, target)),
        reversed_size=sizes.get((target, source)),
        median_size=statistics.median(sizes.values()),
        target_median_size=statistics.median(to_target) if to_target else None,
        source_median_size=statistics.median(from_source) if from_source else None,
    )


def encode_png(image: NDArray[np.float32]) -> str:
    """An image [C, H, W] in [0, 1] as base64 PNG."""
    return base64.b64encode(png(image)).decode("ascii")
