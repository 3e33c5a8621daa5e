"""Source images of class pairs as batches: what goes through the model together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from backscan.scanner.results import Pair
    from backscan.scanner.search.spaces import Space


@dataclass(frozen=True, slots=True)
class Sources:
    """Source images of several classes as points of a space, padded to one length."""

    encoded: Tensor
    """Points [S, N, ...]; padding repeats a row's first image."""
    counted: Tensor
    """True for images that count towards the rate, bool [S, N]."""
    clean: Tensor
    """Log p(c|x) without a pattern, [S, N, K]: one pass that all targets of a source share."""
    rows: Mapping[int, int]
    """Class -> row."""

    @classmethod
    def gather(
        cls, images_by_class: Mapping[int, Tensor], space: Space, counted_by_class: Mapping[int, Tensor]
    ) -> Sources:
        """Encode and stack the images of every class.

        Args:
            images_by_class: Class -> images [n, C, H, W] in [0, 1], at least one each.
            space: Where patterns act.
            counted_by_class: Class -> which images count towards the rate, bool [n], equation (6).
        """
        longest = max(len(images) for images in images_by_class.values())
        encoded, counted, clean = [], [], []
        for label, images in images_by_class.items():
            with torch.no_grad():
                points = space.encode(images)
                missing = longest - len(images)
                padded = torch.cat([points, points[:1].expand(missing, *points.shape[1:])])
                clean.append(space.log_posterior(padded.unsqueeze(0), space.zero(padded)).squeeze(0))
            encoded.append(padded)
            counted.append(torch.nn.functional.pad(counted_by_class[label], (0, missing)))
        rows = {label: row for row, label in enumerate(images_by_class)}
        return cls(torch.stack(encoded), torch.stack(counted), torch.stack(clean), rows)

    def num_counted(self, source: int) -> int:
        """Counted images of a class."""
        return int(self.counted[self.rows[source]].sum())

    def fewest_counted(self, classes: Sequence[int]) -> int:
        """Least number of counted images among some classes."""
        return int(self.counted[[self.rows[label] for label in classes]].sum(dim=1).min())


@dataclass(frozen=True, slots=True)
class Batch:
    """The source images of some pairs and the targets they are to reach."""

    encoded: Tensor
    """Points [P, N, ...]."""
    counted: Tensor
    """Images that count, bool [P, N]."""
    targets: Tensor
    """Target classes, int64 [P]."""

    @classmethod
    def of(cls, pairs: Sequence[Pair], sources: Sources, *, portion: int = 0, portions: int = 1) -> Batch:
        """The batch of some pairs in their order, with every `portions`-th image from number `portion` on."""
        rows, targets = _rows_and_targets(pairs, sources)
        return cls(sources.encoded[rows, portion::portions], sources.counted[rows, portion::portions], targets)

    @property
    def num_images(self) -> int:
        """Images in one pass."""
        return self.counted.numel()

    def images(self, indices: Tensor) -> Batch:
        """The images [P, c] of each pair by number."""
        pairs = torch.arange(len(indices), device=indices.device).unsqueeze(1)
        return Batch(self.encoded[pairs, indices], self.counted[pairs, indices], self.targets)

    def take(self, indices: list[int]) -> Batch:
        """Some of the pairs."""
        return Batch(self.encoded[indices], self.counted[indices], self.targets[indices])

    def split(self, log_posterior: Tensor) -> tuple[Tensor, Tensor]:
        """Log p(t|x) and log of the rest 1 - p(t|x), [P, N, K] -> both [P, N]."""
        log_p, others = self._of_target(log_posterior)
        return log_p, others.logsumexp(dim=2)

    def margins(self, log_posterior: Tensor) -> Tensor:
        """By how much log p(t|x) exceeds every other, [P, N, K] -> [P, N]."""
        log_p, others = self._of_target(log_posterior)
        return log_p - others.amax(dim=2)

    def decided(self, log_posterior: Tensor) -> Tensor:
        """Which images are decided as the target, [P, N, K] -> bool [P, N]."""
        return log_posterior.argmax(dim=2) == self.targets.unsqueeze(1)

    def rates(self, decided: Tensor) -> Tensor:
        """Group misclassification rates, Algorithm 1 lines 1 and 4: bool [P, N] -> float64 [P]."""
        counted = self.counted.sum(dim=1).double().clamp_min(1)
        return (decided & self.counted).sum(dim=1).double() / counted

    def _of_target(self, log_posterior: Tensor) -> tuple[Tensor, Tensor]:
        index = self.targets.reshape(-1, 1, 1).expand(*log_posterior.shape[:2], 1)
        others = log_posterior.scatter(2, index, float("-inf"))
        return log_posterior.gather(2, index).squeeze(2), others


def clean_posterior(pairs: Sequence[Pair], sources: Sources) -> Tensor:
    """Log posterior of the source images of some pairs without a pattern, [P, N, K]."""
    return sources.clean[_rows_and_targets(pairs, sources)[0]]


def _rows_and_targets(pairs: Sequence[Pair], sources: Sources) -> tuple[Tensor, Tensor]:
    device = sources.encoded.device
    rows = torch.tensor([sources.rows[source] for source, _ in pairs], device=device)
    return rows, torch.tensor([target for _, target in pairs], device=device)
