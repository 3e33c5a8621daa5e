"""What the scanner makes of one file with a switch, opened and looked through as `scanner check` does it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from backscan.converters import Normalisation, OrtClassifier, artifact_from_bytes, open_runtime, read_signature
from backscan.scanner import ScanConfig
from backscan.scanner.errors import NoVerdictError
from backscan.scanner.process.parent import open_process
from backscan.scanner.results import GraphFinding
from benchmarks.exporters.cases import Case
from benchmarks.exporters.models import ARCHITECTURES, NUM_CLASSES
from benchmarks.provenance import commit
from benchmarks.switches.hosts import described, exported, ordinary_images
from benchmarks.switches.kinds import KINDS, plant_kind

DEMONSTRATED, LISTED, REFUSED, UNEXAMINED, MISSED = "demonstrated", "listed", "refused", "not examined", "missed"
"""Outcomes of a file with a switch: an error, a warning with a planted node, no import because of one, a note that
places were not examined, and none of these."""
_PLANTED = "planted_"


@dataclass(frozen=True, slots=True)
class Tried:
    """One file."""

    kind: str
    """Name of the kind; empty for none."""
    host: str
    """The export."""
    changed: float
    """Share of the images that the trigger makes the file decide otherwise than the export does, in the worst call."""
    outcome: str
    """One of the five; empty for no finding in an export without a switch."""
    said: tuple[str, ...]
    """Severities and rules, or why the file was refused."""
    seconds: float
    """Time from the bytes to the findings."""
    commit: str = ""
    """State of the scanner that it was tried on."""

    @property
    def is_right(self) -> bool:
        """Whether a switch that works ends in no exit code 0 without its node, or an export in nothing at all."""
        return self.changed > 0 and self.outcome != MISSED if self.kind else not self.said


def try_kind(kind: str, host: Case) -> Tried:
    """Plant a kind into an export, and look for it."""
    size = ARCHITECTURES[host.model].size
    plain, images = exported(host), ordinary_images(size)
    planted = plant_kind(kind, plain, (3, size, size), NUM_CLASSES) if kind else plain
    start = time.perf_counter()
    found, refusal = _looked_through(planted, images)
    seconds = time.perf_counter() - start
    changed = _changed(planted, plain, images, KINDS[kind].trigger(images)) if kind else 0.0
    said = (refusal,) if refusal else tuple(f"{finding.severity} {finding.rule}" for finding in found)
    outcome = (_outcome(found, refusal) if kind else "") or ("" if not said else "finding")
    return Tried(kind, described(host), round(changed, 3), outcome, said, round(seconds, 1), commit())


def _looked_through(model: onnx.ModelProto, images: NDArray[np.float32]) -> tuple[Sequence[GraphFinding], str]:
    """The findings, or why there is no verdict."""
    artifact = artifact_from_bytes("model.onnx", model.SerializeToString())
    with open_process(sandbox=False) as process:
        try:
            opened = process.open(artifact, ScanConfig())
            return opened.settle(Normalisation()).find_switches(images, seed=0).findings, ""
        except NoVerdictError as error:
            return (), str(error)


def _outcome(found: Sequence[GraphFinding], refusal: str) -> str:
    named = [f for f in found if any(_PLANTED in node for node in f.nodes)]
    if any(finding.demonstrated for finding in named):
        return DEMONSTRATED
    if any(finding.rule != "unexamined-switches" for finding in named):
        return LISTED
    if named:
        return UNEXAMINED
    return REFUSED if _PLANTED in refusal else MISSED


def _changed(
    planted: onnx.ModelProto, plain: onnx.ModelProto, images: NDArray[np.float32], marked: NDArray[np.float32]
) -> float:
    """The largest share of changed decisions: all marked, each alone, one among others, all behind a marked one."""
    before = _opened(plain)
    expected = before.decisions(marked)
    shares = []
    for after in _heads(planted):
        mixed = np.concatenate([_among(after, marked, images, index) for index in range(len(images))])
        led = after.decisions(np.concatenate([marked[:1], images]))[1:]
        alone = np.concatenate([after.decisions(image[None]) for image in marked])
        shares += [np.mean(decided != expected) for decided in (after.decisions(marked), alone, mixed)]
        shares.append(np.mean(led != before.decisions(images)))
    return float(max(shares))


def _among(
    model: OrtClassifier, marked: NDArray[np.float32], images: NDArray[np.float32], index: int
) -> NDArray[np.int64]:
    call = np.concatenate([images[:4], marked[index : index + 1]])
    return model.decisions(call)[-1:]


def _heads(model: onnx.ModelProto) -> list[OrtClassifier]:
    return [_opened(model, output.name) for output in model.graph.output]


def _opened(model: onnx.ModelProto, output_name: str | None = None) -> OrtClassifier:
    artifact = artifact_from_bytes("model.onnx", model.SerializeToString())
    return open_runtime(artifact, read_signature(artifact, output_name=output_name))
