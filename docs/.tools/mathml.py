"""Fenced blocks of LaTeX as MathML, so that equations need no script and no font from elsewhere."""

from typing import Any

from latex2mathml.converter import convert


def fence(source: str, language: str, css_class: str, options: dict[str, Any], md: Any, **_: Any) -> str:
    """A block of the language `math`; the signature is pymdownx.superfences' own."""
    del language, options, md
    return f'<div class="{css_class}">{convert(source.strip(), display="block")}</div>'
