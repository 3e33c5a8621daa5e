"""What opens a planted model in a host."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from backscan.converters import artifact_from_bytes, with_external
from backscan.scanner.process.protocol import Open, encode


def message(data: bytes, *, external: Mapping[str, bytes] | None = None, **changes: Any) -> dict[str, Any]:
    """The message of `ModelHost.open` for a model, other parts changed."""
    artifact = artifact_from_bytes("planted.onnx", data)
    if external:
        artifact = with_external(artifact, external)
    request = Open(artifact, None, None, threads=1, device="cpu", runtime_only=False)
    return encode(request) | changes
