"""Unattacked networks whose classes look alike: what the test of pairs says of them, and of some of their classes.

    python -m benchmarks.look_alikes --images gtsrb_clean.npz --cache FOLDER --out benchmarks/results

Two networks are trained on all but a fifth of the images, scanned as `scanner check --images-per-class 15` does, and
kept with their reports in the cache. Then classes are drawn at random, the pairs among them are judged as if the model
had no others, and the p-values counted: by the fitted null alone, with the condition that the nearest pair lies beyond
the tail of the others, and with that condition as it is or beside the clean margins. Draws of one network are not
independent of each other: the shares have no intervals.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from backscan.scanner import CleanSet, ScanConfig, ScanResult, scan
from backscan.scanner.inference.margins import beside_margins
from backscan.scanner.inference.order_test import Terms, assess
from backscan.scanner.inference.variants import INFERENCES, reciprocal_matrix
from backscan.scanner.results import PairResult
from benchmarks import command, provenance
from benchmarks.accuracy.condense import measured_margins
from benchmarks.accuracy.rows import Sizes
from benchmarks.table import grid, page
from benchmarks.victims.datasets import LabelledImages
from benchmarks.victims.export import to_onnx

Matrix = NDArray[np.float64]

IMAGES = 15
"""Images of each class that are searched with."""
COUNTS, DRAWN = (5, 7, 10, 15, 20, 30), 24
"""Classes that are judged as if there were no others, and how often they are drawn of each matrix."""
SIGNIFICANCES = (0.0125, 0.05)
"""The threshold of one of the four tests behind a default verdict, and of one test."""
WAYS = {
    "fitted null alone": (False, False),
    "beyond the tail": (True, False),
    "beyond the tail, or so beside the margins": (True, True),
}
"""How pairs are judged: whether the nearest has to lie beyond the tail of the others, and whether margins are known."""
_DRAWS, _SEED = 199, 5


def _plain(num_classes: int) -> nn.Module:
    widths = (3, 32, 64, 96)
    layers: list[nn.Module] = []
    for kernel, given, made in zip((5, 3, 3), widths, widths[1:], strict=False):
        layers += [nn.Conv2d(given, made, kernel, padding=kernel // 2), nn.ReLU(), nn.MaxPool2d(2)]
    head = (nn.Flatten(), nn.Dropout(0.4), nn.Linear(96 * 16, 128), nn.ReLU(), nn.Linear(128, num_classes))
    return nn.Sequential(*layers, *head)


def _normalised(num_classes: int) -> nn.Module:
    layers: list[nn.Module] = []
    for given, made in ((3, 24), (24, 48), (48, 96)):
        for taken, stride in ((given, 1), (made, 2)):
            convolution = nn.Conv2d(taken, made, 3, padding=1, stride=stride, bias=False)
            layers += [convolution, nn.BatchNorm2d(made), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Dropout(0.3), nn.Linear(384, num_classes))


NETWORKS = {"plain": (_plain, 1, 40), "normalised": (_normalised, 2, 30)}
"""Networks by name, with a seed and epochs of training."""


def train(name: str, images: Tensor, labels: Tensor) -> tuple[nn.Module, float]:
    """A network trained on four fifths of the images of each class, and its accuracy on the others.

    Args:
        name: Name in `NETWORKS`.
        images: [N, 3, 32, 32] in [0, 1].
        labels: Their classes, [N].
    """
    build, seed, epochs = NETWORKS[name]
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    held_out = torch.zeros(len(labels), dtype=torch.bool)
    for label in labels.unique():
        own = rng.permutation((labels == label).nonzero().flatten().numpy())
        held_out[own[: max(3, len(own) // 5)]] = True
    network = build(int(labels.max()) + 1)
    own_images, own_labels = images[~held_out], labels[~held_out]
    descent = torch.optim.AdamW(network.parameters(), weight_decay=1e-3)
    steps = epochs * (len(own_labels) // 64 + 1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(descent, 4e-3, steps)
    for _ in range(epochs):
        for chosen in torch.randperm(len(own_labels)).split(64):
            loss = F.cross_entropy(network(_augmented(own_images[chosen])), own_labels[chosen])
            descent.zero_grad()
            loss.backward()
            descent.step()
            schedule.step()
    network.eval()
    with torch.no_grad():
        right = network(images[held_out]).argmax(dim=1) == labels[held_out]
    return network, float(right.double().mean())


def _augmented(images: Tensor) -> Tensor:
    """Images turned, scaled, moved and lit a little."""
    number = len(images)
    angle, scale = (torch.rand(number) - 0.5) * 0.35, 1 + (torch.rand(number) - 0.5) * 0.25
    turned = torch.stack([torch.stack([angle.cos(), -angle.sin()], 1), torch.stack([angle.sin(), angle.cos()], 1)], 1)
    moved = torch.cat([turned * scale[:, None, None], (torch.rand(number, 2, 1) - 0.5) * 0.25], dim=2)
    places = F.affine_grid(moved, list(images.shape), align_corners=False)
    images = F.grid_sample(images, places, padding_mode="border", align_corners=False)
    return (images * (1 + (torch.rand(number, 1, 1, 1) - 0.5) * 0.6)).clamp(0, 1)


def obtain(name: str, archive: Path, cache: Path) -> dict[str, Any]:
    """The report of a network, trained and scanned if the cache lacks it, with its held-out accuracy."""
    path = cache / f"look_alikes_{name}.json"
    if not path.exists():
        given = np.load(archive)
        images = torch.from_numpy(given["x"].transpose(0, 3, 1, 2).astype(np.float32) / 255)
        network, accuracy = train(name, images, torch.from_numpy(given["y"].astype(np.int64)))
        model = cache / f"look_alikes_{name}.onnx"
        model.write_bytes(to_onnx(network, (3, *images.shape[2:])))
        result = scan(model, CleanSet.load(archive), replace(ScanConfig(), images_per_class=IMAGES))
        command.replace_text(path, json.dumps({"accuracy": accuracy, "report": result.to_dict()}))
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    given = np.load(archive)
    images = LabelledImages.from_bytes(given["x"].transpose(0, 3, 1, 2), given["y"])
    document["margins"] = measured_margins(cache / f"look_alikes_{name}.onnx", images)
    return document


def matrices(pairs: Sequence[PairResult], margins: Sizes) -> Iterator[tuple[Matrix, Matrix]]:
    """Reciprocals of the pairs of each detector of a report, and their clean margins, [K, K] each."""
    clean = np.array(margins, dtype=float)
    for detector in ("pairwise", "features"):
        yield reciprocal_matrix([pair for pair in pairs if pair.detector == detector], len(clean)), clean


def shares(every: list[tuple[Matrix, Matrix]]) -> Iterator[dict[str, Any]]:
    """Of each number of classes the share of p-values at or below each significance, by every way."""
    rng = np.random.default_rng(_SEED)
    variant = INFERENCES["distinct"]
    terms = Terms(
        statistic="source-adjusted",
        left_out=variant.left_out,
        null="inverse-gaussian",
        bootstrap_draws=_DRAWS,
        tells_power=False,
    )
    for count in (*COUNTS, min(len(reciprocals) for reciprocals, _ in every)):
        drawn = DRAWN if count < len(every[0][0]) else 1
        found: dict[str, list[float]] = {name: [] for name in WAYS}
        for reciprocals, margins in (each for _ in range(drawn) for each in every):
            chosen = rng.permutation(len(reciprocals))[:count]
            own, clean = (matrix[np.ix_(chosen, chosen)] for matrix in (reciprocals, margins))
            for name, (beyond_tail, knows_margins) in WAYS.items():
                beside = beside_margins(own, clean) if knows_margins else None
                judged = assess(own, replace(terms, beyond_tail=beyond_tail), beside=beside)
                found[name].append(1.0 if judged.calibrated_p_value is None else judged.calibrated_p_value)
        yield {
            "classes": count,
            "judged": drawn * len(every),
            **{
                name: [float((np.array(p_values) <= level).mean()) for level in SIGNIFICANCES]
                for name, p_values in found.items()
            },
        }


def main() -> None:
    """Train, scan and judge what the cache lacks, and print the tables."""
    parser = command.parser(__doc__, out="look_alikes.md and .json")
    parser.add_argument("--images", type=Path, required=True, help=".npz with x [N, 32, 32, 3] and y, many classes")
    parser.add_argument("--cache", type=Path, required=True, help="folder that keeps networks and reports")
    arguments = parser.parse_args()
    arguments.cache.mkdir(parents=True, exist_ok=True)
    kept = {name: obtain(name, arguments.images, arguments.cache) for name in NETWORKS}
    networks = [
        {
            "network": name,
            "accuracy": each["accuracy"],
            "verdict": each["report"]["verdict"],
            "reason": each["report"]["reasons"][0],
        }
        for name, each in kept.items()
    ]
    known = [(ScanResult.from_dict(each["report"]).pairs, each["margins"]) for each in kept.values()]
    rows = list(shares([each for pairs, margins in known for each in matrices(pairs, margins)]))
    text = _page(networks, rows)
    print(text)
    command.publish(
        arguments.out, "look_alikes", text, {"commit": provenance.commit(), "networks": networks, "rows": rows}
    )


def _page(networks: list[dict[str, Any]], rows: list[dict[str, Any]]) -> str:
    levels = [f"p <= {level:g}" for level in SIGNIFICANCES]
    header = ("classes", "judged", *(f"{name}: {level}" for name in WAYS for level in levels))
    cells = [(row["classes"], row["judged"], *(f"{share:.2f}" for name in WAYS for share in row[name])) for row in rows]
    told = [(each["network"], f"{each['accuracy']:.3f}", each["verdict"], each["reason"]) for each in networks]
    return page(
        "Classes that look alike",
        "Made by `python -m benchmarks.look_alikes --images FILE.npz --cache FOLDER --out benchmarks/results` at "
        f"commit {provenance.commit()}, of photographs of traffic signs that do not come with the project.",
        "## Two unattacked networks, by the default",
        grid(("network", "accuracy on images held out", "verdict", "first reason"), told),
        "## Some of their classes, as if there were no others",
        grid(header, cells),
    )


if __name__ == "__main__":
    main()
