"""Expected transferability: whether the pattern that one image needs also moves the others, at less than the way back.

Each image of a class descends alone to another class, by steps to where its margin would vanish if it were linear, and
is shrunk to the crossing. At the crossing itself about half of the patterns move another image of a linear model, with
an attack or without one. So the patterns are compared at a size that the model itself gives: a share of what the
images of the target need, one by one, to come back to the source. Two classes that are near each other are near both
ways; a planted shortcut leads one way only, and there the pattern of nearly any image moves nearly all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from backscan.kernels import transferability
from backscan.scanner.results import Transfer, TransferStatus
from backscan.scanner.search.batch import Batch
from backscan.scanner.search.effort import TRANSFER_HALVINGS, TRANSFER_STARTS, TRANSFERRED

if TYPE_CHECKING:
    from torch import Tensor

    from backscan.scanner.results import Pair
    from backscan.scanner.search.settings import SearchSettings, Work

NUM_IMAGES = TRANSFERRED
"""Images of a class that have a pattern each."""
FEWEST_IMAGES = 20
"""Images of both classes without which nothing is measured."""
SHARE_OF_WAY_BACK = 0.5
"""Size at which patterns are compared, as a share of the median size of the way back; `docs/method.md` says why."""
MOST_STEPS = 12
"""Steps of one descent."""
_LONGEST_STEP = 4.0  # in steps of the common search
_OVERSHOOT = 1.1


@dataclass(frozen=True, slots=True)
class OwnPatterns:
    """What the images of one class need, each for itself, to be decided as another."""

    patterns: Tensor
    """Pattern of each image, shrunk to the crossing, [N, ...]."""
    sizes: Tensor
    """Their sizes, float64 [N]; infinite where an image did not arrive within the limit."""

    @property
    def median(self) -> float:
        """Median size, infinite if fewer than half of the images arrived."""
        return float(np.median(self.sizes.numpy(force=True)))


def transfers(
    settings: SearchSettings,
    images: Mapping[int, Tensor],
    pairs: Sequence[Pair],
    work: Work,
    *,
    stopped: Callable[[], bool] = lambda: False,
) -> dict[Pair, Transfer]:
    """Expected transferability of some pairs; none at all if the time was up.

    Args:
        settings: How the common patterns are searched: space, norm, length of a step and largest size.
        images: Images [N, C, H, W] of every class that are decided as it.
        pairs: (source, target) pairs.
        work: Counts, added to.
        stopped: Asked before every pass.
    """
    enough = {label: own[:NUM_IMAGES] for label, own in images.items() if len(own) >= FEWEST_IMAGES}
    points = {label: settings.space.encode(own) for label, own in enough.items()}
    measured = [pair for pair in pairs if set(pair) <= points.keys()]
    ways = list(dict.fromkeys(way for pair in measured for way in (pair, (pair[1], pair[0]))))
    with ThreadPoolExecutor(settings.threads) as pool:
        each = pool.map(lambda way: own_patterns(settings, points[way[0]], way[1], stopped), ways)
        own = dict(zip(ways, each, strict=True))
        results = pool.map(lambda pair: _transfer(settings, points, own, pair), measured)
        found = dict(zip(measured, results, strict=True))
    for way in ways:
        work.gradients += TRANSFER_STARTS * MOST_STEPS * len(points[way[0]])
        work.forwards += (TRANSFER_STARTS * TRANSFER_HALVINGS + len(points[way[0]])) * len(points[way[0]])
    if stopped():
        return {}
    return {pair: found.get(pair, Transfer(TransferStatus.FEW_IMAGES)) for pair in pairs}


def own_patterns(
    settings: SearchSettings, points: Tensor, target: int, stopped: Callable[[], bool] = lambda: False
) -> OwnPatterns:
    """The least pattern of each image to a target, as far as its own descents find it.

    Args:
        settings: As of `transfers`.
        points: Images of the source as points of the space, [N, ...].
        target: Target class.
        stopped: Asked before every pass.
    """
    best = OwnPatterns(_zeros(settings, points), torch.full((len(points),), torch.inf, device=points.device).double())
    for start in range(TRANSFER_STARTS):
        found = _descended(settings, points, _start(settings, points, start), target, stopped)
        shorter = found.sizes < best.sizes
        best.patterns[shorter], best.sizes[shorter] = found.patterns[shorter], found.sizes[shorter]
    return best


def _start(settings: SearchSettings, points: Tensor, number: int) -> Tensor:
    """Where a descent begins: at the image, then at random points around it, by the seed."""
    if number == 0:
        return _zeros(settings, points)
    shape = (len(points), *settings.space.zero(points).shape[1:])
    drawn = torch.randn(shape, generator=torch.Generator().manual_seed(settings.seed + number)).to(points)
    lengths = drawn.flatten(1).norm(dim=1).reshape(-1, *[1] * (drawn.dim() - 1))
    return settings.space.within(_LONGEST_STEP * settings.step_size * drawn / lengths, points)


def _zeros(settings: SearchSettings, points: Tensor) -> Tensor:
    """A pattern of zeros for each image."""
    zero = settings.space.zero(points)
    return zero.repeat(len(points), *[1] * (zero.dim() - 1))


def _descended(
    settings: SearchSettings, points: Tensor, start: Tensor, target: int, stopped: Callable[[], bool]
) -> OwnPatterns:
    """Where one descent of each image leads, shrunk to the crossing."""
    patterns, margins = start.clone(), points.new_full((len(points),), -torch.inf)
    for _ in range(MOST_STEPS):
        on = (margins < 0.0).nonzero().flatten()
        if len(on) == 0 or stopped():
            break
        margins[on], gradients = _look(settings, points[on], patterns[on], target)
        short = margins[on] < 0.0
        ahead = on[short]
        patterns[ahead] = _stepped(settings, points[ahead], patterns[ahead], margins[ahead], gradients[short])
    lost = _margins(settings, points, patterns, target) < 0.0
    shrunk = _shrunk(settings, points, patterns, target)
    sizes = settings.norm(shrunk).double()
    return OwnPatterns(shrunk, sizes.masked_fill(lost | (sizes > settings.max_size), torch.inf))


def moved(settings: SearchSettings, points: Tensor, patterns: Tensor, target: int) -> Tensor:
    """Whether each image is decided as the target with each pattern, bool [P, N].

    Args:
        settings: As of `transfers`.
        points: Images as points of the space, [N, ...].
        patterns: Patterns [P, ...].
        target: Target class.
    """
    at_once = max(1, settings.images_per_pass // len(points))
    rows = []
    with torch.no_grad():
        for part in torch.split(patterns, at_once):
            encoded = points.unsqueeze(0).expand(len(part), *points.shape)
            rows.append(settings.space.log_posterior(encoded, part).argmax(dim=2) == target)
    return torch.cat(rows)


def _transfer(
    settings: SearchSettings, points: Mapping[int, Tensor], own: Mapping[Pair, OwnPatterns], pair: Pair
) -> Transfer:
    """What the patterns of one pair's images do to each other."""
    there, back = own[pair], own[pair[1], pair[0]].median
    arrived = there.sizes.isfinite() & (there.sizes > 0.0)
    number = int(arrived.sum())
    if not np.isfinite(back) or number < FEWEST_IMAGES // 2:
        return Transfer(TransferStatus.LIMIT, number)
    patterns, sizes = there.patterns[arrived], there.sizes[arrived]
    factors = (SHARE_OF_WAY_BACK * back / sizes).to(patterns.dtype)
    scaled = patterns * factors.reshape(-1, *[1] * (patterns.dim() - 1))
    rate, error = transferability(moved(settings, points[pair[0]][arrived], scaled, pair[1]).numpy(force=True))
    return Transfer(TransferStatus.FOUND, number, rate, error, float(sizes.median()), back)


