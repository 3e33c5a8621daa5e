"""Import real models made by others, and set each beside onnxruntime on real images.

    python -m benchmarks.imports --models ../shared/models --data ../shared/data --out benchmarks/results

For every model: decisions, scores and gradient of the torch copy against onnxruntime (parity, as `scanner check` judges
it), findings in the graph without and with images, and the time of import plus parity once the libraries are loaded.
The folder of the models must be as it was afterwards. Models and images never enter the project.
"""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from backscan.converters import (
    Artifact,
    ConverterError,
    ModelSignature,
    Normalisation,
    OrtClassifier,
    ParityReport,
    Policy,
    artifact_from_bytes,
    audit,
    compare,
    import_model,
    open_runtime,
    read_artifact,
    read_external,
    read_signature,
    with_external,
)
from backscan.scanner import CleanSet, ScanConfig
from backscan.scanner.images.preprocessing import settle_preprocessing
from backscan.scanner.switches.findings import find_graph_findings
from benchmarks import command
from benchmarks.provenance import circumstances
from benchmarks.real_models import MODELS
from benchmarks.table import grid, page

_NUM_IMAGES = 256
_LIBRARIES = ("torch", "onnx", "onnxruntime", "onnx2torch")
_DATA = {model.name: model.data for model in MODELS}
_FOREIGN = {"edwin19_fashion_mnist": "mnist_clean", "rapidocr_cls": "cifar10_clean"}
"""Models of whose task there are no images: real ones of another task, whose labels mean nothing to them."""
_HEADINGS = (
    "model", "images", "preprocessing", "accuracy", "parity", "decisions", "scores", "gradient", "findings", "wall s",
    "cpu s",
)  # fmt: skip
_SIZES = {"rapidocr_cls": (48, 192)}
"""Models that take any size, with the one they are meant for."""


@dataclass(frozen=True, slots=True)
class Row:
    """What became of one model."""

    model: str
    """Name of the file without suffix."""
    data: str
    """Name of the images."""
    preprocessing: str = ""
    """How pixels became model input; chosen by accuracy where labels fit."""
    accuracy: float | None = None
    """Share of the images decided as labelled."""
    status: str = "passed"
    """`passed`, or why not."""
    decision_agreement: float | None = None
    """Share of the images decided alike."""
    logit_gap: float | None = None
    """Largest difference of a score, relative to the largest score."""
    gradient_error: float | None = None
    """Relative error of the gradient against central differences."""
    note: str = ""
    """What the parity check has to say besides."""
    findings: tuple[str, ...] = ()
    """What is reported of the graph, without images and with them."""
    wall_seconds: float | None = None
    """Import and parity, wall time."""
    cpu_seconds: float | None = None
    """Import and parity, processor time."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A model opened in onnxruntime, and images as it takes them."""

    artifact: Artifact
    """Its bytes."""
    signature: ModelSignature
    """What goes in and what comes out."""
    runtime: OrtClassifier
    """The file in onnxruntime, with the normalisation that was settled on."""
    images: NDArray[np.float32]
    """Some of the images [N, C, H, W], fitted to the input."""
    preprocessing: str
    """Name of the normalisation."""
    accuracy: float | None
    """Share of all images decided as labelled; None where labels mean nothing."""


def load(path: Path) -> Artifact:
    """The model with its external data, as the intake admits them."""
    artifact = read_artifact(path, max_bytes=Policy().max_file_bytes)
    external = read_external(path.parent, audit(artifact.data).external_locations, Policy())
    return with_external(artifact, external) if external else artifact


def prepare(path: Path, clean: CleanSet, *, labelled: bool) -> Prepared:
    """Open a model and settle how pixels become its input."""
    artifact = load(path)
    signature = read_signature(artifact, image_size=_SIZES.get(path.stem))
    runtime = open_runtime(artifact, signature)
    fitted = clean.fit_to(signature.input_shape)
    name, normalisation, accuracy = "pixels in [0, 1]", Normalisation(), None
    if labelled:

        def decide(images: NDArray[np.float32], candidate: Normalisation) -> NDArray[np.int64]:
            return runtime.with_normalisation(candidate).decisions(images)

        settled = settle_preprocessing(fitted, decide, ScanConfig())
        name, normalisation, accuracy = settled.names[0], settled.normalisations[0], settled.accuracy
    chosen = np.linspace(0, len(fitted.images) - 1, _NUM_IMAGES).astype(int)
    return Prepared(
        artifact, signature, runtime.with_normalisation(normalisation), fitted.images[chosen], name, accuracy
    )


def import_and_compare(prepared: Prepared) -> ParityReport:
    """What is timed: from the bytes to a torch copy that is known to decide as the file does."""
    signature = read_signature(prepared.artifact, image_size=prepared.signature.input_shape[1:])
    copy = import_model(prepared.artifact, signature).with_normalisation(prepared.runtime.normalisation)
    return compare(copy, prepared.runtime, prepared.images)


