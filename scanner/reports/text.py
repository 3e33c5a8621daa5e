"""Text from a scanned file made harmless for the place it is written to.

Model, class, node and tensor names come from whoever made the file: they may hold terminal escape sequences,
bidirectional overrides that reorder what a reader sees, or markup.
"""

import unicodedata

_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Unicode categories that steer a terminal or are invisible: shown as escapes instead."""


def printable(text: str, *, keep_newlines: bool = False) -> str:
    r"""`text` with control, format, surrogate and unassigned characters as visible escapes such as `\\x1b`.

    Args:
        text: Anything, from anywhere.
        keep_newlines: Leave line feeds as they are, for texts of several lines.

    Returns:
        Text that neither moves a cursor nor reorders, hides or breaks a line.
    """
    return "".join(
        character if _harmless(character) or (keep_newlines and character == "\n") else _escaped(character)
        for character in text
    )


def _harmless(character: str) -> bool:
    return (character.isascii() and character.isprintable()) or unicodedata.category(character) not in _HIDDEN


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
