"""Step 9: which images of which class a scan uses, some to search with, some held out for the replay."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backscan.scanner.config import SO_MANY_CLASSES
from backscan.scanner.images.cleanset import FEWEST_IMAGES
from backscan.scanner.pipeline.pairs import named_classes
from backscan.scanner.pipeline.record import Images, Stop
from backscan.scanner.results import DataRecord, Verdict

if TYPE_CHECKING:
    from backscan.scanner.config import ScanConfig
    from backscan.scanner.images.cleanset import CleanSet
    from backscan.scanner.pipeline.record import Run
    from backscan.scanner.process.parent import SettledFile

_TOO_FEW = (
    f"no class has enough images to search with: add images of each class, {FEWEST_IMAGES} of each at least and better "
    "25 or more"
)


def split_images(run: Run, settled: SettledFile, clean: CleanSet) -> Images | Stop:
    """The images of each class: some to search with, some held out."""
    with run.record.phase("images"):
        images = run.record.take(draw_images(settled, clean, run.config))
    without = [label for label in range(settled.facts.num_classes) if label not in images.drawn.optimise]
    if without:
        told = f"attacks from {named_classes(without)}: too few images of {'it' if len(without) == 1 else 'them'}"
        if run.config.detectors == SO_MANY_CLASSES:
            num_sources = len(images.drawn.optimise)
            told += f"; all {settled.facts.num_classes} are tested as targets, from the {num_sources} with images"
        run.record.leave_out(told)
    if not images.drawn.optimise:
        return Stop(Verdict.INCONCLUSIVE, (_TOO_FEW,))
    return images


def draw_images(settled: SettledFile, clean: CleanSet, config: ScanConfig) -> Images:
    """The images of each class by its labels, or without labels by the model's own decisions (XMK note 7)."""
    num_classes = settled.facts.num_classes
    labels = settled.decisions(clean.images) if clean.labels is None else clean.labels
    drawn = clean.draw(labels, images_per_class=config.images_per_class, seed=config.seed, num_classes=num_classes)
    record = DataRecord(
        name=clean.name,
        digest=clean.digest,
        num_images=len(clean.images),
        labels="decisions" if clean.labels is None else "given",
        images_per_class=tuple(len(drawn.optimise.get(label, ())) for label in range(num_classes)),
        held_out_per_class=tuple(len(drawn.held_out.get(label, ())) for label in range(num_classes)),
        found_beside_model=clean.found_beside_model,
    )
    return Images(clean.images, drawn, record)
