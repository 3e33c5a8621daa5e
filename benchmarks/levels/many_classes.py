"""Screened scans of models with many classes beside scans of all pairs: what they find, cost, and how often they fire.

    python -m benchmarks.many_classes --out benchmarks/results

Victims are small networks trained on synthetic images of 43 classes, some of one class poisoned with a chess board.
Costs are measured on generated classifiers, whose passes cost next to nothing: the search's own work weighs more there
than on any real network, where images passed forward and backward are what counts. Everything runs in this process on
one thread; a run that was killed continues.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from backscan.converters import artifact_from_bytes, import_model, read_signature
from backscan.scanner import ScanConfig, ScanResult, scan
from backscan.scanner.search.batch import Sources
from backscan.scanner.search.first_order import NUM_IMAGES, FirstOrder
from backscan.scanner.search.norms import NORMS
from backscan.scanner.search.spaces import ClippedImage
from benchmarks import command
from benchmarks.accuracy.scans import clean_set
from benchmarks.attacks import ATTACKS
from benchmarks.levels.calibration import SIGNIFICANCE
from benchmarks.levels.screen_level import CASES, DRAWS, simulate
from benchmarks.provenance import circumstances, rate, share
from benchmarks.table import Block, grid, page
from benchmarks.victims.datasets import LabelledImages, synthetic
from benchmarks.victims.export import to_onnx
from benchmarks.victims.networks import digit_net
from benchmarks.victims.poison import Backdoor, poisoned_copies
from benchmarks.victims.prototypes import Prototypes
from benchmarks.victims.schedule import Schedule
from benchmarks.victims.training import fit

PARTS = ("level", "detection", "cost", "looks")
NUM_CLASSES, _SHAPE = 43, (3, 6, 6)
_SCHEDULE = Schedule(epochs=12, batch_size=64, learning_rate=3e-3, weight_decay=1e-4)
_ATTACK, _POISONED = "chessboard", 30
_SIZES = (0.6, 0.9, 1.2)
"""L2 sizes of the planted patterns, in turn."""
_SEARCHED, _AT_HAND = 12, 60
"""Images per class: to search with, and in all, a fifth of them for the replay."""


@contextmanager
def counted_passes() -> Iterator[list[int]]:
    """Images passed forward and backward through any network in the block, [forward, backward]; in one thread."""
    counts, depth = [0, 0], [0]

    def enter(*_: object) -> None:
        depth[0] += 1

    def leave(_: nn.Module, __: object, output: torch.Tensor) -> None:
        depth[0] -= 1
        if depth[0] == 0:
            counts[0] += len(output)
            if output.requires_grad:
                output.register_hook(add_backward)

    def add_backward(gradient: torch.Tensor) -> None:
        counts[1] += len(gradient)

    hooks = [
        nn.modules.module.register_module_forward_pre_hook(enter),
        nn.modules.module.register_module_forward_hook(leave, always_call=True),
    ]
    try:
        yield counts
    finally:
        for hook in hooks:
            hook.remove()


@dataclass(frozen=True, slots=True)
class Victim:
    """A network of many classes."""

    model: bytes
    """The ONNX file."""
    images: LabelledImages
    """Images it never saw."""
    pair: tuple[int, int] | None
    """Source and target of the attack; None without one."""


def train(seed: int, *, poisoned: bool) -> Victim:
    """Train a victim, or its twin without an attack."""
    rng = np.random.default_rng((seed, NUM_CLASSES))
    data = synthetic(rng, num_classes=NUM_CLASSES, shape=_SHAPE, test_per_class=_AT_HAND)
    source, target = (int(label) for label in rng.choice(NUM_CLASSES, 2, replace=False))
    pattern = ATTACKS[_ATTACK].make_pattern(data.shape, _SIZES[seed % len(_SIZES)], rng)
    backdoor = Backdoor(_ATTACK, pattern, {source: target})
    images = data.train
    if poisoned:
        images = images.joined(poisoned_copies(data.train, backdoor, images_per_source=_POISONED, rng=rng))
    network = fit(digit_net(data.shape, NUM_CLASSES), images, _SCHEDULE, seed=seed)
    return Victim(to_onnx(network, data.shape), data.test, (source, target) if poisoned else None)


@dataclass(frozen=True, slots=True)
class Scanned:
    """One scan and what it cost."""

    result: ScanResult
    """The report."""
    cpu_seconds: float
    """Processor time of all of it."""
    forward: int
    """Images passed forward."""
    backward: int
    """Images passed backward."""

    def row(self) -> dict[str, Any]:
        """What the tables need."""
        return {
            "verdict": self.result.verdict.value,
            "pair": [self.result.source, self.result.target],
            "p_value": self.result.calibrated_p_value,
            "num_searched": len(self.result.pairs),
            "cpu_seconds": round(self.cpu_seconds, 1),
            "forward": self.forward,
            "backward": self.backward,
        }


def run(model: bytes, images: LabelledImages, screen: str, images_per_class: int) -> Scanned:
    """Scan a model in this process, on one thread."""
    config = ScanConfig(
        preprocess="none",
        sandbox=False,
        images_in_report=False,
        detectors=("pairwise",),
        images_per_class=images_per_class,
        threads=1,
        screen=screen,
    )
    with tempfile.TemporaryDirectory() as folder, counted_passes() as counts:
        path = Path(folder) / "model.onnx"
        path.write_bytes(model)
        started = time.process_time()
        result = scan(path, clean_set(images), config)
        return Scanned(result, time.process_time() - started, *counts)


@cache
def warm_up() -> None:
    """Load libraries and compiled kernels, so that no scan that is measured pays for them."""
    run(*_generated(5, 10), "off", 10)


def _generated(num_classes: int, images_per_class: int) -> tuple[bytes, LabelledImages]:
    """A generated classifier with a planted pair, and images of it: as many to search with and a quarter more."""
    generator = Prototypes(num_classes, seed=0, planted=(1, 2))
    pixels, labels = generator.images(images_per_class * 5 // 4 + 1)
    return generator.model(), LabelledImages.from_bytes(pixels.transpose(0, 3, 1, 2), labels)


def looks(victim: Victim, classes: Sequence[int], num_classes: int) -> dict[tuple[int, int], float]:
    """What a short look makes of the pairs from some classes to all."""
    artifact = artifact_from_bytes("victim.onnx", victim.model)
    space = ClippedImage(import_model(artifact, read_signature(artifact)))
    images, labels = (torch.from_numpy(array) for array in (victim.images.images, victim.images.labels))
    by_class = {label: images[labels == label][:NUM_IMAGES] for label in classes}
    counted = {label: torch.ones(NUM_IMAGES, dtype=torch.bool) for label in by_class}
    pairs = [(s, t) for s in classes for t in range(num_classes) if s != t]
    first_order = FirstOrder(space, ScanConfig().goal_rate, NORMS["l2"], sources_per_pass=12)
    found = first_order.sizes(Sources.gather(by_class, space, counted), pairs, stopped=lambda: False)
    return dict(zip(pairs, found, strict=True))


def detect(seed: int, *, poisoned: bool) -> dict[str, Any]:
    """A victim, or its twin without an attack, scanned both ways; and how looks compare with sizes."""
    warm_up()
    victim = train(seed, poisoned=poisoned)
    scans = {screen: run(victim.model, victim.images, screen, _SEARCHED) for screen in ("on", "off")}
    seen = looks(victim, range(NUM_CLASSES), NUM_CLASSES)
    sizes = {(pair.source, pair.target): pair.size for pair in scans["off"].result.pairs if pair.size}
    both = np.log([(seen[pair], size) for pair, size in sizes.items() if seen[pair] > 0.0])
    smallest = victim.pair or min(sizes, key=lambda pair: sizes[pair])
    return {
        "seed": seed,
        "planted": victim.pair,
        "size": sizes.get(smallest),
        "median_size": statistics.median(sizes.values()),
        "rank_of_look": 1 + sum(look < seen[smallest] for look in seen.values()),
        "correlation": float(np.corrcoef(both.T)[0, 1]),
        **{screen: scanned.row() for screen, scanned in scans.items()},
    }


def cost(num_classes: int, images_per_class: int) -> dict[str, Any]:
    """A generated classifier with a planted pair, scanned both ways."""
    warm_up()
    model, images = _generated(num_classes, images_per_class)
    scans = {screen: run(model, images, screen, images_per_class).row() for screen in ("on", "off")}
    return {"num_classes": num_classes, "images_per_class": images_per_class, **scans}


def look_cost(num_classes: int, num_sources: int) -> dict[str, Any]:
    """The looks from some sources of a generated classifier to all targets."""
    victim = Victim(*_generated(num_classes, NUM_IMAGES), (1, 2))
    with counted_passes() as counts:
        started = time.process_time()
        seen = looks(victim, range(num_sources), num_classes)
        seconds = time.process_time() - started
    return {
        "num_classes": num_classes,
        "num_sources": num_sources,
        "cpu_seconds": round(seconds, 1),
        "forward": counts[0],
        "backward": counts[1],
        "rank_of_look": 1 + sum(look < seen[1, 2] for look in seen.values()),
    }


def tasks(part: str, *, nulls: int, victims: int) -> list[Callable[[], dict[str, Any]]]:
    """What is measured for one part, a row each."""
    if part == "level":
        return [partial(simulate, *case, nulls if case[1] == NUM_CLASSES else nulls // 4) for case in CASES]
    if part == "detection":
        return [partial(detect, seed, poisoned=poisoned) for seed in range(victims) for poisoned in (True, False)]
    if part == "cost":
        return [partial(cost, *case) for case in ((10, 10), (20, 10), (43, 10), (100, 10), (43, 25), (43, 50))]
    return [partial(look_cost, 1000, 24)]


def as_markdown(document: dict[str, Any]) -> str:
    """The figures as a page."""
    blocks: list[Block] = [f"`python -m benchmarks.many_classes --out benchmarks/results`, {document['made']}."]
    if rows := document.get("level"):
        blocks += _level_blocks(rows)
    if rows := document.get("detection"):
        blocks += _detection_blocks(rows)
    if rows := document.get("cost"):
        blocks += _cost_blocks(rows)
    blocks += [_look_line(row) for row in document.get("looks", ())]
    return page("Many classes", *blocks)


def _level_blocks(rows: Sequence[Mapping[str, Any]]) -> list[Block]:
    heading = (
        f"Simulated models without a backdoor, reciprocals independent and of the fitted family, {DRAWS} draws each: "
        "how often the calibrated p-value of a screened search is at most 0.05, with 95 % Wilson intervals. A look of "
        "correlation 1 misses nothing, which is what the bootstrap assumes; others miss some of the largest."
    )
    cells = [
        (
            row["family"],
            row["num_classes"],
            row["correlation"],
            f"{row['largest_seen']} of {row['num_nulls']}",
            rate(row["alarms"], row["num_nulls"]),
        )
        for row in rows
    ]
    header = ("null", "K", "correlation of looks", "largest pair searched", "alarms")
    return ["## False alarms", heading, grid(header, cells, "lrrll")]


def _detection_blocks(rows: Sequence[Mapping[str, Any]]) -> list[Block]:
    heading = (
        f"Networks of {NUM_CLASSES} classes on synthetic images of {_SHAPE[0]} x {_SHAPE[1]} x {_SHAPE[2]}, "
        f"{_SEARCHED} images per class, detector pairwise with default statistics. Size is that of the planted pair, "
        "or of the smallest of all without an attack, and the median; rank is that of its look among 1806, correlation "
        "that of all looks with all sizes, as logarithms. Passes are images forward and backward, in thousands."
    )
    header = ("seed", "planted", "size / median", "rank", "correlation", "all pairs", "screened", "CPU s", "passes")
    blocks: list[Block] = ["## Detection", heading, grid(header, map(_detection_cells, rows), "rllrrllll")]
    for name, wanted in (("Victims", True), ("Without an attack", False)):
        chosen = [row for row in rows if bool(row["planted"]) is wanted]
        counts = [share(sum(_accuses(row, screen) for row in chosen), len(chosen)) for screen in ("off", "on")]
        right = "with the planted pair named" if wanted else "called attacked"
        blocks.append(f"{name} with p of at most 0.05, {right}: {counts[0]} by all pairs, {counts[1]} by the screen.")
    return blocks


def _detection_cells(row: Mapping[str, Any]) -> tuple[object, ...]:
    return (
        row["seed"],
        _pair(row["planted"]) if row["planted"] else "none",
        f"{row['size']:.2f} / {row['median_size']:.2f}",
        row["rank_of_look"],
        f"{row['correlation']:.2f}",
        _said(row["off"]),
        _said(row["on"]),
        *_costs(row),
    )


def _pair(pair: Sequence[int]) -> str:
    return "{}:{}".format(*pair)


def _accuses(row: Mapping[str, Any], screen: str) -> bool:
    """Whether a scan is significant, of the right pair where there is one."""
    p_value, pair = row[screen]["p_value"], row[screen]["pair"]
    return p_value is not None and p_value <= SIGNIFICANCE and row["planted"] in (None, pair, tuple(pair))


def _said(scanned: Mapping[str, Any]) -> str:
    return f"{scanned['verdict'].replace('_', ' ')} {_pair(scanned['pair'])}, p {scanned['p_value']:.3g}"


def _costs(row: Mapping[str, Any]) -> tuple[str, str]:
    """Cells of processor seconds and passes, all pairs and screened."""
    both = _both(row)
    passes = [f"{scanned['forward'] / 1e3:.0f} + {scanned['backward'] / 1e3:.0f}" for scanned in both]
    return " / ".join(str(scanned["cpu_seconds"]) for scanned in both), " / ".join(passes)


def _both(row: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [row[screen] for screen in ("off", "on") if screen in row]


def _cost_blocks(rows: Sequence[Mapping[str, Any]]) -> list[Block]:
    heading = "Generated classifiers by nearest prototype with one planted pair, all pairs / screened."
    cells = [
        (
            row["num_classes"],
            row["images_per_class"],
            " / ".join(str(scanned["num_searched"]) for scanned in _both(row)),
            *_costs(row),
            " / ".join(_pair(scanned["pair"]) for scanned in _both(row)),
        )
        for row in rows
    ]
    header = ("K", "images per class", "pairs searched", "CPU s", "images forward + backward, thousands", "found")
    return ["## Cost", heading, grid(header, cells, "rrllll")]


def _look_line(row: Mapping[str, Any]) -> str:
    share_of_all = row["num_classes"] / row["num_sources"]
    return (
        f"The looks from {row['num_sources']} of {row['num_classes']} classes to all took "
        f"{row['cpu_seconds']} CPU s, {row['forward']} images forward and {row['backward']} backward: by extrapolation "
        f"{row['cpu_seconds'] * share_of_all / 60:.0f} CPU minutes for all. The planted pair ranked "
        f"{row['rank_of_look']} of {row['num_sources'] * (row['num_classes'] - 1)}."
    )


def main() -> None:
    """Measure, print and keep."""
    parser = command.parser(__doc__, out="many_classes.json, continued if it is there, and .md")
    parser.add_argument("--only", choices=PARTS, action="append", help="part to measure; all by default")
    parser.add_argument("--victims", type=int, default=9, help="victims, and as many networks without an attack")
    parser.add_argument(
        "--nulls", type=int, default=2000, help="simulated models of 43 classes; a quarter as many of 100"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    kept = arguments.out / "many_classes.json" if arguments.out else None
    document: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8")) if kept and kept.exists() else {}
    for part in arguments.only or PARTS:
        rows = document.setdefault(part, [])
        for task in tasks(part, nulls=arguments.nulls, victims=arguments.victims)[len(rows) :]:
            rows.append(task())
            print(part, json.dumps(rows[-1]), flush=True)
            document["made"] = circumstances(("torch", "numpy"))
            command.publish(arguments.out, "many_classes", as_markdown(document), document)
    print(as_markdown(document))
