"""What the detectors that search class pairs share: Algorithm 1 in one space, with steps of the right length there."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from backscan.scanner.search import steps
from backscan.scanner.search.norms import NORMS
from backscan.scanner.search.steps import STEP_RULES

if TYPE_CHECKING:
    from torch import Tensor

    from backscan.scanner.detectors import Examination, Pilot
    from backscan.scanner.results import Pair, PairResult
    from backscan.scanner.search.batch import Sources
    from backscan.scanner.search.objectives import Objective
    from backscan.scanner.search.settings import SearchSettings
    from backscan.scanner.search.spaces import Space
    from backscan.scanner.search.steps import StepRule

# Images of one forward pass: enough for a CPU core, yet so few that a chunk makes many groups for all cores to share;
# and what keeps a GPU busy.
_IMAGES_PER_PASS = {"cpu": 48, "cuda": 8192}
# A GPU works on all pairs of a chunk as one group.
_GROUP_ON_GPU = 1 << 20
_PILOT_PAIRS = 7
_PILOT_IMAGES = 25


@dataclass(frozen=True, slots=True)
class Place:
    """Where the patterns of a detector act."""

    detector: str
    """Name that the results carry."""
    space: Space
    """Where patterns are added."""
    objective: Objective
    """What is descended there."""
    largest: Tensor
    """A pattern [1, ...] as large as any that is tried, unless an option says otherwise."""
    first_share: float
    """First step of the pilots, as a share of that: too long a step costs them less than too short a one."""
    draft: Space | None = None
    """The space in reduced precision, for steps that are confirmed in float32."""

    def largest_size(self, norm: str) -> float:
        """Size of the largest pattern."""
        return float(NORMS[norm](self.largest))


def find_step_size(examination: Examination, place: Place) -> Pilot:
    """Step size with which the median of a few seeded pilot pairs arrives in the wanted number of steps."""
    from backscan.scanner.detectors import Pilot
    from backscan.scanner.search.algorithm1 import search_pairs
    from backscan.scanner.search.settings import Work

    rule = STEP_RULES[examination.config.step_rule]
    classes = sorted(examination.images_by_class)
    pairs = [(source, target) for source in classes for target in range(examination.num_classes) if source != target]
    drawn = np.random.default_rng(examination.config.seed).permutation(len(pairs))[:_PILOT_PAIRS]
    pilots = [pairs[index] for index in drawn]
    sources = _sources(examination, place, pilots, limit=_PILOT_IMAGES)

    work = Work()

    def steps_needed(step_size: float) -> list[int]:
        settings = _settings(examination, place, step_size, max_steps=4 * rule.most, refine=False)
        found = search_pairs(settings, sources, pilots, work, stopped=examination.stopped)
        done = [pair.steps for pair in found]
        return [] if examination.stopped() else done

    step_size = steps.find_step_size(rule, steps_needed, start=place.first_share * place.largest_size("l2"))
    return Pilot(step_size, num_images=work.gradients + work.forwards)


def optimise(examination: Examination, place: Place, pairs: Sequence[Pair], step_size: float) -> Iterator[PairResult]:
    """Search for the smallest pattern of every pair (Algorithm 1).

    Args:
        examination: The model, its source images and the options.
        place: Where patterns act.
        pairs: (source, target) pairs; every source must have images.
        step_size: Length of a step, from `find_step_size`.
    """
    from backscan.scanner.search.algorithm1 import search_pairs
    from backscan.scanner.search.settings import Work

    settings = _settings(examination, place, step_size, max_steps=examination.config.max_steps, refine=True)
    return search_pairs(settings, _sources(examination, place, pairs), pairs, Work(), stopped=examination.stopped)


def look(examination: Examination, place: Place, pairs: Sequence[Pair]) -> list[float]:
    """Estimate the size of every pair to first order, from a few images; empty if the time was up.

    Args:
        examination: The model, its source images and the options.
        place: Where patterns act.
        pairs: (source, target) pairs; every source must have images.
    """
    from backscan.scanner.search.first_order import NUM_IMAGES, Glance

    config = examination.config
    sources = _sources(examination, place, pairs, limit=NUM_IMAGES)
    device = sources.encoded.device.type
    glance = Glance(
        space=place.space,
        goal_rate=config.goal_rate,
        norm=NORMS[config.norm],
        sources_a_pass=max(1, _IMAGES_PER_PASS[device] // NUM_IMAGES),
        threads=(config.threads or os.cpu_count() or 1) if device == "cpu" else 1,
    )
    return glance.run(sources, pairs, stopped=examination.stopped)


def pairs_a_pass(rule: StepRule, num_images: int, device: str) -> int:
    """Pairs whose portions make one forward pass.

    Args:
        rule: Step rule, which divides the images into portions.
        num_images: Images of the largest class.
        device: `cpu` or `cuda`.
    """
    return max(1, round(_IMAGES_PER_PASS[device] * rule.portions_of(num_images) / num_images))


def _settings(
    examination: Examination, place: Place, step_size: float, *, max_steps: int, refine: bool
) -> SearchSettings:
    from backscan.scanner.search.settings import SearchSettings

    config = examination.config
    longest = max(len(images) for images in examination.images_by_class.values())
    device = next(iter(examination.images_by_class.values())).device
    on_cpu = device.type == "cpu"
    rule = STEP_RULES[config.step_rule]
    lanes = pairs_a_pass(rule, longest, device.type)
    return SearchSettings(
        space=place.space,
        objective=place.objective,
        rule=rule,
        norm=NORMS[config.norm],
        step_size=step_size,
        goal_rate=config.goal_rate,
        max_size=config.max_size or place.largest_size(config.norm),
        max_steps=max_steps,
        lanes=lanes,
        group_size=lanes if on_cpu else _GROUP_ON_GPU,
        seed=config.seed,
        detector=place.detector,
        threads=(config.threads or os.cpu_count() or 1) if on_cpu else 1,
        refine=refine,
        # Algorithm 1 as published stays in float32 throughout.
        reduced=place.draft if rule.portions > 1 else None,
    )


def _sources(examination: Examination, place: Place, pairs: Sequence[Pair], limit: int | None = None) -> Sources:
    """The images of the pairs' sources in the space, at most `limit` a class."""
    from backscan.scanner.search.batch import Sources

    only_correct = place.objective.only_correct
    wanted = sorted({source for source, _ in pairs})
    return Sources.gather(
        {source: examination.images_by_class[source][:limit] for source in wanted},
        place.space,
        {source: _counted(examination, source, only_correct=only_correct)[:limit] for source in wanted},
    )


def _counted(examination: Examination, source: int, *, only_correct: bool) -> Tensor:
    """Which images of a class count towards its rates: all, or those decided correctly, equation (6)."""
    decisions = examination.decisions_by_class[source]
    return decisions == source if only_correct else decisions == decisions
