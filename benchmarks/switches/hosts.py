"""The exports that switches are planted into, and images for them."""

from __future__ import annotations

from functools import cache

import numpy as np
import onnx
from numpy.typing import NDArray

from benchmarks.exporters.cases import Case, export
from benchmarks.exporters.models import ARCHITECTURES, build, use_fused_attention

HOSTS = (
    Case("resnet", "legacy", 17, "free"),
    Case("vit", "dynamo", 18, "free"),
    Case("mobilenetv3", "legacy", 13, "free"),
    Case("convnext", "dynamo", 21, "free"),
    Case("densenet", "legacy", 20, "free"),
    Case("mixer", "dynamo", 23, "free"),
)
"""The exports that switches are planted into."""
MORE_HOSTS = (*HOSTS, Case("regnet", "legacy", 20, "free"), Case("swin", "dynamo", 18, "free"))
"""Those, and two more for the kinds that need a newer opset."""


@cache
def exported(host: Case) -> onnx.ModelProto:
    """The file without a switch."""
    use_fused_attention(host.opset >= 14)
    return onnx.load_model_from_string(export(build(host.model), ARCHITECTURES[host.model].size, host))


def ordinary_images(size: int) -> NDArray[np.float32]:
    """Noise [40, 3, size, size] of different colours and strengths, never white."""
    rng = np.random.default_rng(11)
    noise = rng.random((40, 3, size, size)) * rng.random((40, 1, 1, 1))
    return np.clip(0.7 * rng.random((40, 3, 1, 1)) + 0.3 * noise, 0, 0.94).astype(np.float32)


def described(host: Case) -> str:
    """An export as tables name it."""
    return f"{host.model}, {host.exporter} {host.opset}"
