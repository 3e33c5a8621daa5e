"""From a trained network to the ONNX file that is scanned, and back to its decisions."""

import io
import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

OPSET = 17
"""Newest opset of which every operator of these networks is in onnx2torch's own registry."""


def to_onnx(network: "torch.nn.Module", shape: tuple[int, int, int]) -> bytes:  # noqa: F821 - torch loads in here
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


class ExportedModel:
    """Decisions of an ONNX file, by onnxruntime."""

    def __init__(self, model: bytes | Path, *, batch_size: int = 1000) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        data = model if isinstance(model, bytes) else model.read_bytes()
        self._session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        self._batch_size = batch_size

    def decide(self, images: NDArray[np.float32]) -> NDArray[np.int64]:
        """The class [N] with the largest logit of each image [N, C, H, W] in [0, 1]."""
        name = self._session.get_inputs()[0].name
        starts = range(0, len(images), self._batch_size)
        logits = [self._session.run(None, {name: images[i : i + self._batch_size]})[0] for i in starts]
        return np.concatenate(logits).argmax(axis=1).astype(np.int64)
