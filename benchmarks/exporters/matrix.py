"""The exporter matrix: what torch's exporters write, imported and compared with onnxruntime and the source network.

    python -m benchmarks.exporters [--models resnet vit] [--exporters legacy dynamo] [--out benchmarks/results]

A case passes if the logits are within 1e-4 of onnxruntime's, relative to the largest, the gradient of a random
mixture of logits is within 1e-3 of the source network's, and the search for backdoors built into the graph reports
nothing. Every finished case is appended to the file of `--progress`; a later run with the same file goes on there.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import nn

from backscan.converters import (
    Artifact,
    OrtClassifier,
    artifact_from_bytes,
    import_model,
    open_runtime,
    read_signature,
)
from backscan.converters.switches.probe import GraphProbe
from backscan.scanner.switches.findings import find_graph_findings
from benchmarks import command
from benchmarks.exporters.cases import OPSETS, Case, cases, export
from benchmarks.exporters.models import ARCHITECTURES, build, use_fused_attention
from benchmarks.provenance import circumstances
from benchmarks.table import grid, page

MAX_LOGIT_GAP = 1e-4
MAX_GRADIENT_GAP = 1e-3
_NUM_IMAGES = 3
_LIBRARIES = ("torch", "timm", "onnx", "onnxscript", "onnxruntime", "onnx2torch")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a case."""

    case: Case
    """The cell."""
    status: str
    """`passed`, `failed`, or `not exported` where the exporter itself gave up."""
    logit_gap: float | None = None
    """Largest difference from onnxruntime, relative to the largest logit."""
    gradient_gap: float | None = None
    """Distance from the source network's gradient, relative to its norm."""
    batching: str = ""
    """How a fixed batch was dealt with: the name of the wrapper and whether it is vectorised."""
    seconds: float | None = None
    """Time of signature and import."""
    hard_switches: int | None = None
    """Gates listed that are computed through a comparison, a sign or a rounding."""
    soft_switches: int | None = None
    """Narrow side paths listed, as squeeze and excitation has them."""
    findings: tuple[str, ...] = ()
    """What `scanner inspect` reports of the graph."""
    message: str = ""
    """Why it did not pass."""


def run(case: Case, network: nn.Module) -> Outcome:
    """Export, import and compare one case, and look for switches in it."""
    size = ARCHITECTURES[case.model].size
    try:
        data = export(network, size, case)
    except Exception as error:
        return Outcome(case, "not exported", message=_sentence(error))
    try:
        return _compare(case, network, artifact_from_bytes(f"{case.model}.onnx", data))
    except Exception as error:
        return Outcome(case, "failed", message=_sentence(error))


def _compare(case: Case, network: nn.Module, artifact: Artifact) -> Outcome:
    start = time.perf_counter()
    signature = read_signature(artifact)
    classifier = import_model(artifact, signature)
    seconds = time.perf_counter() - start
    size = ARCHITECTURES[case.model].size
    images = torch.rand(_NUM_IMAGES, 3, size, size, generator=torch.Generator().manual_seed(1))
    runtime = open_runtime(artifact, signature)
    expected = runtime.scores(images.numpy())
    with torch.no_grad():
        found = classifier.logits(images).numpy()
    ours, theirs = (_gradient(model, images) for model in (classifier.logits, network))
    wrapper = classifier.network
    outcome = Outcome(
        case,
        "passed",
        logit_gap=float(np.abs(found - expected).max() / np.abs(expected).max()),
        gradient_gap=float((ours - theirs).norm() / theirs.norm()),
        batching=f"{type(wrapper).__name__}{'' if getattr(wrapper, 'at_once', True) else ', one by one'}",
        seconds=round(seconds, 2),
    )
    return _judged(_with_findings(outcome, artifact, runtime))


def _with_findings(outcome: Outcome, artifact: Artifact, runtime: OrtClassifier) -> Outcome:
    """What `scanner inspect` says of the graph, and how many switches it looked at."""
    signature, normalisation = runtime.signature, runtime.normalisation
    switches = GraphProbe(artifact, signature, normalisation).switches()
    findings = find_graph_findings(artifact, signature, normalisation, None, decisions=runtime.decisions)
    return replace(
        outcome,
        hard_switches=sum(switch.hard for switch in switches),
        soft_switches=sum(not switch.hard for switch in switches),
        findings=tuple(f"{finding.severity}: {finding.message}" for finding in findings),
    )


def _judged(outcome: Outcome) -> Outcome:
    faults = []
    if not (outcome.logit_gap or 0) <= MAX_LOGIT_GAP:
        faults.append(f"logits differ by {outcome.logit_gap:.2g}")
    if not (outcome.gradient_gap or 0) <= MAX_GRADIENT_GAP:
        faults.append(f"gradients differ by {outcome.gradient_gap:.2g}")
    faults += outcome.findings
    return replace(outcome, status="failed", message="; ".join(faults)) if faults else outcome


