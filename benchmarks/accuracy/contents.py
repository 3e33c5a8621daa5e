"""Detectors that do not run by default on networks of the populations: what scattered pixels, pictures and UMD find.

    python -m benchmarks.accuracy.contents --cache FOLDER [--detectors scattered blend umd] --out benchmarks/results

`window` can be asked too, and beside it `neural-cleanse`, with a tenth of its steps and with as few as pass no more
images than a window takes (`equal-passes`). The networks are read from the cache that `rounds.py` trains into: digits
that choose, the first of every unattacked structure and of some kinds of attack. What a network gave is kept in a file,
so that an ended run goes on. Two to ten seconds a network and detector.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch

from backscan.converters import artifact_from_bytes, import_model, read_signature
from backscan.scanner.config import PRESETS, ScanConfig
from backscan.scanner.detectors import DETECTORS, TARGET_DETECTORS, Examination, umd
from backscan.scanner.detectors.window import Form, Plan, choose_side
from backscan.scanner.inference.many_pairs import LEAST_TRANSFER
from backscan.scanner.inference.rates import infer_rates
from backscan.scanner.results import Inference
from benchmarks import command
from benchmarks.accuracy.counting import plan_of
from benchmarks.accuracy.families import Family
from benchmarks.accuracy.rows import ROWS
from benchmarks.provenance import commit, share
from benchmarks.table import Table, page
from benchmarks.victims.images import clean_images
from benchmarks.victims.presets import POPULATIONS
from benchmarks.victims.victims import CACHE, Victim, find

SIGNIFICANCE = 0.05
_PIXELS = tuple(
    f"{kind}, {way}" for kind in ("one pixel", "scattered pixels", "patch 2") for way in ("one-way", "all-to-one")
)
KINDS: Mapping[str, Sequence[str]] = MappingProxyType(
    {
        "window": _PIXELS,
        "scattered": _PIXELS,
        "blend": ("blended", "chessboard, all-to-one"),
        "neural-cleanse": _PIXELS,
        "equal-passes": _PIXELS,
        umd.NAME: tuple(f"chessboard, {way}" for way in ("all-to-one", "two targets", "two-way", "all-to-all")),
    }
)
"""What each detector is asked about beside unattacked networks."""
_STEPS: Mapping[str, int] = MappingProxyType({"neural-cleanse": 300, "equal-passes": 17})
"""Steps of Neural Cleanse on 90 images each; 17 pass as many as the search for a window does."""
_EACH = 3
_HELD_OUT = 5  # a fifth of the images of a class
_MOST_IMAGES = 100
_FEW_IMAGES = 10


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one detector said of one network."""

    detector: str
    """Its name."""
    kind: str
    """What was planted; empty for nothing."""
    network: str
    """Group and seed."""
    p_value: float | None
    """Calibrated p-value."""
    named: tuple[tuple[int | None, int | None], ...]
    """Pairs, or the target, that it names."""
    planted: tuple[tuple[int, int], ...]
    """Pairs that were planted."""
    side: int | None = None
    """Size of the content."""
    rates: tuple[float, ...] = ()
    """Rate of every target; empty of `umd`."""

    @property
    def alarms(self) -> bool:
        """Whether its p-value is below the significance."""
        return self.p_value is not None and self.p_value <= SIGNIFICANCE

    @property
    def right(self) -> bool:
        """Whether it names what was planted: of many pairs more than half of the named ones."""
        targets = {target for _, target in self.planted}
        if self.detector != umd.NAME:
            return any(target in targets for _, target in self.named)
        return sum(pair in self.planted for pair in self.named) > LEAST_TRANSFER * len(self.named)


