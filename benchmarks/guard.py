"""Guard attacked networks whose pattern is known, and measure alarms, what is caught, and what it costs.

    python -m benchmarks.guard --preset photos --cifar10 FOLDER --cache FOLDER --out benchmarks/results

Networks are taken from the cache of `benchmarks.victims` and never trained here, their recovered pattern from a kept
scan that detects and leads to a planted target. By what `scanner guard` calls, training images make the filters (a
hundred of each class), half of the test images set the threshold, and a guarded file is written. onnxruntime scores the
other half with it: as they are, with the *planted* pattern where that reaches its target, and with noise of its norm.
The same is done to an unattacked network of the same structure, with the report of the attacked one. Every finished
network is a line of `guard_PRESET.jsonl` in the folder, so that a killed run continues.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from backscan.converters import Artifact, open_runtime, read_artifact, read_signature
from backscan.converters.cuts.features import read_features
from backscan.converters.signature.linear_output import OfValue, with_linear_output
from backscan.scanner.aftercare.guard import Guard, threshold_for
from backscan.scanner.aftercare.guarding import MARGIN, OUTPUT
from backscan.scanner.aftercare.strength import made_for, of_pixels
from backscan.scanner.process.protocol import Features
from backscan.scanner.results import ScanResult
from benchmarks import command
from benchmarks.attacked import ADDITIVE, LARGEST_FILE, kept, report_of, share, victims
from benchmarks.table import grid, page
from benchmarks.victims.datasets import LabelledImages
from benchmarks.victims.images import all_images
from benchmarks.victims.plans import Plan
from benchmarks.victims.poison import Backdoor
from benchmarks.victims.presets import PRESETS
from benchmarks.victims.seeds import FIRST_REPORTING
from benchmarks.victims.victims import CACHE, Victim

Pixels = NDArray[np.float32]

_MAKING = 100
"""Training images of each class that make the filters."""
_TIMED, _ROUNDS = 256, 60
_LEAST_CAUGHT, _MOST_COST, _ALARMS_PER_RATE = 0.95, 0.1, 2
"""The bars; alarms may be twice as many as the rate says, ten of 5000 at .001."""


@dataclass(frozen=True, slots=True)
class Parts:
    """The images of a network."""

    making: LabelledImages
    """They make the filters."""
    setting: LabelledImages
    """They set the threshold."""
    measuring: LabelledImages
    """Nothing has seen them."""

    @classmethod
    def of(cls, plan: Plan, cifar10: Path | None) -> Parts:
        """A hundred training images of each class, and the halves of the test images."""
        rng, images = np.random.default_rng(0), all_images(plan, cifar10)
        train, test = images.train, images.test
        members = [rng.permutation(np.flatnonzero(train.labels == label)) for label in np.unique(train.labels)]
        making = np.sort(np.concatenate([own[:_MAKING] for own in members]))
        order = rng.permutation(len(test.labels))
        halves = (np.sort(half) for half in np.split(order, [len(order) // 2]))
        return cls(train.take(making), *(test.take(half) for half in halves))


@dataclass(frozen=True, slots=True)
class Terms:
    """How a guard is made."""

    rate: float
    """False-alarm rate that the threshold is set for."""
    looks_inside: bool = True
    """Whether it looks at features too, as `scanner guard` does, or at the pixels alone."""


class Network:
    """A file in onnxruntime, as a guard asks it."""

    def __init__(self, artifact: Artifact) -> None:
        """Open the file, for one thread."""
        self.artifact = artifact
        """The file."""
        self.runtime = open_runtime(artifact, read_signature(artifact, output_name=_scores_of(artifact)), threads=1)
        """It, opened."""

    def decisions(self, images: Pixels) -> NDArray[np.int64]:
        """Its decisions, [N]."""
        return self.runtime.decisions(images)

    def read_features(self, images: Pixels) -> Features:
        """What its last layer reads."""
        return Features(*read_features(self.artifact, self.runtime, images, threads=1))

    def scores(self, images: Pixels) -> NDArray[np.float32]:
        """The guard's output, [N]; a file without one has none."""
        return self.runtime.read(images, OUTPUT) if len(images) else np.empty(0, np.float32)


