"""Where patterns act: in the image, in one of several ways, or on features. One way, one file, one line of `SPACES`.

The search asks a `Space` and does not know which. What replays a pattern asks the table, without torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from backscan.scanner.results import SpaceRecord
from backscan.scanner.search.spaces.additive import Additive
from backscan.scanner.search.spaces.base import Change, Shape, Space, other_places, picture
from backscan.scanner.search.spaces.colour import Colour
from backscan.scanner.search.spaces.features import Features
from backscan.scanner.search.spaces.frequency import Frequency
from backscan.scanner.search.spaces.image import BoxedImage, ClippedImage
from backscan.scanner.search.spaces.multiplicative import Multiplicative
from backscan.scanner.search.spaces.sinusoidal import Sinusoidal
from backscan.scanner.search.spaces.warp import Warp

__all__ = [
    "SPACES",
    "BoxedImage",
    "Change",
    "ClippedImage",
    "Features",
    "Shape",
    "Space",
    "change_of",
    "in_words",
    "other_places",
    "picture",
]

SPACES: Mapping[str, Change] = MappingProxyType(
    {
        "additive": Additive(),
        "multiplicative": Multiplicative(),
        "colour": Colour(),
        "frequency": Frequency(),
        "sinusoidal": Sinusoidal(),
        "warp": Warp(),
    }
)
"""Ways in which a common pattern changes images, by the name that `--space` has for them."""


def change_of(space: str) -> Change:
    """The way of a space by the name that results have for it; patterns on images are added where it is no other."""
    return SPACES.get(space, SPACES["additive"])


def in_words(space: str) -> SpaceRecord | None:
    """What reports say of an entry; None of the default, which is what they say without."""
    return None if space == "additive" else SPACES[space].words
