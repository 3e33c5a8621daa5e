"""What the detectors that search class pairs share: Algorithm 1 in one space, with steps of the right length there."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from backscan.scanner.detectors.base import Pilot
from backscan.scanner.search import steps
from backscan.scanner.search.norms import NORMS
from backscan.scanner.search.objectives import OBJECTIVES
from backscan.scanner.search.settings import SearchSettings, Work
from backscan.scanner.search.steps import STEP_RULES

if TYPE_CHECKING:
    from torch import Tensor

    from backscan.scanner.config import ScanConfig
    from backscan.scanner.detectors.base import Examination, PatternSpace, Searched
    from backscan.scanner.results import Inference, Pair, PairResult
    from backscan.scanner.search.batch import Sources
    from backscan.scanner.search.objectives import Objective
    from backscan.scanner.search.spaces import Space
    from backscan.scanner.search.steps import StepRule

    Measure = Callable[[Iterator[PairResult], SearchSettings, Examination, Sequence[Pair]], Iterator[PairResult]]

# Images of one forward pass: enough for a CPU core, yet so few that a chunk makes many groups for all cores to share;
# and what keeps a GPU busy.
IMAGES_PER_PASS = {"cpu": 48, "cuda": 8192}
"""Images of one forward pass."""
# A GPU works on all pairs of a chunk as one group.
_GROUP_ON_GPU = 1 << 20
PILOT_PAIRS = 7
"""Pairs by which the step size is found."""
PILOT_IMAGES = 25
"""Most images of each of them."""


@dataclass(frozen=True, slots=True)
class Detector:
    """One way to search every class pair, by Algorithm 1, and to judge."""

    name: str
    """Name in the table, which the results carry."""
    pattern_space: Callable[[Examination], PatternSpace]
    """Where its patterns act on this model."""
    infer: Callable[[Sequence[PairResult], Searched, ScanConfig], tuple[Inference, ...]]
    """(its pairs, all that was searched, options) -> conclusions, the deciding one first."""
    objective: str
    """Name of the objective that it descends unless an option says otherwise."""
    acts_on_features: bool = False
    """Whether patterns are added where the model is cut (`ScanConfig.cut`) instead of to the image."""
    measures: Measure | None = None
    """(results, how they are searched, examination, pairs) -> results with what it measures beside the patterns."""

    def objective_under(self, config: ScanConfig) -> Objective:
        """The objective that it descends: the chosen one, or its own."""
        return OBJECTIVES[config.objective or self.objective]

    def find_step_size(self, examination: Examination) -> Pilot:
        """Step size with which the median of a few seeded pilot pairs arrives in the wanted number of steps."""
        from backscan.scanner.search.algorithm1 import search_pairs

        where, rule = self.pattern_space(examination), STEP_RULES[examination.config.step_rule]
        pilots = _pilot_pairs(examination)
        sources = self._sources(examination, where.space, pilots, limit=PILOT_IMAGES)
        work = Work()

        def steps_needed(step_size: float) -> list[int]:
            settings = self._settings(examination, where, step_size, max_steps=4 * rule.most, refine=False)
            found = search_pairs(settings, sources, pilots, work, stopped=examination.stopped)
            needed = [pair.steps for pair in found]
            return [] if examination.stopped() else needed

        step_size = steps.find_step_size(rule, steps_needed, start=where.first_share * where.largest_size("l2"))
        is_reduced = _reduced_steps(where, rule) is not None
        return Pilot(step_size, num_images=work.gradients + work.forwards, is_reduced=is_reduced)

    def optimise(self, examination: Examination, pairs: Sequence[Pair], step_size: float) -> Iterator[PairResult]:
        """Search for the smallest pattern of every pair (Algorithm 1); results as they finish.

        Args:
            examination: The model, its source images and the options.
            pairs: (source, target) pairs; every source must have images.
            step_size: Length of a step, from `find_step_size`.
        """
        from backscan.scanner.search.algorithm1 import search_pairs

        where, max_steps = self.pattern_space(examination), examination.config.max_steps
        settings = self._settings(examination, where, step_size, max_steps=max_steps, refine=True)
        sources = self._sources(examination, where.space, pairs)
        found = search_pairs(settings, sources, pairs, Work(), stopped=examination.stopped)
        found = (replace(each, clean_margin=examination.clean_margin(each.source, each.target)) for each in found)
        if self.measures is not None:
            found = self.measures(found, settings, examination, pairs)
        if not examination.config.measures_individuals_of(self.name):
            return found
        from backscan.scanner.detectors.individuals import with_individuals

        return with_individuals(found, settings, sources, pairs, stopped=examination.stopped)

    def estimate(self, examination: Examination, pairs: Sequence[Pair]) -> list[float]:
        """Sizes of some pairs to first order, from a few images; empty if the time was up.

        Args:
            examination: The model, its source images and the options.
            pairs: (source, target) pairs; every source must have images.
        """
        from backscan.scanner.search.first_order import NUM_IMAGES, FirstOrder

        config, space = examination.config, self.pattern_space(examination).space
        sources = self._sources(examination, space, pairs, limit=NUM_IMAGES)
        device = sources.encoded.device.type
        first_order = FirstOrder(
            space=space,
            goal_rate=config.goal_rate,
            norm=NORMS[config.norm],
            sources_per_pass=max(1, examination.images_per_pass(IMAGES_PER_PASS[device]) // NUM_IMAGES),
            threads=_threads(config, device),
        )
        return first_order.sizes(sources, pairs, stopped=examination.stopped)

    def _settings(
        self, examination: Examination, where: PatternSpace, step_size: float, *, max_steps: int, refine: bool
    ) -> SearchSettings:
        config, rule = examination.config, STEP_RULES[examination.config.step_rule]
        longest = max(examination.images_by_class.values(), key=len)
        device = longest.device.type
        images_per_pass = examination.images_per_pass(IMAGES_PER_PASS[device])
        lanes = pairs_per_pass(rule, len(longest), images_per_pass)
        return SearchSettings(
            space=where.space,
            objective=self.objective_under(config),
            rule=rule,
            norm=NORMS[config.norm],
            step_size=step_size,
            goal_rate=config.goal_rate,
            max_size=config.max_size or where.largest_size(config.norm),
            max_steps=max_steps,
            lanes=lanes,
            group_size=lanes if device == "cpu" else _GROUP_ON_GPU,
            seed=config.seed,
            detector=self.name,
            threads=_threads(config, device),
            refine=refine,
            images_per_pass=images_per_pass,
            reduced=_reduced_steps(where, rule),
        )

    def _sources(
        self, examination: Examination, space: Space, pairs: Sequence[Pair], limit: int | None = None
    ) -> Sources:
        """The images of the pairs' sources in the space, at most `limit` a class."""
        from backscan.scanner.search.batch import Sources

        only_correct = self.objective_under(examination.config).only_correct
        wanted = sorted({source for source, _ in pairs})
        return Sources.gather(
            {source: examination.images_by_class[source][:limit] for source in wanted},
            space,
            {source: _counted(examination, source, only_correct=only_correct)[:limit] for source in wanted},
        )


