"""A result in an interactive session: one line, a few lines of HTML with a picture, the pairs as a table."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from backscan.scanner.results.pairs import PairResult
    from backscan.scanner.results.result import ScanResult

_COLUMNS = ("detector", "source", "target", "status", "size", "reciprocal", "rate", "initial_rate", "steps", "offset")
_MOST_REASONS = 3


def one_line(result: ScanResult) -> str:
    """Model, verdict, classes and p-value."""
    parts = [str(result.verdict.value)]
    if result.source is not None or result.target is not None:
        parts.append(f"{_class(result.source)} -> {_class(result.target)}")
    if result.calibrated_p_value is not None:
        parts.append(f"p = {result.calibrated_p_value:.3g}")
    return f"<ScanResult {result.model.name!a}: {', '.join(parts)}>"


def _class(number: int | None) -> str:
    return "any" if number is None else str(number)


def to_html(result: ScanResult) -> str:
    """Verdict, reasons, and the first image before and after the pattern; every text of the file is escaped."""
    reasons = "".join(f"<li>{_shown(reason)}</li>" for reason in result.reasons[:_MOST_REASONS])
    title = _shown(one_line(result)[len("<ScanResult ") : -1])
    return f"<div><strong>{title}</strong><ul>{reasons}</ul>{_pictures(result)}</div>"


def _pictures(result: ScanResult) -> str:
    example = next(iter(result.examples), None)
    if example is None:
        return ""
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
