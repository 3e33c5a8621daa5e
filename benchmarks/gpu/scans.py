"""Whole scans on the card: the same small one as on the processor, and large ones under a time limit."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from backscan.scanner import ScanConfig, ScanResult, scan
from benchmarks.large.__main__ import told_estimate
from benchmarks.large.subjects import SUBJECTS, Made


@dataclass(frozen=True, slots=True)
class Agreement:
    """A scan on two devices."""

    verdicts: tuple[str, str]
    """On the processor, then on the card."""
    targets: tuple[int | None, int | None]
    """Targets that they name."""
    p_values: tuple[float | None, float | None]
    """Calibrated p-values."""
    num_pairs: int
    """Pairs that both searched to the goal."""
    median_difference: float
    """Of their sizes, relative."""
    largest_difference: float
    """The same of the pair that differs most."""
    seconds: tuple[float, float]
    """What they took."""

    @property
    def agrees(self) -> bool:
        """Whether the verdict and the target are the same and the sizes are, but for rounding on the way."""
        same = self.verdicts[0] == self.verdicts[1] and self.targets[0] == self.targets[1]
        return same and self.median_difference < 0.02


def agreement(made: Made, preprocess: str, device: str, *, images: int) -> Agreement:
    """The same small scan on the processor and on a device."""
    results: list[ScanResult] = []
    seconds: list[float] = []
    for each in ("cpu", device):
        config = ScanConfig(detectors=("pairwise",), images_per_class=images, preprocess=preprocess, device=each)
        began = time.monotonic()
        results.append(scan(made.model, made.images, config))
        seconds.append(round(time.monotonic() - began, 1))
    first, second = ({pair.key: pair.size for pair in result.pairs if pair.size} for result in results)
    both = sorted(first.keys() & second.keys())
    apart = [abs((second[key] or 0.0) / (first[key] or 1.0) - 1.0) for key in both]
    return Agreement(
        (results[0].verdict.value, results[1].verdict.value),
        (results[0].target, results[1].target),
        (results[0].calibrated_p_value, results[1].calibrated_p_value),
        len(both),
        float(np.median(apart)) if apart else float("nan"),
        max(apart, default=float("nan")),
        (seconds[0], seconds[1]),
    )


def scanned(name: str, made: Made, device: str, limit: float) -> dict[str, Any]:
    """A default scan by the command, with its seconds, its own estimate and its phases."""
    words = [sys.executable, "-m", "backscan.scanner", "check", str(made.model), "--data", str(made.images)]
    words += ["--preprocess", SUBJECTS[name].preprocess, "--format", "json", "--device", device]
    words += ["--time-limit", f"{limit:g}"]
    began = time.monotonic()
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    seconds = time.monotonic() - began
    found: dict[str, Any] = json.loads(done.stdout) if done.stdout.startswith("{") else {}
    return {
        "network": name,
        "planted": made.target,
        "limit": limit,
        "seconds": round(seconds, 1),
        "estimate": told_estimate(done.stderr),
        "device": found.get("provenance", {}).get("device"),
        "verdict": found.get("verdict", f"exit code {done.returncode}"),
        "reasons": found.get("reasons", done.stderr.splitlines()[-3:]),
        "target": found.get("target"),
        "p_value": found.get("calibrated_p_value"),
        "pairs": sum(pair["status"] != "no_images" for pair in found.get("pairs", ())),
        "targets": len(found.get("targets", ())),
        "timings": found.get("timings"),
    }
