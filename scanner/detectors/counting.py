"""How many images follow content that takes the place of a part of them, on images that the search never saw."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from backscan.scanner.detectors.base import Examination
    from backscan.scanner.results import SupportRecord
    from backscan.scanner.search.settings import Work
    from backscan.scanner.search.supports import Supports

    Counted = TypeVar("Counted", Tensor, NDArray[np.float32])

FEWEST_IMAGES = 20
"""Images of a class without which it is no source."""
MOST_SOURCES = 90
"""Sources of one target, of many classes by the seed."""
# Images of a source that search, and most of those that count.
_SEARCHING, _COUNTED = 20, 40


def split(number: int) -> int:
    """How many of a class's images search; the others count. At least 20 count where there are 40."""
    return min(_SEARCHING, number // 2)


def num_counted(number: int) -> int:
    """How many of a class's images count."""
    return min(_COUNTED, number - split(number))


def counted(images: Counted) -> Counted:
    """Those of a class's images that count: the first after those that search."""
    start = split(len(images))
    return images[start : start + _COUNTED]


def to_search(examination: Examination, source: int, target: int) -> Tensor:
    """Images of a source that search, without those decided as the target already."""
    images = examination.images_by_class[source]
    images = images[: split(len(images))]
    return images[examination.decisions_by_class[source][: len(images)] != target]


def to_count(examination: Examination, source: int, target: int) -> Tensor:
    """Images of a source that count: not seen by the search, and not decided as the target."""
    images = examination.images_by_class[source]
    return counted(images)[counted(examination.decisions_by_class[source]) != target]


@dataclass(frozen=True, slots=True)
class Counting:
    """Images of every source, some to search with and others to count."""

    examination: Examination
    """The model, its images and the options."""
    sources: tuple[int, ...]
    """Classes with enough images, in order."""
    work: Work
    """Count of what it costs."""

    @classmethod
    def of(cls, examination: Examination, *, fewest: int = FEWEST_IMAGES) -> Counting:
        """The sources of a model: classes with so many images."""
        from backscan.scanner.search.settings import Work

        by_class = examination.images_by_class
        sources = [label for label, images in sorted(by_class.items()) if len(images) >= fewest]
        drawn = np.random.default_rng(examination.config.seed).permutation(len(sources))[:MOST_SOURCES]
        return cls(examination, tuple(sources[index] for index in sorted(drawn)), Work())

    def searching(self, target: int) -> Tensor:
        """Images that search, class after class in turn, without those decided as the target already."""
        import torch

        columns = [list(to_search(self.examination, source, target)) for source in self.sources if source != target]
        turns = range(max(map(len, columns), default=0))
        rows = [column[turn] for turn in turns for column in columns if turn < len(column)]
        return torch.stack(rows) if rows else next(iter(self.examination.images_by_class.values()))[:0]

    def record(self, target: int, found: Supports, *, side: int, rate_elsewhere: float | None = None) -> SupportRecord:
        """What sends images to a target, with its rates by source.

        Args:
            target: Target class.
            found: One place with its content.
            side: How large it is.
            rate_elsewhere: Rate of the same content at other places.
        """
        from backscan.scanner.results import EncodedArray, SupportRecord

        asked = {source: to_count(self.examination, source, target) for source in self.sources if source != target}
        asked = {source: images for source, images in asked.items() if len(images)}
        pixels = found.pixels[0].tolist()
        _, height, width = self.examination.classifier.signature.input_shape
        return SupportRecord(
            side=side,
            pixels=tuple(pixels) if len(pixels) < height * width else (),
            content=EncodedArray.encode(found.content[0].cpu().numpy()),
            sources=tuple(asked),
            hits=tuple(self.hits(found, images, target) for images in asked.values()),
            counts=tuple(map(len, asked.values())),
            rate_elsewhere=rate_elsewhere,
            **_opacity(found),
        )

    def hits(self, content: Supports, images: Tensor, target: int) -> int:
        """Images decided as the target with the content in its place."""
        import torch

        self.work.forwards += len(content) * len(images)
        with torch.no_grad():
            log_posterior = self.examination.classifier.log_posterior(content.on(images).flatten(0, 1))
        return int((log_posterior.argmax(dim=1) == target).sum())


def _opacity(found: Supports) -> dict[str, Any]:
    """How much of the image the content hides, as fields of a record: none for all of it."""
    if isinstance(found.opacity, float):
        return {"opacity": found.opacity} if found.opacity < 1.0 else {}
    from backscan.scanner.results import EncodedArray

    return {"opacities": EncodedArray.encode(found.opacity[0].cpu().numpy())}
