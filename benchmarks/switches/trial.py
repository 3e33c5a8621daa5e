"""Plant every kind of switch backdoor into files that torch's exporters wrote, and see what `scanner check` would find.

    python -m benchmarks.switches [--kinds where-mean relu-path] [--out benchmarks/results]

Each kind is planted into two exports of networks that people use. A row passes if the switch works, and exactly one
finding is reported for it, demonstrated on the file in onnxruntime. The same files without a switch have no finding.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache

import numpy as np
import onnx
from numpy.typing import NDArray

from backscan.converters import OrtClassifier, artifact_from_bytes
from backscan.scanner.results import GraphFinding
from backscan.scanner.switches.findings import find_graph_findings
from benchmarks import command
from benchmarks.exporters.cases import Case, export
from benchmarks.exporters.models import ARCHITECTURES, NUM_CLASSES, build, use_fused_attention
from benchmarks.provenance import circumstances
from benchmarks.switches.backdoors import SWITCHES, plant_switch, triggered
from benchmarks.switches.unseen import FIRST_RUN, UNSEEN_SWITCHES
from benchmarks.table import grid, page
from benchmarks.victims.export import opened

HOSTS = (
    Case("resnet", "legacy", 17, "free"),
    Case("vit", "dynamo", 18, "free"),
    Case("mobilenetv3", "legacy", 13, "free"),
    Case("convnext", "dynamo", 21, "free"),
    Case("densenet", "legacy", 20, "free"),
    Case("mixer", "dynamo", 23, "free"),
)
"""The exports that switches are planted into."""
SECONDS = 300.0
"""Time for the searches of one file: five times that of a scan, for tables are made on machines that do other work."""
_LIBRARIES = ("torch", "timm", "onnx", "onnxscript", "onnxruntime")


@dataclass(frozen=True, slots=True)
class Row:
    """One planted switch, or an export without one."""

    kind: str
    """Name of the switch; empty for none."""
    host: str
    """The export."""
    changed: float
    """Share of the images that the trigger makes the file decide otherwise than the export does."""
    findings: tuple[str, ...]
    """What was reported: severity and rule, and where demonstrated from which class to which."""
    passed: bool
    """Whether that is right."""
    seconds: float
    """Time of the search."""


@cache
def exported(host: Case) -> onnx.ModelProto:
    """The file without a switch."""
    use_fused_attention(host.opset >= 14)
    return onnx.load_model_from_string(export(build(host.model), ARCHITECTURES[host.model].size, host))


def ordinary_images(size: int) -> NDArray[np.float32]:
    """Noise [40, 3, size, size] of different colours and strengths, never white."""
    rng = np.random.default_rng(11)
    noise = rng.random((40, 3, size, size)) * rng.random((40, 1, 1, 1))
    return np.clip(0.7 * rng.random((40, 3, 1, 1)) + 0.3 * noise, 0, 0.94).astype(np.float32)


def rows(kinds: Sequence[str]) -> Iterator[Row]:
    """Every host alone, then every kind in two hosts."""
    for host in HOSTS:
        yield examine("", host)
    for index, kind in enumerate(kinds):
        for step in (0, 3):
            yield examine(kind, HOSTS[(index + step) % len(HOSTS)])


def examine(kind: str, host: Case) -> Row:
    """Plant a kind into a host, and look for it."""
    size = ARCHITECTURES[host.model].size
    plain = exported(host)
    planted = plant_switch(kind, plain, (3, size, size), NUM_CLASSES) if kind else plain
    images = ordinary_images(size)
    runtime, start = _opened(planted), time.perf_counter()
    found = _findings(planted, runtime, images)
    seconds = time.perf_counter() - start
    marked = triggered(kind, images) if kind else images
    changed = float(np.mean(runtime.decisions(marked) != _opened(plain).decisions(marked)))
    passed = not found if not kind else changed > 0 and [f.demonstrated for f in found] == [True]
    name = f"{host.model}, {host.exporter} {host.opset}"
    return Row(kind, name, round(changed, 3), tuple(map(_described, found)), passed, round(seconds, 1))


def _opened(model: onnx.ModelProto) -> OrtClassifier:
    return opened(model.SerializeToString(), threads=None)


def _findings(model: onnx.ModelProto, runtime: OrtClassifier, images: NDArray[np.float32]) -> tuple[GraphFinding, ...]:
    artifact = artifact_from_bytes("model.onnx", model.SerializeToString())
    return find_graph_findings(
        artifact, runtime.signature, runtime.normalisation, images, decisions=runtime.decisions, seconds=SECONDS
    )


def _described(finding: GraphFinding) -> str:
    shown = f", {finding.source} -> {finding.target}" if finding.demonstrated else ""
    return f"{finding.severity} {finding.rule}{shown}"


def table(done: Sequence[Row], made_by: str) -> str:
    """The rows as Markdown."""
    planted, plain = [row for row in done if row.kind], [row for row in done if not row.kind]
    kinds = {row.kind for row in planted}
    found = {row.kind for row in planted} - {row.kind for row in planted if not row.passed}
    rows = [
        (
            row.kind or "none",
            row.host,
            f"{row.changed:.2f}" if row.kind else "",
            "; ".join(row.findings) or "none",
            "yes" if row.passed else "**no**",
            f"{row.seconds:.1f}",
        )
        for row in done
    ]
    return page(
        "Switch backdoors planted into real exports",
        f"Made by `{made_by}` {circumstances(_LIBRARIES)}.",
        f"{len(found)} of {len(kinds)} kinds are found and demonstrated in every export they were planted into "
        f"({sum(row.passed for row in planted)} of {len(planted)} files); "
        f"{sum(len(row.findings) for row in plain)} findings in the {len(plain)} exports without a switch. "
        "Changed: share of triggered images that the planted file decides otherwise.",
        f"The last {len(UNSEEN_SWITCHES)} kinds were written after the search. Before it was changed for any of them "
        f"it demonstrated {len(UNSEEN_SWITCHES) - len(FIRST_RUN)} in the small network of the tests; "
        f"{', '.join(f'{kind}: {outcome}' for kind, outcome in FIRST_RUN.items())}.",
        grid(("switch", "export", "changed", "findings", "right", "seconds"), rows, "llllll"),
    )


def main() -> int:
    """Plant and look; exit 1 if a row is not right."""
    parser = command.parser(__doc__, out="switches.json and switches.md")
    parser.add_argument("--kinds", nargs="*", default=list(SWITCHES), choices=list(SWITCHES))
    options = parser.parse_args()
    done = []
    for row in rows(options.kinds):
        done.append(row)
        print(row, file=sys.stderr, flush=True)
    report = table(done, "python -m benchmarks.switches --out benchmarks/results")
    print(report)
    command.publish(options.out, "switches", report, [asdict(row) for row in done])
    return int(not all(row.passed for row in done))
