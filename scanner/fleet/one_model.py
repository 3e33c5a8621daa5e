"""One model of a fleet: its images, its journal, and each of its heads that holds scores of classes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from backscan.converters.sandbox.clock import now, time_limit
from backscan.scanner.errors import TimeUpError
from backscan.scanner.fleet.order import Order
from backscan.scanner.images.cleanset import CleanSet, find_beside
from backscan.scanner.pipeline.ends import Interrupted
from backscan.scanner.pipeline.heads import ALL, heads_of, images_for
from backscan.scanner.pipeline.scan import scan
from backscan.scanner.reports.text import printable
from backscan.scanner.results import ScanResult


def scan_heads(
    model: Path, order: Order, journal: Path | None, *, name: str = "", began: float | None = None
) -> Iterator[ScanResult]:
    """The scan of one model, or of each of its heads, under the name that reports give it.

    Args:
        model: The ONNX file.
        order: What is to be done.
        journal: Folder where finished pairs are kept.
        name: What reports call the model; by default its path beneath the working directory.
        began: When its time began that `--time-limit` counts, on the monotonic clock; by default now. Each further head
            has a time of its own.
    """
    config, name = order.config, name or name_of(model)
    began = now() if began is None else began
    with time_limit(config.time_limit, began=began):
        try:
            clean = images_of(model, order)
        except TimeUpError:  # as the scan says, whose time is up as well
            clean = None
        heads = heads_of(model, clean, config) if config.output_name == ALL else ()
    config = replace(config, output_name=None) if config.output_name == ALL else config
    if len(heads) < 2:
        only = replace(config, output_name=heads[0].name) if heads else config
        with time_limit(config.time_limit, began=began):
            yield _scan_as(name, model, clean, replace(order, config=only), journal)
        return
    for number, head in enumerate(heads):
        own = journal and journal / hashlib.sha256(head.name.encode()).hexdigest()[:8]
        about = " ".join(filter(None, (order.about, f"output {head.name}")))
        chosen = replace(order, config=replace(config, output_name=head.name), about=about)
        with time_limit(config.time_limit, began=now() if number else began):
            yield _scan_as(_of_head(name, head.name), model, images_for(head, clean), chosen, own)


def _scan_as(name: str, model: Path, clean: CleanSet | None, order: Order, journal: Path | None) -> ScanResult:
    try:
        return named(scan_one(model, clean, order, journal), name)
    except Interrupted as end:
        raise Interrupted(named(end.result, name)) from end


def scan_one(model: Path, clean: CleanSet | None, order: Order, journal: Path | None) -> ScanResult:
    """The scan of one model, with its progress shown."""
    with order.observe(order.about) as observer:
        return scan(
            model,
            clean,
            order.config,
            class_names=order.class_names,
            progress=observer,
            journal=journal,
            resume=order.resume,
            cache=order.cache,
            command=order.command,
        )


def images_of(model: Path, order: Order) -> CleanSet | None:
    """The images of an order, else those beside the model, else None.

    Raises:
        CleanSetError: they cannot be read.
    """
    if isinstance(order.images, CleanSet):
        return order.images
    path = find_beside(model) if order.images is None else order.images
    if path is None:
        return None
    return CleanSet.load(
        path,
        labels=order.labels,
        class_names=order.class_names,
        found_beside_model=order.images is None,
        sandbox=order.config.sandbox,
    )


def named(result: ScanResult, name: str) -> ScanResult:
    """A result under the name that baselines and dashboards know its model by."""
    return replace(result, model=replace(result.model, name=name))


def _of_head(name: str, head: str) -> str:
    return f"{name} (output {printable(head)})"


def name_of(path: Path) -> str:
    """A path beneath the working directory; of others the file's name."""
    try:
        return path.absolute().relative_to(Path.cwd()).as_posix()
    except ValueError:
        return path.name


def journal_of(model: Path, journal: Path | None) -> Path | None:
    """A folder of its own for each of several models, whose names may be equal."""
    return journal and journal / f"{model.stem}-{hashlib.sha256(str(model).encode()).hexdigest()[:8]}"
