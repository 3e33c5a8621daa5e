"""Surrogates of the group misclassification rate: which images pull the pattern, and how strongly.

All of them descend along a weighted mean of the gradients of the log-odds of the target, log p / (1 - p): for J of
equation (3) the weight of an image is p (1 - p), for the cross-entropy it is 1 - p. Weights are handled as
logarithms, so the direction stays exact where softmax saturates and p or 1 - p underflows. Equations (5) and (6)
only leave images out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from backscan.scanner.choices.registered import Extensible, callable_entry

if TYPE_CHECKING:
    from torch import Tensor


def posterior_weight(log_p: Tensor, log_rest: Tensor) -> Tensor:
    """Log weight of each image under -mean p(t|x), equation (3): log p (1 - p), [P, N]."""
    return log_p + log_rest


def cross_entropy_weight(log_p: Tensor, log_rest: Tensor) -> Tensor:
    """Log weight of each image under the mean of -log p(t|x): log (1 - p), [P, N]."""
    del log_p
    return log_rest


@dataclass(frozen=True, slots=True)
class Objective:
    """A surrogate: the weight of an image and which images take part."""

    log_weight: Callable[[Tensor, Tensor], Tensor]
    """(log p(t|x), log of the rest 1 - p(t|x)), both [P, N] -> log weight of each image [P, N]."""
    only_undecided: bool = False
    """Leave out images already decided as the target, equation (5)."""
    only_correct: bool = False
    """Leave out source images that the model misclassifies, equation (6); rates follow the same images."""

    def log_weights(self, log_p: Tensor, log_rest: Tensor, decided: Tensor, counted: Tensor) -> Tensor:
        """Log weights [P, N], minus infinity for images that do not take part.

        Args:
            log_p: Log p(t|x) of each image, [P, N].
            log_rest: Log of 1 - p(t|x), [P, N].
            decided: True where the image is decided as the target, [P, N].
            counted: True for images that count towards the rate, [P, N].
        """
        takes_part = counted & ~decided if self.only_undecided else counted
        return self.log_weight(log_p, log_rest).masked_fill(~takes_part, float("-inf"))


def _made(path: str, value: Any) -> Objective:
    """What was registered, as an objective: one, or the log weight of all images."""
    return value if isinstance(value, Objective) else Objective(callable_entry(path, value))


OBJECTIVES: Mapping[str, Objective] = Extensible(
    {
        "J": Objective(posterior_weight),
        "Jp": Objective(posterior_weight, only_undecided=True),
        "Jc": Objective(posterior_weight, only_correct=True),
        "Jpc": Objective(posterior_weight, only_undecided=True, only_correct=True),
        "ce": Objective(cross_entropy_weight),
    },
    table="OBJECTIVES",
    made=_made,
)
