"""Figures as inline SVG: the same input gives the same bytes, and colours follow the page (light, dark, print).

No text from a scanned file is drawn: a font may lack its glyphs, and captions are the page's business.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from backscan.scanner.reports.words import number
from backscan.scanner.results import IMAGE, FoundPattern, Inference, PairResult

# Stand-in colours: matplotlib wants real ones, `_themed` replaces each by a variable of the page's style sheet.
_INK, _MUTED, _FAINT, _SERIES, _ACCENT, _ROOM = "#010101", "#020202", "#030303", "#040404", "#050505", "#060606"
_VARIABLES = {
    _INK: "--ink",
    _MUTED: "--muted",
    _FAINT: "--line",
    _SERIES: "--series",
    _ACCENT: "--accent",
    _ROOM: "--page",
}
_STYLE: dict[Any, Any] = {
    "svg.hashsalt": "backscan",
    "svg.fonttype": "none",  # text stays text: readable by screen readers, drawn in the page's font
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": _INK,
    "axes.edgecolor": _MUTED,
    "axes.labelcolor": _INK,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": _MUTED,
    "ytick.color": _MUTED,
    "xtick.labelcolor": _INK,
    "ytick.labelcolor": _INK,
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    "path.simplify": False,
}
MAX_CURVES = 120
"""Curves drawn at most; more would blur into a block and make the page heavy."""


def histogram(inference: Inference, *, prefix: str) -> str:
    """Statistics of all pairs with the fitted null, the cutoff and the most extreme pair. XMK Figure 10.

    Args:
        inference: The detector's statistics; pairs without one are left out.
        prefix: Put before every id, unique on the page.

    Returns:
        An `<svg>` element; empty if there are no statistics.
    """
    values = np.array([value for row in inference.values for value in row if value is not None])
    values = values[np.isfinite(values.astype(np.float64))]
    if values.size == 0:
        return ""
    of_pairs = len(inference.values) > 1
    counted = "class pairs" if of_pairs else "classes"
    with _figure(4.8, 2.9) as (figure, axes):
        edges = np.histogram_bin_edges(values, bins=int(np.clip(2 * np.sqrt(values.size), 8, 40)))
        counts, _ = np.histogram(values, bins=edges)
        axes.stairs(counts, edges, fill=True, color=_SERIES, alpha=0.75, label=counted)
        highest = _draw_null(axes, inference, count=values.size, width=float(edges[1] - edges[0]))
        top = float(counts.max())
        _mark(axes, x=float(values.max()), y=0.62 * top, text="most extreme pair" if of_pairs else "most extreme class")
        axes.set_xlabel("reciprocal of the size" if inference.null and of_pairs else _statistic(inference))
        axes.set_ylabel(counted)
        axes.yaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
        axes.set_ylim(0, 1.15 * max(top, min(highest, 2 * top)))
        axes.legend(loc="upper right", frameon=False, fontsize=9)
        return _svg(figure, prefix)


def _statistic(inference: Inference) -> str:
    return "anomaly index" if inference.inference == "mad" else inference.statistic


def curves(pairs: Sequence[PairResult], found: PairResult | None, *, goal: float, prefix: str) -> str:
    """Rate against size along the search of every pair, the found one marked. XMK Figure 12.

    Args:
        pairs: Pairs of one detector; of more than `MAX_CURVES` those of the smallest sizes are drawn.
        found: The pair to mark.
        goal: Goal rate, drawn as a line.
        prefix: Put before every id; each curve's id is `<prefix>curve-<source>-<target>`.

    Returns:
        An `<svg>` element; empty if no pair has a trajectory.
    """
    drawn = drawable(pairs)
    if not drawn:
        return ""
    with _figure(4.8, 2.9) as (figure, axes):
        for pair in drawn:
            (line,) = axes.plot(pair.trajectory.sizes, pair.trajectory.rates, color=_SERIES, alpha=0.35, linewidth=1)
            line.set_gid(f"curve-{pair.source}-{pair.target}")
        if found is not None:
            path = found.trajectory
            axes.plot(
                path.sizes, path.rates, color=_ACCENT, linewidth=2, marker="x", markersize=5, label="most extreme pair"
            )
            axes.legend(loc="lower right", frameon=False, fontsize=9)
        axes.axhline(goal, color=_MUTED, linewidth=1, linestyle="--")
        axes.text(0.995, goal + 0.015, "goal rate", transform=axes.get_yaxis_transform(), ha="right", color=_MUTED)
        axes.set_xlim(left=0)
        axes.set_ylim(0, 1.02)
        axes.set_xlabel("size of the pattern")
        axes.set_ylabel("rate to the target")
        return _svg(figure, prefix)


def drawable(pairs: Sequence[PairResult]) -> list[PairResult]:
    """The pairs whose curves are drawn, in the order given."""
    searched = [pair for pair in pairs if pair.size is not None and len(pair.trajectory.sizes) > 1]
    smallest = sorted(searched, key=lambda pair: (pair.size or 0.0, pair.source, pair.target))[:MAX_CURVES]
    kept = {id(pair) for pair in smallest}
    return [pair for pair in searched if id(pair) in kept]


def pattern_picture(pattern: FoundPattern, *, prefix: str) -> str:
    """Every channel of the pattern on one signed scale, amplified so that the largest change is full colour.

    Args:
        pattern: Values [C, H, W], or what they change of a card; of features the mean over the channels and the
            strongest of them are drawn.
        prefix: Put before every id.

    Returns:
        An `<svg>` element; empty for a pattern of another shape.
    """
    values, of_image = pattern.shown, pattern.space == IMAGE or pattern.picture is not None
    if values.ndim != 3 or values.size == 0 or not np.isfinite(values).all():
        return ""
    maps = _maps(values, of_image=of_image, single="change" if pattern.mask is None else "content")
    peak = float(np.abs(values).max()) or 1.0
    figure = Figure(figsize=(1.9 * len(maps) + 1.35, 2.4))
    with mpl.rc_context(_STYLE):
        grid = figure.subplots(1, len(maps), squeeze=False)[0]
        figure.subplots_adjust(left=0.02, right=1 - 1.2 / figure.get_figwidth(), bottom=0.04, top=0.88, wspace=0.06)
        for axes, (title, shown) in zip(grid, maps, strict=True):
            image = axes.imshow(shown, cmap="RdBu_r", vmin=-peak, vmax=peak, interpolation="nearest")
            axes.set_title(title, fontsize=13)  # shrunk on phones
            axes.set_xticks([])
            axes.set_yticks([])
        bar = figure.colorbar(image, ax=list(grid), fraction=0.046, pad=0.03, ticks=[-peak, 0, peak])
        most = f"{number(255 * peak)}/255" if of_image else number(peak)
        bar.ax.set_yticklabels([f"-{most}", "0", f"+{most}"], fontsize=12)
        return _svg(figure, prefix)


def _maps(values: NDArray[np.float32], *, of_image: bool, single: str) -> list[tuple[str, NDArray[np.float32]]]:
    """What is drawn of a pattern [C, H, W]: titles and maps [H, W], four at most."""
    if of_image:
        strongest = _strongest(values, limit=4)
        return [(_channel_name(channel, len(values), single), values[channel]) for channel in strongest]
    mean: NDArray[np.float32] = values.mean(axis=0)
    return [("mean", mean), *((f"channel {channel}", values[channel]) for channel in _strongest(values, limit=3))]


def _strongest(values: NDArray[np.float32], limit: int) -> list[int]:
    strength = np.square(values.astype(np.float64)).sum(axis=(1, 2))
    return sorted(int(index) for index in np.argsort(-strength, kind="stable")[:limit])


def _channel_name(channel: int, num_channels: int, single: str) -> str:
    names = {1: (single,), 3: ("red", "green", "blue")}.get(num_channels)
    return names[channel] if names else f"channel {channel}"


def _draw_null(axes: Axes, inference: Inference, *, count: int, width: float) -> float:
    """Draw the null as expected counts; the height of its curve."""
    null, highest = inference.null, 0.0
    if null is not None and null.density is not None:
        expected = np.array(null.density.y) * count * width
        axes.plot(null.density.x, expected, color=_INK, linewidth=1.6, label=f"fitted null ({null.family})")
        highest = float(expected.max(initial=0.0))
    if null is not None and null.cutoff is not None:
        axes.axvline(null.cutoff, color=_MUTED, linewidth=1, linestyle=":", label="cutoff of the fit")
    return highest


def _mark(axes: Axes, *, x: float, y: float, text: str) -> None:
    axes.annotate(
        text,
        xy=(x, 0),
        xytext=(x, y),
        ha="right",
        color=_ACCENT,
        arrowprops={"arrowstyle": "->", "color": _ACCENT, "linewidth": 1.6, "relpos": (1, 0)},
    )


@contextmanager
def _figure(width: float, height: float) -> Iterator[tuple[Figure, Axes]]:
    """A figure of fixed margins: layouts that measure text would depend on the fonts of the machine."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(width, height))
        axes = figure.subplots()
        figure.subplots_adjust(left=0.12, right=0.97, bottom=0.17, top=0.96)
        axes.set_axisbelow(True)
        yield figure, axes


def _svg(figure: Figure, prefix: str) -> str:
    """The figure as an element to be put into a page."""
    written = io.StringIO()
    figure.savefig(written, format="svg", metadata={"Date": None})
    text = written.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<defs>\s*<style.*?</defs>", "", text, flags=re.DOTALL)
    text = re.sub(r" font-family: [^;\"]*;", "", text)
    return _themed(_prefixed(_scalable(text), prefix))


def _scalable(svg: str) -> str:
    """Without a fixed height, so that the page may shrink it in shape."""
    return re.sub(
        r'<svg [^>]*?(viewBox="0 0 ([^ "]*) [^"]*")[^>]*>',
        r'<svg width="\2pt" \1 xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">',
        svg,
        count=1,
    )


def _prefixed(svg: str, prefix: str) -> str:
    """Ids made unique on the page, with the references to them."""
    return re.sub(r'(\bid="|url\(#|href="#)', lambda match: match.group(1) + prefix, svg)


def _themed(svg: str) -> str:
    for color, variable in _VARIABLES.items():
        svg = svg.replace(color, f"var({variable})")
    return svg
