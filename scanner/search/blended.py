"""One picture faintly over the whole image that sends most images to a target, as blended attacks plant it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from backscan.scanner.search.effort import BLEND
from backscan.scanner.search.supports import Supports

if TYPE_CHECKING:
    from backscan.scanner.search.halving import Climb


def find_blend(climb: Climb, opacity: float) -> Supports | None:
    """The picture of some opacity that sends most images to the target; None if the time was up."""
    height, width = climb.images.shape[2:]
    pixels = torch.arange(height * width, device=climb.images.device).unsqueeze(0)
    grey = climb.grey(pixels)
    picture = Supports(pixels, grey.content, opacity)
    for stage in BLEND:
        if climb.stopped():
            return None
        picture, _ = climb.ascend(picture, stage)
    return picture
