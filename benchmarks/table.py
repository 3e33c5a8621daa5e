"""Tables of text cells and the pages they stand on, as Markdown and JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

Block = str | Sequence[str]
"""A paragraph or a list of lines."""
_RULES = {"l": "---", "r": "---:"}


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of text under a heading."""

    title: str
    """What it shows."""
    note: str
    """How to read it."""
    header: tuple[str, ...]
    """Names of the columns."""
    rows: tuple[tuple[str, ...], ...]
    """Cells."""

    def markdown(self) -> str:
        """As Markdown, heading included."""
        return "\n".join([f"## {self.title}", "", self.note, "", *grid(self.header, self.rows)])


def grid(header: Sequence[object], rows: Iterable[Sequence[object]], align: str | None = None) -> list[str]:
    """The lines of a Markdown table.

    Args:
        header: Names of the columns.
        rows: Cells; a bar in one is escaped.
        align: `l` or `r` for each column; None leaves that to whatever shows the page.
    """
    rule = _line(["---"] * len(header)) if align is None else "|" + "".join(f"{_RULES[side]}|" for side in align)
    return [_line(header), rule, *map(_line, rows)]


def _line(cells: Iterable[object]) -> str:
    return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"


def page(title: str, *blocks: Block) -> str:
    """A Markdown page: its heading and blocks, a blank line before each; empty ones are left out."""
    texts = [block if isinstance(block, str) else "\n".join(block) for block in blocks]
    return "\n\n".join([f"# {title}", *(text for text in texts if text)]) + "\n"
