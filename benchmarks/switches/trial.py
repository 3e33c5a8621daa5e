"""One kind that the search was made with, planted into one export: exactly one demonstrated finding is right."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from backscan.converters import OrtClassifier, artifact_from_bytes
from backscan.scanner.results import GraphFinding
from backscan.scanner.switches.findings import find_graph_findings
from benchmarks.exporters.cases import Case
from benchmarks.exporters.models import ARCHITECTURES, NUM_CLASSES
from benchmarks.switches.backdoors import plant_switch, triggered
from benchmarks.switches.hosts import HOSTS, described, exported, ordinary_images
from benchmarks.victims.export import opened

SECONDS = 300.0
"""Time for the searches of one file: five times that of a scan, for tables are made on machines that do other work."""


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
    found = findings_of(planted, runtime, images)
    seconds = time.perf_counter() - start
    marked = triggered(kind, images) if kind else images
    changed = float(np.mean(runtime.decisions(marked) != _opened(plain).decisions(marked)))
    passed = not found if not kind else changed > 0 and [f.demonstrated for f in found] == [True]
    return Row(kind, described(host), round(changed, 3), tuple(map(_described, found)), passed, round(seconds, 1))


def _opened(model: onnx.ModelProto) -> OrtClassifier:
    return opened(model.SerializeToString(), threads=None)


def findings_of(
    model: onnx.ModelProto, runtime: OrtClassifier, images: NDArray[np.float32]
) -> tuple[GraphFinding, ...]:
    """What the search of a scan finds in a graph, by images [N, C, H, W] in [0, 1]."""
    artifact = artifact_from_bytes("model.onnx", model.SerializeToString())
    return find_graph_findings(
        artifact, runtime.signature, runtime.normalisation, images, decisions=runtime.decisions, seconds=SECONDS
    )


def _described(finding: GraphFinding) -> str:
    shown = f", {finding.source} -> {finding.target}" if finding.demonstrated else ""
    return f"{finding.severity} {finding.rule}{shown}"
