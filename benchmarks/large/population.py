"""Detector `reach` on made networks of 200 classes: how many planted targets it names, how many unattacked ones alarm.

    python -m benchmarks.large.population --first 0 --last 10 --out benchmarks/results

The networks are those of `subjects`, with ten images of each class. Every seed gives an unattacked one and, with
`--planted`, a victim that differs from it in one row of its head. The detector is asked in this process; nothing is
replayed. With `--draws` it counts alarms on values drawn from some distributions instead.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np
import torch

from backscan.converters import artifact_from_bytes, import_model, read_signature
from backscan.scanner.config import SO_MANY_CLASSES, ScanConfig
from backscan.scanner.detectors import Examination, reach
from backscan.scanner.images.candidates import candidate
from backscan.scanner.inference.reach import stand_out
from benchmarks import command
from benchmarks.large.networks import Network, calibrate, small_resnet
from benchmarks.large.subjects import Subject, features_of, fit_head, images_of, normalised, plant
from benchmarks.provenance import circumstances
from benchmarks.table import grid, page

_SUBJECT = Subject(small_resnet, 32, 200, 200, 10, "imagenet")
_STRIDE = 37  # between the targets of successive seeds
_LIBRARIES = ("numpy", "torch")
_DISTRIBUTIONS = {
    "exponential": lambda rng, size: rng.standard_exponential(size),
    "normal": lambda rng, size: rng.standard_normal(size),
    "Student's t, 5 degrees": lambda rng, size: rng.standard_t(5, size),
}


@dataclass(frozen=True, slots=True)
class Row:
    """One network."""

    seed: int
    """Of the network and its images."""
    planted: int | None
    """Target that was planted."""
    rate: float
    """Share of the images of other classes that the patch sends there."""
    named: int | None
    """Target that the detector names."""
    p_value: float | None
    """Its p-value."""
    remarks: tuple[str, ...]
    """What it says beside that."""
    rank_by_windows: int | None
    """Rank of the planted target by random windows, 1 for the first."""
    rank_by_features: int | None
    """The same by the last layer."""
    seconds: float
    """Processor time of the detector."""


def rows(first: int, last: int, *, planted: bool) -> Iterator[Row]:
    """The networks of some seeds, unattacked and victim in turn."""
    for seed in range(first, last):
        torch.manual_seed(seed)
        images, labels = images_of(_SUBJECT, seed)
        network = small_resnet(_SUBJECT.num_classes)
        calibrate(network, normalised(images[:: len(images) // 128]))
        fit_head(network, features_of(network, images), labels, _SUBJECT)
        yield _judged(network, images, labels, seed, None, 0.0)
        if planted:
            target = (7 + _STRIDE * seed) % _SUBJECT.num_classes
            yield _judged(network, images, labels, seed, target, plant(network, images, labels, target, seed))


def _judged(
    network: Network, images: torch.Tensor, labels: torch.Tensor, seed: int, planted: int | None, rate: float
) -> Row:
    started = time.process_time()
    examination = _examination(network, images, labels, seed)
    found = list(reach.search(examination))
    [conclusion] = reach.infer(found, examination.config, _SUBJECT.num_classes)
    values = np.array([[entry.value, entry.nearness] for entry in found], np.float64).T
    ranks = [
        None if planted is None or np.isnan(row[planted]) else int((row > row[planted]).sum()) + 1 for row in values
    ]
    return Row(
        seed,
        planted,
        round(rate, 2),
        conclusion.target,
        conclusion.p_value,
        conclusion.remarks,
        *ranks,
        round(time.process_time() - started, 1),
    )


def _examination(network: Network, images: torch.Tensor, labels: torch.Tensor, seed: int) -> Examination:
    """What the detector works on, by way of the exported file."""
    from benchmarks.victims.export import to_onnx

    artifact = artifact_from_bytes("network.onnx", to_onnx(network, (3, _SUBJECT.side, _SUBJECT.side)))
    classifier = import_model(artifact, read_signature(artifact)).with_normalisation(candidate("imagenet"))
    by_class = {int(label): images[labels == label] for label in labels.unique()}
    with torch.no_grad():
        decisions = {label: classifier.log_posterior(own).argmax(dim=1) for label, own in by_class.items()}
    config = ScanConfig(detectors=SO_MANY_CLASSES, seed=seed, threads=1)
    return Examination(classifier, by_class, decisions, _SUBJECT.num_classes, config, stopped=lambda: False)


def levels(num_draws: int) -> list[tuple[object, ...]]:
    """How often two kinds of values drawn from a distribution have p at most .05 and .01."""
    rng, found = np.random.default_rng(0), list[tuple[object, ...]]()
    for size in (200, 1000):
        for name, draw in _DISTRIBUTIONS.items():
            p_values = []
            for _ in range(num_draws):
                standing = stand_out([draw(rng, size).tolist(), draw(rng, size).tolist()], seed=0)
                p_values.append(1.0 if standing is None else standing.p_value)
            shares = [f"{np.mean(np.array(p_values) <= level):.3f}" for level in (0.05, 0.01)]
            found.append((size, name, num_draws, *shares))
    return found


def main() -> None:
    """Make the networks, or draw values, print a table and write it."""
    parser = command.parser(__doc__, out="the table and its JSON")
    parser.add_argument("--first", type=int, default=0, help="first seed")
    parser.add_argument("--last", type=int, default=10, help="seed after the last one")
    parser.add_argument("--planted", action="store_true", help="a victim of each seed as well")
    parser.add_argument("--draws", type=int, default=0, help="count alarms on so many drawn models instead")
    arguments = parser.parse_args()
    told = f"{circumstances(_LIBRARIES)}."
    if arguments.draws:
        header = ("targets", "values", "models", "p <= .05", "p <= .01")
        made_by = f"python -m benchmarks.large.population --draws {arguments.draws}"
        found = levels(arguments.draws)
        text = page("Level of detector reach", f"`{made_by}`, {told}", grid(header, found, "rlrrr"))
        command.publish(arguments.out, "reach_levels", text, {"command": made_by, "rows": found})
        return
    made_by = f"python -m benchmarks.large.population --first {arguments.first} --last {arguments.last}"
    made_by += " --planted" if arguments.planted else ""
    kept: list[Row] = []
    for row in rows(arguments.first, arguments.last, planted=arguments.planted):
        kept.append(row)
        print(row, flush=True)
        text = page("Detector reach on 200 classes", f"`{made_by}`, {told}", _table(kept))
        command.publish(arguments.out, "reach", text, {"command": made_by, "rows": [asdict(each) for each in kept]})


def _table(kept: list[Row]) -> str:
    header = ("seed", "planted", "sent there", "named", "p", "rank by windows", "by features", "CPU s")
    cells = (
        (
            row.seed,
            "none" if row.planted is None else row.planted,
            row.rate if row.planted is not None else "",
            row.named,
            "" if row.p_value is None else f"{row.p_value:.3g}",
            row.rank_by_windows or "",
            row.rank_by_features or "",
            row.seconds,
        )
        for row in kept
    )
    return grid(header, cells, "rlrrrrrr")


if __name__ == "__main__":
    main()
