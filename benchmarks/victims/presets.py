"""All presets by name: the table of what can be trained."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from benchmarks.victims.few_classes import FEW_NUMERALS, FEW_PHOTOS
from benchmarks.victims.groups import Preset
from benchmarks.victims.numerals import NUMBERS, NUMERALS
from benchmarks.victims.paper_groups import CPU, DIGITS, FULL, SMALL, TRIAL
from benchmarks.victims.photos import PHOTOS

POPULATIONS: Mapping[str, Preset] = MappingProxyType(
    {
        "photos": PHOTOS,
        "numerals": NUMERALS,
        "numbers": NUMBERS,
        "few-photos": FEW_PHOTOS,
        "few-numerals": FEW_NUMERALS,
    }
)
"""What defaults are chosen by and reported on: CIFAR-10, digits, the numbers 0 to 42, and 2 to 4 classes."""

PRESETS: Mapping[str, Preset] = MappingProxyType(
    {"full": FULL, "cpu": CPU, "small": SMALL, "digits": DIGITS, "trial": TRIAL, **POPULATIONS}
)
"""Families of groups by name; the first five hold the groups of the paper, at one scale each."""
