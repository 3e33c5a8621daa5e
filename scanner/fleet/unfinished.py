"""The result of a model whose scan did not come back: the file, the options, and why."""

from __future__ import annotations

from pathlib import Path

from backscan.scanner.fleet.one_model import named
from backscan.scanner.fleet.order import Order
from backscan.scanner.inference.verdict import Judgement
from backscan.scanner.pipeline.admission import read
from backscan.scanner.pipeline.provenance import provenance
from backscan.scanner.pipeline.record import Record
from backscan.scanner.progress import SilentProgress
from backscan.scanner.results import ScanResult, Verdict


def unfinished(path: Path, name: str, order: Order, verdict: Verdict, reason: str) -> ScanResult:
    """A result without anything that was searched.

    Args:
        path: The model.
        name: What reports call it.
        order: What was to be done.
        verdict: What is said of it.
        reason: Why.
    """
    origin = provenance(seed=order.config.seed, command=order.command)
    record = Record(read(path), order.class_names, order.config, origin, SilentProgress())
    return named(record.result(Judgement(verdict, (reason,)), interrupted=True), name)
