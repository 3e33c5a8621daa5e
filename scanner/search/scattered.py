"""Single pixels anywhere that send most images to a target together: the sets of attacks that count pixels (L0).

A set grows pixel by pixel. What a further pixel would gain is known to first order for all of them at once, from the
gradient on images that carry the set: g (v - x), summed over the images, is largest at the lowest or the highest value
v of the range. The best of these are tried, their contents moved as windows' are, and the best few sets grow on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from backscan.scanner.search.effort import (
    FIRST_PIXELS,
    FURTHER_PIXELS,
    GROW,
    LAST,
    LAST_KEPT,
    LOOK,
    NARROW,
    SETS_KEPT,
    pixels_added,
)
from backscan.scanner.search.halving import margin
from backscan.scanner.search.supports import Supports, window_grid

if TYPE_CHECKING:
    from torch import Tensor

    from backscan.scanner.search.effort import Stage
    from backscan.scanner.search.halving import Climb

_GRID = 9  # pixels a side that are tried whatever their gradient


def find_scattered(climb: Climb, number: int) -> Supports | None:
    """The pixels, so many, and their content that send most images to the target; None if the time was up."""
    if climb.stopped():
        return None
    sets = _best(climb, _single(climb), LOOK, SETS_KEPT)
    sets = _best(climb, sets, NARROW, SETS_KEPT)
    for added in pixels_added(number):
        if climb.stopped():
            return None
        sets = _best(climb, _grown(climb, sets, added), GROW, SETS_KEPT)
    return _best(climb, sets[:LAST_KEPT], LAST, 1)


def first_order_gains(climb: Climb, supports: Supports, num_images: int) -> tuple[Tensor, Tensor]:
    """What each pixel would gain beside each set, and the content it would need.

    Args:
        climb: What it is gained for.
        supports: The sets, [P, k] pixels each; their own pixels gain nothing.
        num_images: Images that are looked at.

    Returns:
        Gains [P, H * W] and contents [P, C, H * W].
    """
    gains, contents = [], []
    for index in range(len(supports)):
        images = supports[index : index + 1].on(climb.images[:num_images])[0].requires_grad_()
        score = torch.tanh(margin(climb.classifier.log_posterior(images), climb.target) / climb.scale).mean()
        (gradient,) = torch.autograd.grad(score, images)
        climb.work.gradients += len(images)
        slopes, values = gradient.flatten(2).nan_to_num(0.0), images.detach().flatten(2)  # [N, C, HW]
        total, moved = slopes.sum(dim=0), (slopes * values).sum(dim=0)
        low, high = total * climb.low - moved, total * climb.high - moved
        gain = torch.maximum(low, high).sum(dim=0)
        gains.append(gain.index_fill(0, supports.pixels[index], -torch.inf))
        contents.append(torch.where(high >= low, climb.high, climb.low))
    return torch.stack(gains), torch.stack(contents)


def _single(climb: Climb) -> Supports:
    """The pixels that would gain most, and some all over the image."""
    height, width = climb.images.shape[2:]
    nothing = torch.zeros((1, 0), dtype=torch.int64, device=climb.images.device)
    none = Supports(nothing, climb.images.new_zeros((1, climb.images.shape[1], 0)))
    gains, _ = first_order_gains(climb, none, LOOK.images)
    stride = max(1, -(-max(height, width) // _GRID))
    grid = [row * width + column for row, column in window_grid(height, width, 1, stride)]
    chosen = dict.fromkeys((*grid, *gains[0].argsort(descending=True, stable=True)[:FIRST_PIXELS].tolist()))
    return climb.grey(torch.tensor(list(chosen), device=climb.images.device).unsqueeze(1))


def _grown(climb: Climb, sets: Supports, added: int) -> Supports:
    """Each set with each of the pixels that would gain most beside it, and with the best others where several enter."""
    gains, contents = first_order_gains(climb, sets, GROW.images)
    pixels, content = [], []
    for index, row in enumerate(gains):
        order = row.argsort(descending=True, stable=True)
        for place in range(min(FURTHER_PIXELS, len(row) - sets.pixels.shape[1] - added + 1)):
            new = torch.cat([order[place : place + 1], order[:place], order[place + 1 :]])[:added]
            pixels.append(torch.cat([sets.pixels[index], new]))
            content.append(torch.cat([sets.content[index], contents[index][:, new]], dim=1))
    return Supports(torch.stack(pixels), torch.stack(content))


def _best(climb: Climb, sets: Supports, stage: Stage, kept: int) -> Supports:
    """The sets with the largest scores, the largest first, each set of pixels once."""
    moved, scores = climb.ascend(sets, stage)
    found: dict[frozenset[int], int] = {}
    for index in scores.argsort(descending=True, stable=True).tolist():
        found.setdefault(frozenset(moved.pixels[index].tolist()), index)
    return moved[torch.tensor(list(found.values())[:kept], device=moved.pixels.device)]
