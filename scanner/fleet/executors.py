"""Where models are scanned: the table of executors, imported when they are first used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import MappingProxyType

from backscan.scanner.errors import OptionError
from backscan.scanner.fleet.order import Order, Scanning, Scans, Workers

_MOST_RETRIES = 1000


@dataclass(frozen=True, slots=True)
class Executor:
    """One way to scan several models."""

    scans: Scanning
    """Scans them."""
    has_workers: bool
    """Whether it has processes on other machines: it takes an address, and may lose them."""


def _module(name: str) -> Scanning:
    """`scans` of a module of this package, imported on the first call."""

    def scan_later(paths: Sequence[Path], order: Order, workers: Workers) -> Scans:
        scanning: Scanning = import_module(f"backscan.scanner.fleet.{name}").scans
        return scanning(paths, order, workers)

    return scan_later


EXECUTORS: Mapping[str, Executor] = MappingProxyType(
    {
        "local": Executor(_module("local"), has_workers=False),
        "ray": Executor(_module("on_ray"), has_workers=True),
    }
)


def executor_of(spelled: str, max_retries: int | None) -> tuple[Executor, Workers]:
    """An executor and its workers, from `--executor` and `--max-retries`.

    Args:
        spelled: A name in `EXECUTORS`, with `://ADDRESS` for one that joins a cluster.
        max_retries: How often in a row a model may lose its worker; None is the default.

    Raises:
        OptionError: no such executor, or what it does not have.
    """
    name, scheme, address = spelled.partition("://")
    executor = EXECUTORS.get(name)
    if executor is None or (scheme and not (address and executor.has_workers)):
        raise OptionError(
            f"expected --executor to be {', '.join(EXECUTORS)} or ray://HOST:PORT, found {spelled!r}: correct it"
        )
    if max_retries is None:
        return executor, Workers(address)
    if not executor.has_workers:
        raise OptionError(f"expected no --max-retries with --executor {name}, which has no workers: leave it out")
    if not 0 <= max_retries <= _MOST_RETRIES:
        raise OptionError(f"expected --max-retries between 0 and {_MOST_RETRIES}, found {max_retries}")
    return executor, Workers(address, max_retries)
