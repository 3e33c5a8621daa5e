"""`--output-name all`: what in a file is scores of classes, each to be scanned for itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from backscan.scanner.errors import NoVerdictError
from backscan.scanner.pipeline.admission import admitted_by, read
from backscan.scanner.process.parent import open_process

if TYPE_CHECKING:
    from backscan.scanner.config import ScanConfig
    from backscan.scanner.images.cleanset import CleanSet
    from backscan.scanner.process.protocol import Head

ALL = "all"
"""What `--output-name` is called for every head."""


def heads_of(model: Path, clean: CleanSet | None, config: ScanConfig) -> tuple[Head, ...]:
    """The heads of a file; none where it cannot be read, as a scan will say.

    Args:
        model: The ONNX file.
        clean: Clean images, if there are any.
        config: Options of the scan.

    Raises:
        UserError: the path is missing or cannot be read.
    """
    try:
        artifact = read(model)
        with open_process(sandbox=config.sandbox) as process:
            artifact = admitted_by(process, artifact, model.parent)
            return process.list_heads(artifact, config, None if clean is None else clean.shape)
    except NoVerdictError:
        return ()


def images_for(head: Head, clean: CleanSet | None) -> CleanSet | None:
    """The images, without labels that cannot be this head's, as it has fewer classes than they name."""
    if clean is None or clean.labels is None or clean.labels.max() < head.num_classes:
        return clean
    note = (
        f"the labels name more classes than the {head.num_classes} of output {head.name[:80]!a}: its own decisions "
        "stand in for them"
    )
    return replace(clean, labels=None, warnings=(*clean.warnings, note))