def _scores_of(artifact: Artifact) -> str | None:
    """The output of the classes, where a guard stands beside it."""
    import onnx

    names = [output.name for output in onnx.load_model_from_string(artifact.data).graph.output]
    return next(name for name in names if name != OUTPUT) if OUTPUT in names else None


@dataclass(frozen=True, slots=True)
class Guarded:
    """A network with a guard, and when an image is suspicious."""

    before: Network
    """The file before."""
    after: Network
    """The written file."""
    tensor: str
    """Value that is scored beside the pixels; empty for none."""
    threshold: float
    """Score above which an image is suspicious."""

    @classmethod
    def of(cls, model: Path, report: ScanResult, parts: Parts, terms: Terms) -> Guarded | None:
        """A written file with the guard of a report; None where no threshold reaches the rate."""
        before = Network(read_artifact(model, max_bytes=LARGEST_FILE))
        guard = Guard(report, parts.making.images)
        strength, tensor = of_pixels(guard), ""
        if terms.looks_inside:
            strength, tensor = made_for(before, guard, parts.making.images, parts.making.labels)
        features = before.read_features(parts.setting.images).values if tensor else np.empty(0, np.float32)
        threshold = threshold_for(strength.of(parts.setting.images, features), terms.rate, margin=MARGIN)
        if threshold is None:
            return None
        found = strength.features
        inside = found and OfValue(tensor, found.weights, found.offset, found.centre)
        pixels, reading = strength.pixels, (before.runtime.signature, before.runtime.normalisation)
        made = with_linear_output(before.artifact, *reading, (pixels.weights, pixels.offset), OUTPUT, beside=inside)
        with TemporaryDirectory() as folder:
            place = Path(folder) / "guarded.onnx"
            place.write_bytes(made.data)
            return cls(before, Network(read_artifact(place, max_bytes=LARGEST_FILE)), tensor, threshold.value)

    def flagged(self, images: Pixels) -> int:
        """How many images are suspicious."""
        return int((self.after.scores(images) > self.threshold).sum())


def guarded(victim: Victim, cache: Path, cifar10: Path | None, terms: Terms, twin: Victim | None) -> dict[str, Any]:
    """One network: what a guard of its recovered pattern does, by the written file.

    Args:
        victim: The attacked network.
        cache: Folder of kept scans.
        cifar10: Folder of CIFAR-10, for plans that need it.
        terms: How the guard is made.
        twin: An unattacked network of the same structure, if there is one.
    """
    plan = victim.plan
    row: dict[str, Any] = {"group": plan.group, "network": plan.network, "seed": plan.seed, "digest": plan.digest}
    row |= {"additive": plan.attack.attack in ADDITIVE, "recovered": None, "rate": terms.rate}
    report = report_of(victim, cache, detected=True)
    if report is None:
        return row
    found, parts = report.patterns[0], Parts.of(plan, cifar10)
    row["recovered"] = {"detector": found.detector, "source": found.source, "target": found.target}
    file = Guarded.of(victim.model, report, parts, terms)
    if file is None:
        return row | {"threshold": None}
    ordinary = parts.measuring.images
    carriers, norm = _carriers(victim, file.before, parts.measuring)
    noisy = with_noise(ordinary, norm, seed=plan.seed)
    alone, cost = _costs(file, ordinary)
    row |= {
        "threshold": file.threshold,
        "tensor": file.tensor,
        "setting": len(parts.setting.labels),
        "ordinary": len(ordinary),
        "alarms": file.flagged(ordinary),
        "carriers": len(carriers),
        "caught": file.flagged(carriers),
        "norm": norm,
        "flagged_noise": file.flagged(noisy),
        "same_decisions": bool(np.array_equal(file.before.decisions(ordinary), file.after.decisions(ordinary))),
        "microseconds": alone,
        "microseconds_more": cost,
    }
    return row if twin is None else row | {"twin": _on_twin(twin, report, parts, terms)}


def _carriers(victim: Victim, network: Network, images: LabelledImages) -> tuple[Pixels, float]:
    """Source images with the planted pattern that reach its target, and the mean L2 norm of what it changes."""
    assert victim.pattern is not None
    assert victim.plan.attack.attack is not None
    backdoor = Backdoor(victim.plan.attack.attack, victim.pattern, dict(victim.plan.targets))
    sources = images.take(np.flatnonzero(np.isin(images.labels, list(backdoor.targets))))
    wanted = np.array([backdoor.targets[int(label)] for label in sources.labels])
    embedded = backdoor.embed(sources.images)
    norms = np.linalg.norm((embedded - sources.images).reshape(len(embedded), -1), axis=1)
    return embedded[network.decisions(embedded) == wanted], float(norms.mean())


