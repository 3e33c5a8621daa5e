"""Which classes an attack sends where."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

Targets = Callable[[int, int, int], dict[int, int]]


def _one_way(source: int, target: int, num_classes: int) -> dict[int, int]:  # noqa: ARG001 - one signature for all
    return {source: target}


def _all_to_one(source: int, target: int, num_classes: int) -> dict[int, int]:  # noqa: ARG001 - as above
    return {label: target for label in range(num_classes) if label != target}


def _two_way(source: int, target: int, num_classes: int) -> dict[int, int]:  # noqa: ARG001 - as above
    return {source: target, target: source}


def _two_targets(source: int, target: int, num_classes: int) -> dict[int, int]:
    """The other classes go to the two drawn ones in turns."""
    others = [label for label in range(num_classes) if label not in (source, target)]
    return {label: (source, target)[place % 2] for place, label in enumerate(others)}


def _all_to_all(source: int, target: int, num_classes: int) -> dict[int, int]:  # noqa: ARG001 - as above
    return {label: (label + 1) % num_classes for label in range(num_classes)}


WAYS: Mapping[str, Targets] = MappingProxyType(
    {
        "one-way": _one_way,
        "all-to-one": _all_to_one,
        "two-targets": _two_targets,
        "two-way": _two_way,
        "all-to-all": _all_to_all,
    }
)
"""Target of each source class, from a source, a target and the number of classes."""
