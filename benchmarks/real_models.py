"""Scan real models made by others and set what is known about them beside what the scanner says.

    python -m benchmarks.real_models --models ../shared/models --data ../shared/data --out benchmarks/results

The models and images never enter the project. A model counts as right when an unattacked one is not detected, and an
attacked one is detected with the right target (and source, where there is only one).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from backscan.scanner import CleanSet, ScanConfig, ScanResult, Verdict, scan
from backscan.scanner.results import to_json
from benchmarks.provenance import commit, machine


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
    KnownModel("vnncomp_resnet_2b", "cifar10_clean", "unattacked as far as known"),
    KnownModel("wonnx_opt-mnist", "mnist_clean", "unattacked as far as known"),
    KnownModel("zuramai_mnist", "mnist_clean", "unattacked as far as known"),
    KnownModel("ibau_gtsrb_l2_inv_t0", "gtsrb_clean", "all -> 0, additive global", target=0),
    KnownModel("gtsrb_bnn_30", "gtsrb_clean", "unattacked as far as known"),
)


def is_right(model: KnownModel, result: ScanResult) -> bool:
    """Whether the verdict agrees with what is known."""
    if model.target is None:
        return result.verdict is Verdict.NOT_DETECTED
    return (
        result.verdict is Verdict.BACKDOOR_DETECTED
        and result.target == model.target
        and model.source in (None, result.source)
    )


def table(rows: Sequence[tuple[KnownModel, ScanResult]], config: ScanConfig, command: str) -> str:
    """The Markdown table, with the command that makes it."""
    lines = [
        "# Real models made by others",
        "",
        f"Made by `{command}` at commit {commit()} on {machine()}, seed "
        f"{config.seed}, at most {config.images_per_class} images a class. Seconds are wall time of the whole scan.",
        "",
        "| model | known | verdict | right | pair | published p | calibrated p | accuracy | preprocessing | seconds |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for model, result in rows:
        pair = "" if result.source is None else f"{result.source} -> {result.target}"
        cells = [
            model.name,
            model.truth,
            result.verdict.value.replace("_", " "),
            "yes" if is_right(model, result) else "no",
            pair,
            _number(result.p_value),
            _number(result.calibrated_p_value),
            "" if result.clean_accuracy is None else f"{result.clean_accuracy:.3f}",
            "" if result.preprocessing is None else result.preprocessing.name,
            f"{sum(result.timings.values()):.0f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    lines += ["", "Why, model by model:", ""]
    lines += [f"- {model.name}: {'; '.join(result.reasons)}" for model, result in rows]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Scan and write `real_models.md` and one JSON report a model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, required=True, help="folder with the ONNX files")
    parser.add_argument("--data", type=Path, required=True, help="folder with the clean images")
    parser.add_argument("--out", type=Path, required=True, help="folder for the table")
    parser.add_argument("--reports", type=Path, help="folder for the JSON reports, none by default")
    parser.add_argument("--images-per-class", type=int, default=ScanConfig().images_per_class)
    parser.add_argument("--only", nargs="*", help="names of models")
    arguments = parser.parse_args()

    config = ScanConfig(images_per_class=arguments.images_per_class)
    chosen = [model for model in MODELS if not arguments.only or model.name in arguments.only]
    images: dict[str, CleanSet] = {}
    rows = []
    for model in chosen:
        if model.data not in images:
            images[model.data] = CleanSet.load(arguments.data / f"{model.data}.npz")
        result = scan(arguments.models / f"{model.name}.onnx", images[model.data], config)
        rows.append((model, result))
        print(model.name, result.verdict.value, result.p_value, result.calibrated_p_value, flush=True)
        if arguments.reports:
            arguments.reports.mkdir(parents=True, exist_ok=True)
            (arguments.reports / f"{model.name}.json").write_text(to_json(result.to_dict()), encoding="utf-8")
        command = (
            "python -m benchmarks.real_models --models ../shared/models --data ../shared/data "
            f"--out benchmarks/results --images-per-class {config.images_per_class}"
        )
        (arguments.out / "real_models.md").write_text(table(rows, config, command), encoding="utf-8")


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2g}"


if __name__ == "__main__":
    main()
