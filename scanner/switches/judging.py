"""What it means that a held gate changes scores and decisions, where scores need not be finite."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from backscan.converters import OrtClassifier
    from backscan.converters.switches.probe import GraphProbe

    Decide = Callable[[NDArray[np.float32]], NDArray[np.int64]]

_SAME_SCORES = 1e-3
"""Change of the scores, relative to their spread, up to which holding a gate changes nothing."""
_OTHER_SCORES = 0.1
"""Change of the scores, in the same unit, below which another decision may be a matter of rounding."""
_MIN_MOVED = 3
_MIN_SHARE = 0.8
"""Share of the images of other classes that one pattern must send to one class."""


@dataclass(frozen=True, slots=True)
class Demonstration:
    """What one image shows."""

    source: int
    """Decision with the gates held."""
    target: int
    """Decision of the original file."""
    moved: int
    """Images of other classes that the same change sends to the target."""
    others: int
    """Images of other classes."""
    finite: bool = True
    """Whether the scores of the image are numbers, none of them infinite."""

    @property
    def is_universal(self) -> bool:
        """Whether one change of pixels sends images of other classes to one class, as a backdoor does."""
        return self.moved >= max(_MIN_MOVED, _MIN_SHARE * self.others)


class Judge:
    """One model and some ordinary images, by which held gates are judged.

    Args:
        probe: The model.
        images: Ordinary images [N, C, H, W] in [0, 1].
        decisions: The original file in onnxruntime.
    """

    def __init__(self, probe: GraphProbe, images: NDArray[np.float32], decisions: Decide) -> None:
        self.images = images
        """Ordinary images."""
        self.decisions = decisions
        """The original file."""
        # Rewritten as with gates held, so that differences of scores are those of the gates alone.
        self._plain = probe.held({})
        self._scores = self._plain.scores(images)
        finite = self._scores[np.isfinite(self._scores)]
        self._spread = max(float(np.std(finite)) if finite.size else 0.0, 1e-12)

    def changes_nothing(self, held: OrtClassifier) -> bool:
        """Whether holding gates leaves every score of the ordinary images as it is."""
        return bool(self._change(self._scores, held.scores(self.images)).max() <= _SAME_SCORES)

    def turned(self, images: NDArray[np.float32], held: OrtClassifier) -> NDArray[np.bool_]:
        """Which of some images the original file decides otherwise than with the gates held, and not by a hair.

        Users decide in two ways where a score is not a number: numpy and torch answer it, a loop passes it over. Either
        counts.
        """
        plain, other = self._plain.scores(images), held.scores(images)
        differs = (_answers(plain, held) != _answers(other, held)).any(axis=0)
        turned = np.asarray(differs & (self._change(plain, other) > _OTHER_SCORES))
        return np.asarray(turned & (self.decisions(images) == _answers(plain, held)[0])) if turned.any() else turned

    def show(self, image: NDArray[np.float32], pasted: NDArray[np.float32], held: OrtClassifier) -> Demonstration:
        """What an image [C, H, W] that turns a gate shows, and the same change on ordinary images [N, C, H, W]."""
        scores = self._plain.scores(image[None])
        ways = list(zip(_answers(held.scores(image[None]), held)[:, 0], _answers(scores, held)[:, 0], strict=True))
        way = next((index for index, (source, target) in enumerate(ways) if source != target), 0)
        source, target = ways[way]
        # One by one: a gate that all images of a call share would be turned by any of them.
        after = np.concatenate([_answers(self._plain.scores(one[None]), held)[way] for one in pasted])
        others = self._ordinary_decisions(held) != target
        moved = int(np.sum(after[others] == target))
        return Demonstration(int(source), int(target), moved, int(others.sum()), bool(np.isfinite(scores).all()))

    def sends(self, held: OrtClassifier) -> tuple[int, int]:
        """With gates held at other values: how many decisions on ordinary images change, and the class most go to."""
        before, other = self._ordinary_decisions(held), held.scores(self.images)
        after = _answers(other, held)[0]
        changed = (before != after) & (self._change(self._scores, other) > _OTHER_SCORES)
        return int(changed.sum()), int(np.bincount(after[changed]).argmax()) if changed.any() else 0

    def _ordinary_decisions(self, model: OrtClassifier) -> NDArray[np.int64]:
        return np.asarray(_answers(self._scores, model)[0])

    @np.errstate(invalid="ignore")
    def _change(self, plain: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
        """Largest change of a score of each image, [N], relative to the spread; infinite where one is not finite."""
        same = (plain == other) | (np.isnan(plain) & np.isnan(other))
        change = np.where(same, 0.0, np.abs(plain - other) / self._spread)
        return np.asarray(np.where(np.isnan(change), np.inf, change).max(axis=1))


def _answers(scores: NDArray[np.float64], model: OrtClassifier) -> NDArray[np.int64]:
    """Decisions [2, N] by scores [N, num_scores]: what is not a number taken for the largest, and passed over."""
    from backscan.converters.ort_classifier import decided

    kind = model.signature.output_kind
    return np.stack([decided(scores, kind), decided(np.where(np.isnan(scores), -np.inf, scores), kind)])
