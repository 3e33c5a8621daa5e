"""What is said of content that takes the place of the image, by the detector that searches it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class ContentWords:
    """How a sentence calls content of one form; `side` is its size as results have it."""

    found: str
    """The content of a target."""
    extent: str
    """How large it is, a clause."""
    ordinary: str
    """Any content of that size."""
    smaller: str
    """What less of it is; empty where ordinary content is meant to succeed."""
    about: str
    """Of which a target or pair is."""
    nothing: str = "no target class was searched"
    """What is said where no target has a result, a clause."""


_WINDOW = ContentWords(
    "one content of a small window",
    "the window is {side} pixels wide and high",
    "ordinary content of {side} x {side} pixels",
    "no smaller window",
    "of a window",
)
_WORDS: Mapping[str, ContentWords] = MappingProxyType(
    {
        "large-window": ContentWords(
            "one content of a larger window",
            "the larger window is {side} pixels wide and high",
            "ordinary content of {side} x {side} pixels",
            "",
            "of a larger window",
            nothing="no target class was searched: in no window of up to a quarter of the image ordinary content "
            "succeeds often but not always, the images are too few, or the time was up",
        ),
        "mask": ContentWords(
            "one content behind a small mask",
            "the mask hides {side} pixels",
            "ordinary content behind a mask of {side} pixels",
            "no smaller mask",
            "of a mask",
        ),
        "scattered": ContentWords(
            "one content of a few pixels",
            "the pixels that are replaced are {side}",
            "ordinary content of {side} pixels",
            "no fewer pixels",
            "of single pixels",
        ),
        "blend": ContentWords(
            "one faint picture over the whole image",
            "the picture hides {side} % of the image",
            "an ordinary picture that hides {side} % of the image",
            "no fainter one",
            "of a faint picture",
        ),
    }
)


def words_of(detector: str) -> ContentWords:
    """The words of a detector; those of windows for any that is not listed."""
    return _WORDS.get(detector, _WINDOW)
