"""Repair attacked networks whose pattern is known, and measure the planted pattern before and after.

    python -m benchmarks.repair --preset numerals --out FOLDER

Networks are taken from the cache of `benchmarks.victims` and never trained here. Half of the test images, at most
`--images` of each class, are the defender's; the others measure. The recovered pattern is what a kept scan shows if it
leads to a planted target on images; else the repair is blind. What a method learns is written into the file, and
onnxruntime decides there. Every finished network is a line of `repair_PRESET.jsonl` in the folder, so that a killed run
continues.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from backscan.converters import Artifact, ModelSignature, open_runtime, read_artifact, read_signature
from backscan.converters.errors import ConverterError
from backscan.converters.signature.signature import pixel_normalisation
from backscan.converters.torch_import.trainable import TrainableClassifier
from backscan.scanner import ScanConfig, scan
from backscan.scanner.aftercare.options import RepairOptions
from backscan.scanner.repair import METHODS
from backscan.scanner.repair.lesson import Lesson, Pattern
from backscan.scanner.repair.mending import Patient, mended
from backscan.scanner.results import FoundPattern, Verdict
from benchmarks import command
from benchmarks.accuracy.scans import clean_set
from benchmarks.attacked import ADDITIVE, LARGEST_FILE, kept, recovered, share, victims
from benchmarks.table import grid, page
from benchmarks.victims.datasets import LabelledImages
from benchmarks.victims.images import clean_images
from benchmarks.victims.poison import Backdoor
from benchmarks.victims.presets import PRESETS
from benchmarks.victims.seeds import FIRST_REPORTING
from benchmarks.victims.victims import CACHE, Victim

_LOW_SUCCESS, _SMALL_LOSS, _NO_CHANGE = 0.1, 0.01, 0.003
METHODS_COMPARED = ("minimax", "bound-activations", "unlearn", "fine-pruning", "fine-tune")
"""Methods that are measured unless others are named."""


@dataclass(frozen=True, slots=True)
class Effort:
    """What a defender has, and does."""

    images: int
    """Images of each class."""
    steps: int
    """Steps of a training."""
    methods: tuple[str, ...]
    """Names in `METHODS`."""
    scan_again: bool = False
    """Whether the file of the first method is scanned."""


def repaired(victim: Victim, effort: Effort, cache: Path, cifar10: Path | None) -> dict[str, Any]:
    """One network under every method: accuracy and success of the planted pattern, from the files."""
    learning, measuring = _parts(clean_images(victim.plan, cifar10=cifar10), effort.images)
    found = recovered(victim, cache)
    artifact = read_artifact(victim.model, max_bytes=LARGEST_FILE)
    signature = read_signature(artifact)
    patient = Patient(artifact, signature, pixel_normalisation(signature))
    lesson = partial(_lesson, images=learning, found=found, effort=effort, seed=victim.plan.seed)
    rates = _Rates(signature, measuring, victim)
    row = {"group": victim.plan.group, "network": victim.plan.network, "digest": victim.plan.digest}
    row |= {"images": effort.images, "steps": effort.steps}
    row |= {"added": victim.plan.attack.attack in ADDITIVE}
    row |= {"recovered": found is not None, "before": rates.of(artifact)}
    for method in effort.methods:
        try:
            file = mended(method, patient, learning.images, lesson).artifact
        except ConverterError as error:
            row[method] = {"obstacle": str(error)}
            continue
        row[method] = rates.of(file)
        if effort.scan_again and method == effort.methods[0]:
            row[method] |= {"verdict": _verdict(file, learning)}
    return row


def _verdict(file: Artifact, images: LabelledImages) -> str:
    """What a scan of a file says, with the defender's images."""
    with tempfile.TemporaryDirectory() as folder:
        for name, data in {"repaired.onnx": file.data, **file.external}.items():
            (Path(folder) / name).write_bytes(data)
        config = ScanConfig(preprocess="none", sandbox=False, images_in_report=False)
        return scan(Path(folder) / "repaired.onnx", clean_set(images), config).verdict.value


