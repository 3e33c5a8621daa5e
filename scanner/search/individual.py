"""Individual sizes: what each source image needs by itself to be decided as the target, beside the common pattern.

Moving all images together needs much more than moving one, unless a shortcut was planted that serves them all. Each
image descends alone towards each target: steps to where the margin would vanish if it were linear (DeepFool, towards
one class), inside the range of pixels, then shrunk between a point that is not there and one that is. The images of a
source pass forward once for the first step towards all its targets; an image that has arrived, or has come farther
than the quantile over the images, takes no further step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from backscan.kernels import quantile_rank
from backscan.scanner.results import PairStatus
from backscan.scanner.search.batch import Batch
from backscan.scanner.search.crossing import measure
from backscan.scanner.search.effort import INDIVIDUALS
from backscan.scanner.search.settings import Work

if TYPE_CHECKING:
    from torch import Tensor

    from backscan.scanner.results import Pair, PairResult
    from backscan.scanner.search.batch import Sources
    from backscan.scanner.search.settings import SearchSettings

NUM_IMAGES = INDIVIDUALS
"""Images of a source, the first of those that count."""
MOST_STEPS = 12
"""Steps of one image; most arrive in two or three."""
_LONGEST_STEP = 4.0  # in steps of the common search: a third of what the median pair needs
# Beyond where a linear margin vanishes, so that a margin that bends a little is bracketed at once.
_OVERSHOOT = 1.3
# Images within this factor of the quantile are looked at once more; the others only need to stay on their side.
_NEAR = 1.25
# A pattern that moves the goal rate of all images moves that of some of them at nearly the same size.
_MOST_MULTIPLE = 1.5
# First patterns of a source that are held at once.
_VALUES_A_BLOCK = 1 << 23


def individual_sizes(
    settings: SearchSettings,
    sources: Sources,
    pairs: Sequence[Pair],
    work: Work,
    *,
    stopped: Callable[[], bool] = lambda: False,
) -> dict[Pair, list[float]]:
    """Size of every image of each pair, in the order of the images; none at all if the time was up.

    An image that is at the target already has size 0, one that does not arrive the limit of `limit_of`. One that is
    farther from the target than the quantile at the goal rate is not followed to its end: its size is at least that
    quantile, and may be less than what it needs.

    Args:
        settings: How the common patterns are searched.
        sources: Source images; every pair's source must have a row. Images that do not count take no part.
        pairs: (source, target) pairs.
        work: Counts, added to.
        stopped: Asked before every pass.
    """
    targets: dict[int, list[int]] = {}
    for source, target in pairs:
        targets.setdefault(source, []).append(target)

    def of_source(source: int) -> tuple[dict[Pair, list[float]], Work]:
        own, row = Work(), sources.rows[source]
        counted = _first_counted(sources, source)
        points, clean = sources.encoded[row][counted], sources.clean[row][counted]
        block = max(1, _VALUES_A_BLOCK // max(1, points.numel()))
        found: dict[Pair, list[float]] = {}
        for start in range(0, len(targets[source]), block):
            wanted = targets[source][start : start + block]
            sizes = _Descents(settings, points, clean, wanted, own).run(stopped)
            found |= {(source, target): each for target, each in zip(wanted, sizes.tolist(), strict=True)}
        return found, own

    found: dict[Pair, list[float]] = {}
    with ThreadPoolExecutor(settings.threads) as pool:
        for sizes, own in pool.map(of_source, targets):
            work.add(own)
            found |= sizes
    return {} if stopped() else found


def common_sizes(
    settings: SearchSettings, sources: Sources, results: Sequence[PairResult], work: Work
) -> Iterator[float | None]:
    """Size of each found pattern that moves the goal rate of the images with individual sizes: the same images.

    Where the margins of these images are zero on the line from no pattern to the found one says which multiple does;
    it is near 1. Patterns that did not reach the goal keep their size; pairs without a size have None.
    """
    for result in results:
        images = _first_counted(sources, result.source)
        row = sources.rows[result.source]
        if result.status is not PairStatus.REACHED or len(images) == int(sources.counted[row].sum()):
            yield result.size
            continue
        assert result.size is not None and result.pattern is not None  # noqa: S101, PT018 - it was reached
        batch = Batch.of([(result.source, result.target)], sources).images(images.unsqueeze(0))
        before = batch.margins(sources.clean[row][images].unsqueeze(0)).squeeze(0).double()
        found = measure(settings.space, batch, torch.from_numpy(result.pattern[None]).to(batch.encoded), work)
        slope = found.margins.squeeze(0).double() - before
        shares = torch.where(slope > 0.0, -before / slope.clamp_min(1e-30), torch.inf).clamp_min(0.0)
        share = float(shares.sort().values[quantile_rank(len(images), settings.goal_rate) - 1])
        # More than these images would need nobody has seen.
        yield result.size * min(max(share, 1.0 / _MOST_MULTIPLE), _MOST_MULTIPLE)


def _first_counted(sources: Sources, source: int) -> Tensor:
    """Numbers of the images of a source that have individual sizes, [n]."""
    return sources.counted[sources.rows[source]].nonzero().flatten()[:NUM_IMAGES]


def limit_of(settings: SearchSettings) -> float:
    """Size that an image counts as which does not arrive: as far as all its steps may lead."""
    return min(settings.max_size, MOST_STEPS * _LONGEST_STEP * settings.step_size)


@dataclass(slots=True)
class _Ends:
    """One end of each bracket: patterns and what their images' margins are there."""

    patterns: Tensor
    """[P, ...]."""
    margins: Tensor
    """[P]; NaN where there is no such end yet."""

    def put(self, indices: Tensor, patterns: Tensor, margins: Tensor) -> None:
        """Move some of them."""
        self.patterns[indices], self.margins[indices] = patterns, margins


