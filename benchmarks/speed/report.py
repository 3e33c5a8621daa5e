"""Everything that the speed of a scan is judged by, measured in one run and set beside the references.

    python -m benchmarks.speed_report --model ../shared/models/akamaster_cifar10_clean_resnet20.onnx \
        --data ../shared/data/cifar10_clean.npz --out benchmarks/results

A quarter of an hour on two quiet cores, most of it in the first reference; `--runs 1 --published-pairs 3` do less
of all. A scan is the command line in a new process, all options at their defaults: start, intake, import,
preprocessing, parity, pilots, search, inference and replay. References get all cores as well. Processor time stands
beside elapsed time, because it is what a loaded machine measures rightly.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from backscan.converters import Normalisation
from backscan.converters.cuts.bfloat16 import has_bfloat16
from backscan.scanner import CleanSet, ScanConfig
from benchmarks import command
from benchmarks.provenance import circumstances
from benchmarks.speed import reference
from benchmarks.speed.reference_cleanse import cleanse
from benchmarks.table import grid, page
from benchmarks.victims.prototypes import Prototypes

_MEBIBYTE = 1 << 10  # of kilobytes, as the kernel counts memory


@dataclass(frozen=True, slots=True)
class Run:
    """One scan in a new process."""

    wall_seconds: float
    """Elapsed time."""
    cpu_seconds: float
    """Processor time of all its processes."""
    peak_megabytes: float
    """Largest resident memory of any of its processes."""
    report: dict[str, Any]
    """The JSON report."""


def scan(model: Path, data: Path, options: Sequence[str] = (), *, packages: Path | None = None) -> Run:
    """Run `scanner check` as a user would.

    Args:
        model: ONNX file.
        data: Its clean images.
        options: Further options of the command.
        packages: Folder that holds the package to run; None is the installed one.

    Raises:
        RuntimeError: the scan left no report.
    """
    environment = None if packages is None else {**os.environ, "PYTHONPATH": str(packages)}
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [sys.executable, "-m", "backscan.scanner", "--quiet", "check", str(model), "--data", str(data)]
        started = time.perf_counter()
        process = subprocess.Popen(
            [*command, "--report", str(report), *options], env=environment, stdout=subprocess.DEVNULL
        )
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if not report.exists():
            raise RuntimeError(f"expected a report of {model.name}, got exit code {process.returncode}")
        return Run(
            wall_seconds=wall,
            cpu_seconds=usage.ru_utime + usage.ru_stime,
            peak_megabytes=usage.ru_maxrss / _MEBIBYTE,
            report=json.loads(report.read_text(encoding="utf-8")),
        )


def median_run(runs: Sequence[Run]) -> dict[str, Any]:
    """Medians of several scans of the same model, with its verdict and where the time went."""
    last = runs[-1].report
    return {
        "runs": len(runs),
        "wall_seconds": statistics.median(run.wall_seconds for run in runs),
        "cpu_seconds": statistics.median(run.cpu_seconds for run in runs),
        "peak_megabytes": max(run.peak_megabytes for run in runs),
        "verdict": last["verdict"],
        "pair": [last["source"], last["target"]],
        "median_steps": statistics.median(pair["steps"] for pair in last["pairs"]),
        "phases": last["timings"],
    }


@dataclass(frozen=True, slots=True)
class Subject:
    """What references need of a model: the network and the very images that a scan searched with."""

    network: reference.Network
    """Images to logits."""
    images_by_class: Mapping[int, Tensor]
    """Source images."""

    @classmethod
    def of(cls, model: Path, data: Path, report: Mapping[str, Any]) -> Subject:
        """The model and images of a report."""
        settled, config = report["preprocessing"], ScanConfig.from_dict(report["config"])
        fields = {name: settled[name] for name in ("low", "high", "channel_order")}
        normalisation = Normalisation(**fields, mean=tuple(settled["mean"]), std=tuple(settled["std"]))
        clean = CleanSet.load(data).fit_to(tuple(report["model"]["signature"]["input_shape"]))
        if clean.labels is None:
            raise ValueError(f"expected labels in {data.name}: references draw the images that the scan drew")
        drawn = clean.draw(
            clean.labels,
            images_per_class=config.images_per_class,
            seed=config.seed,
            num_classes=report["model"]["num_classes"],
        )
        images = {label: torch.from_numpy(clean.images[indices]) for label, indices in drawn.optimise.items()}
        return cls(reference.load_network(model, normalisation), images)


def reference_times(subject: Subject, ways: Mapping[str, tuple[reference.Reference, int]]) -> dict[str, Any]:
    """Time of all pairs by each reference, from its seeded pairs."""
    num_classes = len(subject.images_by_class)
    num_pairs = num_classes * (num_classes - 1)
    found: dict[str, Any] = {}
    for name, (way, count) in ways.items():
        pairs = reference.draw_pairs(num_classes, count, seed=0)
        descents = list(reference.search(subject.network, subject.images_by_class, pairs, way))
        found[name] = {
            "pairs": pairs,
            **asdict(reference.estimate(descents, num_pairs)),
            "without_capped": asdict(reference.estimate(descents, num_pairs, with_capped=False)),
        }
    return found


def cleanse_time(subject: Subject, *, targets: int, max_iterations: int) -> dict[str, Any]:
    """Time of Neural Cleanse on all targets, from some; a lower bound where they were capped."""
    chosen = sorted(subject.images_by_class)[:targets]
    found = [
        cleanse(subject.network, subject.images_by_class, target, max_iterations=max_iterations, seed=0)
        for target in chosen
    ]
    scale = len(subject.images_by_class) / len(found)
    return {
        "targets": chosen,
        "iterations": [entry.iterations for entry in found],
        "capped": [entry.target for entry in found if entry.capped],
        "wall_seconds": scale * sum(entry.cost.wall_seconds for entry in found),
        "cpu_seconds": scale * sum(entry.cost.cpu_seconds for entry in found),
    }


def growth(num_classes: Sequence[int], *, images_per_class: int) -> list[dict[str, Any]]:
    """Time of scans of generated models with more and more classes."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for count in num_classes:
            model, data = Prototypes(count, seed=0).write(Path(folder), images_per_class=images_per_class)
            run = scan(model, data, ["--preprocess", "none", "--images-per-class", str(images_per_class)])
            found.append(
                {
                    "classes": count,
                    "images_per_class": images_per_class,
                    "wall_seconds": run.wall_seconds,
                    "cpu_seconds": run.cpu_seconds,
                    "search_seconds": run.report["timings"]["search"],
                    "peak_megabytes": run.peak_megabytes,
                    "verdict": run.report["verdict"],
                }
            )
    return found


