"""What the copy makes of the source images, found once for all detectors that get the same ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from backscan.converters import TorchClassifier
    from backscan.converters.cuts.split import Split
    from backscan.scanner.process.decisions import Decisions

# Images on which reduced precision has to prove itself.
_PROBED_IMAGES = 64


@dataclass(frozen=True, slots=True)
class Known:
    """What the copy makes of some source images."""

    copy: TorchClassifier
    """The copy, under its normalisation."""
    split: Split | None
    """The copy cut in two, if it is."""
    images: Mapping[int, Tensor]
    """Class -> images [n, C, H, W]."""
    decisions: Decisions
    """Class -> decisions [n], and margins."""
    reduced: TorchClassifier | None
    """The copy in reduced precision, where that gains something."""
    reduced_cut: Split | None
    """The cut copy, likewise."""
    precision: str
    """What steps were to compute in."""
    images_at_once: int | None
    """Most images of a pass by their memory; None is any."""

    @classmethod
    def of(
        cls,
        copy: TorchClassifier,
        split: Split | None,
        images: Mapping[int, Tensor],
        decisions: Decisions,
        precision: str,
    ) -> Known:
        """Ask the copy.

        Args:
            copy: Under the normalisation that is settled.
            split: The copy cut in two, if it is.
            images: Class -> images [n, C, H, W].
            decisions: Class -> decisions [n] and margins, which may wait until they are asked for.
            precision: What steps are to compute in, as of `--precision`.
        """
        from backscan.converters.cuts.bfloat16 import reduce_precision
        from backscan.scanner.process.passes import images_at_once

        reduced = reduced_cut = None
        if images and precision != "float32":
            probe, rounded = _spread(list(images.values())), precision == "bfloat16"
            reduced = reduce_precision(copy, probe, rounded=rounded)
            if reduced is not None and split is not None:
                reduced_cut = _reduced(split, probe, rounded=rounded)
        most = images_at_once(copy, next(iter(images.values()))[:1]) if images else None
        return cls(copy, split, dict(images), decisions, reduced, reduced_cut, precision, most)

    def is_of(self, copy: TorchClassifier, split: Split | None, images: Mapping[int, Tensor], precision: str) -> bool:
        """Whether that was the copy, and those the images and the precision."""
        import torch

        own = self.images
        same = copy is self.copy and split is self.split and own.keys() == images.keys()
        same = same and precision == self.precision
        return same and all(torch.equal(each, images[label]) for label, each in own.items())


def _reduced(parts: Split, images: Tensor, *, rounded: bool) -> Split | None:
    """A cut model with the part behind the cut in reduced precision, if that gains something."""
    import torch

    from backscan.converters.cuts.bfloat16 import reduce_part

    with torch.no_grad():
        features = parts.front(images)
    back = reduce_part(parts.back, features, rounded=rounded)
    return None if back is None else replace(parts, back=back)


def _spread(images: Sequence[Tensor]) -> Tensor:
    """A few dozen of all images, from every class."""
    import torch

    every = torch.cat(list(images))
    return every[:: max(1, len(every) // _PROBED_IMAGES)]
