"""The command line's options: their types, help texts and how their text becomes a value."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from backscan.scanner.config import ScanConfig
from backscan.scanner.errors import OptionError

_DEFAULTS = ScanConfig()
_IMAGES = "Images and preprocessing"
_SEARCH = "Search"
_STATISTICS = "Statistics"
_RUN = "Running"
_OUTPUT = "Output"

Models = Annotated[list[Path], typer.Argument(help="ONNX files to scan, and folders of them.", show_default=False)]
Model = Annotated[Path, typer.Argument(help="ONNX file.", show_default=False)]
Report = Annotated[Path, typer.Argument(help="JSON report of `scanner check`.", show_default=False)]

Data = Annotated[
    Path | None,
    typer.Option(
        help="Clean images: an .npz with x [N,H,W,C] and optionally y, or a folder with one subfolder a class. "
        "Without it, images beside the model are used.",
        rich_help_panel=_IMAGES,
    ),
]
Labels = Annotated[
    Path | None,
    typer.Option(
        help="Class number of every folder name: JSON {name: number}, or lines `name number`.", rich_help_panel=_IMAGES
    ),
]
ClassNames = Annotated[
    Path | None, typer.Option(help="Names of the classes for reports, one a line.", rich_help_panel=_IMAGES)
]
ImagesPerClass = Annotated[
    int, typer.Option(help="Images a class for the search, after a fifth is held out.", rich_help_panel=_IMAGES)
]
Preprocess = Annotated[
    str,
    typer.Option(
        help="auto, or none (x/255), imagenet, cifar10, mnist and other named candidates.", rich_help_panel=_IMAGES
    ),
]
Mean = Annotated[
    str | None,
    typer.Option(help="Mean of the normalisation, one or one a channel: 0.5,0.5,0.5", rich_help_panel=_IMAGES),
]
Std = Annotated[str | None, typer.Option(help="Standard deviation, one or one a channel.", rich_help_panel=_IMAGES)]
Range = Annotated[
    tuple[float, float] | None,
    typer.Option("--range", help="Values of black and white before mean and std: 0 255", rich_help_panel=_IMAGES),
]
ChannelOrder = Annotated[str | None, typer.Option(help="rgb or bgr.", rich_help_panel=_IMAGES)]
ImageSize = Annotated[
    tuple[int, int] | None,
    typer.Option(help="Height and width, for models that leave them free.", rich_help_panel=_IMAGES),
]
MinAccuracy = Annotated[
    float | None,
    typer.Option(help="Least clean accuracy; by default half the way between chance and 1.", rich_help_panel=_IMAGES),
]
OutputName = Annotated[str | None, typer.Option(help="Model output to scan.", rich_help_panel=_SEARCH)]
Targets = Annotated[str | None, typer.Option(help="Only these target classes: 3,5", rich_help_panel=_SEARCH)]
Pairs = Annotated[str | None, typer.Option(help="Only these pairs source:target: 1:9,2:7", rich_help_panel=_SEARCH)]
Screen = Annotated[
    str | None,
    typer.Option(
        help="on: search only the pairs that a short look shows as smallest, and some at random; off: all; "
        "auto: on with more than 5000 pairs (72 classes).",
        rich_help_panel=_SEARCH,
    ),
]
DetectorNames = Annotated[
    list[str] | None,
    typer.Option(
        "--detector",
        help="pairwise, features, margin, neural-cleanse or tabor; repeatable. By default "
        f"{' and '.join(_DEFAULTS.detectors)}, which naming any replaces; without images margin.",
        rich_help_panel=_SEARCH,
    ),
]
Cut = Annotated[
    str | None,
    typer.Option(
        help="Tensor that --detector features adds patterns to, from `scanner inspect --tensors`; by default what the "
        "first convolution gives.",
        rich_help_panel=_SEARCH,
    ),
]
Objective = Annotated[
    str | None,
    typer.Option(
        help="Surrogate that is descended: J, Jp, Jc, Jpc or ce; by default ce on images and J on features.",
        rich_help_panel=_SEARCH,
    ),
]
Norm = Annotated[str | None, typer.Option(help="Size of a pattern: l2 (by default) or l1.", rich_help_panel=_SEARCH)]
Box = Annotated[
    bool | None,
    typer.Option(
        "--box/--clip", help="Keep images in range by a box constraint, or by clipping.", rich_help_panel=_SEARCH
    ),
]
StepRule = Annotated[
    str | None, typer.Option(help="unit (by default), or plain as in the paper.", rich_help_panel=_SEARCH)
]
MaskWeight = Annotated[
    float | None,
    typer.Option(
        help="Factor by which Neural Cleanse and TABOR adapt the weight of the mask; 1 keeps it.",
        rich_help_panel=_SEARCH,
    ),
]
AnomalyThreshold = Annotated[
    float | None,
    typer.Option(
        help="Anomaly index above which a target of Neural Cleanse or TABOR is named; "
        f"{_DEFAULTS.anomaly_threshold:g} by default.",
        rich_help_panel=_STATISTICS,
    ),
]
GoalRate = Annotated[
    float | None,
    typer.Option(
        help=f"Share of source images to send to the target (pi); {_DEFAULTS.goal_rate:g} by default.",
        rich_help_panel=_SEARCH,
    ),
]
MaxSize = Annotated[
    float | None,
    typer.Option(
        help="Largest size tried; by default half of black-to-white, or of features two standard deviations.",
        rich_help_panel=_SEARCH,
    ),
]
MaxSteps = Annotated[int, typer.Option(help="Largest number of steps a pair.", rich_help_panel=_SEARCH)]
Preset = Annotated[
    str | None,
    typer.Option(
        help="A variant of the paper: AD-J-P, AD-Jp-P, AD-Jc-P, AD-J-C, AD-J-P-L1, NC-L1-1.5, NC-L2-1.5, NC-L1-1.0, "
        "NC-L1-1.5-0.5.",
        rich_help_panel=_SEARCH,
    ),
]
Statistic = Annotated[
    list[str] | None,
    typer.Option(
        help="What is compared: plain, source-normalised, source-adjusted, reverse-controlled, residual, "
        "residual-reverse-controlled, target-wise or target-contrast; repeatable. By default "
        f"{' and '.join(_DEFAULTS.statistics)}.",
        rich_help_panel=_STATISTICS,
    ),
]
Inference = Annotated[
    str | None, typer.Option(help="principal (by default), corrected or naive.", rich_help_panel=_STATISTICS)
]
Order = Annotated[
    int | None,
    typer.Option(
        help=f"Order of the confusion polynomial (M); {_DEFAULTS.order} by default.", rich_help_panel=_STATISTICS
    ),
]
Null = Annotated[
    str | None,
    typer.Option(help="gamma, exponential or inverse-gaussian (by default).", rich_help_panel=_STATISTICS),
]
Significance = Annotated[
    float | None,
    typer.Option(
        help=f"Threshold on the deciding p-value (theta); {_DEFAULTS.significance:g} by default.",
        rich_help_panel=_STATISTICS,
    ),
]
PublishedP = Annotated[
    bool | None,
    typer.Option(
        "--published-p/--calibrated-p",
        help="Which p-value decides; the calibrated one by default.",
        rich_help_panel=_STATISTICS,
    ),
]
BootstrapDraws = Annotated[
    int | None,
    typer.Option(
        help=f"Draws of the calibration; {_DEFAULTS.bootstrap_draws} by default.", rich_help_panel=_STATISTICS
    ),
]
Seed = Annotated[int, typer.Option(help="Seed of every random choice.", rich_help_panel=_RUN)]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.", rich_help_panel=_RUN)]
Threads = Annotated[int | None, typer.Option(help="Processor threads; all by default.", rich_help_panel=_RUN)]
TimeLimit = Annotated[float | None, typer.Option(help="Seconds the search may take.", rich_help_panel=_RUN)]
JournalFolder = Annotated[
    Path | None,
    typer.Option(
        "--journal", help="Folder that keeps finished pairs, so that a scan can continue.", rich_help_panel=_RUN
    ),
]
Resume = Annotated[bool, typer.Option("--resume", help="Continue the scan of --journal.", rich_help_panel=_RUN)]
NoSandbox = Annotated[
    bool, typer.Option("--no-sandbox", help="Open the model in this process; for debugging only.", rich_help_panel=_RUN)
]
Reports = Annotated[
    list[Path] | None,
    typer.Option(
        "--report",
        help="Write a report, format by suffix: .json, .html, .md, .sarif, .junit.xml, .cdx.json or .intoto.json; `-` "
        "is JSON on stdout; repeatable.",
        rich_help_panel=_OUTPUT,
    ),
]
Format = Annotated[
    str,
    typer.Option("--format", help="terminal or json, on stdout.", rich_help_panel=_OUTPUT),
]
NoImages = Annotated[
    bool, typer.Option("--no-images", help="Keep example images out of reports.", rich_help_panel=_OUTPUT)
]

SavePattern = Annotated[
    Path | None,
    typer.Option(help="Write the recovered pattern: .npy, or .png as a picture.", rich_help_panel=_OUTPUT),
]
Baseline = Annotated[
    Path | None,
    typer.Option(
        help="JSON report of an earlier scan: a detection that it knows (model, rule, source, target) does not fail.",
        rich_help_panel=_OUTPUT,
    ),
]
FailOn = Annotated[
    str,
    typer.Option(
        help="What fails: detected; inconclusive (and detected); any (also no verdict).", rich_help_panel=_OUTPUT
    ),
]
Cache = Annotated[
    bool,
    typer.Option(
        "--cache",
        help="Keep results in the user's cache folder, and take them from there for the same model, images, options "
        "and versions.",
        rich_help_panel=_RUN,
    ),
]


def one_of(value: str, choices: Iterable[str], option: str) -> str:
    """`value`, if it is one of `choices`.

    Raises:
        OptionError: it is none.
    """
    if value not in choices:
        raise OptionError(f"expected {option} to be one of {', '.join(choices)}, found {value!r}")
    return value


def numbers(text: str | None, option: str) -> tuple[float, ...] | None:
    """Comma-separated numbers.

    Raises:
        OptionError: something that is no number.
    """
    return _split(text, option, float, "numbers such as 0.5,0.5,0.5")


def classes(text: str | None, option: str) -> tuple[int, ...] | None:
    """Comma-separated class numbers.

    Raises:
        OptionError: something that is no whole number.
    """
    return _split(text, option, int, "class numbers such as 3,5")


def pairs(text: str | None, option: str) -> tuple[tuple[int, int], ...] | None:
    """Comma-separated pairs `source:target`.

    Raises:
        OptionError: something that is no pair of two different classes.
    """

    def pair(part: str) -> tuple[int, int]:
        source, target = part.split(":")
        if int(source) == int(target):
            raise ValueError
        return int(source), int(target)

    return _split(text, option, pair, "pairs of two different classes such as 1:9,2:7")


def _split(text: str | None, option: str, kind: Any, expected: str) -> tuple[Any, ...] | None:
    if text is None:
        return None
    try:
        return tuple(kind(part.strip()) for part in text.split(","))
    except ValueError as error:
        raise OptionError(f"expected {option} to be {expected}, found {text!r}") from error
