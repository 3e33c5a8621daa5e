"""What a scan does on a graphics card, in under eight minutes: `python -m benchmarks.gpu --out FOLDER`.

In this order, each part written as soon as it is there, so that nothing is lost where the machine goes back early:

1. the same small scan on the processor and on the card: verdict, target, sizes;
2. the card's ceiling: a large product of matrices in each precision;
3. ResNet-20, ResNet-50 at 224 x 224 with 1000 classes, and 43 classes: images a second through the imported copy,
   forward and to the gradient, in float32, TF32, bfloat16 and float16, launched one by one, with channels last, as a
   CUDA graph and compiled, beside the network's own convolutions alone in that precision;
4. a default scan of each, under a time limit, with a planted target.

The networks are made here (`benchmarks.large.subjects`), untrained. `--device cpu --small` runs every part on a tiny
network within minutes, to see that it works. It was never run on a card yet.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import nn

from backscan.converters import import_model, read_artifact, read_signature
from benchmarks import command
from benchmarks.gpu.ceiling import convolutions, convolutions_seconds, product_tflops
from benchmarks.gpu.scans import agreement, scanned
from benchmarks.gpu.ways import LAUNCHES, PRECISIONS, Measuring, images_a_second, precision
from benchmarks.large.subjects import SUBJECTS, Made, make
from benchmarks.provenance import circumstances
from benchmarks.table import grid, page

_LIBRARIES = ("numpy", "onnxruntime", "torch")
_MAX_BYTES = 1 << 31
_PLANTED = {"resnet20": 3, "resnet50": 500, "k43": 7, "tiny": 2}
_BATCH = {"resnet20": 1024, "resnet50": 128, "k43": 1024, "tiny": 16}
"""Images of a pass: as many as a search passes together, or more."""
_COMPILED = ("TF32", "bfloat16")
"""Precisions that are compiled as well: each takes up to a minute."""
_SCAN_SECONDS = {"resnet20": 60.0, "resnet50": 120.0, "k43": 90.0, "tiny": 20.0}
_KEPT_SECONDS = 10.0


@dataclass(slots=True)
class Found:
    """All that was measured, and until when there is time."""

    options: argparse.Namespace
    """What was asked for."""
    deadline: float
    """On the monotonic clock."""
    parts: dict[str, Any] = field(default_factory=dict)
    """By the name of the part."""

    @property
    def left(self) -> float:
        """Seconds."""
        return self.deadline - time.monotonic()

    def keep(self, part: str, value: Any) -> None:
        """Add to a part, tell, and write all parts."""
        self.parts.setdefault(part, []).append(value)
        print(part, json.dumps(value), flush=True)
        command.publish(self.options.out, "gpu", report(self), self.parts)


def main() -> None:
    """Measure part after part."""
    parser = command.parser(__doc__, out="gpu.md and gpu.json")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--small", action="store_true", help="a tiny network alone")
    parser.add_argument("--seconds", type=float, default=450.0, help="when the last part ends")
    parser.add_argument("--folder", type=Path, help="where the networks are kept; by default nowhere")
    options = parser.parse_args()
    if options.small:
        Measuring.enough_seconds = 0.02
    found = Found(options, time.monotonic() + options.seconds)
    with TemporaryDirectory(prefix="gpu-") as scratch:
        folder = options.folder or Path(scratch)
        names = ("tiny",) if options.small else ("resnet20", "resnet50", "k43")
        _agree(found, folder)
        _ceilings(found)
        made = {name: make(name, folder, target=_PLANTED[name]) for name in names}
        for name in names:
            _passes(found, name, made[name])
        for name in names:
            _scan(found, name, made[name])
    print(report(found))


def _agree(found: Found, folder: Path) -> None:
    made = make("tiny", folder, target=_PLANTED["tiny"])
    compared = agreement(made, SUBJECTS["tiny"].preprocess, found.options.device, images=10)
    found.keep("agreement", asdict(compared) | {"agrees": compared.agrees})


def _ceilings(found: Found) -> None:
    side = 512 if found.options.small else 8192
    for name in PRECISIONS:
        rate = _tried(lambda name=name: product_tflops(name, found.options.device, side=side))  # type: ignore[misc]
        found.keep("products", {"precision": name, "side": side, "tflops": rate})


def _passes(found: Found, name: str, made: Made) -> None:
    """Images a second of every way for which there is time, and of the convolutions alone."""
    device = found.options.device
    artifact = read_artifact(made.model, max_bytes=_MAX_BYTES)
    network = import_model(artifact, read_signature(artifact), device=device)
    side = SUBJECTS[name].side
    images = torch.rand(_BATCH[name], 3, side, side, device=device)
    layers = convolutions(network, images)
    for kind, launch, gradient in _ways():
        if found.left < _time_for_scans(found):
            found.keep("left out", f"{name}: {kind}, {launch} and what follows: the time was up")
            return
        with precision(kind, device):
            rate = _tried(lambda: _rate(network, images, launch, gradient))  # noqa: B023 - called at once
        alone = None
        if launch == LAUNCHES[0]:
            alone = _tried(lambda: len(images) / convolutions_seconds(layers, kind, device, gradient=gradient))  # noqa: B023
        row = {"network": name, "precision": kind, "launch": launch, "gradient": gradient, "images_a_second": rate}
        found.keep("passes", row | {"convolutions_alone": alone, "batch": len(images)})
    torch.compiler.reset()


def _rate(network: nn.Module, images: torch.Tensor, launch: str, gradient: bool) -> float:
    return images_a_second(network, images, launch=launch, gradient=gradient)


def _ways() -> Iterator[tuple[str, str, bool]]:
    """Precision, launch, with the gradient or without; what takes long to prepare last."""
    quick = [launch for launch in LAUNCHES if launch != "compiled"]
    yield from ((kind, launch, gradient) for launch in quick for kind in PRECISIONS for gradient in (False, True))
    yield from ((kind, "compiled", True) for kind in _COMPILED)


def _time_for_scans(found: Found) -> float:
    """Seconds that are kept for the scans."""
    names = ("tiny",) if found.options.small else ("resnet20", "resnet50", "k43")
    return min(0.6 * found.options.seconds, sum(_SCAN_SECONDS[name] for name in names)) + _KEPT_SECONDS


def _scan(found: Found, name: str, made: Made) -> None:
    limit = min(_SCAN_SECONDS[name], found.left - _KEPT_SECONDS)
    if limit < _KEPT_SECONDS:
        found.keep("left out", f"{name}: its scan: the time was up")
        return
    found.keep("scans", scanned(name, made, found.options.device, round(limit, 1)))


def _tried(measure: Callable[[], float]) -> float | str:
    """A rate, or why there is none."""
    try:
        return round(measure(), 3)
    except Exception as error:  # a way that this device or build does not have
        return f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')[:120]}"


def report(found: Found) -> str:
    """What was found as Markdown."""
    options, parts = found.options, found.parts
    card = torch.cuda.get_device_name() if options.device == "cuda" and torch.cuda.is_available() else "the processor"
    small = " --small" if options.small else ""
    heading = (
        f"`python -m benchmarks.gpu --device {options.device}{small}`, {circumstances(_LIBRARIES)}; device: {card}."
    )
    agreed = [
        f"The same small scan on the processor and on the device {'agrees' if each['agrees'] else 'DOES NOT AGREE'}: "
        f"{' and '.join(each['verdicts'])}, sizes of {each['num_pairs']} pairs differ by "
        f"{each['median_difference']:.2%} in the median and {each['largest_difference']:.1%} at most; "
        f"{each['seconds'][0]} and {each['seconds'][1]} s."
        for each in parts.get("agreement", ())
    ]
    products = grid(
        ("product of matrices", "side", "10^12 operations a second"),
        [(each["precision"], each["side"], each["tflops"]) for each in parts.get("products", ())],
    )
    scans = grid(
        ("scan", "planted", "seconds", "said", "verdict", "target", "p", "pairs", "targets"),
        [[each[key] for key in _SCAN_COLUMNS] for each in parts.get("scans", ())],
    )
    return page(
        "A scan on a graphics card", heading, *agreed, products, _pass_table(parts), scans, parts.get("left out", ())
    )


_SCAN_COLUMNS = ("network", "planted", "seconds", "estimate", "verdict", "target", "p_value", "pairs", "targets")


def _pass_table(parts: dict[str, Any]) -> Sequence[str]:
    header = ("network", "precision", "pass", "launched", "images a second", "its convolutions alone", "share of these")
    rows = [
        (
            each["network"],
            each["precision"],
            "gradient" if each["gradient"] else "forward",
            each["launch"],
            each["images_a_second"],
            each["convolutions_alone"] or "",
            _share(each["images_a_second"], _alone(parts, each)),
        )
        for each in parts.get("passes", ())
    ]
    return grid(header, rows)


def _alone(parts: dict[str, Any], row: dict[str, Any]) -> float | str | None:
    """The ceiling that was measured for the same network, precision and pass."""
    same = ("network", "precision", "gradient")
    measured = (each for each in parts["passes"] if each["convolutions_alone"] and all(each[k] == row[k] for k in same))
    return next((each["convolutions_alone"] for each in measured), None)


def _share(rate: float | str, ceiling: float | str | None) -> str:
    return f"{rate / ceiling:.0%}" if isinstance(rate, float) and isinstance(ceiling, float) else ""


if __name__ == "__main__":
    main()
