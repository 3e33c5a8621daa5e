"""How Algorithm 1 is to search, and the count of what it cost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from backscan.scanner.search.objectives import Objective
    from backscan.scanner.search.spaces import Space
    from backscan.scanner.search.steps import StepRule


@dataclass(frozen=True, slots=True)
class SearchSettings:
    """Settings of Algorithm 1."""

    space: Space
    """Where patterns act, in float32: whatever enters the statistics is measured here."""
    objective: Objective
    """Surrogate that is descended."""
    rule: StepRule
    """How a gradient becomes a step."""
    norm: Callable[[Tensor], Tensor]
    """Size of patterns, [P, ...] -> [P]."""
    step_size: float
    """Length of a step (delta)."""
    goal_rate: float
    """Rate at which a pair is done (pi)."""
    max_size: float
    """Largest size tried."""
    max_steps: int
    """Largest number of steps per pair."""
    lanes: int
    """Pairs of one group in work at once, sharing each pass through the model."""
    group_size: int
    """Pairs of one group; groups run beside each other in threads."""
    seed: int
    """Seed of the random direction where the gradient vanishes."""
    detector: str = "pairwise"
    """Name that the results carry."""
    threads: int = 1
    """Groups in work at once."""
    refine: bool = True
    """Shrink patterns to the crossing and repeat pairs that cross too soon; off in pilots."""
    images_per_pass: int = 48
    """Images that pass the model together where each has a pattern of its own."""
    reduced: Space | None = None
    """The same space in reduced precision, for the steps; None takes them in `space`."""


@dataclass(slots=True)
class Work:
    """Deterministic counts of what a search cost."""

    gradients: int = 0
    """Images passed forward and backward."""
    forwards: int = 0
    """Images passed forward only."""

    def add(self, other: Work) -> None:
        """Count what another search did as well."""
        self.gradients += other.gradients
        self.forwards += other.forwards
