"""What the copy decides on the source images, found for each class once, when it is asked for or for all beforehand."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from backscan.converters import TorchClassifier


class Decisions(Mapping[int, "Tensor"]):
    """Class -> decisions of the copy on its images, int64 [n].

    Args:
        classifier: The copy.
        images: Class -> images [n, C, H, W] in [0, 1].
    """

    def __init__(self, classifier: TorchClassifier, images: Mapping[int, Tensor]) -> None:
        self._classifier = classifier
        self._images = images
        self._found: dict[int, Tensor] = {}
        self._locks = {label: threading.Lock() for label in images}

    def find_all(self, threads: int | None) -> None:
        """Find those of all classes, some beside each other; None is as many as there are processors."""
        with ThreadPoolExecutor(threads or os.cpu_count() or 1) as pool:
            list(pool.map(self.__getitem__, self._images))

    def __getitem__(self, label: int) -> Tensor:
        with self._locks[label]:
            if label not in self._found:
                self._found[label] = self._decide(self._images[label])
            return self._found[label]

    def __iter__(self) -> Iterator[int]:
        return iter(self._images)

    def __len__(self) -> int:
        return len(self._images)

    def _decide(self, images: Tensor) -> Tensor:
        import torch

        with torch.no_grad():  # which holds in the thread that says so
            return self._classifier.log_posterior(images).argmax(dim=1)
