"""A result in an interactive session: one line, a few lines of HTML with a picture, the pairs as a table."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from backscan.scanner.results.evidence import Example
    from backscan.scanner.results.pairs import PairResult

_COLUMNS = ("detector", "source", "target", "status", "size", "reciprocal", "rate", "initial_rate", "steps", "offset")
_MOST_REASONS = 3


def one_line(name: str, verdict: str, classes: tuple[int | None, int | None], p_value: float | None) -> str:
    """Model, verdict, source and target class, and p-value, as far as they are known."""
    parts = [verdict]
    if classes != (None, None):
        parts.append(" -> ".join("any" if number is None else str(number) for number in classes))
    if p_value is not None:
        parts.append(f"p = {p_value:.3g}")
    return f"{name!a}: {', '.join(parts)}"


def to_html(title: str, reasons: Sequence[str], example: Example | None) -> str:
    """Title, reasons, and an image before and after the pattern; every text is escaped.

    Args:
        title: What `one_line` gave.
        reasons: Why the verdict, most important first.
        example: A held-out image with and without the pattern; None if there is none.
    """
    listed = "".join(f"<li>{_shown(reason)}</li>" for reason in reasons[:_MOST_REASONS])
    pictures = "" if example is None else _pictures(example)
    return f"<div><strong>{_shown(title)}</strong><ul>{listed}</ul>{pictures}</div>"


def _pictures(example: Example) -> str:
    pictures = [(f"decided as {example.decision_before}", example.before_png)]
    pictures += [(f"with the pattern as {example.decision_after}", example.after_png)] if example.after_png else []
    style = "height:112px;image-rendering:pixelated"
    return "".join(
        f'<figure style="display:inline-block;margin:0 1em 0 0"><img alt="{_shown(text)}" style="{style}" '
        f'src="data:image/png;base64,{_shown(data)}"><figcaption>{_shown(text)}</figcaption></figure>'
        for text, data in pictures
    )


def _shown(text: str) -> str:
    """A text that may come from the file, for HTML: nothing that a browser or terminal would act on."""
    return html.escape("".join(each if each.isprintable() else " " for each in text))


def pairs_frame(pairs: Sequence[PairResult]) -> Any:
    """Pairs as a `pandas.DataFrame`, a row each; what does not count is missing."""
    try:
        import pandas as pd
    except ImportError as error:
        raise ImportError("expected pandas for to_frame(), found it is not installed: pip install pandas") from error
    rows = [{name: getattr(pair, name) for name in _COLUMNS} | {"status": pair.status.value} for pair in pairs]
    return pd.DataFrame(rows, columns=list(_COLUMNS))
