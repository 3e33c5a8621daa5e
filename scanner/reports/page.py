"""What pages of HTML share: templates that escape, names that hide nothing, and a script that the page vouches for."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from backscan.scanner.reports.text import printable
from backscan.scanner.reports.words import moment
from backscan.scanner.results import ScanResult

_TEMPLATES = Path(__file__).parent / "templates"


def filled(template: str, script: str, values: Mapping[str, Any]) -> str:
    """A page from its template and its script, which its policy allows by digest and nothing else.

    Args:
        template: Name of the template.
        script: Name of the script.
        values: What the template shows.
    """
    text = (_TEMPLATES / script).read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    page: str = (
        environment()
        .get_template(template)
        .render(
            script=Markup(text),  # noqa: S704 - ours, from the package
            script_digest=f"sha256-{digest}",
            **values,
        )
    )
    return page


def dated(results: Sequence[ScanResult]) -> str:
    """When the scans ended, from the first to the last."""
    days = sorted({moment(each).replace("T", " ") for each in results if moment(each)})
    return f"{' to '.join(dict.fromkeys((days[0], days[-1])))} UTC" if days else ""


@cache
def environment() -> Environment:
    """Templates that escape whatever is no markup of ours."""
    made = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_visible,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters["options"] = _options
    return made


def _options(text: str) -> Markup:
    """Text whose command-line options are not broken across lines: `--` alone at the end of one reads as a dash."""
    whole = re.sub(r"--[a-z][a-z-]*", r'<span class="option">\g<0></span>', str(escape(printable(text))))
    return Markup(whole)  # noqa: S704 - escaped just before


def _visible(value: object) -> object:
    """Names from the file without characters that reorder or hide text; markup is ours and stays."""
    return value if isinstance(value, Markup) or not isinstance(value, str) else printable(value)
