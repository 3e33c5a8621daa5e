"""Result rows: what the accuracy tables are made of, small enough to be kept in git.

A victim and its scans are several hundred kilobytes and stay in a cache that a machine may lose. What tables need of
them are a few hundred numbers: `results/rows/PRESET.jsonl` has a line for each victim and one for each of its scans,
so evidence grows over sessions, and every table and figure can be made again in minutes from a bare clone.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Self

from benchmarks.accuracy import scans
from benchmarks.accuracy.fine_pruning import Pruned
from benchmarks.command import read_lines, replace_text
from benchmarks.victims.plans import make_plans

ROWS = Path(__file__).parents[1] / "results" / "rows"
FORMAT = 1
"""Counts changes of what a row means; rows of another format are left out."""
Sizes = tuple[tuple[float | None, ...], ...]


@dataclass(frozen=True, slots=True)
class VictimRow:
    """What a victim does, measured on its exported file."""

    preset: str
    """Name in `groups.PRESETS`."""
    group: str
    """Name of its group."""
    seed: int
    """Seed of its plan."""
    digest: str
    """Digest of its plan."""
    targets: tuple[tuple[int, int], ...]
    """Source and target classes of the attack; none without one."""
    accuracy: float
    """Clean accuracy."""
    success_rate: float | None
    """Attack success rate; None without an attack."""
    collateral_rates: tuple[float, ...]
    """Share of each uninvolved class that goes to the target with the pattern."""
    pruned: Pruned | None
    """What Fine-Pruning leaves; None without an attack, and where it was not tried."""
    network: str = ""
    """Name of its structure; empty in rows that are older than the field."""
    seconds: float | None = None
    """Processor time of its training."""
    head: tuple[tuple[float, ...], ...] = ()
    """Of each class the norm of its weights in the last layer, and its bias there."""

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Self:
        """The row that `to_line` wrote."""
        given = dict(document)
        given["head"] = tuple(map(tuple, given.get("head", ())))
        given["targets"] = tuple((source, target) for source, target in given["targets"])
        given["collateral_rates"] = tuple(given["collateral_rates"])
        if given["pruned"] is not None:
            share, accuracy, success = (given["pruned"][name] for name in ("share", "accuracy", "success"))
            given["pruned"] = Pruned(share, tuple(accuracy), tuple(success))
        return cls(**given)

    @property
    def order(self) -> tuple[str, int, str]:
        """Place among the lines of a file."""
        return (self.group, self.seed, "")


@dataclass(frozen=True, slots=True)
class ScanRow:
    """What one search found on one victim. Sizes have five significant digits."""

    group: str
    """Group of the victim."""
    seed: int
    """Seed of the victim."""
    digest: str
    """Digest of the victim's plan."""
    setting: str
    """Name in `scans.SETTINGS`."""
    search: str
    """Digest of the setting, which the number of images may have limited further."""
    images: int
    """Images per class that were searched with, of the class that has fewest."""
    seconds: float
    """Processor time of the whole scan."""
    verdict: str
    """Verdict at the published p of the plain statistic, which decides what is replayed."""
    confirmed: bool | None
    """Whether the replay confirmed the most extreme pair; None without one."""
    sizes: Sizes
    """Size of each (source, target) pair, [K, K]; of each target, [1, K], for detectors that pool the sources."""
    statuses: Mapping[str, str] = field(default_factory=dict)
    """Status by `source:target` where the goal rate was not reached."""
    offsets: Mapping[str, float] = field(default_factory=dict)
    """Offset of equation (7) by `source:target`, where it is not 0."""
    sizes_at: Mapping[str, Sizes] = field(default_factory=dict)
    """Sizes at lower goal rates, for some settings."""
    likeness: float | None = None
    """Cosine of the found pattern and the planted one, where the most extreme pair is an attacked one."""
    trajectories: Mapping[str, tuple[tuple[float, ...], tuple[float, ...]]] = field(default_factory=dict)
    """Sizes and rates of the search by `source:target`, for one victim of a study."""

    individual: Sizes = ()
    """Size at which the single images of each pair's source reach its target, beside `sizes`; empty if not measured."""
    individual_errors: Sizes = ()
    """Standard errors of those."""
    initial_rates: Mapping[str, float] = field(default_factory=dict)
    """Share of the source that is decided as the target without a pattern, by `source:target`, where it is not 0."""
    common: Sizes = ()
    """Size of each pair's pattern on the images that have individual sizes."""
    margins: Sizes = ()
    """How far each source leads over each target on clean images, in log posteriors; of `pairwise` alone. Of scans that
    did not tell, on all images of the defender by onnxruntime."""
    side: int = 0
    """Side of the window in pixels; 0 without one."""
    hits: Sizes = ()
    """Images of each source that a window sends to the target, of other images than it was found on."""
    counts: Sizes = ()
    """Images of each pair that were asked."""
    transfers: Mapping[str, tuple[float, float, float]] = field(default_factory=dict)
    """Expected transferability by `source:target`, its standard error, and the way there over the way back."""

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Self:
        """The row that `to_line` wrote."""
        given = {name: value for name, value in document.items() if name != "sizes_at"}
        given["transfers"] = {pair: tuple(each) for pair, each in document.get("transfers", {}).items()}
        for name in _MATRICES:
            given[name] = _sizes(document.get(name, ()))
        given["sizes_at"] = {rate: _sizes(each) for rate, each in document.get("sizes_at", {}).items()}
        curves = document.get("trajectories", {}).items()
        given.setdefault("seconds", 0.0)
        given["trajectories"] = {pair: (tuple(sizes), tuple(rates)) for pair, (sizes, rates) in curves}
        return cls(**given)

    @property
    def order(self) -> tuple[str, int, str]:
        """Place among the lines of a file."""
        return (self.group, self.seed, self.setting)


