"""Step 12 for what takes the place of the image: the same window with the same content, on the original file.

The control is the same window with its content shuffled: its pixels in another order, all channels together, and half
of them turned to the opposite side of the range of clean images. The order alone would leave a single pixel, or a patch
of one colour, what it was.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from backscan.kernels.embedding import patch
from backscan.scanner.detectors.counting import counted
from backscan.scanner.pipeline.replay import control_test, held_out_failures
from backscan.scanner.results import CollateralDamage, EncodedArray, FoundPattern, Verification

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from backscan.scanner.config import ScanConfig
    from backscan.scanner.pipeline.record import Images
    from backscan.scanner.pipeline.replay import OriginalFile
    from backscan.scanner.results import TargetResult

    Array = NDArray[np.float32]

_SHUFFLES = 10


def found_support(entry: TargetResult, source: int, shape: tuple[int, ...]) -> FoundPattern:
    """The content that stands for a target, as a pattern with a mask.

    Args:
        entry: The target, with its support.
        source: Source class that follows most.
        shape: Channels, height and width of images.
    """
    if entry.support is None:
        raise ValueError(f"expected content towards target {entry.target}, found none")
    values, mask = entry.support.pattern(shape), entry.support.mask(shape)
    exact = values.astype(np.float64) * mask
    l2 = float(np.sqrt(np.square(exact).sum()))
    return FoundPattern(
        detector=entry.detector,
        source=source,
        target=entry.target,
        space="image",
        size=l2,
        size_l1=float(np.abs(exact).sum()),
        size_l2=l2,
        largest_change=float(np.abs(exact).max()),
        values=EncodedArray.encode(values),
        mask=EncodedArray.encode(mask),
    )


def covered(images: Array, found: FoundPattern) -> Array:
    """Images [N, C, H, W] with the content of a found support in its place."""
    return _Covering.of(found).on(images)


def replay_support(
    file: OriginalFile,
    entry: TargetResult,
    found: FoundPattern,
    images: Images,
    config: ScanConfig,
    *,
    searched_on: bool = True,
) -> Verification:
    """Does the original file do with the content what the copy did, also on images the search never saw?

    Args:
        file: The original file.
        entry: The target, with its rates.
        found: Its content, and the source class that is asked.
        images: Images of every class to search with, and held out.
        config: Goal rate, and the seed of the shuffles.
        searched_on: Whether the rates are of those images, so that they have to come out again.
    """
    covering, source, target = _Covering.of(found), found.source, found.target
    same, held_out = images.search()[source], _undecided(file, images.held_out()[source], target)
    asked = _undecided(file, counted(same) if searched_on else same, target)
    rates = entry.support.rates if entry.support is not None else {}
    hits, rate_torch = covering.hits(file, asked, target), rates.get(source, 0.0)
    held_out_hits = covering.hits(file, held_out, target, alone=True)  # as models are deployed
    bounds = float(np.min(same)), float(np.max(same))
    shuffled = [covering.shuffled(np.random.default_rng((config.seed, turn)), bounds) for turn in range(_SHUFFLES)]
    shuffled_hits = sum(each.hits(file, held_out, target) for each in shuffled)
    num_shuffled = _SHUFFLES * len(held_out)
    p_value = control_test(held_out_hits, len(held_out), shuffled_hits, num_shuffled)

    failures = list[str]()
    if searched_on and abs(hits - round(rate_torch * len(asked))) > 1:
        failures.append(
            f"the original file gives a rate of {_share(hits, len(asked)):.2f} where the copy gave {rate_torch:.2f}"
        )
    failures += held_out_failures(_share(held_out_hits, len(held_out)), config.goal_rate, p_value)
    return Verification(
        provider=file.settled.facts.provider,
        source=source,
        target=target,
        rate_torch=rate_torch,
        rate_original=_share(hits, len(asked)),
        num_images=len(asked),
        rate_held_out=_share(held_out_hits, len(held_out)),
        num_held_out=len(held_out),
        rate_shuffled=_share(shuffled_hits, num_shuffled),
        num_shuffled=num_shuffled,
        p_value=p_value,
        confirmed=not failures,
        reason="; ".join(failures) or "the original file follows this content, more often than it follows others there",
        collateral=tuple(_collateral(file, covering, images, found)),
        detector=found.detector,
        model_sha256=file.sha256,
    )


def _collateral(file: OriginalFile, covering: _Covering, images: Images, found: FoundPattern) -> list[CollateralDamage]:
    """What the content does to the other classes."""
    return [
        CollateralDamage(
            label,
            _share(covering.hits(file, others, found.target), len(others)),
            float((file.decide(others) == found.target).mean()),
            len(others),
        )
        for label, others in sorted(images.held_out().items())
        if label not in (found.source, found.target)
    ]


@dataclass(frozen=True, slots=True)
class _Covering:
    """Content in its place."""

    values: Array
    """[C, H, W]."""
    mask: Array
    """[H, W]."""

    @classmethod
    def of(cls, found: FoundPattern) -> _Covering:
        if found.mask is None:
            raise ValueError("expected a pattern that takes the place of the image, found one that is added")
        return cls(found.values.decode(), found.mask.decode())

    def on(self, images: Array) -> Array:
        return patch(images, self.values, self.mask)

    def hits(self, file: OriginalFile, images: Array, target: int, *, alone: bool = False) -> int:
        if not len(images):
            return 0
        return int((file.settled.decisions(self.on(images), alone=alone) == target).sum())

    def shuffled(self, rng: np.random.Generator, bounds: tuple[float, float]) -> _Covering:
        """The same place with its pixels in another order, and half of them turned to the other side of the range."""
        where = np.flatnonzero(self.mask)
        values = self.values.reshape(len(self.values), -1).copy()
        values[:, where] = values[:, rng.permutation(where)]
        turned = rng.permutation(where)[: max(1, len(where) // 2)]
        # What stands behind a mask may lie beyond clean images, and its opposite beyond all that a file can hold.
        values[:, turned] = np.clip(np.float32(sum(bounds)) - values[:, turned], 0.0, 1.0)
        return replace(self, values=values.reshape(self.values.shape))


def _undecided(file: OriginalFile, images: Array, target: int) -> Array:
    """Images that are not decided as the target as they are."""
    return images[file.decide(images) != target] if len(images) else images


def _share(hits: int, count: int) -> float:
    return hits / count if count else 0.0
