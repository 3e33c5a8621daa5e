"""The figures of a study, as SVG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from benchmarks.accuracy.comparison import p_values, ranked
from benchmarks.accuracy.outcomes import CANDIDATES
from benchmarks.accuracy.study import Study

_CURVES = 6


def draw(study: Study, folder: Path, name: str) -> None:
    """Write receiver operating curves, collateral damage and search curves.

    Args:
        study: Victims and their scans.
        folder: Where the figures go.
        name: How their names begin.
    """
    with plt.rc_context({"svg.hashsalt": name, "font.size": 9}):
        for suffix, panel in (("roc", _operating_curves), ("collateral", _collateral), ("curves", _search_curves)):
            figure, axes = plt.subplots(figsize=(5.0, 3.4), layout="constrained")
            panel(axes, study)
            figure.savefig(folder / f"{name}_{suffix}.svg", metadata={"Date": None})
            plt.close(figure)


def _operating_curves(axes: Axes, study: Study) -> None:
    """Victims detected with a right target against false alarms for all thresholds, of the best candidates."""
    for name in ranked(study)[:_CURVES]:
        attacked, unattacked = p_values(study, CANDIDATES[name])
        if attacked and unattacked:
            axes.step(*curve(attacked, unattacked), where="post", label=name)
    axes.set_xlabel("false alarms on Clean")
    axes.set_ylabel("detected with a right target")
    axes.set_ylim(0, 1.02)
    if axes.lines:
        axes.legend(loc="lower right", frameon=False, fontsize=7)


def curve(attacked: Sequence[float], unattacked: Sequence[float]) -> tuple[list[float], list[float]]:
    """Shares of unattacked and of attacked networks at or below every threshold up to 1."""
    thresholds = [0.0, *sorted({p for p in (*attacked, *unattacked) if p <= 1.0})]
    return (
        [float(np.mean([p <= threshold for p in unattacked])) for threshold in thresholds],
        [float(np.mean([p <= threshold for p in attacked])) for threshold in thresholds],
    )


def _collateral(axes: Axes, study: Study) -> None:
    """How often uninvolved classes go to the target with the pattern. XMK Figure 7."""
    edges = np.linspace(0, 1, 21)
    for name in ("BD-P-S", "BD-G-S"):
        rates = [rate for each in study.groups.get(name, ()) for rate in each.victim.collateral_rates]
        if rates:
            axes.hist(rates, edges, alpha=0.6, label=name)
            axes.legend(frameon=False)
    axes.set_xlabel("share of an uninvolved class decided as the target")
    axes.set_ylabel("classes")


def _search_curves(axes: Axes, study: Study) -> None:
    """Rate against size of every pair of one victim, the attacked pair in red. XMK Figure 12."""
    found = ((each, each.scans["J"].trajectories) for each in study.groups.get("BD-P-S", ()) if "J" in each.scans)
    for victim, trajectories in ((each, curves) for each, curves in found if curves):
        for source, target in (tuple(map(int, pair.split(":"))) for pair in trajectories):
            attacked = (source, target) in victim.victim.targets
            style = (
                {"color": "tab:red", "marker": "x", "zorder": 3} if attacked else {"color": "tab:blue", "alpha": 0.3}
            )
            axes.plot(*trajectories[f"{source}:{target}"], linewidth=0.8, markersize=4, **style)
    axes.set_xlabel("L2 norm of the pattern")
    axes.set_ylabel("group misclassification rate")
