"""The exporter matrix: what torch's exporters write, imported and compared with onnxruntime and the source network.

    python -m benchmarks.exporters [--models resnet vit] [--exporters legacy dynamo] [--out benchmarks/results]

A case passes if the logits are within 1e-4 of onnxruntime's, relative to the largest, and the gradient of a random
mixture of logits is within 1e-3 of the source network's.
"""

import argparse
import contextlib
import io
import json
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from backscan.converters import artifact_from_bytes, import_model, open_runtime, read_signature
from benchmarks.exporter_models import ARCHITECTURES, build, use_fused_attention

OPSETS = {"legacy": (11, 13, 17, 20), "dynamo": (18, 21, 23)}
MAX_LOGIT_GAP = 1e-4
MAX_GRADIENT_GAP = 1e-3
_NUM_IMAGES = 3


@dataclass(frozen=True, slots=True)
class Case:
    """One cell of the matrix.

    Attributes:
        model: Name of the architecture.
        exporter: "legacy" or "dynamo".
        opset: Version of the standard operators.
        batch: "free" or "fixed" (at 1).
    """

    model: str
    exporter: str
    opset: int
    batch: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a case.

    Attributes:
        case: The cell.
        status: "passed", "failed", or "not exported" where the exporter itself gave up.
        logit_gap: Largest difference from onnxruntime, relative to the largest logit.
        gradient_gap: Distance from the source network's gradient, relative to its norm.
        batching: How a fixed batch was dealt with: the name of the wrapper and whether it is vectorised.
        seconds: Time of signature and import.
        message: Why it did not pass.
    """

    case: Case
    status: str
    logit_gap: float | None = None
    gradient_gap: float | None = None
    batching: str = ""
    seconds: float | None = None
    message: str = ""


def cases(models: list[str], exporters: list[str]) -> Iterator[Case]:
    """The cells of the matrix, all of one model together."""
    for model in models:
        for exporter in exporters:
            for opset in OPSETS[exporter]:
                for batch in ("free", "fixed"):
                    yield Case(model, exporter, opset, batch)


def export(network: nn.Module, size: int, case: Case) -> bytes:
    """Export a network the way a case says."""
    example = torch.rand(2 if case.batch == "free" else 1, 3, size, size)
    names = {"input_names": ["image"], "output_names": ["logits"]}
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        if case.exporter == "legacy":
            axes = {"image": {0: "N"}, "logits": {0: "N"}} if case.batch == "free" else None
            file = io.BytesIO()
            torch.onnx.export(
                network, (example,), file, dynamo=False, opset_version=case.opset, dynamic_axes=axes, **names
            )
            return file.getvalue()
        shapes = ({0: torch.export.Dim("N", min=1, max=64)},) if case.batch == "free" else None
        program = torch.onnx.export(
            network, (example,), dynamo=True, opset_version=case.opset, dynamic_shapes=shapes, verbose=False, **names
        )
        return program.model_proto.SerializeToString()


def run(case: Case, network: nn.Module) -> Outcome:
    """Export, import and compare one case."""
    size = ARCHITECTURES[case.model].size
    try:
        data = export(network, size, case)
    except Exception as error:
        return Outcome(case, "not exported", message=_sentence(error))
    try:
        return _compare(case, network, data, size)
    except Exception as error:
        return Outcome(case, "failed", message=_sentence(error))


def _compare(case: Case, network: nn.Module, data: bytes, size: int) -> Outcome:
    artifact = artifact_from_bytes(f"{case.model}.onnx", data)
    start = time.perf_counter()
    signature = read_signature(artifact)
    classifier = import_model(artifact, signature)
    seconds = time.perf_counter() - start
    images = torch.rand(_NUM_IMAGES, 3, size, size, generator=torch.Generator().manual_seed(1))
    expected = open_runtime(artifact, signature).scores(images.numpy())
    with torch.no_grad():
        found = classifier.logits(images).numpy()
    logit_gap = float(np.abs(found - expected).max() / np.abs(expected).max())
    ours, theirs = (_gradient(model, images) for model in (classifier.logits, network))
    gradient_gap = float((ours - theirs).norm() / theirs.norm())
    passed = logit_gap <= MAX_LOGIT_GAP and gradient_gap <= MAX_GRADIENT_GAP
    wrapper = classifier.network
    batching = f"{type(wrapper).__name__}{'' if getattr(wrapper, 'at_once', True) else ', one by one'}"
    return Outcome(
        case,
        "passed" if passed else "failed",
        logit_gap,
        gradient_gap,
        batching,
        round(seconds, 2),
        "" if passed else "values differ",
    )


def _gradient(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    inputs = images.clone().requires_grad_()
    logits = model(inputs)
    mixture = torch.randn(logits.shape, generator=torch.Generator().manual_seed(2))
    (gradient,) = torch.autograd.grad((logits * mixture).sum(), inputs)
    return gradient


def _sentence(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"[:200]


def table(outcomes: list[Outcome]) -> str:
    """The matrix in Markdown: cases passed of those that the exporter wrote, and every case that did not."""
    models = list(dict.fromkeys(outcome.case.model for outcome in outcomes))
    columns = list(dict.fromkeys((o.case.exporter, o.case.opset) for o in outcomes))
    lines = ["| model | " + " | ".join(f"{exporter} {opset}" for exporter, opset in columns) + " |"]
    lines.append("|---|" + "---|" * len(columns))
    for model in models:
        cells = []
        for column in columns:
            here = [o for o in outcomes if o.case.model == model and (o.case.exporter, o.case.opset) == column]
            written = [o for o in here if o.status != "not exported"]
            cells.append(f"{sum(o.status == 'passed' for o in written)}/{len(written)}")
        lines.append(f"| {model} | " + " | ".join(cells) + " |")
    written = [o for o in outcomes if o.status != "not exported"]
    passed = [o for o in written if o.status == "passed"]
    lines += [
        "",
        f"{len(passed)} of {len(written)} exported files pass; {len(outcomes) - len(written)} were not written.",
    ]
    for outcome in outcomes:
        if outcome.status != "passed":
            case = outcome.case
            lines.append(
                f"- {outcome.status}: {case.model}, {case.exporter} {case.opset}, {case.batch} batch: {outcome.message}"
            )
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run the matrix; exit 1 if a written file does not pass."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="*", default=list(ARCHITECTURES), choices=list(ARCHITECTURES))
    parser.add_argument("--exporters", nargs="*", default=list(OPSETS), choices=list(OPSETS))
    parser.add_argument("--out", type=Path, help="folder for exporters.json and exporters.md")
    options = parser.parse_args()
    outcomes = []
    for case in cases(options.models, options.exporters):
        use_fused_attention(case.opset >= 14)
        outcome = run(case, build(case.model))
        outcomes.append(outcome)
        print(case.model, case.exporter, case.opset, case.batch, outcome.status, outcome.message, file=sys.stderr)
    print(table(outcomes))
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "exporters.json").write_text(json.dumps([asdict(o) for o in outcomes], indent=1) + "\n")
        (options.out / "exporters.md").write_text(table(outcomes))
    return int(any(outcome.status == "failed" for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
