"""The cells of the exporter matrix, and the files that torch's two exporters write for them."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import nn

OPSETS = {"legacy": (11, 13, 17, 20), "dynamo": (18, 21, 23)}
"""Exporter -> opsets."""


@dataclass(frozen=True, slots=True)
class Case:
    """One cell of the matrix."""

    model: str
    """Name of the architecture."""
    exporter: str
    """`legacy` or `dynamo`."""
    opset: int
    """Version of the standard operators."""
    batch: str
    """`free` or `fixed` (at 1)."""


def cases(models: Sequence[str], exporters: Sequence[str]) -> Iterator[Case]:
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
