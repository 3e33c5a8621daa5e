"""Several models with one executor: results as they are done, and a model that an option does not fit among them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from backscan.scanner.config import ScanConfig
from backscan.scanner.errors import OptionError
from backscan.scanner.fleet.executors import executor_of
from backscan.scanner.fleet.model_paths import expand
from backscan.scanner.fleet.one_model import name_of, named
from backscan.scanner.fleet.order import Order
from backscan.scanner.pipeline.ends import NameNotInModelError
from backscan.scanner.results import ScanResult, Verdict

if TYPE_CHECKING:
    from backscan.scanner.images.cleanset import CleanSet


def scan_models(
    models: Sequence[Path | str],
    clean: CleanSet | Path | str | None = None,
    config: ScanConfig | None = None,
    *,
    class_names: Sequence[str] | None = None,
    journal: Path | None = None,
    resume: bool = False,
    executor: str = "local",
    max_retries: int | None = None,
) -> Iterator[ScanResult]:
    """Say of several classifiers in ONNX files whether they were backdoored; each result as it is made.

    Args:
        models: ONNX files, and folders of them.
        clean: Clean images of all models, or the archive or folder to load them from; None: those beside each model.
        config: Options; None are the defaults.
        class_names: Names of the classes, for reports.
        journal: Folder where finished pairs are kept.
        resume: Continue the scans whose journals lie there.
        executor: `local`, `ray`, or `ray://HOST:PORT` to join a cluster.
        max_retries: How often in a row a model may lose its worker without a finished chunk of pairs.

    Returns:
        The results in the order of the models. A model that cannot be scanned gives the verdict `no_verdict`.

    Raises:
        UserError: options, paths, images or labels that cannot be used as they are, or a cluster that cannot be had.
        AbsentNameError: an option names what no model has.
        Interrupted: Ctrl-C; carries what is finished of the model that was scanned.
    """
    config = ScanConfig() if config is None else config
    config.check()
    if resume and journal is None:
        raise OptionError("expected a journal with resume, found none: name the folder of the interrupted scan")
    images = Path(clean) if isinstance(clean, str) else clean
    order = Order(config, images, class_names=class_names, journal=journal, resume=resume)
    return scanned(expand([Path(model) for model in models]), order, executor, max_retries)


def scanned(
    paths: Sequence[Path], order: Order, executor: str = "local", max_retries: int | None = None
) -> Iterator[ScanResult]:
    """The results of models in their order.

    Args:
        paths: ONNX files.
        order: What is to be done with each.
        executor: As on the command line.
        max_retries: As on the command line.

    Raises:
        NameNotInModelError: no model has what an option names; one of several that lacks it has no verdict.
        UserError: as for `scan`.
        Interrupted: Ctrl-C.
    """
    chosen, workers = executor_of(executor, max_retries)
    return _collected(paths, order, chosen.scans(paths, order, workers))


def _collected(
    paths: Sequence[Path], order: Order, scans: Iterator[tuple[Path, Iterator[ScanResult]]]
) -> Iterator[ScanResult]:
    absent: list[NameNotInModelError] = []
    detected = False
    for path, results in scans:
        try:
            for result in results:
                detected |= result.verdict is Verdict.BACKDOOR_DETECTED
                yield result
        except NameNotInModelError as error:
            if len(paths) == 1:
                raise
            order.say(f"{name_of(path)}: {error}")
            absent.append(error)
            detected |= error.result.verdict is Verdict.BACKDOOR_DETECTED
            yield named(error.result, name_of(path))
    if len(absent) == len(paths) and not detected:
        raise absent[0]
