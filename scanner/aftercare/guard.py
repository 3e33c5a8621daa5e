"""How strongly images carry a recovered pattern: one number each, by a filter that clean images do not answer to.

The score estimates which share of the pattern is in an image: the filter is the pattern divided by the spectrum of
clean images with noise on them (a matched filter), scaled so that the pattern itself gives 1 and a mean clean image 0,
held to [0, 1].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from backscan.scanner.aftercare.subject import planted_of
from backscan.scanner.errors import OptionError, ReportError
from backscan.scanner.results import ScanResult

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from backscan.scanner.aftercare.subject import Planted

    Pixels = NDArray[np.float32]

_FLOOR = 1e-3
"""Least power of a frequency, as a share of the mean over all of them: what no image has must not weigh endlessly."""
_NOISE = 2.0
"""Norm of the noise that must not be taken for the pattern, in its own: a planted one may be twice the recovered."""
_VARIANCE = 0.0625
"""Of the pixels of photographs, for a filter without clean images."""
_ENOUGH = 3.0
"""Images times false-alarm rate below which a threshold is extrapolated rather than measured."""
_ROUNDING = 1e-9
"""What a whole number of images may lose when a rate such as 0.29 is no binary fraction."""


class Guard:
    """Scores images by how strongly they carry the pattern of a report.

    Args:
        report: A report of `scanner check` with a recovered pattern on images.
        clean: Clean images [N, C, H, W] in [0, 1] of the pattern's shape, which the filter is made for; without any it
            takes the spectrum that photographs have.

    Raises:
        ReportError: the report holds no pattern, or one that acts inside the model or changes images otherwise.
    """

    def __init__(self, report: ScanResult, clean: Pixels | None = None) -> None:
        planted = planted_of(report, needed="a guard")
        assert planted is not None  # noqa: S101 - it was needed
        if not planted.looks_like_itself:
            where = f"on {planted.found.space!r}" if planted.on_features else f"of --space {planted.found.space}"
            raise ReportError(
                f"expected a pattern on images for a guard, found one {where}: scan again with --detector pairwise or "
                "--detector window"
            )
        self.planted = planted
        """The pattern."""
        self.weights, self.offset = _filter(planted, clean)
        """The filter, float32 in the shape of an image, and what is added to its product with one."""

    def pattern_score(self, images: Pixels) -> NDArray[np.float32]:
        """Score of each image.

        Args:
            images: [N, C, H, W], float32 RGB pixels in [0, 1].

        Returns:
            float32 [N] in [0, 1].

        Raises:
            ValueError: images of another shape.
        """
        if images.ndim != 4 or images.shape[1:] != self.weights.shape:
            raise ValueError(f"expected images {['N', *self.weights.shape]}, found {list(images.shape)}")
        products = images.reshape(len(images), -1).astype(np.float64) @ self.weights.reshape(-1).astype(np.float64)
        return np.clip(products + self.offset, 0.0, 1.0).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Threshold:
    """Score above which an image is called suspicious."""

    value: float
    """The score."""
    rate: float
    """False-alarm rate that was asked for."""
    alarms: int
    """Clean images above it."""
    num_images: int
    """Clean images."""

    @property
    def extrapolated(self) -> bool:
        """Whether the images are too few to show such a rate."""
        return self.num_images * self.rate < _ENOUGH

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the false-alarm rate (Clopper and Pearson)."""
        from scipy.stats import binomtest

        found = binomtest(self.alarms, self.num_images).proportion_ci()
        return float(found.low), float(found.high)


def threshold_for(
    scores: Sequence[float] | NDArray[np.float32], rate: float, *, margin: float = 0.0
) -> Threshold | None:
    """The lowest score of a clean image above which at most that share of new clean images is expected.

    Of n + 1 exchangeable images each is as likely as any other to be among the r of the highest scores, so a new image
    exceeds the r-th highest score of n others with probability at most r / (n + 1) (split conformal prediction, Vovk,
    Gammerman and Shafer 2005). Taking the share of the n alone would allow (r + 1) / (n + 1), more than was asked for.

    Args:
        scores: Of clean images, at least one, none of which made what scores them.
        rate: False-alarm rate, in (0, 1).
        margin: Added to the score, for images that are scored again with other roundings: none of those that have at
            most that score is above the threshold then.

    Returns:
        The threshold; where even the highest score is exceeded more often than asked for, 1 / (n + 1), that score: it
        is extrapolated then. None where the threshold would be 1 or more, which no score exceeds.

    Raises:
        OptionError: no images.
    """
    ordered = np.sort(np.asarray(scores, np.float64))[::-1]
    if not len(ordered):
        raise OptionError("expected clean images for a threshold, found none: pass --data")
    rank = int(rate * (len(ordered) + 1) + _ROUNDING)
    value = float(ordered[max(rank, 1) - 1]) + margin
    if value >= 1.0:
        return None
    return Threshold(value, rate, int((ordered > value).sum()), len(ordered))


def _filter(planted: Planted, clean: Pixels | None) -> tuple[NDArray[np.float32], float]:
    """Weights and offset: the pattern gives 1 more than the mean clean image, which gives 0."""
    values = planted.found.values.decode().astype(np.float64)
    if values.ndim != 3:
        raise ReportError(f"expected a pattern on images in the report, found shape {list(values.shape)}: scan again")
    mean = np.full(values.shape, 0.5) if clean is None or not len(clean) else clean.astype(np.float64).mean(axis=0)
    if planted.found.mask is not None:
        values = (values - mean) * planted.found.mask.decode()
    # White noise is as strong at every frequency: without it the filter would listen where clean images are silent.
    noise = _NOISE**2 * float(np.square(values).sum()) / len(values)
    weights = np.fft.ifft2(np.fft.fft2(values) / (_power(values.shape, clean, mean) + noise)).real
    gain = float((weights * values).sum())
    if not gain > 0:
        raise ReportError("expected a pattern that is not empty in the report, found one that is: scan again")
    weights = weights / gain
    return weights.astype(np.float32), -float((weights * mean).sum())


def _power(shape: tuple[int, ...], clean: Pixels | None, mean: NDArray[np.float64]) -> NDArray[np.float64]:
    """Power of each frequency in clean images, [C, H, W] or [1, H, W]."""
    if clean is None or len(clean) < 2:
        rows, columns = np.fft.fftfreq(shape[1])[:, None], np.fft.fftfreq(shape[2])
        power = 1 / np.maximum(rows**2 + columns**2, 1 / (4 * shape[1] * shape[2]))[None]
        power *= _VARIANCE * shape[1] * shape[2] / power.mean()
    else:
        power = np.square(np.abs(np.fft.fft2(clean - mean))).mean(axis=0)
    return np.asarray(power + _FLOOR * power.mean())
