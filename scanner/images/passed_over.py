"""Which files of a folder are pictures that can be read here, and what is said of all that were passed over."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from types import MappingProxyType

_PLAIN = frozenset({".bmp", ".gif", ".jpg", ".jpeg", ".png", ".ppm", ".pgm", ".pnm", ".tif", ".tiff", ".webp"})
_HEIF = frozenset({".heic", ".heif"})
_AVIF = frozenset({".avif"})
_MOST_SHOWN = 6
_REMEDIES: Mapping[str, str] = MappingProxyType(
    dict.fromkeys(_HEIF, "`pip install pillow-heif` lets them be read")
    | dict.fromkeys(_AVIF, "a pillow of version 11.3 or newer reads them")
    | dict.fromkeys((".zip", ".tar", ".gz", ".tgz"), "unpack them")
    | {".npz": "name one of them as --data", ".parquet": "pictures beside them were read"}
)


def is_picture(suffix: str) -> bool:
    """Whether files of an ending, small letters with the dot, are pictures that can be read here."""
    if suffix in _HEIF:
        return reads_heif()
    return reads_avif() if suffix in _AVIF else suffix in _PLAIN


@cache
def reads_heif() -> bool:
    """Whether pillow-heif is installed."""
    return find_spec("pillow_heif") is not None


@cache
def reads_avif() -> bool:
    """Whether pillow was built with AVIF."""
    from PIL import features

    return "avif" in features.get_supported()


def note(passed_over: Counter[str]) -> tuple[str, ...]:
    """What is said of files that were passed over: how many of each ending, and what lets them be read.

    Args:
        passed_over: Ending -> number of files.
    """
    if not passed_over:
        return ()
    listed = sorted(passed_over.items(), key=lambda each: (-each[1], each[0] or "~"))
    parts = [f"{count} {suffix or 'unnamed'} file{'s' if count > 1 else ''}" for suffix, count in listed[:_MOST_SHOWN]]
    rest = sum(count for _, count in listed[_MOST_SHOWN:])
    parts += [f"{rest} others"] if rest else []
    remedies = [f"; {suffix}: {_REMEDIES[suffix]}" for suffix, _ in listed[:_MOST_SHOWN] if suffix in _REMEDIES]
    return (f"{', '.join(parts)} passed over{''.join(remedies)}",)
