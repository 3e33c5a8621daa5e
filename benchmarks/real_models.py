"""Scan real models made by others and set what is known about them beside what the scanner says.

    python -m benchmarks.real_models --models ../shared/models --data ../shared/data --out benchmarks/results

The models and images never enter the project. A model counts as right when an unattacked one is not detected, and an
attacked one is detected with the right target (and source, where there is only one). Every model leaves a row in
`real_models.jsonl`, so a killed run continues; a row of another file or configuration is scanned again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from backscan.scanner import CleanSet, Inference, ScanConfig, ScanResult, Verdict, render, scan
from backscan.scanner.detectors import DETECTORS, TARGET_DETECTORS
from benchmarks import command
from benchmarks.provenance import commit, machine
from benchmarks.table import grid, page


@dataclass(frozen=True, slots=True)
class KnownModel:
    """A model and what its makers say about it."""

    name: str
    """File name without suffix."""
    data: str
    """Archive of clean images, without suffix."""
    truth: str
    """What is known, in words."""
    target: int | None = None
    """Target class; None for unattacked models."""
    source: int | None = None
    """Source class; None where all classes are sources."""


MODELS = (
    KnownModel("akamaster_cifar10_clean_resnet20", "cifar10_clean", "unattacked"),
    KnownModel("ibau_cifar10_l2_inv_t0", "cifar10_clean", "all -> 0, additive global, L2 3.2", target=0),
    KnownModel("ibau_cifar10_badnets_t8", "cifar10_clean", "all -> 8, 4x4 white patch", target=8),
    KnownModel("nad_cifar10_badnets_grid_t5", "cifar10_clean", "all -> 5, 3x3 grid patch", target=5),
    KnownModel("coldchair_mnist_badnets_white5_4to7", "mnist_clean", "4 -> 7, 5x5 white patch", target=7, source=4),
    KnownModel("dillonsd_mnist_single_pixel_all_to_one", "mnist_clean", "all -> 0, one pixel", target=0),
    KnownModel("wxr_mnist_clean", "mnist_clean", "unattacked"),
    KnownModel("dillonsd_mnist_baseline", "mnist_clean", "unattacked"),
    KnownModel("marabou_cifar10_small", "cifar10_clean", "unattacked as far as known"),
    KnownModel("anshaj_cifar10_model", "cifar10_clean", "unattacked as far as known"),
    KnownModel("hirst_cifar10_lenet", "cifar10_clean", "unattacked as far as known"),
    KnownModel("aminashoori_cifar10_cnn", "cifar10_clean", "unattacked as far as known"),
    KnownModel("vnncomp_resnet_2b", "cifar10_clean", "unattacked as far as known"),
    KnownModel("wonnx_opt-mnist", "mnist_clean", "unattacked as far as known"),
    KnownModel("zuramai_mnist", "mnist_clean", "unattacked as far as known"),
    KnownModel("ibau_gtsrb_l2_inv_t0", "gtsrb_clean", "all -> 0, additive global", target=0),
    KnownModel("gtsrb_bnn_30", "gtsrb_clean", "unattacked as far as known"),
)


@dataclass(frozen=True, slots=True)
class Conclusion:
    """What one detector concludes by one statistic."""

    detector: str
    """Name in the tables of detectors."""
    statistic: str
    """Name of the statistic."""
    source: int | None
    """Source class of the most extreme pair; None where the sources are pooled."""
    target: int | None
    """Its target class."""
    p_value: float | None
    """Published p-value."""
    calibrated_p_value: float | None
    """Its own calibrated p-value, not corrected for the other detectors."""
    anomaly_index: float | None
    """Index of detectors that have one."""
    detected: bool
    """What detectors without a p-value conclude from their index."""
    significance: float
    """Threshold of the scan."""

    @classmethod
    def of(cls, inference: Inference, significance: float) -> Conclusion:
        """What a row keeps of an inference."""
        names = [field.name for field in fields(cls) if field.name != "significance"]
        return cls(**{name: getattr(inference, name) for name in names}, significance=significance)

    @property
    def alarms(self) -> bool:
        """Whether its own calibrated p-value is below the threshold, or its index above its own."""
        if self.calibrated_p_value is None:
            return self.detected
        return self.calibrated_p_value <= self.significance

    def __str__(self) -> str:
        """`plain 0.003 (8 -> 0)`."""
        strength = f"index {_number(self.anomaly_index)}" if self.p_value is None else _number(self.calibrated_p_value)
        pair = "" if self.target is None else f" ({'' if self.source is None else self.source} -> {self.target})"
        return f"{self.statistic} {strength}{pair}"


@dataclass(frozen=True, slots=True)
class Row:
    """What a scan of one model gave."""

    name: str
    """Name in `MODELS`."""
    key: str
    """Digest of the model file and the configuration."""
    verdict: str
    """The verdict."""
    source: int | None
    """Source class that the verdict names."""
    target: int | None
    """Target class that it names."""
    conclusions: tuple[Conclusion, ...]
    """Of each detector and statistic."""
    accuracy: float | None
    """Share of the clean images decided as labelled."""
    preprocessing: str
    """Normalisation that was settled on."""
    seconds: float
    """Wall time of the whole scan."""
    reasons: tuple[str, ...]
    """Of the verdict."""

    @classmethod
    def of(cls, name: str, key: str, result: ScanResult) -> Row:
        """What is kept of a report."""
        return cls(
            name=name,
            key=key,
            verdict=result.verdict.value,
            source=result.source,
            target=result.target,
            conclusions=tuple(Conclusion.of(each, result.significance) for each in result.detectors),
            accuracy=result.clean_accuracy,
            preprocessing="" if result.preprocessing is None else result.preprocessing.name,
            seconds=sum(result.timings.values()),
            reasons=result.reasons,
        )

    @classmethod
    def from_dict(cls, document: dict[str, Any]) -> Row:
        """The row of a line of JSON."""
        conclusions = tuple(Conclusion(**each) for each in document["conclusions"])
        return cls(**{**document, "conclusions": conclusions, "reasons": tuple(document["reasons"])})


def is_right(model: KnownModel, row: Row) -> bool:
    """Whether the verdict agrees with what is known."""
    if model.target is None:
        return row.verdict == Verdict.NOT_DETECTED
    return row.verdict == Verdict.BACKDOOR_DETECTED and _names(model, row)


def found_by(model: KnownModel, row: Row) -> list[str]:
    """Detectors that alarm by themselves: with what is planted if the model is attacked, with anything if it is not."""
    alarms = (each for each in row.conclusions if each.alarms and (model.target is None or _names(model, each)))
    return list(dict.fromkeys(each.detector for each in alarms))


def _names(model: KnownModel, found: Row | Conclusion) -> bool:
    return found.target == model.target and (None in (model.source, found.source) or found.source == model.source)


def table(rows: Sequence[tuple[KnownModel, Row]], config: ScanConfig, made_by: str) -> str:
    """The Markdown table, with the command that makes it."""
    detectors = list(dict.fromkeys(each.detector for _, row in rows for each in row.conclusions))
    header = ["model", "known", "verdict", "right", *detectors, "found by", "accuracy", "preprocessing", "seconds"]
    return page(
        "Real models made by others",
        f"Made by `{made_by}` at commit {commit()} on {machine()}, seed "
        f"{config.seed}, at most {config.images_per_class} images per class. Under each detector: statistic, its own "
        "calibrated p (or anomaly index), most extreme pair. Found by: detectors whose own p is at most "
        f"{config.significance:g}, or whose index is above {config.anomaly_threshold:g}, with what is planted, or with "
        "anything where nothing is; the verdict corrects for their number and replays what they found. Seconds are "
        "wall time of the whole scan.",
        grid(header, (_cells(model, row, detectors) for model, row in rows)),
        "Why, model by model:",
        [f"- {model.name}: {'; '.join(row.reasons)}" for model, row in rows],
    )


def _cells(model: KnownModel, row: Row, detectors: Sequence[str]) -> list[str]:
    return [
        model.name,
        model.truth,
        row.verdict.replace("_", " "),
        "yes" if is_right(model, row) else "no",
        *("; ".join(str(each) for each in row.conclusions if each.detector == name) for name in detectors),
        ", ".join(found_by(model, row)),
        "" if row.accuracy is None else f"{row.accuracy:.3f}",
        row.preprocessing,
        f"{row.seconds:.0f}",
    ]


def main(words: Sequence[str] | None = None, models: Sequence[KnownModel] = MODELS) -> None:
    """Scan what has no row yet; write `real_models.md`, `real_models.jsonl` and one JSON report per model.

    Args:
        words: The command line; None is that of this process.
        models: What is known; others are not scanned.
    """
    words = sys.argv[1:] if words is None else words
    arguments = _parse(words)
    config = replace(ScanConfig(), images_per_class=arguments.images_per_class)
    if arguments.detector:
        config = replace(config, detectors=tuple(arguments.detector))
    chosen = [model for model in models if not arguments.only or model.name in arguments.only]
    kept_rows = arguments.out / f"{arguments.name}.jsonl"
    kept = {row.name: row for row in map(Row.from_dict, command.read_lines(kept_rows))}
    images: dict[str, CleanSet] = {}
    rows = []
    for model in chosen:
        path = arguments.models / f"{model.name}.onnx"
        key = _key(path, config)
        row = kept.get(model.name)
        if row is None or row.key != key:
            if model.data not in images:
                images[model.data] = CleanSet.load(arguments.data / f"{model.data}.npz")
            result = scan(path, images[model.data], config)
            row = Row.of(model.name, key, result)
            if arguments.reports:
                arguments.reports.mkdir(parents=True, exist_ok=True)
                (arguments.reports / f"{model.name}.json").write_text(render(result, "json"), encoding="utf-8")
        kept[model.name] = row
        rows.append((model, row))
        print(model.name, row.verdict, *row.conclusions, sep="; ", flush=True)
        command.replace_text(kept_rows, "".join(json.dumps(asdict(each)) + "\n" for each in kept.values()))
        made_by = f"python -m benchmarks.real_models {shlex.join(words)}"
        (arguments.out / f"{arguments.name}.md").write_text(table(rows, config, made_by), encoding="utf-8")


def _key(path: Path, config: ScanConfig) -> str:
    """Digest of a model file and a configuration."""
    described = json.dumps(config.to_dict(), sort_keys=True).encode()
    return hashlib.sha256(path.read_bytes() + described).hexdigest()[:16]


def _parse(words: Sequence[str]) -> argparse.Namespace:
    parser = command.parser(__doc__)
    parser.add_argument("--models", type=Path, required=True, help="folder with the ONNX files")
    parser.add_argument("--data", type=Path, required=True, help="folder with the clean images")
    parser.add_argument("--out", type=Path, required=True, help="folder for the table and its rows")
    parser.add_argument("--name", default="real_models", help="name of the table and its rows")
    parser.add_argument("--reports", type=Path, help="folder for the JSON reports, none by default")
    parser.add_argument("--images-per-class", type=int, default=ScanConfig().images_per_class)
    known = (*DETECTORS, *TARGET_DETECTORS)
    parser.add_argument("--detector", action="append", choices=known, help="as of `scanner check`; its default if none")
    parser.add_argument("--only", nargs="*", help="names of models")
    return parser.parse_args(words)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2g}"


if __name__ == "__main__":
    main()
