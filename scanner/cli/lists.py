"""Lists that the command line takes as one text with commas."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from backscan.scanner.errors import OptionError


def _pair(text: str) -> tuple[int, int]:
    source, target = text.split(":")
    if int(source) == int(target):
        raise ValueError
    return int(source), int(target)


READERS: Mapping[Any, tuple[Callable[[str], Any], str]] = MappingProxyType(
    {
        float: (float, "numbers such as 0.5,0.5,0.5"),
        int: (int, "class numbers such as 3,5"),
        tuple[int, int]: (_pair, "pairs of two different classes such as 1:9,2:7"),
    }
)
"""By the type of an item: how it is read, and what to say where that fails."""


def read_list(text: str, option: str, item: Any) -> tuple[Any, ...]:
    """Items divided by commas.

    Args:
        text: What was given.
        option: Spelling of the option.
        item: Key of `READERS`.

    Raises:
        OptionError: something that is no such item.
    """
    read, expected = READERS[item]
    try:
        return tuple(read(part.strip()) for part in text.split(","))
    except ValueError as error:
        raise OptionError(f"expected {option} to be {expected}, found {text!r}") from error