def unattacked(preset: str, groups: Sequence[str], most: int, cache: Path, *, first_seed: int = 0) -> Iterator[Victim]:
    """The networks of a preset that the cache has and nobody attacked, at most so many of a group, from a seed on."""
    for group in groups or PRESETS[preset].groups:
        plain = (victim for victim in kept(preset, group, cache, first_seed) if victim.pattern is None)
        yield from (victim for victim, _ in zip(plain, range(most), strict=False))


def _parts(test: LabelledImages, each: int) -> tuple[LabelledImages, LabelledImages]:
    """The defender's images, and those that measure."""
    rng = np.random.default_rng(0)
    members = [rng.permutation(np.flatnonzero(test.labels == label)) for label in np.unique(test.labels)]
    learning = np.sort(np.concatenate([own[: min(each, len(own) // 2)] for own in members]))
    return test.take(learning), test.take(np.setdiff1d(np.arange(len(test.labels)), learning))


def _lesson(
    copy: TrainableClassifier, images: LabelledImages, found: FoundPattern | None, effort: Effort, seed: int
) -> Lesson:
    pattern = None
    if found is not None:
        mask = None if found.mask is None else torch.tensor(found.mask.decode())
        pattern = Pattern(torch.tensor(found.values.decode()), mask)
    pixels, labels = torch.tensor(images.images), torch.tensor(images.labels)
    return Lesson(copy, pixels, labels, pattern, None if found is None else found.target, effort.steps, seed)


@dataclass(frozen=True, slots=True)
class _Rates:
    """Accuracy and success of a planted pattern on images that nothing learnt from."""

    signature: ModelSignature
    images: LabelledImages
    victim: Victim

    def of(self, artifact: Artifact) -> dict[str, float]:
        """Those of a file; accuracy alone where nothing was planted."""
        runtime = open_runtime(artifact, self.signature)
        accuracy = float((runtime.decisions(self.images.images) == self.images.labels).mean())
        if self.victim.pattern is None or self.victim.plan.attack.attack is None:
            return {"accuracy": accuracy}
        backdoor = Backdoor(self.victim.plan.attack.attack, self.victim.pattern, dict(self.victim.plan.targets))
        sources = self.images.take(np.flatnonzero(np.isin(self.images.labels, list(backdoor.targets))))
        wanted: NDArray[np.int64] = np.array([backdoor.targets[int(label)] for label in sources.labels])
        return {
            "accuracy": accuracy,
            "success": float((runtime.decisions(backdoor.embed(sources.images)) == wanted).mean()),
        }


def summary(rows: Sequence[dict[str, Any]], methods: Sequence[str]) -> list[str]:
    """A table of counts by group and method, and of all with a recovered pattern and without one."""
    header = ["group", "networks", "method", "success before", "success after", "accuracy before", "accuracy after"]
    header += ["success below 10 %", "and at most 1 point lost", "not detected again"]
    groups = {row["group"]: [each for each in rows if each["group"] == row["group"]] for row in rows}
    added = [row for row in rows if row["recovered"] and row.get("added")]
    groups |= {"added to the image, pattern recovered": added}
    groups |= {"all, pattern recovered": [row for row in rows if row["recovered"]]}
    groups |= {"all, blind": [row for row in rows if not row["recovered"]]}
    lines = []
    for group, members in groups.items():
        for method in methods:
            done = [row for row in members if "success" in row.get(method, {})]
            if done:
                lines.append((group, len(done), method, *_cells(done, method)))
    return grid(header, lines)


def _cells(rows: Sequence[dict[str, Any]], method: str) -> tuple[str, ...]:
    def mean(part: str, name: str) -> str:
        return f"{np.mean([row[part][name] for row in rows]):.1%}"

    low = [row[method]["success"] < _LOW_SUCCESS for row in rows]
    small = [row["before"]["accuracy"] - row[method]["accuracy"] <= _SMALL_LOSS + 1e-9 for row in rows]
    both = [a and b for a, b in zip(low, small, strict=True)]
    means = [mean(part, name) for name in ("success", "accuracy") for part in ("before", method)]
    return (*means, share(sum(low), len(low)), share(sum(both), len(both)), _scanned(rows, method))


def _scanned(rows: Sequence[dict[str, Any]], method: str) -> str:
    """How many of the files that were scanned are not detected, and how many of the others are inconclusive."""
    verdicts = [row[method]["verdict"] for row in rows if "verdict" in row.get(method, {})]
    if not verdicts:
        return "-"
    unsure = sum(verdict == Verdict.INCONCLUSIVE.value for verdict in verdicts)
    clear = share(sum(verdict == Verdict.NOT_DETECTED.value for verdict in verdicts), len(verdicts))
    return f"{clear}, {unsure} inconclusive" if unsure else clear


def unattacked_summary(rows: Sequence[dict[str, Any]], methods: Sequence[str]) -> list[str]:
    """A table of what repairs do to networks that nobody attacked."""
    header = ["method", "networks", "accuracy before", "accuracy after", "largest loss", "largest gain"]
    header += ["changed by at most 0.3 points", "not detected again"]
    lines = []
    for method in methods:
        done = [row for row in rows if "accuracy" in row.get(method, {})]
        if done:
            before, after = (np.array([row[part]["accuracy"] for row in done]) for part in ("before", method))
            still = np.abs(after - before) <= _NO_CHANGE + 1e-9
            means = (f"{before.mean():.1%}", f"{after.mean():.1%}")
            ends = (f"{max(0.0, (before - after).max()):.1%}", f"{max(0.0, (after - before).max()):.1%}")
            lines.append((method, len(done), *means, *ends, share(int(still.sum()), len(done)), _scanned(done, method)))
    return grid(header, lines)


def main() -> None:
    """Repair the networks of a preset and write the table."""
    parser = command.parser(__doc__, out="the table and the line of each network")
    parser.add_argument("--preset", choices=PRESETS, default="numerals")
    parser.add_argument("--group", action="append", default=[], help="only this group; repeatable")
    parser.add_argument("--most", type=int, default=10, help="most networks of a group")
    parser.add_argument("--images", type=int, default=50, help="the defender's images of each class")
    parser.add_argument("--steps", type=int, default=RepairOptions().steps, help="steps of a training")
    parser.add_argument("--method", action="append", choices=[name for name in METHODS if METHODS[name].function])
    parser.add_argument("--cifar10", type=Path, help="folder of CIFAR-10, for presets of photographs")
    parser.add_argument("--cache", type=Path, default=CACHE, help="folder that keeps the networks and their scans")
    parser.add_argument("--reporting", action="store_true", help="networks of seeds that chose no method")
    parser.add_argument("--scan-again", action="store_true", help="scan the file of the first method")
    parser.add_argument("--unattacked", action="store_true", help="networks that nobody attacked")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    methods = tuple(arguments.method or METHODS_COMPARED)
    effort = Effort(arguments.images, arguments.steps, methods, arguments.scan_again)
    name = f"repair_{arguments.preset}{'_unattacked' if arguments.unattacked else ''}"
    name += "_reporting" if arguments.reporting else ""
    first_seed = FIRST_REPORTING if arguments.reporting else 0
    file = arguments.out and arguments.out / f"{name}.jsonl"
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
    rows = [row for row in command.read_lines(file) if (row["images"], row["steps"]) == (effort.images, effort.steps)]
    done = {row["digest"] for row in rows}
    networks, conclude = (unattacked, unattacked_summary) if arguments.unattacked else (victims, summary)
    wanted = (arguments.preset, arguments.group, arguments.most, arguments.cache)
    for victim in networks(*wanted, first_seed=first_seed):
        if victim.plan.digest not in done:
            rows.append(repaired(victim, effort, arguments.cache, arguments.cifar10))
            command.append_line(file, rows[-1])
            print(json.dumps(rows[-1]), flush=True)
    table = conclude(rows, effort.methods)
    told = f"{effort.images} images a class, {effort.steps} steps; means, and counts with 95 % intervals."
    kind = "unattacked" if arguments.unattacked else "attacked"
    text = page(f"Repair of {kind} networks, {arguments.preset}", told, table)
    print(text)
    command.publish(arguments.out, name, text, rows)


if __name__ == "__main__":
    main()
