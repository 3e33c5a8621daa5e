"""`scanner demo`: two small models of handwritten digits that ship with the tool, one backdoored and one not."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from backscan.scanner.config import ScanConfig
from backscan.scanner.images.cleanset import CleanSet
from backscan.scanner.pipeline.scan import scan
from backscan.scanner.results import ScanResult, Verdict

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from backscan.scanner.progress import Progress

BACKDOORED = "digits_backdoored.onnx"
UNATTACKED = "digits_unattacked.onnx"

# How the models of the demo read pixels is known.
_CONFIG = ScanConfig(preprocess="none")

# Darkest to brightest, for patterns and images on a terminal.
_SHADES = " .:-=+*#%@"


@dataclass(frozen=True, slots=True)
class Demonstration:
    """What the demo found."""

    text: str
    """Verdicts and patterns beside the truth."""
    right: bool
    """Whether both verdicts match the truth."""
    results: tuple[ScanResult, ...]
    """The scans, for reports."""


def run_demo(progress: Progress, samples: Path | None = None) -> Demonstration:
    """Scan both models.

    Args:
        progress: Observer of the scans.
        samples: Folder with the models, images and `truth.json`; None is the one that ships with the package.

    Returns:
        What was found beside what is true.
    """
    with resources.as_file(resources.files("backscan.scanner") / "samples") as shipped:
        folder = samples or shipped
        truth = json.loads((folder / "truth.json").read_text(encoding="utf-8"))
        clean = CleanSet.load(folder / "digits_clean.npz", sandbox=False)  # our own file
        results = {name: scan(folder / name, clean, _CONFIG, progress=progress) for name in (BACKDOORED, UNATTACKED)}
    backdoored, unattacked = results[BACKDOORED], results[UNATTACKED]
    right = _found(backdoored, truth) and unattacked.verdict is Verdict.NOT_DETECTED
    lines = [
        *_compare(backdoored, f"backdoored, class {truth['source']} to class {truth['target']}"),
        *_patterns(backdoored, truth),
        "",
        *_compare(unattacked, "trained without poison"),
        "",
        "Both verdicts match the truth." if right else "A verdict does not match the truth: please report this.",
    ]
    return Demonstration("\n".join(lines) + "\n", right, (backdoored, unattacked))


def _found(result: ScanResult, truth: Mapping[str, Any]) -> bool:
    return (
        result.verdict is Verdict.BACKDOOR_DETECTED
        and result.source == truth["source"]
        and result.target == truth["target"]
    )


def _compare(result: ScanResult, truth: str) -> list[str]:
    """The truth, and below it what the scan says."""
    seconds = sum(result.timings.values())
    return [
        f"{result.model.name}",
        f"  truth    {truth}",
        f"  verdict  {result.verdict.value.replace('_', ' ')}, in {seconds:.0f} s",
        *(f"           {reason}" for reason in result.reasons),
    ]


def _patterns(result: ScanResult, truth: Mapping[str, Any]) -> list[str]:
    """Planted and recovered pattern side by side, as shades; each scaled to its own largest change."""
    if not result.patterns:
        return []
    planted = np.asarray(truth["pattern"], dtype=np.float32)
    recovered = result.patterns[0].values.decode()
    left, right = _shaded(planted), _shaded(recovered)
    width = max(len(left[0]), 22)
    planted_head = f"planted, size {np.linalg.norm(planted):.2f}"
    head = f"  {planted_head:<{width}}    recovered, size {result.patterns[0].size_l2:.2f}"
    return ["", head, *(f"  {a:<{width}}    {b}" for a, b in zip(left, right, strict=True))]


def _shaded(pattern: NDArray[np.float32]) -> list[str]:
    """Rows of a pattern [C, H, W], two characters a pixel; the middle shade is no change."""
    plane = pattern.mean(axis=0)
    scaled = 0.5 + 0.5 * plane / max(float(np.abs(plane).max()), 1e-12)
    steps = np.round(scaled * (len(_SHADES) - 1)).astype(int)
    return ["".join(_SHADES[step] * 2 for step in row) for row in steps]