def _gradient(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    inputs = images.clone().requires_grad_()
    logits = model(inputs)
    mixture = torch.randn(logits.shape, generator=torch.Generator().manual_seed(2))
    (gradient,) = torch.autograd.grad((logits * mixture).sum(), inputs)
    return gradient


def _sentence(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"[:200]


def table(outcomes: Sequence[Outcome], made_by: str) -> str:
    """The matrix in Markdown: cases passed of those that the exporter wrote, and every case that did not."""
    columns = list(dict.fromkeys((o.case.exporter, o.case.opset) for o in outcomes))
    header = (
        "model",
        *(f"{exporter} {opset}" for exporter, opset in columns),
        "largest logit gap",
        "largest gradient gap",
        "switches listed",
        "findings",
    )
    models = dict.fromkeys(outcome.case.model for outcome in outcomes)
    rows = [_row(model, [o for o in outcomes if o.case.model == model], columns) for model in models]
    return page(
        "The exporter matrix",
        f"Made by `{made_by}` {circumstances(_LIBRARIES)}.",
        "A cell counts the files that pass of those that the exporter wrote, with a free and with a fixed batch: "
        f"logits within {MAX_LOGIT_GAP:g} of onnxruntime's, gradient within {MAX_GRADIENT_GAP:g} of the source "
        "network's, no finding in the graph. Switches are listed per file, hard + soft, the most of a model's files.",
        grid(header, rows, "l" * len(header)),
        list(_summary(outcomes)),
    )


def _row(model: str, outcomes: Sequence[Outcome], columns: Sequence[tuple[str, int]]) -> list[str]:
    written = [o for o in outcomes if o.status != "not exported"]
    cells = [model]
    for column in columns:
        here = [o for o in written if (o.case.exporter, o.case.opset) == column]
        cells.append(f"{sum(o.status == 'passed' for o in here)}/{len(here)}")
    cells += [f"{max((getattr(o, gap) or 0 for o in written), default=0):.1g}" for gap in ("logit_gap", "gradient_gap")]
    hard, soft = (
        max((getattr(o, kind) or 0 for o in written), default=0) for kind in ("hard_switches", "soft_switches")
    )
    return [*cells, f"{hard} + {soft}", str(sum(len(o.findings) for o in written))]


def _summary(outcomes: Sequence[Outcome]) -> Iterator[str]:
    written = [o for o in outcomes if o.status != "not exported"]
    passed = sum(o.status == "passed" for o in written)
    findings = sum(len(o.findings) for o in written)
    yield (
        f"{passed} of {len(written)} exported files pass, with {findings} findings in all; "
        f"{len(outcomes) - len(written)} were not written."
    )
    for outcome in outcomes:
        if outcome.status != "passed":
            case = outcome.case
            place = f"{case.model}, {case.exporter} {case.opset}, {case.batch} batch"
            yield f"- {outcome.status}: {place}: {outcome.message}"


@cache
def _network(name: str, *, fused: bool) -> nn.Module:
    use_fused_attention(fused)
    return build(name)


def _finished(progress: Path | None) -> dict[Case, Outcome]:
    """Cases that an earlier run has done."""
    lines = command.read_lines(progress)
    done = [Outcome(**(o | {"case": Case(**o["case"]), "findings": tuple(o["findings"])})) for o in lines]
    return {outcome.case: outcome for outcome in done}


def main() -> int:
    """Run the matrix; exit 1 if a written file does not pass."""
    parser = command.parser(__doc__, out="exporters.json and exporters.md")
    parser.add_argument("--models", nargs="*", default=list(ARCHITECTURES), choices=list(ARCHITECTURES))
    parser.add_argument("--exporters", nargs="*", default=list(OPSETS), choices=list(OPSETS))
    parser.add_argument("--progress", type=Path, help="file of finished cases, which are not run again")
    options = parser.parse_args()
    done, outcomes = _finished(options.progress), []
    for case in cases(options.models, options.exporters):
        outcome = done.get(case) or run(case, _network(case.model, fused=case.opset >= 14))
        outcomes.append(outcome)
        if case not in done:
            command.append_line(options.progress, asdict(outcome))
        print(case.model, case.exporter, case.opset, case.batch, outcome.status, outcome.message, file=sys.stderr)
    report = table(outcomes, "python -m benchmarks.exporters --out benchmarks/results")
    print(report)
    command.publish(options.out, "exporters", report, [asdict(o) for o in outcomes])
    return int(any(outcome.status == "failed" for outcome in outcomes))
