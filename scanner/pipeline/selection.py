"""Which images of which class a scan uses: some to search with, some held out for the replay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from backscan.scanner.images.cleanset import CleanSet, Draw
from backscan.scanner.pipeline.pairs import listed
from backscan.scanner.pipeline.record import Draft, Settled
from backscan.scanner.results import DataRecord, Verdict

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from backscan.scanner.config import ScanConfig
    from backscan.scanner.process.parent import OpenedModel, Subject


@dataclass(frozen=True, slots=True)
class Images:
    """The clean images of a scan in the shape of the model, with the class each one stands for."""

    pixels: NDArray[np.float32]
    """Images [N, C, H, W] in [0, 1]."""
    labels: NDArray[np.int64]
    """Classes [N]: given, or the model's own decisions."""
    drawn: Draw
    """Which images optimise and which are held out."""

    def optimised(self) -> dict[int, NDArray[np.float32]]:
        """Images of the search by class."""
        return {label: self.pixels[indices] for label, indices in self.drawn.optimise.items()}

    def held_out(self) -> dict[int, NDArray[np.float32]]:
        """Images the search never sees, by class."""
        return {label: self.pixels[indices] for label, indices in self.drawn.held_out.items() if len(indices)}


def select(subject: Subject, clean: CleanSet, opened: OpenedModel, config: ScanConfig, draft: Draft) -> Images:
    """Draw the images of each class: some to search with, some held out (XMK note 7 without labels)."""
    with draft.phase("images"):
        labels = subject.decisions(clean.images) if clean.labels is None else clean.labels
        drawn = clean.draw(
            labels, images_per_class=config.images_per_class, seed=config.seed, num_classes=opened.num_classes
        )
    draft.set(
        data=DataRecord(
            name=clean.name,
            digest=clean.digest,
            num_images=len(clean.images),
            labels="decisions" if clean.labels is None else "given",
            images_per_class=tuple(len(drawn.optimise.get(c, ())) for c in range(opened.num_classes)),
            held_out_per_class=tuple(len(drawn.held_out.get(c, ())) for c in range(opened.num_classes)),
            found_beside_model=clean.found_beside_model,
        )
    )
    without = [c for c in range(opened.num_classes) if c not in drawn.optimise]
    if without:
        draft.leave_out(f"attacks from {listed(without)}: too few images of {'it' if len(without) == 1 else 'them'}")
    if not drawn.optimise:
        raise Settled(Verdict.INCONCLUSIVE, "no class has enough images to search with: add images of each class")
    return Images(clean.images, labels, drawn)
