"""How far every target is reached, for the price of a few looks at all: content drawn at random, and the last layer.

One image that passes forward says something of all classes. Windows of random content in many places move the scores
of all targets at once; towards a planted one some of them lead far, as a part of its trigger already does. And the
features that the last layer sees tell how far each image is there from every target. Neither knows what a target is:
the same content, the same images and the same rule serve all.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from backscan.scanner.search.effort import CLIMBED_KEPT, content_per_place, stride_of
from backscan.scanner.search.supports import Corner, Supports, window_grid, window_pixels

if TYPE_CHECKING:
    from torch import Tensor

    from backscan.converters import TorchClassifier
    from backscan.converters.cuts.last_layer import LastLayer

_PURPOSE = 17  # keeps the content apart from every other use of the seed
# Blocks a side of random colours: one colour, and coarse patterns of several.
_BLOCKS = (1, 2, 4)
_IMAGES_PER_PASS = 64


@dataclass(slots=True)
class Probes:
    """Random content in windows, and what it does to the scores of all targets."""

    corners: tuple[Corner, ...]
    """Corner of each window, place after place."""
    side: int
    """Side of the windows."""
    low: Tensor
    """Least value of each channel, [C, 1]."""
    high: Tensor
    """Largest value of each channel, [C, 1]."""
    seed: int
    """Seed of the content."""
    gains: Tensor
    """By how much each window brings every target nearer, as a share of the median way, float64 [P, K]."""

    @classmethod
    def planned(cls, shape: tuple[int, int], side: int, bounds: tuple[Tensor, Tensor], seed: int) -> Probes:
        """The windows of an image of some height and width; nothing is asked yet."""
        grid = window_grid(*shape, side, stride_of(*shape))
        return cls(
            tuple(c for c in grid for _ in range(content_per_place(*shape))), side, *bounds, seed, torch.empty(0)
        )

    def supports(self, chosen: list[int], shape: tuple[int, int], side: int | None = None) -> Supports:
        """Some of the windows with their content, in images of some height and width; larger ones, if wanted."""
        side = side or self.side
        more = (side - self.side) // 2
        corners = [
            (min(max(row - more, 0), shape[0] - side), min(max(column - more, 0), shape[1] - side))
            for row, column in (self.corners[index] for index in chosen)
        ]
        pixels = window_pixels(corners, side, shape[1]).to(self.low.device)
        return Supports(pixels, torch.stack([self._content(index, side) for index in chosen]))

    def ask(
        self,
        classifier: TorchClassifier,
        images: Tensor,
        *,
        stopped: Callable[[], bool],
        images_at_once: int | None = None,
        threads: int = 1,
    ) -> None:
        """Measure what the windows do to some images [n, C, H, W]; as many as the time allows, in an order by the seed.

        Args:
            classifier: The model.
            images: Images of several classes; one that is decided as a target says nothing of that target.
            stopped: Asked before every pass.
            images_at_once: Most images of a pass; None is any.
            threads: Passes beside each other.
        """
        with torch.no_grad():
            clean = margins(classifier.log_posterior(images))
        others = (clean < 0.0).double()
        scale = clean[clean < 0.0].abs().median().clamp_min(1e-6).nan_to_num(1.0)
        at_once = max(1, min(_IMAGES_PER_PASS, images_at_once or _IMAGES_PER_PASS) // len(images))
        order = np.random.default_rng((self.seed, _PURPOSE)).permutation(len(self.corners)).tolist()
        portions = [order[start : start + at_once] for start in range(0, len(order), at_once)]

        def gains(chosen: list[int]) -> Tensor:
            if stopped():
                return clean.new_full((len(chosen), clean.shape[1]), -torch.inf).double()
            moved = self.supports(chosen, (images.shape[2], images.shape[3])).on(images)
            with torch.no_grad():
                found = margins(classifier.log_posterior(moved.flatten(0, 1))).reshape(len(chosen), *clean.shape)
            gained = ((found - clean) / scale).double() * others
            return gained.sum(dim=1) / others.sum(dim=0).clamp_min(1.0)

        with ThreadPoolExecutor(threads) as pool:
            found = torch.cat(list(pool.map(gains, portions)))
        self.gains = found[torch.tensor(order, device=found.device).argsort()]

    @property
    def largest(self) -> Tensor:
        """The largest gain of every target over all windows, float64 [K]; -infinity where none was asked."""
        return self.gains.amax(dim=0)

    def best(self, target: int) -> list[int]:
        """The windows that bring one target nearest, each in another place."""
        found: dict[Corner, int] = {}
        for index in self.gains[:, target].argsort(descending=True, stable=True).tolist():
            if len(found) < CLIMBED_KEPT[0]:
                found.setdefault(self.corners[index], index)
        return list(found.values())

    def _content(self, index: int, side: int) -> Tensor:
        """Blocks of the lowest and the highest value of each channel, [C, side * side]."""
        rng = np.random.default_rng((self.seed, _PURPOSE, index))
        blocks = _BLOCKS[index % len(_BLOCKS)]
        drawn = rng.integers(0, 2, (len(self.low), blocks, blocks)).astype(np.float32)
        place = np.arange(side) * blocks // side
        chosen = torch.from_numpy(drawn[:, place][:, :, place].reshape(len(self.low), -1)).to(self.low.device)
        return self.low + chosen * (self.high - self.low)


def margins(log_posterior: Tensor) -> Tensor:
    """By how much each class leads over the best other one, [N, K] -> [N, K]."""
    best = log_posterior.topk(2, dim=1)
    rival = best.values[:, :1].expand_as(log_posterior).clone()
    rival.scatter_(1, best.indices[:, :1], best.values[:, 1:])
    return log_posterior - rival


def nearness(layer: LastLayer, features: Tensor) -> Tensor:
    """How near each target is to the images where the last layer sees them, float64 [K]; NaN where no image is left.

    To be decided as target t the features of an image have to move by its margin over the distance of the two rows of
    the last layer; the negative logarithm of the median over the images that are not there already.

    Args:
        layer: The last layer.
        features: What it sees of some images, [N, F].
    """
    weight, bias = layer.weight.double(), layer.bias.double()
    scores = features.double() @ weight.T + bias
    best, decided = scores.max(dim=1)
    squares = weight.square().sum(dim=1)
    apart = (squares + squares[decided].unsqueeze(1) - 2.0 * weight[decided] @ weight.T).clamp_min(1e-30).sqrt()
    away = (best.unsqueeze(1) - scores) / apart
    own = torch.nn.functional.one_hot(decided, len(weight)).bool()
    found: Tensor = -away.masked_fill(own, torch.nan).nanmedian(dim=0).values.clamp_min(1e-30).log()
    return found


def spread_over(classes: list[Tensor], number: int, seed: int) -> Tensor:
    """Some images of several classes [number, C, H, W]: one of each in turn, the classes in an order by the seed."""
    order = np.random.default_rng((seed, _PURPOSE)).permutation(len(classes)).tolist()
    turns = range(max(len(own) for own in classes))
    rows = (classes[index][turn] for turn in turns for index in order if turn < len(classes[index]))
    return torch.stack([row for row, _ in zip(rows, range(number), strict=False)])
