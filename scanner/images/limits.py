"""What reading clean images may cost, and what reading gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from backscan.scanner.errors import CleanSetError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_MEBIBYTE = 2**20


@dataclass(frozen=True, slots=True)
class ReadLimits:
    """Bounds that are checked against declared sizes, before anything is decompressed."""

    total_bytes: int = 1536 * _MEBIBYTE
    """All images together, as float32, which this process and the model's each hold once."""
    images: int = 1_000_000
    """Images, whatever their size."""
    image_pixels: int = 50_000_000
    """Height times width of one image file."""

    def check_count(self, num_images: int, where: str) -> None:
        """Refuse more images than allowed.

        Raises:
            CleanSetError: there are more than `images`.
        """
        if num_images > self.images:
            raise CleanSetError(
                f"expected at most {self.images} images, found {num_images} in {where}: pass fewer, a hundred per "
                "class suffice"
            )

    def check_total(self, num_values: int, where: str) -> None:
        """Refuse images that would take more memory than allowed.

        Args:
            num_values: Images times channels times height times width.
            where: File or folder name, for the message.

        Raises:
            CleanSetError: the images exceed `total_bytes`.
        """
        if 4 * num_values > self.total_bytes:
            raise CleanSetError(
                f"expected at most {self.total_bytes // _MEBIBYTE} MiB of images, found "
                f"{4 * num_values // _MEBIBYTE} MiB in {where}: pass fewer or smaller images, a hundred per class "
                "suffice"
            )


@dataclass(frozen=True, slots=True)
class ReadImages:
    """Images as they were read: not yet of one size."""

    images: Sequence[NDArray[np.float32]] | NDArray[np.float32]
    """[C, H, W] each, in [0, 1], all of one channel count; one array [N, C, H, W] if all have one size."""
    labels: NDArray[np.int64] | None
    """Class numbers [N], None if none were given."""
    class_names: Mapping[int, str]
    """Names of the classes as far as they are known."""
    warnings: tuple[str, ...]
    """What a reader of the report should know about the images."""