def with_noise(images: Pixels, norm: float, *, seed: int) -> Pixels:
    """Images [N, C, H, W] in [0, 1], each with Gaussian noise of its own of an L2 norm, clipped as a pattern is."""
    noise = np.random.default_rng(seed).normal(size=images.shape)
    noise *= norm / np.linalg.norm(noise.reshape(len(noise), -1), axis=1)[:, None, None, None]
    return np.clip(images + noise, 0, 1).astype(np.float32)


def _costs(file: Guarded, images: Pixels) -> tuple[float, float]:
    """Microseconds an image of the file before, and how many more the guarded one takes, by the quickest passes."""
    part, times = images[:_TIMED], {False: list[float](), True: list[float]()}
    for _ in range(_ROUNDS):  # in turns and by the processor's clock, as others work on the machine too
        for after, network in ((False, file.before), (True, file.after)):
            started = time.process_time()
            network.runtime.read(part, OUTPUT if after else None)
            times[after].append(time.process_time() - started)
    alone, together = (1e6 * min(times[after]) / len(part) for after in (False, True))
    return alone, together - alone


def _on_twin(twin: Victim, report: ScanResult, parts: Parts, terms: Terms) -> dict[str, Any]:
    """What the same report's guard says of clean images on a network that nobody attacked."""
    row: dict[str, Any] = {"digest": twin.plan.digest, "group": twin.plan.group, "seed": twin.plan.seed}
    file = Guarded.of(twin.model, report, parts, terms)
    if file is None:
        return row | {"threshold": None}
    images = parts.measuring.images
    return row | {"threshold": file.threshold, "ordinary": len(images), "alarms": file.flagged(images)}


def find_twin(victim: Victim, cache: Path, first_seed: int) -> Victim | None:
    """An unattacked network of the same structure and images from the cache, of the seeds of a run."""
    plan = victim.plan
    for group, described in PRESETS[plan.preset].groups.items():
        if described.attack is None:
            for other in kept(plan.preset, group, cache, first_seed):
                if replace(other.plan, group="", attack=plan.attack, targets=(), seed=0) == replace(
                    plan, group="", targets=(), seed=0
                ):
                    return other
    return None


def table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """A line a network."""
    header = ["group", "network", "seed", "recovered", "scored", "alarms", "planted pattern caught"]
    header += ["noise of its norm flagged", "cost", "alarms on the unattacked twin"]
    return grid(header, [(row["group"], row["network"], row["seed"], *_cells(row)) for row in rows])


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    if row["recovered"] is None:
        return "not recovered", *[""] * 6
    found = row["recovered"]
    told = f"{found['detector']}, {found['source']} to {found['target']}"
    if row["threshold"] is None:
        return told, "no threshold", *[""] * 5
    twin, count = row.get("twin"), row["ordinary"]
    on_twin = "none kept" if twin is None else "no threshold"
    if twin is not None and twin["threshold"] is not None:
        on_twin = share(twin["alarms"], twin["ordinary"], 2)
    cost = f"{row['microseconds_more']:.1f} of {row['microseconds']:.0f} µs ({_cost(row):.0%})"
    return (
        told,
        "pixels and features" if row["tensor"] else "pixels",
        share(row["alarms"], count, 2),
        share(row["caught"], row["carriers"]),
        share(row["flagged_noise"], count, 2),
        cost,
        on_twin,
    )


def _cost(row: dict[str, Any]) -> float:
    return float(row["microseconds_more"] / row["microseconds"])


