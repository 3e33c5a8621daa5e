"""The page of `python -m benchmarks.switches`: the kinds that the search was made with, and those tried afterwards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from benchmarks.provenance import circumstances
from benchmarks.switches.outcome import DEMONSTRATED, LISTED, MISSED, REFUSED, UNEXAMINED, Tried
from benchmarks.switches.trial import Row
from benchmarks.switches.unseen import FIRST_RUN, UNSEEN_SWITCHES
from benchmarks.table import grid, page

_LIBRARIES = ("torch", "timm", "onnx", "onnxscript", "onnxruntime")
_OUTCOMES = (DEMONSTRATED, LISTED, REFUSED, UNEXAMINED, MISSED)
_MOST_SAID = 160


def whole_page(done: Sequence[Row], tried: Sequence[Tried], made_by: str) -> str:
    """Both tables as Markdown."""
    return page(
        "Switch backdoors planted into real exports",
        f"Made by `{made_by}` {circumstances(_LIBRARIES)}.",
        *(_of_known(done) if done else ()),
        *(_of_new(tried) if tried else ()),
    )


def _of_known(done: Sequence[Row]) -> tuple[str | list[str], ...]:
    planted, plain = [row for row in done if row.kind], [row for row in done if not row.kind]
    kinds = {row.kind for row in planted}
    found = kinds - {row.kind for row in planted if not row.passed}
    rows = [
        (
            row.kind or "none",
            row.host,
            f"{row.changed:.2f}" if row.kind else "",
            "; ".join(row.findings) or "none",
            "yes" if row.passed else "**no**",
            f"{row.seconds:.1f}",
        )
        for row in done
    ]
    return (
        "## Kinds that the search was made with",
        f"{len(found)} of {len(kinds)} kinds are found and demonstrated in every export they were planted into "
        f"({sum(row.passed for row in planted)} of {len(planted)} files); "
        f"{sum(len(row.findings) for row in plain)} findings in the {len(plain)} exports without a switch. "
        "Changed: share of triggered images that the planted file decides otherwise.",
        f"The last {len(UNSEEN_SWITCHES)} kinds were written after the search. Before it was changed for any of them "
        f"it demonstrated {len(UNSEEN_SWITCHES) - len(FIRST_RUN)} in the small network of the tests; "
        f"{', '.join(f'{kind}: {outcome}' for kind, outcome in FIRST_RUN.items())}.",
        grid(("switch", "export", "changed", "findings", "right", "seconds"), rows, "llllll"),
    )


def _of_new(tried: Sequence[Tried]) -> tuple[str | list[str], ...]:
    planted, plain = [one for one in tried if one.kind], [one for one in tried if not one.kind]
    counts = Counter(one.outcome for one in planted)
    kinds = dict.fromkeys(one.kind for one in planted)
    return (
        "## Kinds that were tried afterwards",
        f"{len(kinds)} kinds in {len(planted)} files, each opened and looked through as `scanner check` does: "
        + ", ".join(f"{counts[outcome]} {outcome}" for outcome in _OUTCOMES)
        + f". {sum(len(one.said) for one in plain)} findings in the {len(plain)} exports without a switch.",
        "Demonstrated: exit 1. Listed: a warning names the node (a predicate: exit 4). Refused: exit 3, the node is "
        "named. Not examined: a note names the join, exit 4. Missed: none of these. Changed: share of the images that "
        "the trigger makes the file decide otherwise, in the worst of four ways to call it.",
        grid(
            ("switch", *_OUTCOMES, "least changed", "longest", "at commit"),
            (_kind_row(kind, planted) for kind in kinds),
            "l" * 9,
        ),
        "Every file that is not demonstrated, and every export without a switch:",
        grid(
            ("switch", "export", "changed", "outcome", "said", "seconds"),
            [_file_row(one) for one in tried if one.outcome != DEMONSTRATED],
            "llllll",
        ),
    )


def _kind_row(kind: str, planted: Sequence[Tried]) -> list[str]:
    own = [one for one in planted if one.kind == kind]
    counts = Counter(one.outcome for one in own)
    least, longest = min(one.changed for one in own), max(one.seconds for one in own)
    commits = ", ".join(sorted({one.commit for one in own}))
    counted = (str(counts[outcome] or "") for outcome in _OUTCOMES)
    return [kind, *counted, f"{least:.2f}", f"{longest:.1f} s", commits]


def _file_row(one: Tried) -> list[str]:
    said = "; ".join(one.said)[:_MOST_SAID] or "nothing"
    return [one.kind or "none", one.host, f"{one.changed:.2f}", one.outcome or "none", said, f"{one.seconds:.1f}"]
