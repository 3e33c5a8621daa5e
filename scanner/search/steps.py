"""Step rules of the search and the line search for their length.

`unit` moves by a set distance along the gradient, so the size of the result hardly depends on the step; `plain` is
the gradient rule of Algorithm 1. Either length is one number for the model, found on a few pilot pairs.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

# A pair that crosses in fewer steps than this is searched again with a shorter step.
FEWEST_STEPS = 5
SHORTER = 0.25

_MOST_TRIALS = 12
# Portions of fewer images say too little about direction and rate.
_FEWEST_IN_PORTION = 10


def unit_step(direction: Tensor, log_scale: Tensor) -> Tensor:
    """The direction of descent with L2 norm 1, [P, ...]; zero where there is no direction.

    Args:
        direction: Negative gradient up to a positive factor, [P, ...].
        log_scale: Logarithm of that factor, [P]; not needed here.
    """
    del log_scale
    length = direction.flatten(1).double().norm(dim=1).to(direction.dtype)
    return direction / _like(length.clamp_min(1e-30), direction)


def plain_step(direction: Tensor, log_scale: Tensor) -> Tensor:
    """The negative gradient itself, Algorithm 1 line 3, [P, ...].

    Args:
        direction: Negative gradient up to a positive factor, [P, ...].
        log_scale: Logarithm of that factor, [P].
    """
    return direction * _like(log_scale.exp().to(direction.dtype), direction)


def _like(values: Tensor, pattern: Tensor) -> Tensor:
    """`values` [P] with the axes of `pattern`, for broadcasting."""
    return values.reshape(-1, *([1] * (pattern.dim() - 1)))


@dataclass(frozen=True, slots=True)
class StepRule:
    """How a gradient becomes a step of length one, and how many steps the median pair should need."""

    step: Callable[[Tensor, Tensor], Tensor]
    """(direction [P, ...], log scale [P]) -> step [P, ...] for a step size of 1."""
    fewest: int
    """Least steps the median pilot pair should need."""
    most: int
    """Most steps the median pilot pair should need."""
    portions: int = 1
    """Most steps that share a pair's images, each looking at its portion; 1 is Algorithm 1."""
    stride: float = 1.0
    """Factor on steps while hardly an image has moved; 1 is Algorithm 1."""

    def portions_of(self, num_images: int) -> int:
        """Steps that share some number of images."""
        return max(1, min(self.portions, num_images // _FEWEST_IN_PORTION))


STEP_RULES: Mapping[str, StepRule] = MappingProxyType(
    {
        # Pilots see few images, which agree sooner: 8 to 16 of their steps are 10 to 20 of a search.
        "unit": StepRule(unit_step, fewest=8, most=16, portions=10, stride=2.0),
        "plain": StepRule(plain_step, fewest=10, most=60),
    }
)


def find_step_size(rule: StepRule, steps_needed: Callable[[float], Sequence[int]], *, start: float) -> float:
    """Step size with which the median pilot pair needs between `rule.fewest` and `rule.most` steps.

    Args:
        rule: Step rule, with the wanted range of steps.
        steps_needed: Steps of each pilot pair at a step size; a pair that does not arrive counts as its step limit.
            None at all once the time is up, which ends the trials.
        start: First step size tried, in pixel units for `unit`.

    Returns:
        The first size that satisfies the range, else the one that came nearest to its middle.
    """
    wanted = (rule.fewest * rule.most) ** 0.5
    size, trials = start, []
    for _ in range(_MOST_TRIALS):
        needed = steps_needed(size)
        if not needed:
            break
        median = statistics.median(needed)
        trials.append((_ratio(median, wanted), size))
        if rule.fewest <= median <= rule.most:
            return size
        # Steps are about inversely proportional to their length; the bounds keep one odd trial from leaping away.
        size *= min(max(median / wanted, 0.1), 8.0)
    return min(trials)[1] if trials else start


def _ratio(a: float, b: float) -> float:
    """How far `a` is from `b` as a factor, at least 1."""
    return max((a + 0.5) / b, b / (a + 0.5))
