"""What the copy makes of the source images, found for each class once, when it is asked for or for all beforehand."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from backscan.converters import TorchClassifier

FEWEST_IMAGES = 3
"""Images that are decided as their class without which it has no margins: a median of two is one image."""


class Decisions(Mapping[int, "Tensor"]):
    """Class -> decisions of the copy on its images, int64 [n].

    Args:
        classifier: The copy.
        images: Class -> images [n, C, H, W] in [0, 1].
    """

    def __init__(self, classifier: TorchClassifier, images: Mapping[int, Tensor]) -> None:
        self._classifier = classifier
        self._images = images
        self._found: dict[int, tuple[Tensor, Tensor]] = {}
        self._locks = {label: threading.Lock() for label in images}

    def find_all(self, threads: int | None) -> None:
        """Find those of all classes, some beside each other; None is as many as there are processors."""
        with ThreadPoolExecutor(threads or os.cpu_count() or 1) as pool:
            list(pool.map(self._of, self._images))

    @property
    def margins(self) -> Mapping[int, Tensor]:
        """Class -> how far it leads over each class t, the median of log p(own|x) - log p(t|x) over its images, [K].

        Of images that are decided as their class; NaN throughout where they are fewer than three.
        """
        return _Margins(self)

    def margins_of(self, label: int) -> Tensor:
        """Margins of one class, [K]."""
        return self._of(label)[1]

    def __getitem__(self, label: int) -> Tensor:
        return self._of(label)[0]

    def __iter__(self) -> Iterator[int]:
        return iter(self._images)

    def __len__(self) -> int:
        return len(self._images)

    def _of(self, label: int) -> tuple[Tensor, Tensor]:
        with self._locks[label]:
            if label not in self._found:
                self._found[label] = self._ask(label)
            return self._found[label]

    def _ask(self, label: int) -> tuple[Tensor, Tensor]:
        import torch

        with torch.no_grad():  # which holds in the thread that says so
            log_p = self._classifier.log_posterior(self._images[label])
            decisions = log_p.argmax(dim=1)
            own = log_p[decisions == label]
            if len(own) < FEWEST_IMAGES:
                return decisions, torch.full_like(log_p[0], torch.nan)
            return decisions, (own[:, label : label + 1] - own).median(dim=0).values


class _Margins(Mapping[int, "Tensor"]):
    """The margins of the classes, as a mapping of their own."""

    def __init__(self, decisions: Decisions) -> None:
        self._decisions = decisions

    def __getitem__(self, label: int) -> Tensor:
        return self._decisions.margins_of(label)

    def __iter__(self) -> Iterator[int]:
        return iter(self._decisions)

    def __len__(self) -> int:
        return len(self._decisions)
