"""`scanner inspect`: what a model takes and gives, without scanning it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from backscan.scanner.config import ScanConfig
from backscan.scanner.executors import open_subject
from backscan.scanner.model_file import audit, read


def inspect_model(model: Path, config: ScanConfig) -> dict[str, Any]:
    """Name, digest, signature and import of a model, as plain data.

    Raises:
        UserError: the path cannot be read.
        NoVerdictError: the model is refused or cannot be imported.
    """
    artifact = read(model)
    with open_subject(config) as subject:
        artifact = audit(subject, artifact, model.parent)
        opened = subject.open(artifact, config)
        return {
            "name": artifact.name,
            "sha256": artifact.sha256,
            "num_bytes": len(artifact.data),
            "num_classes": opened.num_classes,
            "signature": asdict(opened.signature),
            "provider": opened.provider,
            "warnings": list(opened.warnings),
            "protections": list(subject.protections),
            "unprotected": list(subject.unprotected),
        }


def describe(inspection: dict[str, Any]) -> str:
    """The inspection as lines of text."""
    signature = inspection["signature"]
    channels, height, width = signature["input_shape"]
    batch = signature["batch"] or "free"
    lines = [
        f"{inspection['name']}  {inspection['num_bytes']:,} bytes  sha256 {inspection['sha256']}",
        f"input   {signature['input_name']}: {channels} x {height} x {width}, {signature['layout']}, "
        f"{signature['dtype']}, batch {batch}",
        f"output  {signature['output_name']}: {inspection['num_classes']} classes, {signature['output_kind']}",
        f"opset   {signature['opset']}, made by {signature['producer'] or 'an unnamed exporter'}",
        "import  opens in onnxruntime and converts to torch",
    ]
    lines += [f"other output not used: {name}" for name in signature["other_outputs"]]
    lines += [f"warning: {text}" for text in inspection["warnings"]]
    lines += [f"not protected: {text}" for text in inspection["unprotected"]]
    return "\n".join(lines) + "\n"
