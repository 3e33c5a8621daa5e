"""Reports: pure functions from scan results to text. No clock, no file, no torch, no kernels.

A report is a module with `render(results, display) -> str` and one line of `RENDERERS`. Modules are imported when
they are first used, so that a JSON or terminal report loads neither matplotlib nor jinja2.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from os import PathLike, fspath
from types import MappingProxyType

from backscan.scanner.errors import OptionError
from backscan.scanner.reports.display import Display
from backscan.scanner.results import ScanResult

__all__ = ["RENDERERS", "Renderer", "format_of", "render"]

RenderFunction = Callable[[Sequence[ScanResult], Display], str]


@dataclass(frozen=True, slots=True)
class Renderer:
    """One report format."""

    suffixes: tuple[str, ...]
    """File name endings that choose it."""
    render: RenderFunction
    """Text of the report."""
    about: str
    """What it is for, in a few words."""


def _module(name: str) -> RenderFunction:
    """`render` of a module of this package, imported on the first call."""

    def render_later(results: Sequence[ScanResult], display: Display) -> str:
        # What matplotlib says when it is first used (it builds a cache of fonts) is no message of ours.
        logging.getLogger("matplotlib").setLevel(logging.ERROR)
        function: RenderFunction = import_module(f"{__name__}.{name}").render
        return function(results, display)

    return render_later


RENDERERS: Mapping[str, Renderer] = MappingProxyType(
    {
        "terminal": Renderer((), _module("terminal"), "a result to read in five seconds"),
        "json": Renderer((".json",), _module("json_doc"), "everything, for `infer`, `verify`, `render` and scripts"),
        "html": Renderer((".html",), _module("html_page"), "one page with pictures, for people"),
        "fleet": Renderer((".fleet.html",), _module("fleet_page"), "one page with a row for each of many models"),
        "markdown": Renderer((".md",), _module("markdown"), "a comment for a pull request"),
        "sarif": Renderer((".sarif",), _module("sarif"), "findings for code scanning dashboards"),
        "junit": Renderer((".junit.xml",), _module("junit"), "a test suite for a pipeline's test tab"),
        "bom": Renderer((".cdx.json",), _module("bom"), "a CycloneDX bill of materials of the model"),
        "spdx": Renderer((".spdx.json",), _module("spdx"), "an SPDX 3 document of the model, with its AI profile"),
        "verification": Renderer(
            (".svr.intoto.json",), _module("verification"), "an in-toto summary of what a scan found in order"
        ),
        "attestation": Renderer((".intoto.json",), _module("attestation"), "an in-toto statement, to be signed"),
    }
)


def render(
    result: ScanResult | Sequence[ScanResult],
    format: str,  # noqa: A002
    *,
    width: int = 100,
    colour: bool = False,
    page: str = "",
) -> str:
    """One report of one scan or of several.

    Args:
        result: What was found; several scans make one report.
        format: Name in `RENDERERS`.
        width: Columns of the display; files ignore it.
        colour: Whether the display takes colour sequences; files ignore it.
        page: Where the page with the whole report of each of these models is, for formats that lead there.

    Raises:
        OptionError: `format` is no name in `RENDERERS`.
    """
    if format not in RENDERERS:
        raise OptionError(f"expected --format to be one of {', '.join(RENDERERS)}, found {format!r}")
    results = (result,) if isinstance(result, ScanResult) else tuple(result)
    return RENDERERS[format].render(results, Display(width=width, colour=colour, page=page))


def format_of(path: str | PathLike[str]) -> str:
    """Name of the format that a file name chooses by its longest known suffix; `-` is JSON on standard output.

    Raises:
        OptionError: no format has the suffix.
    """
    name = fspath(path)
    if name == "-":
        return "json"
    chosen = {suffix: name for name, renderer in RENDERERS.items() for suffix in renderer.suffixes}
    for suffix in sorted(chosen, key=len, reverse=True):
        if name.lower().endswith(suffix):
            return chosen[suffix]
    raise OptionError(f"expected --report to end in {', '.join(sorted(chosen))}, found {name!r}: rename the report")
