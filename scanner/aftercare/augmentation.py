"""Images to train with: those of a fragile pair's source with its pattern, under their own labels."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from backscan.kernels.embedding import add
from backscan.scanner.errors import OptionError, UserError
from backscan.scanner.images.png import png

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from backscan.scanner.results import FoundPattern

LABELS = "labels.csv"
"""Table of pictures and labels in a folder, under a name that `--data` finds."""
_ARCHIVE = ".npz"


@dataclass(frozen=True, slots=True)
class Augmentation:
    """Images with a pattern and what they are."""

    images: NDArray[np.float32]
    """[N, C, H, W] in [0, 1]."""
    labels: NDArray[np.int64]
    """Their own class, [N]: never the target of the pattern."""
    pairs: tuple[tuple[int, int], ...]
    """Source and target of the pattern of each."""

    @classmethod
    def of(
        cls, images: NDArray[np.float32], labels: NDArray[np.int64], patterns: Sequence[FoundPattern]
    ) -> Augmentation:
        """All images of the source of each pattern, with it.

        Args:
            images: Clean images [N, C, H, W] in [0, 1].
            labels: What they are, [N].
            patterns: Patterns on images.
        """
        parts = [(add(images[labels == each.source], each.values.decode()), each) for each in patterns]
        if not parts:
            return cls(images[:0], labels[:0], ())
        pairs = tuple((found.source, found.target) for changed, found in parts for _ in range(len(changed)))
        own = np.array([source for source, _ in pairs], np.int64)
        return cls(np.concatenate([changed for changed, _ in parts]), own, pairs)

    def write(self, place: Path) -> None:
        """Write a folder of PNG files with a table of labels, or an archive where the name ends in .npz.

        Raises:
            UserError: the place cannot be written to.
            OptionError: pictures of images that have other than one or three channels.
        """
        check_place(place, self.images.shape[1])
        try:
            if place.suffix == _ARCHIVE:
                with place.open("xb") as file:
                    np.savez_compressed(file, x=self.images.transpose(0, 2, 3, 1), y=self.labels)
                return
            place.mkdir()
            for name, content in self._files():
                (place / name).write_bytes(content)
        except OSError as error:
            raise UserError(f"expected a new place to write {place}, found: {error.strerror}; name another") from error

    def _files(self) -> Iterator[tuple[str, bytes]]:
        """The pictures, and last their labels."""
        table = io.StringIO()
        rows = csv.writer(table, lineterminator="\n")
        rows.writerow(("file", "label"))
        for number, (image, label, pair) in enumerate(zip(self.images, self.labels, self.pairs, strict=True)):
            name = f"{number:06d}-{pair[0]}-towards-{pair[1]}.png"
            rows.writerow((name, int(label)))
            yield name, png(image)
        yield LABELS, table.getvalue().encode()


def check_place(place: Path | None, channels: int | None = None) -> None:
    """Refuse a place for images before any work is done.

    Args:
        place: Folder or archive; None asks for none.
        channels: Channels of the images, where they are known.

    Raises:
        UserError: it exists already, or the folder above it does not.
        OptionError: pictures of images that have other than one or three channels.
    """
    if place is None:
        return
    if place.exists() or not place.parent.is_dir():
        raise UserError(
            f"expected --export-augmentation to be new, in a folder that exists, found {place}: name another"
        )
    if channels not in (None, 1, 3) and place.suffix != _ARCHIVE:
        raise OptionError(
            f"expected images of one or three channels for pictures, found {channels}: end the name in {_ARCHIVE}"
        )
