"""`scanner inspect`: what a model is, what it takes and gives, and what is built into it, without scanning it."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backscan.scanner.config import FEW_CLASSES, ScanConfig
from backscan.scanner.errors import ExitCode, NoVerdictError
from backscan.scanner.pipeline.admission import admit, read
from backscan.scanner.pipeline.heads import ALL
from backscan.scanner.process.parent import ModelProcess, OpenedFile, open_process
from backscan.scanner.reports.words import dormant_text
from backscan.scanner.results import LIMITS_OF_TRANSFERABILITY, POWER_OF_TRANSFERABILITY, DormantUnits

if TYPE_CHECKING:
    from backscan.converters import Artifact, IntakeReport

Inspection = dict[str, Any]


def inspect_model(model: Path, config: ScanConfig, *, tensors: bool = False) -> Inspection:
    """Everything that can be said about a model without images, as plain data.

    Args:
        model: The ONNX file.
        config: Output name, image size and sandbox.
        tensors: Also list where the model can be cut in two.

    Returns:
        Digest, contents, what the policy refuses, and unless it refuses something: signature and graph findings. Where
        the file is no ONNX model, or cannot be opened or imported: the reason, under `refused`, and what was read.

    Raises:
        UserError: the path cannot be read.
        NoVerdictError: the file is larger than the policy allows.
    """
    artifact = read(model)
    inspection: Inspection = {"name": artifact.name, "sha256": artifact.sha256, "num_bytes": len(artifact.data)}
    inspection |= {"opsets": {}, "operators": {}, "external_data": {}, "violations": []}
    with open_process(sandbox=config.sandbox) as process:
        inspection |= {"protections": list(process.protections), "unprotected": list(process.unprotected)}
        try:
            report = process.audit(artifact)
            inspection |= _holdings(report)
            if report.accepted:
                artifact = admit(artifact, report, model.parent)
                opened = _open(inspection, process, artifact, config)
                inspection |= {"sha256": artifact.sha256, "opened": asdict(opened.facts)}
                inspection |= _contents(opened, config, tensors=tensors)
        except NoVerdictError as error:
            inspection.setdefault("refused", str(error))
    return inspection


def _holdings(report: IntakeReport) -> Inspection:
    """What the audit read in the bytes."""
    return {
        "producer": report.producer,
        "opsets": dict(report.opsets),
        "operators": dict(report.operators),
        "inputs": list(report.inputs),
        "outputs": list(report.outputs),
        "external_data": dict(report.external_locations),
        "violations": [asdict(violation) for violation in report.violations],
    }


def _open(inspection: Inspection, process: ModelProcess, artifact: Artifact, config: ScanConfig) -> OpenedFile:
    """The model; or the file alone, with the reason why there is no copy of it noted.

    Raises:
        NoVerdictError: the file cannot be opened either.
    """
    config = _for_one_output(process, artifact, config)
    try:
        return process.open(artifact, config)
    except NoVerdictError as error:
        inspection["refused"] = str(error)
        return process.open_file(artifact, config)


def _for_one_output(process: ModelProcess, artifact: Artifact, config: ScanConfig) -> ScanConfig:
    """The options with the first of all outputs, from which the others are named."""
    if config.output_name != ALL:
        return config
    heads = process.list_heads(artifact, config)
    return replace(config, output_name=heads[0].name if heads else None)


def _contents(opened: OpenedFile, config: ScanConfig, *, tensors: bool) -> Inspection:
    found = opened.find_switches(seed=config.seed)
    contents: Inspection = {
        "findings": [asdict(finding) for finding in found.findings],
        "dormant_units": asdict(found.dormant),
    }
    if tensors:
        contents["tensors"] = [asdict(cut) for cut in opened.list_cuts()]
    return contents


def exit_code(inspection: Inspection) -> ExitCode:
    """0 for a model that can be scanned, 3 for one that is refused or cannot be opened or imported."""
    is_refused = inspection["violations"] or "refused" in inspection
    return ExitCode.NO_VERDICT if is_refused else ExitCode.NOT_DETECTED


def describe(inspection: Inspection) -> str:
    """The inspection as lines of text."""
    operators = ", ".join(f"{name} {count}" for name, count in inspection["operators"].items())
    lines = [
        f"{inspection['name']}  {inspection['num_bytes']:,} bytes  sha256 {inspection['sha256']}",
        *([f"operators  {operators}"] if operators else []),
        *(_describe_declared(inspection) if "opened" not in inspection else ()),
        *(f"external   {name}, {size:,} bytes" for name, size in inspection["external_data"].items()),
        *(f"refused    {violation['message']}" for violation in inspection["violations"]),
        *([f"refused    {inspection['refused']}"] if "refused" in inspection else []),
    ]
    if "opened" in inspection:
        lines += _describe_opened(inspection["opened"], imported="refused" not in inspection)
    if "findings" in inspection:
        lines += [f"{finding['severity']:<10} {finding['message']}" for finding in inspection["findings"]]
        lines += [] if inspection["findings"] else ["graph      no switches or second paths found"]
        lines += [f"units      {dormant_text(DormantUnits(**inspection['dormant_units']))}"]
    lines += [_describe_tensor(tensor) for tensor in inspection.get("tensors", ())]
    lines += [f"warning    not protected: {text}" for text in inspection["unprotected"]]
    return "\n".join(lines) + "\n"


def _describe_declared(inspection: Inspection) -> list[str]:
    """What the graph of a file that was not opened says of itself."""
    opsets = ", ".join(f"{domain or 'ai.onnx'} {version}" for domain, version in inspection["opsets"].items())
    made_by = inspection.get("producer", "").strip()
    return [
        *(f"declares   input {text}" for text in inspection.get("inputs", ())),
        *(f"declares   output {text}" for text in inspection.get("outputs", ())),
        *([f"opset      {opsets}{f', made by {made_by}' if made_by else ''}"] if opsets else []),
    ]


def _describe_opened(opened: Inspection, *, imported: bool) -> list[str]:
    signature = opened["signature"]
    channels, height, width = signature["input_shape"]
    exporter, without = signature["producer"] or "an unnamed exporter", opened["without_gradient"]
    outcome = " and converts to torch" if imported else "; no copy in torch, so it cannot be scanned"
    return [
        f"input      {signature['input_name']}: {channels} x {height} x {width}, {signature['layout']}, "
        f"{signature['dtype']}, batch {signature['batch'] or 'free'}",
        f"output     {signature['output_name']}: {opened['num_classes']} classes, {signature['output_kind']}",
        *(f"labels     {text}" for text in _on_labels(opened)),
        *(f"classes    {text}" for text in _on_few_classes(opened["num_classes"])),
        *(f"output     {name}: {_use_of(name, opened)}" for name in signature["other_outputs"]),
        f"opset      {signature['opset']}, made by {exporter}",
        f"import     opens in onnxruntime{'; ' + without if without else outcome}",
        *(f"warning    {text}" for text in opened["warnings"]),
        *(f"warning    not searched: {text}" for text in opened["not_searched"]),
    ]


def _on_labels(opened: Inspection) -> list[str]:
    """What is to be known of sigmoids, which may be labels of their own: only images tell."""
    signature = opened["signature"]
    if signature["output_kind"] != "sigmoids" or opened["num_classes"] < 3:  # one sigmoid counts as two classes
        return []
    return [
        "each sigmoid may hold by itself: they are read as a choice of the largest, and a scan says if several hold at "
        f"once; --output-name '{signature['output_name']}[0]' reads the first as two classes"
    ]


def _on_few_classes(num_classes: int) -> list[str]:
    """What a scan tests of a model with so few classes, and with what power."""
    if ScanConfig().for_classes(num_classes).detectors != FEW_CLASSES:
        return []
    return [
        f"a scan of {num_classes} judges by detector {FEW_CLASSES[0]}, with at least 25 images of each: "
        f"{LIMITS_OF_TRANSFERABILITY}",
        f"tried: {POWER_OF_TRANSFERABILITY}",
    ]


def _use_of(output: str, opened: Inspection) -> str:
    if output in opened["outputs_beside"]:
        return "not scanned unless --output-name names it; searched for switches if it gives scores or class numbers"
    return "not used, leads to the one that is scanned"


def _describe_tensor(tensor: Inspection) -> str:
    shape = " x ".join(str(size) for size in tensor["shape"])
    mark = ", the first convolution" if tensor["is_first_convolution"] else ""
    return f"tensor     {tensor['name']}: {shape}, {tensor['dtype']}, by {tensor['operator']}{mark}"
