"""`scanner check`: one model after another, each with its images and its journal."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from backscan.converters.sandbox.clock import now, process_began, time_limit
from backscan.scanner.cli.command_options import Images, Keeping
from backscan.scanner.cli.console import Settings, command, progress, say
from backscan.scanner.config import ScanConfig
from backscan.scanner.errors import TimeUpError, UserError
from backscan.scanner.images.cleanset import CleanSet, find_beside
from backscan.scanner.pipeline.ends import Interrupted, NameNotInModelError
from backscan.scanner.pipeline.heads import ALL, heads_of, images_for
from backscan.scanner.pipeline.scan import scan
from backscan.scanner.reports.text import printable
from backscan.scanner.results import ScanResult, Verdict
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
    """Journal and cache."""
    about: str = ""
    """What progress and warnings are about, where there are several models or outputs."""


def scanned(paths: Sequence[Path], order: Order) -> Iterator[ScanResult]:
    """The result of each model as it finishes.

    Raises:
        NameNotInModelError: no model has what an option names; one of several that lacks it has no verdict.
        UserError: as for `scan`.
        Interrupted: Ctrl-C.
    """
    absent: list[NameNotInModelError] = []
    detected = False
    for number, path in enumerate(paths):
        journal = _journal_of(path, order.keeping.journal) if len(paths) > 1 else order.keeping.journal
        try:
            own = replace(order, about=_path_beneath(path)) if len(paths) > 1 else order
            for result in scan_heads(path, own, journal, began=_began(first=number == 0)):
                detected |= result.verdict is Verdict.BACKDOOR_DETECTED
                yield result
        except NameNotInModelError as error:
            if len(paths) == 1:
                raise
            say(f"{_path_beneath(path)}: {error}")
            absent.append(error)
            detected |= error.result.verdict is Verdict.BACKDOOR_DETECTED
            yield named(error.result, path)
    if len(absent) == len(paths) and not detected:
        raise absent[0]


def _began(*, first: bool) -> float | None:
    """When the time of a model begins: of the first one with the process that was started for it, else now."""
    return process_began() if first and Settings.owns_process else None


def scan_heads(model: Path, order: Order, journal: Path | None, *, began: float | None = None) -> Iterator[ScanResult]:
    """The scan of one model, or of each of its heads, under the name that reports give it.

    Args:
        model: The ONNX file.
        order: What is to be done.
        journal: Folder where finished pairs are kept.
        began: When its time began that `--time-limit` counts, on the monotonic clock; by default now. Each further head
            has a time of its own.
    """
    config = order.config
    began = now() if began is None else began
    with time_limit(config.time_limit, began=began):
        try:
            clean = clean_set(model, order.images, order.class_names, sandbox=config.sandbox)
        except TimeUpError:  # as the scan says, whose time is up as well
            clean = None
        heads = heads_of(model, clean, config) if config.output_name == ALL else ()
    config = replace(config, output_name=None) if config.output_name == ALL else config
    if len(heads) < 2:
        only = replace(config, output_name=heads[0].name) if heads else config
        yield _scan_as(model, clean, replace(order, config=only), journal, began=began)
        return
    for number, head in enumerate(heads):
        own = journal and journal / hashlib.sha256(head.name.encode()).hexdigest()[:8]
        about = " ".join(filter(None, (order.about, f"output {head.name}")))
        chosen = replace(order, config=replace(config, output_name=head.name), about=about)
        start = now() if number else began
        yield _scan_as(model, images_for(head, clean), chosen, own, head=head.name, began=start)


def _scan_as(
    model: Path, clean: CleanSet | None, order: Order, journal: Path | None, *, began: float, head: str = ""
) -> ScanResult:
    try:
        with time_limit(order.config.time_limit, began=began):
            return named(scan_one(model, clean, order, journal), model, head)
    except Interrupted as end:
        raise Interrupted(named(end.result, model, head)) from end


def scan_one(model: Path, clean: CleanSet | None, order: Order, journal: Path | None) -> ScanResult:
    """The scan of one model, with its progress shown."""
    kept = _cache() if order.keeping.cache else None
    with progress(order.about) as observer:
        return scan(
            model,
            clean,
            order.config,
            class_names=order.class_names,
            progress=observer,
            journal=journal,
            resume=order.keeping.resume,
            cache=kept,
            command=command(),
        )


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
    path = find_beside(model) if images.data is None else images.data
    if path is None:
        return None
    found = images.data is None
    return CleanSet.load(path, labels=images.labels, class_names=class_names, found_beside_model=found, sandbox=sandbox)


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


def named(result: ScanResult, path: Path, head: str = "") -> ScanResult:
    """A result under the model's path beneath the working directory, as baselines and dashboards know it."""
    name = _path_beneath(path) + (f" (output {printable(head)})" if head else "")
    return replace(result, model=replace(result.model, name=name))


def _journal_of(model: Path, journal: Path | None) -> Path | None:
    """A folder of its own for each of several models, whose names may be equal."""
    return journal and journal / f"{model.stem}-{hashlib.sha256(str(model).encode()).hexdigest()[:8]}"


def _path_beneath(path: Path) -> str:
    try:
        return path.absolute().relative_to(Path.cwd()).as_posix()
    except ValueError:
        return path.name


def _cache() -> ScanCache:
    from backscan.scanner.pipeline.provenance import provenance, version

    return ScanCache(default_folder(), {"backscan": version(), **provenance(seed=0, command="").libraries})
