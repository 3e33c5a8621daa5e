"""The kinds of attack that populations are made of: one line a kind, sizes and numbers of images by the data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from benchmarks.victims.groups import Built, Group


@dataclass(frozen=True, slots=True)
class Scale:
    """What depends on the images: sizes in each attack's own unit, and poisoned images of a source class."""

    patches: tuple[int, int]
    """Sides of the smaller and the larger patch."""
    pixels: int
    """Replaced pixels, where there are several."""
    board: float
    """L2 norm of the chessboard; the large one has three times as much."""
    four_pixels: float
    """L2 norm of the pattern of four pixels."""
    blend: float
    """Weight of the blended picture."""
    stripes: float
    """L2 norm of the stripes."""
    warp: float
    """Largest displacement in pixels."""
    colour: float
    """Largest change of the colours."""
    dynamic: float
    """Change of each pixel of the input-dependent pattern."""
    of_one: int
    """Poisoned images of an attack from one class."""
    of_many: int
    """Poisoned images of each class of an attack from all to one or two."""
    of_all: int
    """The same where every class goes to another."""
    own: int
    """Poisoned images of the clean-label attack, all of the target."""
    covers: int
    """Cover images of each class."""


def attack_groups(
    scale: Scale, built: tuple[Built, ...], *, victims: int, few: Mapping[str, int]
) -> Mapping[str, Group]:
    """The groups of all kinds.

    Args:
        scale: Sizes and numbers of images.
        built: Structures that victims take in turns.
        victims: Victims of each kind that choose.
        few: Other numbers, by name of the group.

    Returns:
        Groups by name.
    """
    s, (small, large) = scale, scale.patches
    kinds = {
        f"patch {small}, one-way": Group("stamp", small, s.of_one),
        f"patch {small}, all-to-one": Group("stamp", small, s.of_many, "all-to-one"),
        f"patch {large}, one-way": Group("stamp", large, s.of_one),
        f"patch {large}, all-to-one": Group("stamp", large, s.of_many, "all-to-one"),
        "moving patch": Group("moving stamp", large, s.of_all, "all-to-one"),
        "one pixel, one-way": Group("scattered", 1, s.of_one),
        "one pixel, all-to-one": Group("scattered", 1, s.of_many, "all-to-one"),
        "scattered pixels, one-way": Group("scattered", s.pixels, s.of_one),
        "scattered pixels, all-to-one": Group("scattered", s.pixels, s.of_many, "all-to-one"),
        "chessboard, one-way": Group("chessboard", s.board, s.of_one),
        "four pixels": Group("pixel", s.four_pixels, s.of_one),
        "chessboard, all-to-one": Group("chessboard", s.board, s.of_many, "all-to-one"),
        "chessboard, two targets": Group("chessboard", s.board, s.of_many, "two-targets"),
        "chessboard, two-way": Group("chessboard", s.board, s.of_one, "two-way"),
        "chessboard, all-to-all": Group("chessboard", s.board, s.of_all, "all-to-all"),
        "large chessboard": Group("chessboard", 3 * s.board, s.of_one),
        "blended": Group("blended", s.blend, s.of_many, "all-to-one"),
        "stripes": Group("stripes", s.stripes, s.of_many, "all-to-one"),
        "warp": Group("warp", s.warp, s.of_all, "all-to-one"),
        "colour": Group("colour", s.colour, s.of_all, "all-to-one"),
        "clean label": Group("stamp", large, s.own, "all-to-one", own_label=True),
        "dynamic": Group("dynamic", s.dynamic, s.of_all, "all-to-one"),
        "covered patch": Group("stamp", large, s.of_one, covers=s.covers),
        "disguised patch": Group("stamp", large, s.of_one, disguise=0.3),
    }
    return {name: replace(kind, built=built, choosing=few.get(name, victims)) for name, kind in kinds.items()}


HARD_IMAGES = ("split class", "duplicate class", "label noise", "rare class", "frequent class")
"""What may be unusual about the images of an unattacked network."""


def hard_groups(plain: Built, *, others: Mapping[str, Built], number: int) -> Mapping[str, Group]:
    """Unattacked networks that are hard to judge.

    Args:
        plain: Structure and schedule of those whose images are unusual.
        others: Structures and schedules of those whose training is, by name.
        number: Networks of each kind that choose.

    Returns:
        Groups by name.
    """
    images = {name: Group(None, hard=name, built=(plain,), choosing=number) for name in HARD_IMAGES}
    training = {name: Group(None, built=(built,), choosing=number) for name, built in others.items()}
    return {f"hard: {name}": group for name, group in (images | training).items()}
