"""Content that takes the place of the image: where it stands, and how often images of each class follow it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic.dataclasses import dataclass

from backscan.scanner.errors import ReportError
from backscan.scanner.results.base import STRICT, EncodedArray


@dataclass(frozen=True, slots=True, config=STRICT)
class SupportRecord:
    """The content that sends most images of the other classes to one target, and its rates on images it never saw."""

    side: int
    """Side of the window in pixels."""
    pixels: tuple[int, ...]
    """Pixels that it covers, counted row by row, [k]."""
    content: EncodedArray
    """What stands there, in pixel units, [C, k]."""
    sources: tuple[int, ...]
    """Source classes that were asked."""
    hits: tuple[int, ...]
    """Images of each of them that go to the target."""
    counts: tuple[int, ...]
    """Images of each of them that were not decided as the target before."""
    rate_elsewhere: float | None = None
    """Rate of the same content at other places."""

    def pattern(self, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """The content in an image of some shape, 0 elsewhere: float32 [C, H, W].

        Raises:
            ReportError: it does not fit.
        """
        content, pattern = self.content.decode(), np.zeros((shape[0], shape[1] * shape[2]), np.float32)
        if not self.fits(shape):
            raise ReportError(f"expected a window in images {list(shape)}, found another: make the report again")
        pattern[:, list(self.pixels)] = content
        return pattern.reshape(shape)

    def mask(self, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """1 where it covers an image of some shape, 0 elsewhere: float32 [H, W]."""
        mask = np.zeros(shape[1] * shape[2], np.float32)
        mask[list(self.pixels)] = 1.0
        return mask.reshape(shape[1:])

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether it can stand in an image [C, H, W]."""
        places = len(shape) == 3 and all(0 <= pixel < shape[1] * shape[2] for pixel in self.pixels)
        values = np.asarray(self.content.decode())
        return places and values.shape == (shape[0], len(self.pixels)) and bool(np.isfinite(values).all())

    @property
    def is_possible(self) -> bool:
        """Whether a search can have given these counts."""
        return len(self.sources) == len(self.hits) == len(self.counts) == len(set(self.sources)) and all(
            0 <= hits <= count for hits, count in zip(self.hits, self.counts, strict=True)
        )
