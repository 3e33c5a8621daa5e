"""The detector of XMK: smallest common pattern of every class pair, judged against a null fitted to the other pairs."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from backscan.scanner import steps
from backscan.scanner.norms import NORMS
from backscan.scanner.objectives import OBJECTIVES
from backscan.scanner.steps import STEP_RULES

if TYPE_CHECKING:
    from torch import Tensor

    from backscan.scanner.config import ScanConfig
    from backscan.scanner.detectors import Examination, Pilot
    from backscan.scanner.perturb import Pair, Search, Sources
    from backscan.scanner.results import Inference, PairResult

NAME = "pairwise"

# Images of one forward pass: what fills the caches of a CPU core, and what keeps a GPU busy.
_IMAGES_PER_PASS = {"cpu": 128, "cuda": 8192}
# A GPU works on all pairs of a chunk as one group.
_GROUP_ON_GPU = 1 << 20
_PILOT_PAIRS = 7
_PILOT_IMAGES = 25
# First step tried and largest size tried, as shares of the pattern that turns black into white everywhere.
_FIRST_SHARE = 0.002
_LARGEST_SHARE = 0.5


def find_step_size(examination: Examination) -> Pilot:
    """Step size with which the median of a few seeded pilot pairs arrives in the wanted number of steps."""
    from backscan.scanner.detectors import Pilot
    from backscan.scanner.perturb import Work

    rule = STEP_RULES[examination.config.step_rule]
    classes = sorted(examination.images_by_class)
    pairs = [(source, target) for source in classes for target in range(examination.num_classes) if source != target]
    drawn = np.random.default_rng(examination.config.seed).permutation(len(pairs))[:_PILOT_PAIRS]
    pilots = [pairs[index] for index in drawn]
    sources = _sources(examination, pilots).first(_PILOT_IMAGES)

    work = Work()

    def steps_needed(step_size: float) -> list[int]:
        search = _search(examination, step_size, max_steps=4 * rule.most, refine=False)
        return [pair.steps for pair in search.run(sources, pilots, work)]

    step_size = steps.find_step_size(rule, steps_needed, start=_FIRST_SHARE * _white(examination, "l2"))
    return Pilot(step_size, num_images=work.gradients + work.forwards)


def optimise(examination: Examination, pairs: Sequence[Pair], step_size: float) -> Iterator[PairResult]:
    """Search for the smallest pattern of every pair (Algorithm 1).

    Args:
        examination: The model, its source images and the options.
        pairs: (source, target) pairs; every source must have images.
        step_size: Length of a step, from `find_step_size`.
    """
    from backscan.scanner.perturb import Work

    search = _search(examination, step_size, max_steps=examination.config.max_steps, refine=True)
    return search.run(_sources(examination, pairs), pairs, Work(), stopped=examination.stopped)


def infer(pairs: Sequence[PairResult], config: ScanConfig, num_classes: int) -> tuple[Inference, ...]:
    """Whether the most extreme pair is abnormal among the others (XMK section 3.1.3)."""
    from backscan.scanner.inference import infer_pairs

    return infer_pairs(pairs, config, num_classes, detector=NAME, space="image")


def _search(examination: Examination, step_size: float, *, max_steps: int, refine: bool) -> Search:
    from backscan.scanner.perturb import Search
    from backscan.scanner.spaces import BoxedImage, ClippedImage

    config = examination.config
    longest = max(len(images) for images in examination.images_by_class.values())
    device = next(iter(examination.images_by_class.values())).device
    on_cpu = device.type == "cpu"
    lanes = max(1, round(_IMAGES_PER_PASS[device.type] / longest))
    space = BoxedImage if config.box else ClippedImage
    return Search(
        space=space(examination.classifier),
        objective=OBJECTIVES[config.objective],
        rule=STEP_RULES[config.step_rule],
        norm=NORMS[config.norm],
        step_size=step_size,
        goal_rate=config.goal_rate,
        max_size=config.max_size or _LARGEST_SHARE * _white(examination, config.norm),
        max_steps=max_steps,
        lanes=lanes,
        group_size=lanes if on_cpu else _GROUP_ON_GPU,
        seed=config.seed,
        detector=NAME,
        threads=(config.threads or os.cpu_count() or 1) if on_cpu else 1,
        refine=refine,
    )


def _sources(examination: Examination, pairs: Sequence[Pair]) -> Sources:
    from backscan.scanner.perturb import Sources
    from backscan.scanner.spaces import ClippedImage

    only_correct = OBJECTIVES[examination.config.objective].only_correct
    wanted = sorted({source for source, _ in pairs})
    return Sources.gather(
        {source: examination.images_by_class[source] for source in wanted},
        ClippedImage(examination.classifier),
        {source: _counted(examination, source, only_correct=only_correct) for source in wanted},
    )


def _counted(examination: Examination, source: int, *, only_correct: bool) -> Tensor:
    """Which images of a class count towards its rates: all, or those decided correctly, equation (6)."""
    decisions = examination.decisions_by_class[source]
    return decisions == source if only_correct else decisions == decisions


def _white(examination: Examination, norm: str) -> float:
    """Size of the pattern that turns black into white everywhere."""
    image = next(iter(examination.images_by_class.values()))[:1]
    return float(NORMS[norm](image.new_ones(image.shape)))
