"""`scanner check`: one model after another or many beside each other, each with its images and its journal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from backscan.converters.sandbox.clock import process_began
from backscan.scanner.cli.command_options import Images, Keeping
from backscan.scanner.cli.console import Settings, command, progress, say
from backscan.scanner.config import FEW_CLASSES, MANY_CLASSES, SO_MANY_CLASSES, ScanConfig
from backscan.scanner.errors import UserError
from backscan.scanner.fleet import one_model, scanning
from backscan.scanner.fleet import order as fleet
from backscan.scanner.images.cleanset import CleanSet
from backscan.scanner.results import ScanResult
from backscan.scanner.store.cache import ScanCache, default_folder
from backscan.scanner.store.files import read_text, why_unreadable

_MAX_NAMES_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be done with every model."""

    config: ScanConfig
    """Options of the scans."""
    images: Images
    """Where images are."""
    class_names: Sequence[str] | None
    """Names of the classes for reports."""
    keeping: Keeping
    """Journal and cache, and where models are scanned."""

    def of_fleet(self) -> fleet.Order:
        """The same without a command line."""
        return fleet.Order(
            self.config,
            self.images.data,
            self.images.labels,
            self.class_names,
            journal=self.keeping.journal,
            resume=self.keeping.resume,
            cache=_cache() if self.keeping.cache else None,
            command=command(),
            observe=progress,
            say=say,
            began=_began(),
        )


def scanned(paths: Sequence[Path], order: Order) -> Iterator[ScanResult]:
    """The result of each model as it finishes.

    Raises:
        NameNotInModelError: no model has what an option names; one of several that lacks it has no verdict.
        UserError: as for `scan`.
        Interrupted: Ctrl-C.
    """
    return scanning.scanned(paths, order.of_fleet(), order.keeping.executor, order.keeping.max_retries)


def _began() -> float | None:
    """When the time of the first model begins: with the process that was started for it, else now."""
    return process_began() if Settings.owns_process else None


def clean_set(
    model: Path, images: Images, class_names: Sequence[str] | None = None, *, sandbox: bool
) -> CleanSet | None:
    """The images named by --data, else those beside the model, else None.

    Args:
        model: The ONNX file.
        images: Where images are.
        class_names: Names of the classes in their order, which number folders that are called so.
        sandbox: Decode in a limited child process.
    """
    return one_model.images_of(model, fleet.Order(ScanConfig(sandbox=sandbox), images.data, images.labels, class_names))


def read_class_names(path: Path | None) -> list[str] | None:
    """One name per line.

    Raises:
        UserError: the file cannot be read.
    """
    if path is None:
        return None
    try:
        return [line.strip() for line in read_text(path, max_bytes=_MAX_NAMES_BYTES).splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"expected a text file with one class name per line in --class-names, found {path}: {why_unreadable(error)}"
        ) from error


def _cache() -> ScanCache:
    from backscan.scanner.pipeline.provenance import provenance, version

    # What is searched where no detector is named may change without a new version.
    defaults = ", ".join((*MANY_CLASSES, *FEW_CLASSES, *SO_MANY_CLASSES))
    made_by = {"backscan": version(), "detectors": defaults, **provenance(seed=0, command="").libraries}
    return ScanCache(default_folder(), made_by)