def as_markdown(result: Mapping[str, Any]) -> str:
    """The figures as a page."""
    scanned, alone = result["scan"], result["image_search"]
    published = result["references"]["published"]
    rows = (
        ("`scanner check`, all included", scanned, ""),
        ("`scanner check --detector pairwise`, all included", alone, ""),
        ("reference (a), Algorithm 1 as published", published, "40"),
        ("the same without capped pairs", published["without_capped"], ""),
        ("reference (b), the later form", result["references"]["later"], "4"),
        ("Neural Cleanse at equal images", result["neural_cleanse"], "10"),
    )
    compared = [
        (name, *_seconds(row, ".0f"), _times(row, scanned), _times(row, alone), wanted) for name, row, wanted in rows
    ]
    grown = [
        (
            row["classes"],
            row["images_per_class"],
            *_seconds(row, ".1f"),
            f"{row['search_seconds']:.1f}",
            f"{row['peak_megabytes']:.0f}",
        )
        for row in result["growth"]
    ]
    return page(
        "Speed",
        f"Made by `{result['command']}` {result['circumstances']}; load at the start {result['load']:.1f}. "
        f"Model {result['model']}; medians of {scanned['runs']} scans; bfloat16 "
        f"{'in' if result['bfloat16'] else 'not in'} hardware. "
        "Ratios are of elapsed time, of processor time in brackets. "
        "The references search the image only, as `--detector pairwise` does; the default searches features too.",
        grid(
            ("what", "elapsed s", "processor s", "times the default", "times the image search alone", "wanted"),
            compared,
            "llllll",
        ),
        f"Reference (a): steps {published['steps']}, capped at {len(published['capped'])} of {len(published['steps'])} "
        f"pairs. Neural Cleanse: iterations {result['neural_cleanse']['iterations']}, capped for targets "
        f"{result['neural_cleanse']['capped']}. Verdict {scanned['verdict']}, median pair {scanned['median_steps']:g} "
        f"steps, peak memory {scanned['peak_megabytes']:.0f} MiB (wanted: under 2048).",
        grid(("classes", "images per class", "elapsed s", "processor s", "search s", "peak MiB"), grown, "llllll"),
    )