class _Descents:
    """The images of one source towards some targets: problem t * N + i is image i towards target t of them."""

    def __init__(
        self, settings: SearchSettings, points: Tensor, clean: Tensor, targets: Sequence[int], work: Work
    ) -> None:
        self._settings, self._work, self._points = settings, work, points
        self._shape = (len(targets), len(points))
        self._least = quantile_rank(len(points), settings.goal_rate)
        self._targets = torch.tensor(targets, device=points.device).repeat_interleave(len(points))
        zero = settings.space.zero(points)
        zero = zero.repeat(len(self._targets), *[1] * (zero.dim() - 1))
        everywhere = torch.arange(len(self._targets), device=points.device)
        batch = self._batch(everywhere)
        posterior = clean.repeat(len(targets), 1).unsqueeze(1)
        self._there = batch.decided(posterior).squeeze(1)
        self._outside = _Ends(zero, batch.margins(posterior).squeeze(1))
        self._inside = _Ends(zero.clone(), torch.full_like(self._outside.margins, torch.nan))

    def run(self, stopped: Callable[[], bool]) -> Tensor:
        """Sizes [T, N]."""
        active = (~self._there).nonzero().flatten()
        gradients = self._first_gradients()[active]
        for _ in range(MOST_STEPS):
            if len(active) == 0 or stopped():
                break
            patterns = self._stepped(active, gradients)
            margins, gradients = self._look(active, patterns)
            arrived = margins >= 0.0
            self._inside.put(active[arrived], patterns[arrived], margins[arrived])
            self._outside.put(active[~arrived], patterns[~arrived], margins[~arrived])
            on = ~arrived & self._is_open(active)
            active, gradients = active[on], gradients[on]
        if not stopped():
            self._shrink()
        return self._sizes().reshape(self._shape)

    def _batch(self, indices: Tensor) -> Batch:
        """Some problems as pairs of one image each."""
        points = self._points[indices % len(self._points)].unsqueeze(1)
        counted = torch.ones(points.shape[:2], dtype=torch.bool, device=points.device)
        return Batch(points, counted, self._targets[indices])

    def _passes(self, number: int) -> tuple[Tensor, ...]:
        """Numbers of some problems, in the portions that pass the model together; of none there is no portion."""
        if number == 0:
            return ()
        return torch.split(torch.arange(number, device=self._points.device), self._settings.images_per_pass)

    def _first_gradients(self) -> Tensor:
        """Gradient of every margin without a pattern: one pass forward serves all targets, [P, ...]."""
        space = self._settings.reduced or self._settings.space
        zero = space.zero(self._points)
        zero = zero.repeat(len(self._points), *[1] * (zero.dim() - 1)).requires_grad_()
        log_posterior = space.log_posterior(self._points.unsqueeze(1), zero)
        num_targets, num_images = self._shape
        self._work.gradients += num_targets * num_images
        found: list[Tensor] = []
        for start in range(0, num_targets * num_images, num_images):
            own = self._batch(torch.arange(start, start + num_images, device=zero.device))
            found += torch.autograd.grad(own.margins(log_posterior).sum(), zero, retain_graph=True)
        return torch.cat(found).nan_to_num(0.0)

    def _look(self, indices: Tensor, patterns: Tensor) -> tuple[Tensor, Tensor]:
        """Margins [c] of some problems under patterns, and their gradients."""
        space = self._settings.reduced or self._settings.space
        self._work.gradients += len(indices)
        margins: list[Tensor] = []
        gradients: list[Tensor] = []
        for rows in self._passes(len(indices)):
            own, moved = self._batch(indices[rows]), patterns[rows].detach().requires_grad_()
            found = own.margins(space.log_posterior(own.encoded, moved)).squeeze(1)
            gradients += torch.autograd.grad(found.sum(), moved)
            margins.append(found.detach())
        return torch.cat(margins), torch.cat(gradients).nan_to_num(0.0)

    def _stepped(self, indices: Tensor, gradients: Tensor) -> Tensor:
        """Patterns a step further: to beyond where a linear margin would vanish, but no longer than the longest."""
        space, points = self._settings.space, self._points[indices % len(self._points)]
        patterns, margins = self._outside.patterns[indices], self._outside.margins[indices]
        # What the range of pixels takes away, as of black or white ones, helps no more in that direction.
        free = torch.where(space.within(patterns + gradients.sign() * 1e-3, points) == patterns, 0.0, gradients)
        lengths = free.flatten(1).double().norm(dim=1)
        wanted = (_OVERSHOOT * -margins.double() / lengths).nan_to_num(0.0, posinf=0.0)
        wanted = wanted.clamp_max(_LONGEST_STEP * self._settings.step_size)
        factors = (wanted / lengths.clamp_min(1e-30)).to(free.dtype)
        return space.within(patterns + factors.reshape(-1, *[1] * (free.dim() - 1)) * free, points)

    def _is_open(self, indices: Tensor) -> Tensor:
        """Which problems may still come to lie at or below the quantile over the images of their pair, bool [c]."""
        reached = self._settings.norm(self._inside.patterns).masked_fill(self._inside.margins.isnan(), torch.inf)
        reached = reached.masked_fill(self._there, 0.0).reshape(self._shape)
        quantiles = reached.sort(dim=1).values[:, self._least - 1]
        own = self._settings.norm(self._outside.patterns[indices])
        return own < quantiles[indices // self._shape[1]].clamp_max(limit_of(self._settings))

    def _crossings(self) -> Tensor:
        """The patterns where a line through both ends of each bracket puts the margin at zero, [P, ...]."""
        low, high = self._outside, self._inside
        share = (-low.margins / (high.margins - low.margins).clamp_min(1e-30)).clamp(0.0, 1.0)
        share = torch.where(high.margins.isnan(), 0.0, share).reshape(-1, *[1] * (low.patterns.dim() - 1))
        return low.patterns + share * (high.patterns - low.patterns)

    def _sizes(self) -> Tensor:
        """Sizes [P] by what is known so far, float64."""
        limit, sizes = limit_of(self._settings), self._settings.norm(self._crossings())
        # Nobody knows where one ends that has not arrived, unless it was left behind the quantile on purpose.
        lost = self._inside.margins.isnan() & self._is_open(torch.arange(len(sizes), device=sizes.device))
        return sizes.masked_fill(lost, limit).clamp_max(limit).masked_fill(self._there, 0.0)

    def _shrink(self) -> None:
        """Look once more, in float32, at the brackets of images near the quantile."""
        sizes = self._sizes().reshape(self._shape)
        quantiles = sizes.sort(dim=1).values[:, self._least - 1 : self._least]
        near = (sizes <= _NEAR * quantiles) & (sizes >= quantiles / _NEAR)
        indices = (near.flatten() & ~self._inside.margins.isnan()).nonzero().flatten()
        patterns = self._crossings()[indices]
        self._work.forwards += len(indices)
        for rows in self._passes(len(indices)):
            own = self._batch(indices[rows])
            with torch.no_grad():
                margins = own.margins(self._settings.space.log_posterior(own.encoded, patterns[rows])).squeeze(1)
            for end, there in ((self._inside, margins >= 0.0), (self._outside, margins < 0.0)):
                end.put(indices[rows][there], patterns[rows][there], margins[there])
