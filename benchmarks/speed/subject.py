"""A generated classifier opened for the search, in this process and in float32 on every machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from backscan.converters import TorchClassifier, artifact_from_bytes, import_model, read_signature
from backscan.scanner import PairResult
from backscan.scanner.detectors.pair_search import IMAGES_PER_PASS, pairs_per_pass
from backscan.scanner.results import Pair
from backscan.scanner.search.algorithm1 import search_pairs
from backscan.scanner.search.batch import Sources
from backscan.scanner.search.norms import NORMS
from backscan.scanner.search.objectives import OBJECTIVES
from backscan.scanner.search.settings import SearchSettings, Work
from backscan.scanner.search.spaces import ClippedImage
from backscan.scanner.search.steps import STEP_RULES
from benchmarks.victims.prototypes import Prototypes

_STEP_SIZES = {"unit": 0.09, "plain": 0.02}


@dataclass(frozen=True, slots=True)
class SearchSubject:
    """A classifier and its source images."""

    classifier: TorchClassifier
    """The imported file."""
    images_by_class: Mapping[int, Tensor]
    """Images [n, C, H, W] in [0, 1]."""

    @classmethod
    def generate(cls, *, num_classes: int, images_per_class: int, planted: Pair) -> SearchSubject:
        """A classifier by nearest prototype, with a planted pair."""
        generator = Prototypes(num_classes, seed=0, planted=planted)
        artifact = artifact_from_bytes("prototypes.onnx", generator.model())
        pixels, labels = generator.images(images_per_class)
        images = torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)).astype(np.float32) / 255)
        by_class = {label: images[torch.from_numpy(labels == label)] for label in range(num_classes)}
        return cls(import_model(artifact, read_signature(artifact)), by_class)

    @property
    def pairs(self) -> list[Pair]:
        """All pairs."""
        classes = sorted(self.images_by_class)
        return [(source, target) for source in classes for target in classes if source != target]

    def search(self, rule: str, work: Work) -> list[PairResult]:
        """All pairs with a fixed step size, as the scanner would search them on a CPU."""
        space = ClippedImage(self.classifier)
        counted = {label: torch.ones(len(array), dtype=torch.bool) for label, array in self.images_by_class.items()}
        longest = max(len(array) for array in self.images_by_class.values())
        lanes = pairs_per_pass(STEP_RULES[rule], longest, IMAGES_PER_PASS["cpu"])
        settings = SearchSettings(
            space=space,
            objective=OBJECTIVES["ce"],
            rule=STEP_RULES[rule],
            norm=NORMS["l2"],
            step_size=_STEP_SIZES[rule],
            goal_rate=0.8,
            max_size=10.0,
            max_steps=300,
            lanes=lanes,
            group_size=lanes,
            seed=0,
        )
        return list(search_pairs(settings, Sources.gather(self.images_by_class, space, counted), self.pairs, work))