def _seconds(row: Mapping[str, Any], form: str) -> tuple[str, str]:
    return format(row["wall_seconds"], form), format(row["cpu_seconds"], form)


def _times(row: Mapping[str, Any], scanned: Mapping[str, Any]) -> str:
    """How many times a scan something takes, elapsed and by processor time."""
    elapsed, processor = (row[name] / scanned[name] for name in ("wall_seconds", "cpu_seconds"))
    return f"{elapsed:.1f} ({processor:.1f})"


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """All figures."""
    load = os.getloadavg()[0]
    runs = [scan(arguments.model, arguments.data) for _ in range(arguments.runs)]
    alone = [scan(arguments.model, arguments.data, ["--detector", "pairwise"]) for _ in range(arguments.runs)]
    # Threads that share one operator wait for each other: on a loaded machine 1 is the fair number.
    torch.set_num_threads(arguments.reference_threads)
    subject = Subject.of(arguments.model, arguments.data, runs[-1].report)
    ways = {
        "published": (reference.PUBLISHED, arguments.published_pairs),
        "later": (reference.LATER, arguments.later_pairs),
    }
    return {
        "command": " ".join(["python -m benchmarks.speed_report", *_options()]),
        "circumstances": circumstances(("torch", "onnxruntime")),
        "model": arguments.model.stem,
        "load": load,
        "bfloat16": has_bfloat16(torch.device("cpu")),
        "scan": median_run(runs),
        "image_search": median_run(alone),
        "references": reference_times(subject, ways),
        "neural_cleanse": cleanse_time(
            subject, targets=arguments.cleanse_targets, max_iterations=arguments.cleanse_iterations
        ),
        "growth": growth(arguments.classes, images_per_class=arguments.growth_images),
    }


def _options() -> list[str]:
    """The options given, without the folders of this machine."""
    return [Path(word).name if "/" in word else word for word in sys.argv[1:]]


def main() -> None:
    """Measure, print and keep."""
    parser = command.parser(__doc__, out="speed.json and speed.md")
    parser.add_argument("--model", type=Path, required=True, help="ONNX file of a ResNet-20-class CIFAR-10 model")
    parser.add_argument("--data", type=Path, required=True, help="labelled clean images")
    parser.add_argument("--runs", type=int, default=3, help="scans, for the median")
    parser.add_argument("--published-pairs", type=int, default=9, help="seeded pairs timed of reference (a)")
    parser.add_argument("--later-pairs", type=int, default=9, help="seeded pairs timed of reference (b)")
    parser.add_argument("--reference-threads", type=int, default=os.cpu_count() or 1, help="threads of references")
    parser.add_argument("--cleanse-targets", type=int, default=1, help="targets timed of Neural Cleanse")
    parser.add_argument("--cleanse-iterations", type=int, default=60, help="cap of Neural Cleanse: a lower bound")
    parser.add_argument("--classes", type=int, nargs="*", default=[10, 20, 43], help="generated models, for growth")
    parser.add_argument("--growth-images", type=int, default=25, help="images per class of generated models")
    arguments = parser.parse_args()
    result = measure(arguments)
    report = as_markdown(result)
    print(report)
    command.publish(arguments.out, "speed", report, result)
