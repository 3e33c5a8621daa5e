"""Cut planted switches out again, as `scanner repair --method cut-gate` does, and see what the trigger still turns.

    python -m benchmarks.switches.cutting [--kinds where-mean ...] [--out benchmarks/results]

Each kind that the search was made with is planted into one export and searched. What the demonstrated findings name is
cut by half of the images; the other half, which cut nothing, measures: how many of its images the trigger sends to the
target, before and after, which the export does not send there, and on how many the file decides otherwise than before.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
from numpy.typing import NDArray

from backscan.converters import artifact_from_bytes
from backscan.converters.errors import ConverterError
from backscan.converters.switches.removal import without_gates
from backscan.scanner.aftercare.repair import gates_of
from benchmarks import command
from benchmarks.exporters.cases import Case
from benchmarks.exporters.models import ARCHITECTURES, NUM_CLASSES
from benchmarks.provenance import circumstances
from benchmarks.switches.backdoors import SWITCHES, plant_switch, triggered
from benchmarks.switches.hosts import HOSTS, described, exported, ordinary_images
from benchmarks.switches.planter import TARGET
from benchmarks.switches.trial import findings_of
from benchmarks.table import grid, page
from benchmarks.victims.export import opened


@dataclass(frozen=True, slots=True)
class Cut:
    """One planted switch and what became of it."""

    kind: str
    """Name of the switch."""
    host: str
    """The export."""
    turned_before: float
    """Share of images that the trigger sends to the target, of those that the export does not send there."""
    turned_after: float | None = None
    """The same of the file without the switch; None where none was made."""
    changed: float | None = None
    """Share of images without the trigger that this file decides otherwise than the one before."""
    obstacle: str = ""
    """Why there is no such file."""


def cut(kind: str, host: Case) -> Cut:
    """Plant a kind into a host, search it, and cut what was demonstrated."""
    size = ARCHITECTURES[host.model].size
    plain = exported(host)
    planted = plant_switch(kind, plain, (3, size, size), NUM_CLASSES)
    artifact = artifact_from_bytes("model.onnx", planted.SerializeToString())
    runtime, images = opened(artifact.data, threads=None), ordinary_images(size)
    searched, measuring = images[::2], images[1::2]
    marked = triggered(kind, measuring)
    marked = marked[opened(plain.SerializeToString(), threads=None).decisions(marked) != TARGET]
    told = Cut(kind, described(host), _share(runtime.decisions(marked) == TARGET))
    gates = gates_of(findings_of(planted, runtime, searched))
    if not gates:
        return replace(told, obstacle="no switch was demonstrated")
    try:
        removal = without_gates(artifact, runtime.signature, runtime.normalisation, gates, searched)
    except ConverterError as error:
        return replace(told, obstacle=str(error).split(" ([")[0])
    after = opened(removal.artifact.data, threads=None)
    changed = _share(after.decisions(measuring) != runtime.decisions(measuring))
    return replace(told, turned_after=_share(after.decisions(marked) == TARGET), changed=changed)


def _share(hits: NDArray[np.bool_]) -> float:
    return round(float(hits.mean()), 3)


def whole_page(done: Sequence[Cut], made_by: str) -> str:
    """The table as Markdown."""
    files = [each for each in done if each.turned_after is not None]
    clean = sum(each.turned_after == 0 and each.changed == 0 for each in files)
    lines = [
        (
            each.kind,
            each.host,
            f"{each.turned_before:.0%}",
            _percent(each.turned_after),
            _percent(each.changed),
            each.obstacle,
        )
        for each in done
    ]
    header = ("switch", "export", "turned before", "turned after", "others changed", "obstacle")
    return page(
        "Switches cut out of real exports",
        f"Made by `{made_by}` {circumstances(('torch', 'timm', 'onnx', 'onnxruntime'))}.",
        f"Of {len(done)} planted switches {len(files)} are cut. In {clean} of these files the trigger turns nothing, "
        f"and images without it are decided as before; in the other {len(files) - clean} it still turns images. The "
        f"remaining {len(done) - len(files)} switches are refused, and nothing is written.",
        grid(header, lines, "llrrrl"),
    )


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.0%}"


def main() -> int:
    """Cut every kind, and write the table."""
    parser = command.parser(__doc__, out="switches_cut.json and switches_cut.md")
    parser.add_argument("--kinds", nargs="*", default=list(SWITCHES), choices=list(SWITCHES), metavar="KIND")
    options = parser.parse_args()
    done = list[Cut]()
    for index, kind in enumerate(options.kinds):
        done.append(cut(kind, HOSTS[index % len(HOSTS)]))
        print(done[-1], file=sys.stderr, flush=True)
    asked = "" if options.kinds == list(SWITCHES) else f"--kinds {' '.join(options.kinds)} "
    text = whole_page(done, f"python -m benchmarks.switches.cutting {asked}--out benchmarks/results")
    print(text)
    command.publish(options.out, "switches_cut", text, [asdict(each) for each in done])
    return int(any(each.turned_after or each.changed for each in done))


if __name__ == "__main__":
    raise SystemExit(main())
