"""An image as a PNG file."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def png(image: NDArray[Any]) -> bytes:
    """An image [C, H, W] in [0, 1] as PNG: one or three channels as they are, others by their mean."""
    from PIL import Image

    shown = image if len(image) in (1, 3) else image.mean(axis=0, keepdims=True)
    pixels = np.round(np.clip(shown, 0.0, 1.0) * 255).astype(np.uint8).transpose(1, 2, 0)
    buffer = io.BytesIO()
    picture = Image.fromarray(np.ascontiguousarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels))
    picture.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()
