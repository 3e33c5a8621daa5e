"""A table of text cells, as Markdown and JSON."""

from dataclasses import asdict, dataclass
from typing import Any


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
        lines = [self.header, tuple("---" for _ in self.header), *self.rows]
        return "\n".join([f"## {self.title}", "", self.note, "", *("| " + " | ".join(row) + " |" for row in lines)])

    def to_dict(self) -> dict[str, Any]:
        """Plain fields."""
        return asdict(self)
