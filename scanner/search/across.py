"""What the pattern of one class pair does to the images of all classes, at one size for all patterns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from backscan.converters import TorchClassifier

_IMAGES_PER_PASS = 64


def decided_with(
    classifier: TorchClassifier,
    images: Tensor,
    patterns: Sequence[Tensor],
    *,
    threads: int = 1,
    images_at_once: int | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> Tensor | None:
    """Decisions on images with each of some patterns added, int64 [P, N]; None if the time was up.

    Args:
        classifier: The model.
        images: [N, C, H, W].
        patterns: [C, H, W] each.
        threads: Patterns that are tried beside each other.
        images_at_once: Most images of a pass; None is any.
        stopped: Asked before every pass.
    """
    portions = torch.split(images, min(_IMAGES_PER_PASS, images_at_once or _IMAGES_PER_PASS))

    def decided(pattern: Tensor) -> Tensor:
        with torch.no_grad():
            found = [classifier.log_posterior((own + pattern).clamp(0.0, 1.0)) for own in portions if not stopped()]
        return torch.cat(found).argmax(dim=1) if len(found) == len(portions) else images.new_zeros(0)

    with ThreadPoolExecutor(threads) as pool:
        rows = list(pool.map(decided, patterns))
    return None if any(len(row) < len(images) for row in rows) else torch.stack(rows)
