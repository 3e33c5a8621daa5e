"""What the model's process answers, checked before it is believed: it handles hostile input and may say anything.

Types are checked by the types themselves, numbers by what they can be. A process that lies within those bounds can
hide a backdoor, which no check here could tell; it cannot make the scanner fail or wait.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from backscan.scanner.errors import NoVerdictError
from backscan.scanner.results import PairResult, PairStatus, TargetResult

T = TypeVar("T")


def disbelief(expected: str) -> NoVerdictError:
    """The refusal to believe an answer, to be raised."""
    return NoVerdictError(
        f"expected {expected} from the model's process, found something else: the model may have taken it over; "
        "do not use it"
    )


def checked(kind: type[T], answer: object) -> T:
    """An answer as a dataclass, or as a tuple of them.

    Raises:
        NoVerdictError: a field is missing, unknown or of the wrong type.
    """
    try:
        return TypeAdapter(kind).validate_python(answer)
    except ValidationError as error:
        raise disbelief(f"{getattr(kind, '__name__', kind)} with all its fields") from error


def checked_decisions(answer: Mapping[str, Any], num_images: int) -> NDArray[np.int64]:
    """Decisions int64 [N].

    Raises:
        NoVerdictError: not one whole number an image.
    """
    decisions = answer.get("decisions")
    if (
        not isinstance(decisions, np.ndarray)
        or decisions.shape != (num_images,)
        or not np.issubdtype(decisions.dtype, np.integer)
    ):
        raise disbelief("one decision an image")
    return decisions.astype(np.int64)


def checked_sizes(answer: Mapping[str, Any], num_pairs: int) -> list[float]:
    """Estimated sizes of all pairs, or none of them where the time was up.

    Raises:
        NoVerdictError: not one finite number of at least 0 a pair.
    """
    sizes = answer.get("sizes")
    if not isinstance(sizes, np.ndarray) or sizes.dtype != np.float64 or sizes.shape not in ((num_pairs,), (0,)):
        raise disbelief("an estimated size of every pair")
    found: list[float] = sizes.tolist()
    if not are_possible_sizes(found):
        raise disbelief("estimated sizes that are possible")
    return found


def are_possible_sizes(sizes: Iterable[float]) -> bool:
    """Whether all can be estimates of a size, whoever wrote them: finite numbers of at least 0."""
    return all(0.0 <= size < math.inf for size in sizes)


def checked_pair(event: Mapping[str, Any], pattern_shape: tuple[int, ...]) -> PairResult:
    """The result of one pair with its pattern.

    Args:
        event: `pair`, as `PairResult.to_dict` wrote it, and `pattern`.
        pattern_shape: Shape that patterns have.

    Raises:
        NoVerdictError: something missing, of the wrong type, or a number that it cannot be.
    """
    pattern = event.get("pattern")
    if not isinstance(pattern, np.ndarray) or pattern.dtype != np.float32 or pattern.shape != pattern_shape:
        raise disbelief(f"a float32 pattern of shape {list(pattern_shape)}")
    try:
        pair = PairResult.from_dict(event.get("pair", {}), pattern)
    except ValidationError as error:
        raise disbelief("the result of a pair") from error
    # Only pairs with images are asked for.
    if not (is_possible(pair) and pair.status is not PairStatus.NO_IMAGES and np.isfinite(pattern).all()):
        raise disbelief("the result of a pair with possible sizes and rates")
    return pair


def checked_target(event: Mapping[str, Any], num_classes: int) -> TargetResult:
    """The result of one target class.

    Raises:
        NoVerdictError: something missing, of the wrong type, or a number that it cannot be.
    """
    result = checked(TargetResult, event.get("target"))
    possible = (
        0 <= result.target < num_classes
        and (result.value is None or np.isfinite(result.value))
        and (result.rate is None or 0.0 <= result.rate <= 1.0)
    )
    if not possible:
        raise disbelief("the result of a target class with a possible value and rate")
    return result


def is_possible(pair: PairResult) -> bool:
    """Whether a search can have given these numbers: the statistics rely on it."""
    sizes, rates = pair.trajectory.sizes, (*pair.trajectory.rates, pair.rate, pair.initial_rate)
    if pair.status is PairStatus.NO_IMAGES:
        return pair.size is None
    return (
        pair.status.counts == (pair.size is not None)
        and (pair.size is None or 0.0 < pair.size < np.inf)
        and len(sizes) == len(pair.trajectory.rates) > 0
        and all(0.0 <= size < np.inf for size in sizes)
        and all(rate is not None and 0.0 <= rate <= 1.0 for rate in rates)
    )