def _reduced_steps(where: PatternSpace, rule: StepRule) -> Space | None:
    """The space in reduced precision if steps are taken there; Algorithm 1 as published stays in float32 throughout."""
    return where.reduced if rule.portions > 1 else None


def pairs_per_pass(rule: StepRule, num_images: int, images_per_pass: int) -> int:
    """Pairs whose portions make one forward pass.

    Args:
        rule: Step rule, which divides the images into portions.
        num_images: Images of the largest class.
        images_per_pass: Images that pass together.
    """
    return max(1, round(images_per_pass * rule.portions_of(num_images) / num_images))


def _pilot_pairs(examination: Examination) -> list[Pair]:
    """A few pairs of classes that have images, by the seed."""
    classes = sorted(examination.images_by_class)
    pairs = [(source, target) for source in classes for target in range(examination.num_classes) if source != target]
    drawn = np.random.default_rng(examination.config.seed).permutation(len(pairs))[:PILOT_PAIRS]
    return [pairs[index] for index in drawn]


def _threads(config: ScanConfig, device: str) -> int:
    """Groups beside each other: a GPU takes one."""
    return (config.threads or os.cpu_count() or 1) if device == "cpu" else 1


def _counted(examination: Examination, source: int, *, only_correct: bool) -> Tensor:
    """Which images of a class count towards its rates: all, or those decided correctly, equation (6)."""
    if only_correct:
        return examination.decisions_by_class[source] == source
    images = examination.images_by_class[source]
    every: Tensor = images.new_ones(len(images)) > 0.0
    return every
