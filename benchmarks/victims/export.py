"""From a trained network to the ONNX file that is scanned, and back to its decisions."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

from backscan.converters import OrtClassifier, artifact_from_bytes, open_runtime, read_signature

OPSET = 17
"""Newest opset of which every operator of these networks is in onnx2torch's own registry."""


def to_onnx(network: torch.nn.Module, shape: tuple[int, int, int]) -> bytes:  # noqa: F821 - torch loads in here
    """Serialise a network with input `images` [N, C, H, W] and output `logits` [N, K], N free."""
    import torch

    buffer = io.BytesIO()
    batch_axis = {0: "batch"}
    with warnings.catch_warnings():
        # The TorchScript exporter is meant: it writes opset 17 without onnxscript's rewrites.
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        # ResNet's shortcuts drop every second pixel: a Slice that stays in the graph, which is right.
        warnings.filterwarnings("ignore", message="Constant folding", category=UserWarning)
        torch.onnx.export(
            network.eval().cpu(),
            (torch.zeros(1, *shape),),
            buffer,
            dynamo=False,
            opset_version=OPSET,
            input_names=["images"],
            output_names=["logits"],
            dynamic_axes={"images": batch_axis, "logits": batch_axis},
        )
    return buffer.getvalue()


def opened(model: bytes | Path, *, threads: int | None = 1) -> OrtClassifier:
    """The exported file in onnxruntime; its `decisions` are those of images [N, C, H, W] in [0, 1].

    Args:
        model: The file or its bytes.
        threads: Threads that one operator may use; None leaves it to onnxruntime.
    """
    artifact = artifact_from_bytes("model.onnx", model if isinstance(model, bytes) else model.read_bytes())
    return open_runtime(artifact, read_signature(artifact), threads=threads)