def examine(path: Path, data: str, clean: CleanSet) -> Row:
    """The row of one model."""
    try:
        prepared = prepare(path, clean, labelled=path.stem not in _FOREIGN)
        report, wall, cpu = _timed(lambda: import_and_compare(prepared))
    except ConverterError as error:
        return Row(path.stem, data, status=str(error))
    findings = [
        find_graph_findings(
            prepared.artifact, prepared.signature, prepared.runtime.normalisation, images,
            decisions=prepared.runtime.decisions,
        )
        for images in (None, prepared.images)
    ]  # fmt: skip
    return Row(
        path.stem,
        data,
        prepared.preprocessing,
        prepared.accuracy,
        "passed" if report.passed else report.reason,
        report.decision_agreement,
        report.largest_logit_gap,
        report.gradient_error,
        report.gradient_warning or "",
        tuple(f"{finding.severity}: {finding.message}" for found in findings for finding in found),
        round(wall, 2),
        round(cpu, 2),
    )


def _timed(work: Callable[[], ParityReport]) -> tuple[ParityReport, float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    report = work()
    return report, time.perf_counter() - wall, time.process_time() - cpu


def warm_up() -> None:
    """Load the libraries, with a model that is not among those measured."""
    sample = resources.files("backscan.scanner") / "samples" / "digits_backdoored.onnx"
    artifact = artifact_from_bytes("sample.onnx", sample.read_bytes())
    signature = read_signature(artifact)
    copy, runtime = import_model(artifact, signature), open_runtime(artifact, signature)
    compare(copy, runtime, np.zeros((8, *signature.input_shape), np.float32))


def fingerprint(folder: Path) -> str:
    """Digest over names, times and bytes of a folder."""
    parts = [
        f"{path.name} {path.stat().st_mtime_ns} {hashlib.sha256(path.read_bytes()).hexdigest()}"
        for path in sorted(folder.iterdir())
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def table(rows: Sequence[Row], *, unchanged: bool, made_by: str) -> str:
    """The rows as Markdown."""
    passed = sum(row.status == "passed" for row in rows)
    findings = sum(len(row.findings) for row in rows)
    foreign = ", ".join(row.model for row in rows if row.model in _FOREIGN)
    notes = [f"- {row.model}: {row.note}" for row in rows if row.note]
    return page(
        "Imports of real models made by others",
        f"Made by `{made_by}` {circumstances(_LIBRARIES)}, one thread per operator.",
        f"{passed} of {len(rows)} import and pass parity on {_NUM_IMAGES} real images; {findings} findings in their "
        f"graphs, looked at without and with those images; the folder of the models was "
        f"{'left as it was' if unchanged else '**changed**'}. Seconds are import plus parity once the libraries are "
        "loaded, of the wall and of the processor.",
        grid(_HEADINGS, map(_cells, rows), "l" * len(_HEADINGS)),
        [*notes, *([f"- no images of their own task: {foreign}"] if foreign else [])],
    )


def _cells(row: Row) -> tuple[object, ...]:
    def number(value: float | None, form: str) -> str:
        return "" if value is None else format(value, form)

    return (
        row.model, row.data, row.preprocessing, number(row.accuracy, ".3f"), row.status,
        number(row.decision_agreement, ".4g"), number(row.logit_gap, ".1g"), number(row.gradient_error, ".1g"),
        len(row.findings), number(row.wall_seconds, ".2f"), number(row.cpu_seconds, ".2f"),
    )  # fmt: skip


def main() -> int:
    """Import all models of a folder; exit 1 if one does not pass, or has a finding."""
    parser = command.parser(__doc__, out="imports.json and imports.md")
    parser.add_argument("--models", type=Path, required=True, help="folder with the ONNX files")
    parser.add_argument("--data", type=Path, required=True, help="folder with the clean images")
    options = parser.parse_args()
    before, images, rows = fingerprint(options.models), dict[str, CleanSet](), list[Row]()
    warm_up()
    for path in sorted(options.models.glob("*.onnx")):
        data = (_DATA | _FOREIGN).get(path.stem)
        if data is None:
            raise SystemExit(
                f"expected a known model, found {path.name}: say in benchmarks.exporters.imports which images it takes"
            )
        if data not in images:
            images[data] = CleanSet.load(options.data / f"{data}.npz")
        rows.append(examine(path, data, images[data]))
        print(rows[-1].model, rows[-1].status, rows[-1].wall_seconds, file=sys.stderr, flush=True)
    made_by = "python -m benchmarks.imports --models ../shared/models --data ../shared/data --out benchmarks/results"
    report = table(rows, unchanged=fingerprint(options.models) == before, made_by=made_by)
    print(report)
    command.publish(options.out, "imports", report, [asdict(row) for row in rows])
    return int(any(row.status != "passed" or row.findings for row in rows))