Row = VictimRow | ScanRow
_MATRICES = ("sizes", "individual", "individual_errors", "common", "margins", "hits", "counts")
_OPTIONAL = frozenset(
    {"statuses", "offsets", "sizes_at", "likeness", "trajectories", *_MATRICES[1:], "side", "initial_rates"}
    | {"network", "seconds", "head", "transfers"}
)
"""Fields that lines leave out where they are empty."""


@dataclass(frozen=True, slots=True)
class Kept:
    """The rows of one preset."""

    rows: tuple[Row, ...]
    """Those that this code would make again as they are."""
    outdated: int = 0
    """Rows left out: another format, or a plan or search that this code no longer has."""


def read_rows(preset: str, folder: Path = ROWS) -> Kept:
    """The rows of a preset that are up to date; none if it has no file."""
    rows = [_current(line, preset) for line in read_lines(folder / f"{preset}.jsonl")]
    found = tuple(row for row in rows if row is not None)
    return Kept(found, len(rows) - len(found))


def write_rows(rows: Iterable[Row], preset: str, folder: Path = ROWS) -> None:
    """Write the rows of a preset, sorted, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [to_line(row) for row in sorted(rows, key=lambda row: row.order)]
    replace_text(folder / f"{preset}.jsonl", "".join(f"{line}\n" for line in lines))


def merged(kept: Iterable[Row], new: Iterable[Row]) -> tuple[Row, ...]:
    """Both, sorted; a new row takes the place of a kept one."""
    rows = {row.order: row for row in (*kept, *new)}
    return tuple(rows[order] for order in sorted(rows))


def to_line(row: Row) -> str:
    """A row as a line of JSON without what is empty."""
    document = {"format": [FORMAT, scans.FORMAT], **asdict(row)}
    document = {name: value for name, value in document.items() if name not in _OPTIONAL or value}
    return json.dumps(document, separators=(",", ":"), allow_nan=False)


def _current(document: dict[str, Any], preset: str) -> Row | None:
    """The row of a line; None if this code would not make it so."""
    if document.pop("format") != [FORMAT, scans.FORMAT]:
        return None
    if _plan_digest(preset, document["group"], document["seed"]) != document["digest"]:
        return None
    if "setting" not in document:
        return VictimRow.from_dict(document)
    row = ScanRow.from_dict(document)
    search = scans.SETTINGS.get(row.setting)
    return row if search is not None and scans.search_digest(search) == row.search else None


@cache
def _plan_digest(preset: str, group: str, seed: int) -> str | None:
    try:
        return make_plans(preset, group, [seed])[0].digest
    except ValueError:  # a group that is no more
        return None


def _sizes(rows: Sequence[Sequence[float | None]]) -> Sizes:
    return tuple(tuple(row) for row in rows)
