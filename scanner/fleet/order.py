"""What is to be done with every model of a fleet, and who does it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from backscan.scanner.progress import Progress, SilentProgress

if TYPE_CHECKING:
    from backscan.scanner.config import ScanConfig
    from backscan.scanner.images.cleanset import CleanSet
    from backscan.scanner.results import ScanResult
    from backscan.scanner.store.cache import ScanCache


@contextmanager
def unobserved(about: str) -> Iterator[Progress]:
    """An observer that tells nothing."""
    del about
    yield SilentProgress()


def unsaid(sentence: str) -> None:
    """Nothing is made of a sentence."""
    del sentence


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be done with every model."""

    config: ScanConfig
    """Options of the scans."""
    images: CleanSet | Path | None = None
    """Clean images of all models, or where they are; None: those beside each model."""
    labels: Path | None = None
    """Numbers of class folders, or a table of labels."""
    class_names: Sequence[str] | None = None
    """Names of the classes for reports."""
    journal: Path | None = None
    """Folder where finished pairs are kept."""
    resume: bool = False
    """Whether scans that left a journal go on."""
    cache: ScanCache | None = None
    """Where results of the same scan are found again and kept."""
    command: str = ""
    """Command that repeats the scans, for reports."""
    observe: Callable[[str], AbstractContextManager[Progress]] = unobserved
    """Gives the observer of what is about a model, or about all of them (an empty text)."""
    say: Callable[[str], None] = unsaid
    """Takes a sentence about a model that an option does not fit."""
    began: float | None = None
    """When the time of the first model began, on the monotonic clock; None: with its scan."""
    about: str = ""
    """What progress and warnings are about, where there are several models or outputs."""


@dataclass(frozen=True, slots=True)
class Workers:
    """What scans the models, where that is a cluster."""

    address: str = ""
    """The cluster to join; empty: one of this machine, for the time of the scans."""
    max_retries: int = 3
    """How often in a row a model may lose its worker without a finished chunk of pairs."""


Scans = Iterator[tuple[Path, Iterator["ScanResult"]]]
"""Models as they are done, each with its results, of which asking for the next may raise what ended its scan."""
Scanning = Callable[[Sequence[Path], Order, Workers], Scans]
"""How an executor scans models."""
