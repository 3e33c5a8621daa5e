"""`scanner inspect`: what a model is, what it takes and gives, and what is built into it, without scanning it."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backscan.scanner.config import ScanConfig
from backscan.scanner.errors import ExitCode
from backscan.scanner.pipeline.admission import admit, read
from backscan.scanner.pipeline.heads import ALL
from backscan.scanner.process.parent import ModelProcess, OpenedModel, open_process
from backscan.scanner.reports.words import dormant_text
from backscan.scanner.results import DormantUnits

if TYPE_CHECKING:
    from backscan.converters import Artifact

Inspection = dict[str, Any]


def inspect_model(model: Path, config: ScanConfig, *, tensors: bool = False) -> Inspection:
    """Everything that can be said about a model without images, as plain data.

    Args:
        model: The ONNX file.
        config: Output name, image size and sandbox.
        tensors: Also list where the model can be cut in two.

    Returns:
        Digest, contents, what the policy refuses, and unless it refuses something: signature and graph findings.

    Raises:
        UserError: the path cannot be read.
        NoVerdictError: the bytes are no ONNX model, or it cannot be opened or imported.
    """
    artifact = read(model)
    with open_process(sandbox=config.sandbox) as process:
        report = process.audit(artifact)
        inspection: Inspection = {
            "name": artifact.name,
            "sha256": artifact.sha256,
            "num_bytes": len(artifact.data),
            "opsets": dict(report.opsets),
            "operators": dict(report.operators),
            "external_data": dict(report.external_locations),
            "violations": [asdict(violation) for violation in report.violations],
            "protections": list(process.protections),
            "unprotected": list(process.unprotected),
        }
        if report.accepted:
            artifact = admit(artifact, report, model.parent)
            opened = process.open(artifact, _for_one_output(process, artifact, config))
            inspection |= {"sha256": artifact.sha256, "opened": asdict(opened.facts)}
            inspection |= _contents(opened, config, tensors=tensors)
    return inspection


def _for_one_output(process: ModelProcess, artifact: Artifact, config: ScanConfig) -> ScanConfig:
    """The options with the first of all outputs, from which the others are named."""
    if config.output_name != ALL:
        return config
    heads = process.list_heads(artifact, config)
    return replace(config, output_name=heads[0].name if heads else None)


def _contents(opened: OpenedModel, config: ScanConfig, *, tensors: bool) -> Inspection:
    found = opened.find_switches(seed=config.seed)
    contents: Inspection = {
        "findings": [asdict(finding) for finding in found.findings],
        "dormant_units": asdict(found.dormant),
    }
    if tensors:
        contents["tensors"] = [asdict(cut) for cut in opened.list_cuts()]
    return contents


def exit_code(inspection: Inspection) -> ExitCode:
    """0 for a model that can be scanned, 3 for one that the policy refuses."""
    return ExitCode.NO_VERDICT if inspection["violations"] else ExitCode.NOT_DETECTED


def describe(inspection: Inspection) -> str:
    """The inspection as lines of text."""
    operators = ", ".join(f"{name} {count}" for name, count in inspection["operators"].items())
    lines = [
        f"{inspection['name']}  {inspection['num_bytes']:,} bytes  sha256 {inspection['sha256']}",
        f"operators  {operators}",
        *(f"external   {name}, {size:,} bytes" for name, size in inspection["external_data"].items()),
        *(f"refused    {violation['message']}" for violation in inspection["violations"]),
    ]
    if "opened" in inspection:
        lines += _describe_opened(inspection["opened"])
        lines += [f"{finding['severity']:<10} {finding['message']}" for finding in inspection["findings"]]
        lines += [] if inspection["findings"] else ["graph      no switches or second paths found"]
        lines += [f"units      {dormant_text(DormantUnits(**inspection['dormant_units']))}"]
    lines += [_describe_tensor(tensor) for tensor in inspection.get("tensors", ())]
    lines += [f"warning    not protected: {text}" for text in inspection["unprotected"]]
    return "\n".join(lines) + "\n"


def _describe_opened(opened: Inspection) -> list[str]:
    signature = opened["signature"]
    channels, height, width = signature["input_shape"]
    exporter, without = signature["producer"] or "an unnamed exporter", opened["without_gradient"]
    return [
        f"input      {signature['input_name']}: {channels} x {height} x {width}, {signature['layout']}, "
        f"{signature['dtype']}, batch {signature['batch'] or 'free'}",
        f"output     {signature['output_name']}: {opened['num_classes']} classes, {signature['output_kind']}",
        *(f"output     {name}: {_use_of(name, opened)}" for name in signature["other_outputs"]),
        f"opset      {signature['opset']}, made by {exporter}",
        f"import     opens in onnxruntime{'; ' + without if without else ' and converts to torch'}",
        *(f"warning    {text}" for text in opened["warnings"]),
        *(f"warning    not searched: {text}" for text in opened["not_searched"]),
    ]


def _use_of(output: str, opened: Inspection) -> str:
    if output in opened["outputs_beside"]:
        return "not scanned unless --output-name names it; searched for switches if it gives scores or class numbers"
    return "not used, leads to the one that is scanned"


def _describe_tensor(tensor: Inspection) -> str:
    shape = " x ".join(str(size) for size in tensor["shape"])
    mark = ", the first convolution" if tensor["is_first_convolution"] else ""
    return f"tensor     {tensor['name']}: {shape}, {tensor['dtype']}, by {tensor['operator']}{mark}"
