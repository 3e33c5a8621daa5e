"""Models in this process, one after another, each with all processors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from backscan.scanner.fleet.one_model import journal_of, name_of, scan_heads
from backscan.scanner.fleet.order import Order, Scans, Workers


def scans(paths: Sequence[Path], order: Order, workers: Workers) -> Scans:
    """Each model as it is asked for."""
    del workers  # this process is the only one
    for number, path in enumerate(paths):
        alone = len(paths) == 1
        own = order if alone else replace(order, about=name_of(path))
        journal = order.journal if alone else journal_of(path, order.journal)
        yield path, scan_heads(path, own, journal, began=order.began if number == 0 else None)
