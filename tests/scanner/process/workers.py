"""What opens a planted model in a worker."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from backscan.converters import artifact_from_bytes, with_external


def message(data: bytes, *, external: Mapping[str, bytes] | None = None, **changes: Any) -> dict[str, Any]:
    """The message of `Worker.open` for a model, other parts changed."""
    artifact = artifact_from_bytes("planted.onnx", data)
    if external:
        artifact = with_external(artifact, external)
    return {
        "artifact": {
            "name": artifact.name,
            "data": artifact.data,
            "external": dict(artifact.external),
            "sha256": artifact.sha256,
        },
        "output_name": None,
        "image_size": None,
        "threads": 1,
        "device": "cpu",
        "runtime_only": False,
    } | changes
