"""What the model's process answers, checked before it is believed: it handles hostile input and may say anything.

Types are checked by the types themselves, numbers by what they can be. A process that lies within those bounds can
hide a backdoor, which no check here could tell; it cannot make the scanner fail or wait.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from backscan.scanner.config import SMALL_MASKS
from backscan.scanner.errors import NoVerdictError, ReportError
from backscan.scanner.process.protocol import decode
from backscan.scanner.results import (
    LEAST_MASK,
    PairResult,
    PairStatus,
    PatternsAcross,
    SupportRecord,
    TargetResult,
    is_possible,
)

T = TypeVar("T")


def disbelief(expected: str) -> NoVerdictError:
    """The refusal to believe an answer, to be raised."""
    return NoVerdictError(
        f"expected {expected} from the model's process, found something else: the model may have taken it over; "
        "do not use it"
    )


def checked(kind: type[T], answer: object) -> T:
    """An answer or event as what it has to be.

    Raises:
        NoVerdictError: a field is missing, unknown or of the wrong type.
    """
    try:
        return decode(kind, answer)
    except ValidationError as error:
        raise disbelief(f"{getattr(kind, '__name__', 'an answer')} with all its fields") from error


def checked_decisions(decisions: NDArray[np.int64], num_images: int) -> NDArray[np.int64]:
    """Decisions int64 [N].

    Raises:
        NoVerdictError: not one whole number per image.
    """
    if decisions.shape != (num_images,):
        raise disbelief("one decision per image")
    return decisions.astype(np.int64)


def checked_shares(values: NDArray[np.float32], number: int) -> NDArray[np.float32]:
    """Probabilities float32 [N].

    Raises:
        NoVerdictError: not one number in [0, 1] per image.
    """
    if values.shape != (number,) or not ((values >= 0.0) & (values <= 1.0)).all():
        raise disbelief("one probability per image")
    return values


def checked_pair(pair: PairResult, pattern_shape: tuple[int, ...]) -> None:
    """Refuse the result of a pair that no search gives.

    Args:
        pair: The result with its pattern.
        pattern_shape: Shape that patterns have.

    Raises:
        NoVerdictError: another pattern, or a number that it cannot be.
    """
    pattern: object = pair.pattern
    if not isinstance(pattern, np.ndarray) or pattern.dtype != np.float32 or pattern.shape != pattern_shape:
        raise disbelief(f"a float32 pattern of shape {list(pattern_shape)}")
    # Only pairs with images are asked for.
    if not (is_possible(pair) and pair.status is not PairStatus.NO_IMAGES and np.isfinite(pattern).all()):
        raise disbelief("the result of a pair with possible sizes and rates")


def checked_target(result: TargetResult, num_classes: int, image_shape: tuple[int, ...]) -> None:
    """Refuse the result of a target class that no search gives.

    Args:
        result: The result, with what takes the place of the image if that was searched.
        num_classes: Classes of the model.
        image_shape: Channels, height and width.

    Raises:
        NoVerdictError: a number that it cannot be.
    """
    possible = (
        0 <= result.target < num_classes
        and (result.value is None or np.isfinite(result.value))
        and (result.score_on_noise is None or np.isfinite(result.score_on_noise))
        and (result.nearness is None or np.isfinite(result.nearness))
        and (result.rate is None or 0.0 <= result.rate <= 1.0)
        and (result.support is None or _is_possible_support(result.support, num_classes, image_shape))
        and (result.across is None or _is_possible_across(result.across, num_classes))
        and (result.detector != SMALL_MASKS or result.value is None or result.value >= LEAST_MASK)
    )
    if not possible:
        raise disbelief("the result of a target class with a possible value and rate")


def _is_possible_across(across: PatternsAcross, num_classes: int) -> bool:
    try:
        return across.is_possible(num_classes)
    except ReportError:  # no array
        return False


def _is_possible_support(support: SupportRecord, num_classes: int, image_shape: tuple[int, ...]) -> bool:
    """Whether a search can have given a support: it fits the images, and so do its counts."""
    try:
        fits = support.fits(image_shape)
    except ReportError:  # no array
        return False
    rate = support.rate_elsewhere
    return (
        fits
        and support.is_possible
        and all(0 <= source < num_classes for source in support.sources)
        and (rate is None or 0.0 <= rate <= 1.0)
    )
