"""Planted models and their images as files and as scans, for tests of the whole."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from backscan.scanner.config import ScanConfig
from backscan.scanner.images.cleanset import CleanSet
from backscan.scanner.pipeline.scan import scan
from backscan.scanner.results import ScanResult
from tests import planted

SOURCE, TARGET = 1, 3
# Pixels as they are, so that nothing about preprocessing has to be found; one detector and statistic, so that their
# p-value is the verdict's; few draws, for speed.
QUICK = ScanConfig(
    preprocess="none",
    detectors=("pairwise",),
    statistics=("plain",),
    null="gamma",
    bootstrap_draws=199,
    sandbox=False,
    threads=1,
    device="cpu",
)


def write_model(folder: Path, name: str = "model.onnx", **options: object) -> Path:
    """A planted model as a file; by default with the shortcut from `SOURCE` to `TARGET`."""
    path = folder / name
    path.write_bytes(planted.shortcut(**({"source": SOURCE, "target": TARGET} | options)))
    return path


def write_images(
    folder: Path,
    name: str = "images.npz",
    *,
    labelled: bool = True,
    keep: dict[int, int] | None = None,
    relabel: dict[int, int] | None = None,
    **options: int,
) -> Path:
    """Images of a planted model as an archive.

    Args:
        folder: Where to write.
        name: File name.
        labelled: Whether the archive holds labels.
        keep: Class -> how many of its images stay.
        relabel: Class -> label that its images get.
        options: Of `planted.shortcut_images`.
    """
    images, labels = planted.shortcut_images(**options)
    kept = np.concatenate([np.flatnonzero(labels == c)[: (keep or {}).get(c)] for c in np.unique(labels)])
    images, labels = np.moveaxis(images[kept], 1, -1), labels[kept]
    labels = np.array([(relabel or {}).get(label, label) for label in labels.tolist()])
    path = folder / name
    np.savez(path, x=images, **({"y": labels} if labelled else {}))
    return path


@cache
def scanned(*, model: tuple[tuple[str, object], ...] = (), config: ScanConfig = QUICK, images: str = "") -> ScanResult:
    """A scan of a planted model.

    Args:
        model: Options of `planted.shortcut`, as pairs.
        config: Options of the scan.
        images: Name in `IMAGES`.
    """
    with TemporaryDirectory() as folder:
        options = dict(model)
        num_classes = {"num_classes": options["num_classes"]} if "num_classes" in options else {}
        path = write_images(Path(folder), **num_classes, **IMAGES[images])
        return scan(write_model(Path(folder), **options), CleanSet.load(path), config)


IMAGES: dict[str, dict[str, object]] = {
    "": {},
    "unlabelled": {"labelled": False},
    "few of class 4": {"keep": {4: 6}},
    "class 0 under label 2": {"keep": {2: 0}, "relabel": {0: 2}},
    "mislabelled": {"relabel": {0: 1, 1: 2, 2: 0}},
}
UNATTACKED = (("source", None),)
