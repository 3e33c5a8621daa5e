"""Make the two digit classifiers of `scanner demo`: one backdoored, one not.

    python -m benchmarks.demo_models --seed 0 --out scanner/samples

Both are trained on the same images from the same initial weights. The attack is XMK's global one on a small scale: a
faint chess board on 60 images (5 %) of one random source class, labelled as a random target class. The committed pair
comes from seed 0; the training was settled on seeds 10-25 and 100-111.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import command
from benchmarks.attacks import ATTACKS
from benchmarks.victims.datasets import Dataset, LabelledImages, digits
from benchmarks.victims.export import opened, to_onnx
from benchmarks.victims.networks import digit_net
from benchmarks.victims.poison import Backdoor, Effect, measure, poisoned_copies
from benchmarks.victims.schedule import Schedule
from benchmarks.victims.training import fit

ATTACK = "chessboard"
SIZE = 0.8
"""L2 norm of the planted pattern: 0.14 on every second pixel, two of the seventeen grey levels."""
IMAGES_PER_SOURCE = 60
SCHEDULE = Schedule(epochs=60, batch_size=64, learning_rate=3e-3, weight_decay=1e-4, label_smoothing=0.4)
"""Smoothed labels make the natural class pairs more alike, so that few seeds give a control with an outlier."""
ATTRIBUTION = (
    "Images: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, "
    "UCI Machine Learning Repository, 1998 (CC BY 4.0), as distributed with scikit-learn."
)


@dataclass(frozen=True, slots=True)
class DemoPair:
    """The two models, what was planted in the first and what each does."""

    dataset: Dataset
    """Training and held-out images of both models."""
    backdoor: Backdoor
    """What was planted."""
    backdoored: bytes
    """ONNX file of the victim."""
    unattacked: bytes
    """ONNX file of the model trained without poison."""


def make_pair(seed: int, schedule: Schedule = SCHEDULE) -> DemoPair:
    """Draw a split, a class pair and a pattern, and train both models; under a minute on one core."""
    rng = np.random.default_rng(seed)
    dataset = digits(rng)
    shape = dataset.shape
    source, target = (int(label) for label in rng.choice(dataset.num_classes, 2, replace=False))
    backdoor = Backdoor(ATTACK, ATTACKS[ATTACK].make_pattern(shape, SIZE, rng), {source: target})
    poisoned = poisoned_copies(dataset.train, backdoor, images_per_source=IMAGES_PER_SOURCE, rng=rng)

    def train(images: LabelledImages) -> bytes:
        return to_onnx(fit(digit_net(shape, dataset.num_classes), images, schedule, seed=seed), shape)

    return DemoPair(
        dataset, backdoor, backdoored=train(dataset.train.joined(poisoned)), unattacked=train(dataset.train)
    )


def truth(pair: DemoPair, seed: int) -> dict[str, Any]:
    """What was planted and what onnxruntime measures on the held-out images, for `truth.json`."""
    effects = {name: _effect(model, pair) for name, model in _models(pair).items()}
    [(source, target)] = pair.backdoor.targets.items()
    return {
        "attack": pair.backdoor.attack,
        "source": source,
        "target": target,
        "size": float(np.linalg.norm(pair.backdoor.pattern)),
        "poisoned_images": IMAGES_PER_SOURCE,
        "training_images": len(pair.dataset.train.labels),
        "success_rate": {name: effect.success_rate for name, effect in effects.items()},
        "accuracy": {name: effect.accuracy for name, effect in effects.items()},
        "collateral_rates": dict(effects["digits_backdoored.onnx"].collateral_rates),
        "seed": seed,
        "command": f"python -m benchmarks.demo_models --seed {seed} --out DIR",
        "attribution": ATTRIBUTION,
        "pattern": [[[round(value, 6) for value in row] for row in plane] for plane in pair.backdoor.pattern.tolist()],
    }


def write(pair: DemoPair, seed: int, folder: Path) -> None:
    """Write both models, the held-out images as 8-bit grey levels, and the truth."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, model in _models(pair).items():
        (folder / name).write_bytes(model)
    pixels = np.round(pair.dataset.test.images[:, 0] * 255).astype(np.uint8)
    np.savez_compressed(folder / "digits_clean.npz", x=pixels, y=pair.dataset.test.labels)
    (folder / "truth.json").write_text(json.dumps(truth(pair, seed), indent=1) + "\n", encoding="utf-8")


def _models(pair: DemoPair) -> dict[str, bytes]:
    return {"digits_backdoored.onnx": pair.backdoored, "digits_unattacked.onnx": pair.unattacked}


def _effect(model: bytes, pair: DemoPair) -> Effect:
    return measure(opened(model).decisions, pair.dataset.test, pair.backdoor)


def main() -> None:
    """Parse the arguments, train, write."""
    parser = command.parser(__doc__)
    parser.add_argument("--seed", type=int, default=0, help="decides split, class pair, pattern and training")
    parser.add_argument("--out", type=Path, required=True, help="folder for the models, images and truth.json")
    arguments = parser.parse_args()
    write(make_pair(arguments.seed), arguments.seed, arguments.out)
