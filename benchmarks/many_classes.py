"""Screened scans of models with many classes beside scans of all pairs: what they find, cost, and how often they fire.

    python -m benchmarks.many_classes --out benchmarks/results

Victims are small networks trained on synthetic images of 43 classes, some of one class poisoned with a chess board.
Costs are measured on generated classifiers, whose passes cost next to nothing: the search's own work weighs more there
than on any real network, where images passed forward and backward are what counts. Everything runs in this process on
one thread. `--only` measures one part anew and keeps the others of an earlier run.
"""

import argparse
import json
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from backscan.scanner import CleanSet, ScanConfig, scan
from benchmarks.attacks import ATTACKS
from benchmarks.datasets import LabelledImages, synthetic
from benchmarks.export import to_onnx
from benchmarks.networks import digit_net
from benchmarks.poison import Backdoor, poisoned_copies
from benchmarks.provenance import circumstances, share, wilson
from benchmarks.prototypes import Prototypes
from benchmarks.scans import clean_set
from benchmarks.screen_level import Level, levels
from benchmarks.training import Schedule, fit

NUM_CLASSES = 43
_SCHEDULE = Schedule(epochs=12, batch_size=64, learning_rate=3e-3, weight_decay=1e-4)
_ATTACK, _POISONED = "chessboard", 30
_SIZES = (0.8, 1.2, 1.6)
"""L2 sizes of the planted patterns, in turn."""
_SEARCHED, _AT_HAND = 10, 30
"""Images a class: to search with, and in all, a fifth of them for the replay."""


@dataclass(frozen=True, slots=True)
class Passes:
    """Images that went through a model."""

    forward: int
    """Forward."""
    backward: int
    """Backward."""


@contextmanager
def counted_passes() -> Iterator[list[int]]:
    """Images passed forward and backward through any network in the block, [forward, backward]."""
    counts, depth = [0, 0], threading.local()

    def enter(module: nn.Module, inputs: object) -> None:
        depth.level = getattr(depth, "level", 0) + 1

    def leave(module: nn.Module, inputs: object, output: torch.Tensor) -> None:
        depth.level -= 1
        if depth.level == 0:
            counts[0] += len(output)
            if output.requires_grad:
                output.register_hook(add_backward)

    def add_backward(gradient: torch.Tensor) -> None:
        counts[1] += len(gradient)

    hooks = [nn.modules.module.register_module_forward_pre_hook(enter)]
    hooks.append(nn.modules.module.register_module_forward_hook(leave, always_call=True))
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
    data = synthetic(rng, num_classes=NUM_CLASSES, test_per_class=_AT_HAND)
    source, target = (int(label) for label in rng.choice(NUM_CLASSES, 2, replace=False))
    pattern = ATTACKS[_ATTACK].make_pattern(data.shape, _SIZES[seed % len(_SIZES)], rng)
    backdoor = Backdoor(_ATTACK, pattern, {source: target})
    images = data.train
    if poisoned:
        images = images.joined(poisoned_copies(data.train, backdoor, images_per_source=_POISONED, rng=rng))
    network = fit(digit_net(data.shape, NUM_CLASSES), images, _SCHEDULE, seed=seed)
    return Victim(to_onnx(network, data.shape), data.test, (source, target) if poisoned else None)


def measure(model: bytes, clean: CleanSet, screen: str, images_per_class: int) -> dict[str, Any]:
    """One scan: verdict, pair, processor seconds and images passed."""
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
        result = scan(path, clean, config)
        seconds = time.process_time() - started
    return {
        "screen": screen,
        "verdict": result.verdict.value,
        "pair": [result.source, result.target],
        "p_value": result.calibrated_p_value,
        "size": next(p.size for p in result.pairs if (p.source, p.target) == (result.source, result.target)),
        "median_size": statistics.median(p.size for p in result.pairs if p.size and not p.chosen),
        "num_searched": len(result.pairs),
        "cpu_seconds": seconds,
        "forward": counts[0],
        "backward": counts[1],
    }


def detection(num_victims: int) -> Iterator[dict[str, Any]]:
    """Victims and their twins without an attack, each scanned both ways."""
    for seed in range(num_victims):
        for poisoned in (True, False):
            victim = train(seed, poisoned=poisoned)
            for screen in ("on", "off"):
                row = measure(victim.model, clean_set(victim.images), screen, _SEARCHED)
                yield {"seed": seed, "planted": victim.pair, **row}


def costs() -> Iterator[dict[str, Any]]:
    """Generated classifiers of more and more classes, and more and more images of one."""
    cases = [(10, 10), (43, 10), (100, 10), (43, 25), (43, 50)]
    for num_classes, images_per_class in cases:
        for screen in ("on", "off"):
            yield cost(num_classes, images_per_class, screen)
    yield cost(1000, 5, "on")


def cost(num_classes: int, images_per_class: int, screen: str) -> dict[str, Any]:
    """One scan of a generated classifier with a planted pair."""
    generator = Prototypes(num_classes, seed=0, planted=(1, 2))
    pixels, labels = generator.images(images_per_class * 5 // 4 + 6)
    images = LabelledImages.from_bytes(pixels.transpose(0, 3, 1, 2), labels)
    row = measure(generator.model(), clean_set(images), screen, images_per_class)
    return {"num_classes": num_classes, "images_per_class": images_per_class, **row}


def as_markdown(document: dict[str, Any]) -> str:
    """The figures as a page."""
    return ""


PARTS = {
    "level": lambda arguments: map(asdict, levels({43: arguments.nulls, 100: arguments.nulls // 4})),
    "detection": lambda arguments: detection(arguments.victims),
    "cost": lambda _: costs(),
}


def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=PARTS, action="append", help="part to measure; all by default")
    parser.add_argument("--victims", type=int, default=9, help="victims, and as many networks without an attack")
    parser.add_argument("--nulls", type=int, default=2000, help="simulated models of 43 classes; a quarter of 100")
    parser.add_argument("--out", type=Path, help="folder for many_classes.json and many_classes.md")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    kept = arguments.out / "many_classes.json" if arguments.out else None
    document: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8")) if kept and kept.exists() else {}
    for part in arguments.only or PARTS:
        made = f"`python -m benchmarks.many_classes --only {part}`, {circumstances(('torch', 'numpy'))}"
        document[part] = {"made": made, "rows": []}
        for row in PARTS[part](arguments):
            document[part]["rows"].append(row)
            print(part, json.dumps(row), flush=True)
            if kept:
                kept.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
                kept.with_suffix(".md").write_text(as_markdown(document), encoding="utf-8")
    print(as_markdown(document))


if __name__ == "__main__":
    main()
