"""Options of the commands that are no fields of `ScanConfig`, in groups, and the fields that each command takes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from backscan.scanner.aftercare.options import RepairOptions
from backscan.scanner.choices import (
    IMAGES,
    OUTPUT,
    RENDERERS,
    RUNNING,
    SEARCH,
    STATISTICS,
    Table,
    alternatives,
    names,
    option,
    options_of,
)
from backscan.scanner.cli.typer_signature import Fields
from backscan.scanner.config import BUDGETS, OPTIONS, PRESETS, ScanConfig
from backscan.scanner.errors import OptionError

_JUDGES = [name for name, each in OPTIONS.items() if each.panel == STATISTICS]

Chosen = Annotated[Mapping[str, Any], Fields(ScanConfig)]
"""Everything that a scan can be told."""
Judging = Annotated[Mapping[str, Any], Fields(ScanConfig, _JUDGES)]
"""What `infer` can change."""
Opening = Annotated[Mapping[str, Any], Fields(ScanConfig, ["output_name", "image_size", "sandbox"])]
"""What it takes to open a model without images."""
Repairing = Annotated[Mapping[str, Any], Fields(RepairOptions)]
"""How a model is repaired."""
Protection = Annotated[Mapping[str, Any], Fields(ScanConfig, ["sandbox"])]
"""Where the model is opened."""

Models = Annotated[list[Path], typer.Argument(help="ONNX files to scan, and folders of them.", show_default=False)]
Model = Annotated[Path, typer.Argument(help="ONNX file.", show_default=False)]
Side = Annotated[Path, typer.Argument(help="ONNX file, or a JSON report of `scanner check`.", show_default=False)]
Report = Annotated[Path, typer.Argument(help="JSON report of `scanner check`.", show_default=False)]
Preset = Annotated[
    str | None, typer.Option(help=f"A variant of the paper: {', '.join(PRESETS)}.", rich_help_panel=SEARCH)
]
Tensors = Annotated[bool, typer.Option("--tensors", help="List where the model can be cut in two.")]
AnyFormat = Annotated[str, typer.Option("--format", help=f"{alternatives(names(RENDERERS))}.")]


@dataclass(frozen=True, slots=True)
class Images:
    """Where the images are."""

    data: Path | None = option(
        None,
        "Clean images: an .npz with x [N,H,W,C] and optionally y, a folder with one subfolder per class or with a "
        "table of labels, or parquet files. Without it, images beside the model are used.",
        IMAGES,
        from_found_file=True,
    )
    labels: Path | None = option(
        None,
        "Class number of every folder name (JSON {{name: number}} or a class index, lines `name number`), or a table "
        "(.csv, .tsv, .jsonl) of files and labels.",
        IMAGES,
        from_found_file=True,
    )


@dataclass(frozen=True, slots=True)
class NamedImages(Images):
    """Images with names for their classes."""

    class_names: Path | None = option(
        None,
        "Names of the classes, one per line in their order; they number folders that are called so.",
        IMAGES,
        from_found_file=True,
    )


@dataclass(frozen=True, slots=True)
class Keeping:
    """What a scan may spend, and what outlives it."""

    budget: str | None = option(
        None,
        f"How much a scan spends: {alternatives(tuple(BUDGETS))}; what is given beside it counts.",
        RUNNING,
    )
    journal: Path | None = option(None, "Folder that keeps finished pairs, so that a scan can continue.", RUNNING)
    resume: bool = option(False, "Continue the scan of --journal.", RUNNING, flag="--resume")
    cache: bool = option(
        False,
        "Keep results in the user's cache folder, and take them from there for the same model, images, options and "
        "versions.",
        RUNNING,
        flag="--cache",
    )
    executor: str = option(
        "local",
        "Where models are scanned: {names}; ray starts workers on this machine, ray://HOST:PORT joins a cluster.",
        RUNNING,
        choices=(Table("backscan.scanner.fleet.executors", "EXECUTORS"),),
        shown=True,
    )
    max_retries: int | None = option(
        None,
        "With --executor ray: how often in a row a model may lose its worker without a finished chunk of pairs; 3 by "
        "default.",
        RUNNING,
    )


@dataclass(frozen=True)  # no slots, which two parents cannot both have
class Display:
    """What standard output shows."""

    format_: str = option(
        "terminal", "terminal or json, on stdout.", OUTPUT, flag="--format", shown=True, from_found_file=True
    )


@dataclass(frozen=True)
class Files:
    """The reports to write."""

    report: tuple[Path, ...] = option(
        (),
        "Write a report, format by suffix: .json, .html, .fleet.html (a row for each of many models), .md, .sarif, "
        ".junit.xml, .cdx.json, .spdx.json, .intoto.json or .svr.intoto.json; `-` is JSON on stdout; repeatable.",
        OUTPUT,
        from_found_file=True,
    )


@dataclass(frozen=True)
class Delivery(Display, Files):
    """Where results go."""


@dataclass(frozen=True, slots=True)
class Pool:
    """What the user has scanned and trusts."""

    reference_reports: Path | None = option(
        None,
        "Folder of JSON reports of models that you trust, scanned with the same options: tells where this one stands "
        "among them.",
        OUTPUT,
    )


@dataclass(frozen=True, slots=True)
class Ending(Pool):
    """What a result is compared with, and what becomes of a detection."""

    save_pattern: Path | None = option(None, "Write the recovered pattern: .npy, or .png as a picture.", OUTPUT)
    baseline: Path | None = option(
        None,
        "JSON report of an earlier scan: a detection that it knows (model, rule, source, target) does not fail.",
        OUTPUT,
    )
    fail_on: str = option(
        "any", "What fails: detected; inconclusive (and detected); any (also no verdict).", OUTPUT, shown=True
    )


@dataclass(frozen=True, slots=True)
class Writing:
    """Where a report of what comes after a verdict goes."""

    write: tuple[Path, ...] = option(
        (),
        "Write a report of this, format by suffix: .json, .intoto.json (of a repair), .html, .md or .txt; repeatable.",
        OUTPUT,
    )


@dataclass(frozen=True)
class ComparisonWriting(Writing):
    """The same, and where the scans of both sides go."""

    scans: Path | None = option(
        None, "Folder for the JSON and HTML report of either scan: before.json, after.html and so on.", OUTPUT
    )


@dataclass(frozen=True, slots=True)
class After:
    """What commands after a verdict are told beside their own options."""

    images: Images
    """Where the images are."""
    writing: Writing
    """Where reports go."""
    sandbox: bool
    """Whether models are opened in a limited child process."""
    report: Path | None
    """Report of the scan."""


GivenReport = Annotated[
    Path | None,
    typer.Option("--report", help="JSON report of `scanner check` on this model; without it the model is scanned."),
]
ScannedReport = Annotated[
    Path, typer.Option("--report", help="JSON report of `scanner check` with a recovered pattern.", show_default=False)
]
Screened = Annotated[
    Path, typer.Argument(help="Images to look through: a folder of pictures, or an .npz.", show_default=False)
]
FalseAlarms = Annotated[
    float, typer.Option("--false-alarms", help="False-alarm rate on clean images that the threshold is set for.")
]
Enforce = Annotated[
    str | None,
    typer.Option(
        "--enforce",
        help="Let the file act on images above the threshold: reject decides them as a class more, the last; without "
        "as the image without the pattern.",
    ),
]
Loop = Annotated[
    bool,
    typer.Option(
        "--check",
        help="Repair only what the first scan detects, and exit as a check of the result: 0 not detected, or repaired "
        "and believed; 1 still detected; 4 else.",
    ),
]
Most = Annotated[int, typer.Option("--most", help="Pairs that are listed.")]
ExportedImages = Annotated[
    Path | None,
    typer.Option(
        "--export-augmentation",
        help="New folder (PNG files with labels.csv) or .npz for images to train with: those of each pair's source "
        "with its pattern, under their own labels.",
    ),
]
GuardedFile = Annotated[Path, typer.Option("--out", help="Where the model with the score goes.")]
RepairedFile = Annotated[
    Path, typer.Option("--out", help="Where the repaired model goes; replaced only by a repair that is believed.")
]


_GROUPS: tuple[Any, ...] = (ScanConfig, NamedImages, Keeping, Delivery, Ending)
FROM_FOUND_FILE = frozenset(
    name for group in _GROUPS for name, each in options_of(group).items() if each.from_found_file
)
"""Arguments of `check` that a configuration file may set which nobody named."""


def one_of(value: str, choices: Iterable[str], option: str) -> str:
    """`value`, if it is one of `choices`.

    Raises:
        OptionError: it is none.
    """
    if value not in choices:
        raise OptionError(f"expected {option} to be one of {', '.join(choices)}, found {value!r}")
    return value
