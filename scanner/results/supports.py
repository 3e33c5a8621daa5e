"""Content that takes the place of the image: where it stands, and how often images of each class follow it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from pydantic.dataclasses import dataclass

from backscan.scanner.errors import ReportError
from backscan.scanner.results.base import STRICT, EncodedArray

LEAST_MASK = 1e-6
"""Size in pixels below which no search leaves a mask."""


@dataclass(frozen=True, slots=True, config=STRICT)
class SupportRecord:
    """The content that sends most images of the other classes to one target, and its rates on images it never saw."""

    side: int
    """Side of the window in pixels; of scattered pixels their number; of a picture its opacity in percent; of a mask
    about how many pixels it hides."""
    pixels: tuple[int, ...]
    """Pixels that it covers, counted row by row, [k]; none are all of the image."""
    content: EncodedArray | None
    """What stands there, in pixel units, [C, k]; None where a report leaves it out, of targets that stand out less."""
    sources: tuple[int, ...]
    """Source classes that were asked."""
    hits: tuple[int, ...]
    """Images of each of them that go to the target."""
    counts: tuple[int, ...]
    """Images of each of them that were not decided as the target before."""
    rate_elsewhere: float | None = None
    """Rate of the same content at other places."""
    opacity: float | None = None
    """How much of the image it hides, below 1; None is all. Left out of reports where there is none."""
    opacities: EncodedArray | None = None
    """The same at each pixel, [k], of a mask. Left out of reports where there is none."""

    def pattern(self, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """The content in an image of some shape, 0 elsewhere: float32 [C, H, W].

        Raises:
            ReportError: it does not fit.
        """
        if self.content is None or not self.fits(shape):
            raise ReportError(f"expected content for images {list(shape)}, found other: make the report again")
        pattern = np.zeros((shape[0], shape[1] * shape[2]), np.float32)
        pattern[:, self._places(shape)] = self.content.decode()
        return pattern.reshape(shape)

    def mask(self, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """Its opacity where it covers an image of some shape, 0 elsewhere: float32 [H, W]."""
        mask = np.zeros(shape[1] * shape[2], np.float32)
        mask[self._places(shape)] = self._weights()
        return mask.reshape(shape[1:])

    def without_content(self) -> SupportRecord:
        """The same as a report keeps it of targets that stand out less: the counts alone."""
        return replace(self, pixels=(), content=None, opacity=None, opacities=None)

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether it can stand in an image [C, H, W]."""
        if self.content is None:
            return False
        values = np.asarray(self.content.decode())
        if len(shape) != 3 or not (self.opacity is None or 0.0 < self.opacity < 1.0) or not np.isfinite(values).all():
            return False
        weights = self._weights()
        num_places = len(self._places(shape))
        hides = bool(((weights >= 0.0) & (weights <= 1.0)).all()) and weights.shape in ((), (num_places,))
        inside = all(0 <= pixel < shape[1] * shape[2] for pixel in self.pixels)
        return hides and inside and values.shape == (shape[0], num_places)

    def _weights(self) -> NDArray[np.float32]:
        """How much of the image it hides, of all pixels or of each."""
        if self.opacities is not None:
            return self.opacities.decode()
        return np.array(1.0 if self.opacity is None else self.opacity, np.float32)

    def _places(self, shape: tuple[int, ...]) -> list[int]:
        """The pixels of an image of some shape that it covers."""
        return list(self.pixels) or list(range(shape[1] * shape[2]))

    @property
    def rates(self) -> dict[int, float]:
        """Share of each source class that follows, of those that were asked."""
        counted = zip(self.sources, self.hits, self.counts, strict=True)
        return {source: hits / count for source, hits, count in counted if count}

    @property
    def first_source(self) -> int | None:
        """The source class of which the largest share follows, of equal ones the first; None where none was asked."""
        rates = self.rates
        return max(rates, key=lambda source: (rates[source], -source), default=None)

    @property
    def is_possible(self) -> bool:
        """Whether a search can have given these counts."""
        return len(self.sources) == len(self.hits) == len(self.counts) == len(set(self.sources)) and all(
            0 <= hits <= count for hits, count in zip(self.hits, self.counts, strict=True)
        )