def _batch(points: Tensor, target: int) -> Batch:
    """Images as pairs of one image each."""
    counted = torch.ones((len(points), 1), dtype=torch.bool, device=points.device)
    return Batch(points.unsqueeze(1), counted, torch.full((len(points),), target, device=points.device))


def _look(settings: SearchSettings, points: Tensor, patterns: Tensor, target: int) -> tuple[Tensor, Tensor]:
    """Margins [N] and their gradients under patterns."""
    margins, gradients = [], []
    portions = (torch.split(each, settings.images_per_pass) for each in (points, patterns))
    for own, given in zip(*portions, strict=True):
        batch, moving = _batch(own, target), given.detach().requires_grad_()
        found = batch.margins(settings.space.log_posterior(batch.encoded, moving)).squeeze(1)
        gradients += torch.autograd.grad(found.sum(), moving)
        margins.append(found.detach())
    return torch.cat(margins), torch.cat(gradients).nan_to_num(0.0)


def _margins(settings: SearchSettings, points: Tensor, patterns: Tensor, target: int) -> Tensor:
    """Margins [N] under patterns, without gradients."""
    margins = []
    with torch.no_grad():
        portions = (torch.split(each, settings.images_per_pass) for each in (points, patterns))
        for own, given in zip(*portions, strict=True):
            batch = _batch(own, target)
            margins.append(batch.margins(settings.space.log_posterior(batch.encoded, given)).squeeze(1))
    return torch.cat(margins)


def _stepped(settings: SearchSettings, points: Tensor, patterns: Tensor, margins: Tensor, gradients: Tensor) -> Tensor:
    """Patterns a step further, a little beyond where a linear margin would vanish, inside the range of pixels."""
    space = settings.space
    # Pixels that are black or white already help no more in that direction.
    free = torch.where(space.within(patterns + gradients.sign() * 1e-3, points) == patterns, 0.0, gradients)
    lengths = free.flatten(1).double().norm(dim=1)
    wanted = (_OVERSHOOT * -margins.double() / lengths).nan_to_num(0.0, posinf=0.0)
    wanted = wanted.clamp_max(_LONGEST_STEP * settings.step_size)
    factors = (wanted / lengths.clamp_min(1e-30)).to(free.dtype)
    return space.within(patterns + factors.reshape(-1, *[1] * (free.dim() - 1)) * free, points)


def _shrunk(settings: SearchSettings, points: Tensor, patterns: Tensor, target: int) -> Tensor:
    """The least multiples of patterns that still arrive."""
    low, high = torch.zeros((2, len(points)), dtype=patterns.dtype, device=patterns.device)
    high = high + 1.0
    shape = (-1, *[1] * (patterns.dim() - 1))
    for _ in range(TRANSFER_HALVINGS):
        middle = (low + high) / 2
        arrived = _margins(settings, points, middle.reshape(shape) * patterns, target) >= 0.0
        low, high = torch.where(arrived, low, middle), torch.where(arrived, middle, high)
    least: Tensor = high.reshape(shape) * patterns
    return least