def summary(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Counts of networks that reach each bar, by group, of additive attacks, of others and of all."""
    header = [
        "group",
        "networks",
        "not recovered",
        "guarded",
        "of these 95 % of images with the planted pattern caught",
        "mean share caught",
    ]
    header += ["alarms at most twice the rate", "mean alarms", "mean noise flagged", "cost at most 10 %"]
    header += ["twin's alarms at most twice the rate", "mean alarms on twins"]
    groups = {row["group"]: [each for each in rows if each["group"] == row["group"]] for row in rows}
    groups |= {"all additive": [row for row in rows if row["additive"]]}
    groups |= {"all others": [row for row in rows if not row["additive"]], "all": list(rows)}
    return grid(header, [(group, len(members), *_counts(members)) for group, members in groups.items() if members])


def _counts(rows: Sequence[dict[str, Any]]) -> tuple[str, ...]:
    done = [row for row in rows if row.get("threshold") is not None]
    twins = [row["twin"] | {"rate": row["rate"]} for row in done if row.get("twin", {}).get("threshold") is not None]
    caught = [row["caught"] / row["carriers"] if row["carriers"] else 0.0 for row in done]
    return (
        str(sum(row["recovered"] is None for row in rows)),
        str(len(done)),
        share(sum(each >= _LEAST_CAUGHT for each in caught), len(done)),
        _mean(caught, "{:.1%}"),
        share(sum(map(_few_alarms, done)), len(done)),
        _mean([row["alarms"] / row["ordinary"] for row in done], "{:.2%}"),
        _mean([row["flagged_noise"] / row["ordinary"] for row in done], "{:.2%}"),
        share(sum(_cost(row) <= _MOST_COST for row in done), len(done)),
        share(sum(map(_few_alarms, twins)), len(twins)),
        _mean([twin["alarms"] / twin["ordinary"] for twin in twins], "{:.2%}"),
    )


def _few_alarms(row: dict[str, Any]) -> bool:
    return bool(row["alarms"] <= _ALARMS_PER_RATE * row["rate"] * row["ordinary"] + 1e-9)


def _mean(values: Sequence[float], form: str) -> str:
    return form.format(float(np.mean(values))) if values else "none"


def _run(arguments: Any, lines: Path | None, twin_of: Callable[[Victim], Victim | None]) -> list[dict[str, Any]]:
    """The rows of all networks, those of an earlier run among them."""
    rows = command.read_lines(lines)
    done = {row["digest"] for row in rows}
    first_seed = FIRST_REPORTING if arguments.reporting else 0
    wanted = (arguments.preset, arguments.group, arguments.most, arguments.cache)
    for victim in victims(*wanted, first_seed=first_seed):
        if victim.plan.digest not in done:
            terms = Terms(arguments.rate, looks_inside=not arguments.pixels_alone)
            rows.append(guarded(victim, arguments.cache, arguments.cifar10, terms, twin_of(victim)))
            command.append_line(lines, rows[-1])
            print(json.dumps(rows[-1]), flush=True)
    return rows


def main() -> None:
    """Guard the networks of a preset and write the tables."""
    parser = command.parser(__doc__, out="the tables and the line of each network")
    parser.add_argument("--preset", choices=PRESETS, default="photos")
    parser.add_argument("--group", action="append", default=[], help="only this group; repeatable")
    parser.add_argument("--most", type=int, default=10, help="most networks of a group")
    parser.add_argument("--rate", type=float, default=0.001, help="false-alarm rate that thresholds are set for")
    parser.add_argument("--pixels-alone", action="store_true", help="guards that do not look at features, to compare")
    parser.add_argument("--cifar10", type=Path, help="folder of CIFAR-10, for presets of photographs")
    parser.add_argument("--cache", type=Path, default=CACHE, help="folder that keeps the networks and their scans")
    parser.add_argument("--reporting", action="store_true", help="networks of seeds that chose nothing")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    name = f"guard_{arguments.preset}{'_pixels' if arguments.pixels_alone else ''}"
    name += "_reporting" if arguments.reporting else ""
    lines = arguments.out and arguments.out / f"{name}.jsonl"
    if lines is not None:
        lines.parent.mkdir(parents=True, exist_ok=True)
    first_seed = FIRST_REPORTING if arguments.reporting else 0
    rows = _run(arguments, lines, lambda victim: find_twin(victim, arguments.cache, first_seed))
    told = (
        f"Thresholds set for a rate of {arguments.rate:g} on half of the test images; alarms, noise and planted "
        "patterns are counted on the other half, with 95 % intervals. Costs are those of the written file beside the "
        "file before, one thread, 256 images a call."
    )
    text = page(f"Guards of attacked networks, {arguments.preset}", told, summary(rows), table(rows))
    print(text)
    command.publish(arguments.out, name, text, rows)


if __name__ == "__main__":
    main()
