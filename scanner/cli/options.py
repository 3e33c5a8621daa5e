"""Options of the commands that are no fields of `ScanConfig`, alone and in groups, and the fields that each takes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from backscan.scanner.choices import RENDERERS, listed, names
from backscan.scanner.cli.signature import Fields
from backscan.scanner.config import OPTIONS, PRESETS
from backscan.scanner.errors import OptionError
from backscan.scanner.option import IMAGES, OUTPUT, RUNNING, SEARCH, STATISTICS

Chosen = Annotated[Mapping[str, Any], Fields(tuple(OPTIONS))]
"""Everything that a scan can be told."""
Judging = Annotated[
    Mapping[str, Any], Fields(tuple(name for name, option in OPTIONS.items() if option.panel == STATISTICS))
]
"""What `infer` can change."""
Opening = Annotated[Mapping[str, Any], Fields(("output_name", "image_size", "sandbox"))]
"""What it takes to open a model without images."""
Protection = Annotated[Mapping[str, Any], Fields(("sandbox",))]
"""Where the model is opened."""

Models = Annotated[list[Path], typer.Argument(help="ONNX files to scan, and folders of them.", show_default=False)]
Model = Annotated[Path, typer.Argument(help="ONNX file.", show_default=False)]
Report = Annotated[Path, typer.Argument(help="JSON report of `scanner check`.", show_default=False)]
Data = Annotated[
    Path | None,
    typer.Option(
        help="Clean images: an .npz with x [N,H,W,C] and optionally y, or a folder with one subfolder a class. "
        "Without it, images beside the model are used.",
        rich_help_panel=IMAGES,
    ),
]
Labels = Annotated[
    Path | None,
    typer.Option(
        help="Class number of every folder name: JSON {name: number}, or lines `name number`.", rich_help_panel=IMAGES
    ),
]
Preset = Annotated[
    str | None, typer.Option(help=f"A variant of the paper: {', '.join(PRESETS)}.", rich_help_panel=SEARCH)
]
Tensors = Annotated[bool, typer.Option("--tensors", help="List where the model can be cut in two.")]
Reports = Annotated[
    list[Path] | None,
    typer.Option(
        "--report",
        help="Write a report, format by suffix: .json, .html, .md, .sarif, .junit.xml, .cdx.json or .intoto.json; `-` "
        "is JSON on stdout; repeatable.",
        rich_help_panel=OUTPUT,
    ),
]
Format = Annotated[str, typer.Option("--format", help="terminal or json, on stdout.", rich_help_panel=OUTPUT)]
AnyFormat = Annotated[str, typer.Option("--format", help=f"{listed(names(RENDERERS))}.")]


@dataclass(frozen=True, slots=True)
class Images:
    """Where the images and the names of their classes are."""

    data: Data = None
    """Clean images."""
    labels: Labels = None
    """Class numbers of folder names."""
    class_names: Annotated[
        Path | None, typer.Option(help="Names of the classes for reports, one a line.", rich_help_panel=IMAGES)
    ] = None
    """Class names."""


@dataclass(frozen=True, slots=True)
class Keeping:
    """What outlives a scan."""

    journal: Annotated[
        Path | None,
        typer.Option(help="Folder that keeps finished pairs, so that a scan can continue.", rich_help_panel=RUNNING),
    ] = None
    """Folder of the journal."""
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the scan of --journal.", rich_help_panel=RUNNING)
    ] = False
    """Whether the journal is continued."""
    cache: Annotated[
        bool,
        typer.Option(
            "--cache",
            help="Keep results in the user's cache folder, and take them from there for the same model, images, "
            "options and versions.",
            rich_help_panel=RUNNING,
        ),
    ] = False
    """Whether results are kept in the cache."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """Where results go."""

    report: Reports = None
    """Report files."""
    format_: Format = "terminal"
    """Format on standard output."""

    @property
    def files(self) -> list[Path]:
        """Report files."""
        return self.report or []


@dataclass(frozen=True, slots=True)
class Ending:
    """What becomes of a detection."""

    save_pattern: Annotated[
        Path | None,
        typer.Option(help="Write the recovered pattern: .npy, or .png as a picture.", rich_help_panel=OUTPUT),
    ] = None
    """File for the pattern."""
    baseline: Annotated[
        Path | None,
        typer.Option(
            help="JSON report of an earlier scan: a detection that it knows (model, rule, source, target) does not "
            "fail.",
            rich_help_panel=OUTPUT,
        ),
    ] = None
    """Report whose findings are accepted."""
    fail_on: Annotated[
        str,
        typer.Option(
            help="What fails: detected; inconclusive (and detected); any (also no verdict).", rich_help_panel=OUTPUT
        ),
    ] = "any"
    """Verdicts that fail."""


def one_of(value: str, choices: Iterable[str], option: str) -> str:
    """`value`, if it is one of `choices`.

    Raises:
        OptionError: it is none.
    """
    if value not in choices:
        raise OptionError(f"expected {option} to be one of {', '.join(choices)}, found {value!r}")
    return value