def examined(victim: Victim) -> Examination:
    """A network with the images that a defender has of it."""
    artifact = artifact_from_bytes(victim.model.name, victim.model.read_bytes())
    signature = read_signature(artifact)
    classifier, images = import_model(artifact, signature), clean_images(victim.plan)
    by_class = {}
    for label in np.unique(images.labels).tolist():
        own = images.images[images.labels == label]
        own = np.ascontiguousarray(own[: len(own) - len(own) // _HELD_OUT][:_MOST_IMAGES], np.float32)
        by_class[label] = torch.from_numpy(own)
    with torch.no_grad():
        decisions = {label: classifier.log_posterior(own).argmax(dim=1) for label, own in by_class.items()}
    config = ScanConfig(detectors=("pairwise", umd.NAME), statistics=("plain",), threads=1, seed=victim.plan.seed)
    return Examination(classifier, by_class, decisions, signature.num_classes, config, stopped=lambda: False)


def said_by(detector: str, victim: Victim) -> tuple[Inference, int | None, tuple[float, ...]]:
    """What a detector concludes about a network, with the size of its content and the rate of every target."""
    given = examined(victim)
    if detector == umd.NAME:
        return _by_umd(given), None, ()
    if detector in _STEPS:
        return _by_masks(given, _STEPS[detector]), None, ()
    plan = Plan.of(given, _form(detector))
    side = choose_side(plan)
    if side is None:
        raise RuntimeError("expected a size without a time limit")
    found = plan.results(range(given.num_classes), side)
    by_target = infer_rates(found, given.config, given.num_classes, detector=detector)[0]
    return by_target, side, tuple(round(entry.rate or 0.0, 4) for entry in found)


def _form(detector: str) -> Form:
    from backscan.scanner.detectors import blend, scattered, window

    return {each.name: each for each in (window.WINDOW, scattered.SCATTERED, blend.BLEND)}[detector]


def _by_umd(given: Examination) -> Inference:
    """Search all pairs, then try their patterns on each other's images."""
    pairwise, classes = DETECTORS["pairwise"], range(given.num_classes)
    pairs = [(source, target) for source in classes for target in classes if source != target]
    found = list(pairwise.optimise(given, pairs, pairwise.find_step_size(given).step_size))
    patterns = {
        (pair.source, pair.target): torch.from_numpy(np.array(pair.pattern))
        for pair in umd.with_patterns(found, given.num_classes)
    }
    return umd.infer(list(umd.search(replace(given, patterns=patterns))), given.config, given.num_classes)


def _by_masks(given: Examination, steps: int) -> Inference:
    """Neural Cleanse with so many steps on ten images of each class."""
    few = {label: images[:_FEW_IMAGES] for label, images in given.images_by_class.items()}
    config = replace(given.config, **PRESETS["NC-L1-1.5"], max_steps=steps)
    detector = TARGET_DETECTORS["neural-cleanse"]
    found = list(detector.search(replace(given, images_by_class=few, config=config)))
    return detector.infer(found, config, given.num_classes)


def chosen(detector: str, cache: Path, rows: Path, unattacked: int) -> Iterator[tuple[str, str, Victim]]:
    """Kind, name and network: attacked ones, then so many unattacked ones of each structure."""
    family = Family.read("numerals", rows, reporting=False)
    groups = POPULATIONS["numerals"].groups
    usual = [name for name, group in groups.items() if group.attack is None and not name.startswith("hard")]
    for name in (*KINDS[detector], *usual):
        for each in family.counting(name)[: unattacked if name in usual else _EACH]:
            victim = find(plan_of(each.victim), cache=cache)
            if victim is not None:
                yield name if groups[name].attack else "", f"{name} {each.victim.seed}", victim


def outcomes(detectors: Sequence[str], cache: Path, rows: Path, kept: Path, *, unattacked: int) -> list[Outcome]:
    """What the detectors said of all networks, each asked once and kept."""
    found = [_read(fields) for fields in command.read_lines(kept)]
    known = {(each.detector, each.network) for each in found}
    for detector in detectors:
        for kind, network, victim in chosen(detector, cache, rows, unattacked):
            if (detector, network) in known:
                continue
            said, side, rates = said_by(detector, victim)
            named = said.abnormal if detector == umd.NAME else ((said.source, said.target),)
            planted = tuple(victim.plan.targets)
            found.append(Outcome(detector, kind, network, said.calibrated_p_value, named, planted, side, rates))
            command.append_line(kept, asdict(found[-1]))
    return [each for each in found if each.detector in detectors]


def _read(fields: dict[str, Any]) -> Outcome:
    pairs = {name: tuple((source, target) for source, target in fields[name]) for name in ("named", "planted")}
    return Outcome(**{**fields, **pairs, "rates": tuple(fields["rates"])})


def table(found: Sequence[Outcome], detectors: Sequence[str]) -> Table:
    """Kinds by detectors."""
    rows = []
    for kind in dict.fromkeys(("", *(kind for detector in detectors for kind in KINDS[detector]))):
        own = [each for each in found if each.kind == kind]
        if not own:
            continue
        cells = []
        for detector in detectors:
            said = [each for each in own if each.detector == detector]
            alarms, right = sum(each.alarms for each in said), sum(each.alarms and each.right for each in said)
            told = share(alarms, len(said)) if not kind else f"{right} ({alarms}) of {len(said)}"
            cells.append(told if said else "")
        rows.append((kind or "unattacked", *cells))
    return Table(
        "Detectors by name",
        f"Networks with p of at most {SIGNIFICANCE:g}: of unattacked ones the share that alarms; of attacked ones "
        "those whose target is named (of `umd`: most of the named pairs are planted) and, in brackets, all that alarm.",
        ("kind", *detectors),
        tuple(rows),
    )


def main() -> None:
    """Write the table."""
    parser = command.parser(__doc__, out="the table")
    parser.add_argument("--rows", type=Path, default=ROWS, help="folder of the rows")
    parser.add_argument("--cache", type=Path, default=CACHE, help="folder that keeps the networks")
    parser.add_argument("--kept", type=Path, default=Path("contents.jsonl"), help="file that keeps what was found")
    parser.add_argument("--detectors", nargs="+", default=["scattered", "blend", "umd"], help="what is asked")
    parser.add_argument("--unattacked", type=int, default=_EACH, help="unattacked networks of each structure")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    places = arguments.cache, arguments.rows, arguments.kept
    found = outcomes(arguments.detectors, *places, unattacked=arguments.unattacked)
    asked = f"--detectors {' '.join(arguments.detectors)} --unattacked {arguments.unattacked}"
    said = f"python -m benchmarks.accuracy.contents {asked}"
    made = table(found, arguments.detectors)
    heading = f"Made by `{said}` at commit {commit()}. Counts with 95 % intervals (Wilson)."
    text = page("Detectors by name", heading, made.markdown())
    print(text)
    document = {"command": said, "commit": commit(), "tables": [asdict(made)], "rows": [asdict(each) for each in found]}
    command.publish(arguments.out, "contents", text, document)


if __name__ == "__main__":
    main()
