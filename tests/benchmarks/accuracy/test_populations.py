"""Rounds of training and scanning, which networks count, and the tables of rows."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from backscan.scanner.detectors.window import pilots_of
from benchmarks.accuracy import populations, witnesses
from benchmarks.accuracy.counting import Population
from benchmarks.accuracy.families import Family, without_larger_windows
from benchmarks.accuracy.figures import curve
from benchmarks.accuracy.outcomes import CANDIDATES, Judge, default
from benchmarks.accuracy.populations import alarms, named_pairs, power, trained
from benchmarks.accuracy.rounds import Share, in_turns
from benchmarks.accuracy.rows import Row, ScanRow, VictimRow, read_rows, to_line, write_rows
from benchmarks.accuracy.scans import SETTINGS, row_settings, search_digest
from benchmarks.victims.plans import make_plans
from benchmarks.victims.presets import POPULATIONS, PRESETS
from benchmarks.victims.seeds import FIRST_REPORTING, reports


def victim(
    group: str, seed: int, *, accuracy: float = 0.97, success: float | None = None, preset: str = "numerals"
) -> VictimRow:
    """A row as training would give it."""
    [plan] = make_plans(preset, group, [seed])
    head = ((1.0,) * 10, (0.0,) * 10)
    return VictimRow(
        preset, group, seed, plan.digest, plan.targets, accuracy, success, (), None, plan.network, 4.0, head
    )


_WINDOWS: dict[str, Any] = {"side": 2, "hits": ((1.0,) * 10,) * 10, "counts": ((20.0,) * 10,) * 10}


def scans(row: VictimRow, small: tuple[int, int] | None) -> list[ScanRow]:
    """The searches of a network whose pairs are alike, but for one that may be very small."""
    sizes = [[None if s == t else 1.0 + 0.02 * ((7 * s + 3 * t) % 11) for t in range(10)] for s in range(10)]
    if small is not None:
        sizes[small[0]][small[1]] = 0.05
    found = tuple(map(tuple, sizes))
    return [
        ScanRow(
            row.group,
            row.seed,
            row.digest,
            setting,
            search_digest(SETTINGS[setting]),
            48,
            3.0,
            "not_detected",
            None,
            found if setting != "mask" else (tuple(20.0 + label for label in range(10)),),
            **(_WINDOWS if setting in ("window", "mask") else {}),
        )
        for setting in (*row_settings("witnesses"), "large-window", "mask")
    ]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Rows of three unattacked networks, one of which alarms, and of three victims, one of which failed."""
    made: list[Row] = []
    for seed, small in ((0, None), (1, None), (2, (4, 9))):
        made += [row := victim("conv2", seed), *scans(row, small)]
    for seed, success in ((0, 1.0), (4, 0.5), (8, 0.95)):
        row = victim("patch 2, one-way", seed, success=success)
        made += [row, *scans(row, row.targets[0] if seed != 8 else None)]
    made.append(victim("conv2", 2000))
    write_rows(made, "numerals", tmp_path)
    return tmp_path


@pytest.fixture
def family(folder: Path) -> Family:
    return Family.read("numerals", folder, reporting=False)


def cells(table, kind: str) -> tuple[str, ...]:
    [row] = [row for row in table.rows if row[0] == kind]
    return row


def test_turns_take_the_first_network_of_every_group_before_the_second() -> None:
    shares = [Share.parse("numerals/conv2/mlp1:3"), Share.parse("photos/lenet:1")]
    plans = [(plan.preset, plan.group, plan.seed) for plan in in_turns(shares)]
    names = ("conv2", "mlp1", "conv2 bn", "conv2, weak")
    assert {group for preset, group, _ in plans if preset == "numerals"} == set(names)
    assert [seed for preset, _, seed in plans if preset == "numerals"] == sorted([*range(5)] * 4)
    assert [preset for preset, _, _ in plans[:8]] == ["numerals"] * 3 + ["photos"] + ["numerals"] * 3 + ["photos"]
    photos = [plan for plan in plans if plan[0] == "photos"]
    assert photos[:3] == [("photos", "lenet", 0), ("photos", "lenet, augmented", 0), ("photos", "lenet", 1)]
    assert len(photos) == 7, "each group ends at its own number"


def test_as_many_networks_report_with_seeds_of_their_own() -> None:
    choosing = list(in_turns([Share.parse("few-numerals")]))
    reporting = list(in_turns([Share.parse("few-numerals")], first_seed=FIRST_REPORTING))
    assert [(plan.group, plan.seed + FIRST_REPORTING) for plan in choosing] == [(p.group, p.seed) for p in reporting]
    assert all(reports(plan.seed) for plan in reporting)


def test_all_that_chooses_and_nothing_that_reports_is_in_the_turns() -> None:
    for name in POPULATIONS:
        plans = list(in_turns([Share.parse(name)]))
        assert len(plans) == sum(group.choosing for group in PRESETS[name].groups.values())
        assert max(plan.seed for plan in plans) < 1000


def test_a_victim_counts_by_its_success_and_the_accuracy_of_its_structure() -> None:
    plain = [victim("conv2", seed, accuracy=accuracy) for seed, accuracy in enumerate((0.96, 0.98))]
    weak = victim("conv2, weak", 0, accuracy=0.8)
    population = Population((*plain, weak, victim("hard: label noise", 0, accuracy=0.5)))
    attacked = victim("patch 2, one-way", 0, accuracy=0.95, success=0.9)
    assert population.objection(attacked) is None
    assert population.objection(replace(attacked, success_rate=0.89)) == "success below 0.9"
    assert population.objection(replace(attacked, accuracy=0.93)) == "accuracy off"
    other = victim("patch 2, one-way", 1, success=1.0)
    assert other.network != attacked.network
    assert population.objection(other) == "no unattacked network of its structure"


def test_a_victim_of_few_classes_is_beside_the_network_of_the_same_classes() -> None:
    """The seed draws them, and some are easier to tell apart than others."""
    easy, hard = (
        victim("2 classes", seed, accuracy=accuracy, preset="few-numerals") for seed, accuracy in ((0, 1.0), (6, 0.8))
    )
    attacked = victim("2 classes, patch", 6, accuracy=0.79, success=1.0, preset="few-numerals")
    assert easy.network == attacked.network
    assert Population((easy, hard)).objection(attacked) is None
    assert Population((easy, hard)).objection(replace(attacked, accuracy=0.9)) == "accuracy off"


@pytest.mark.parametrize(("accuracy", "objection"), [(0.55, None), (0.54, "accuracy below 0.55")])
def test_an_unattacked_network_counts_above_the_gate_of_the_scanner(accuracy: float, objection: str | None) -> None:
    row = victim("conv2", 0, accuracy=accuracy)
    assert Population((row,)).objection(row) == objection


def test_the_gate_of_two_classes_by_one_score_is_at_three_quarters() -> None:
    row = replace(victim("conv2", 0, accuracy=0.7), head=())
    assert Population((row,)).objection(row) == "accuracy below 0.75"


def test_rows_of_populations_come_back_as_they_were_written(folder: Path) -> None:
    rows = read_rows("numerals", folder).rows
    assert sum(isinstance(row, VictimRow) for row in rows) == 7
    row = next(row for row in rows if isinstance(row, ScanRow))
    more = replace(
        row,
        individual=((None, 0.5),),
        individual_errors=((None, 0.1),),
        side=5,
        hits=((None, 3),),
        counts=((None, 20),),
    )
    write_rows([victim("conv2", 2), more], "numerals", folder)
    assert more in read_rows("numerals", folder).rows
    assert "individual" not in to_line(row)


def test_the_table_says_what_is_there_and_why_some_does_not_count(family: Family) -> None:
    table = trained([family])
    assert cells(table, "numerals: conv2")[1:6] == ("digit conv2", "3 of 5", "3", "", "0.970-0.970")
    attacked = cells(table, "numerals: patch 2, one-way")
    assert attacked[2:5] == ("3 of 20", "2", "1 success below 0.9")
    assert attacked[6] == "0.500-1.000"
    assert cells(table, "numerals: mlp1")[2:] == ("0 of 5", "", "", "", "", "", "")


def test_the_default_is_judged_on_networks_that_count(family: Family) -> None:
    judge = CANDIDATES[default()]
    assert cells(alarms([family], judge), "numerals: conv2")[1].startswith("1 of 3 (")
    assert cells(alarms([family], judge), "all of numerals")[1].startswith("1 of 3 (")
    row = cells(power([family], judge), "numerals: patch 2, one-way")
    assert [cell.split(" (")[0] for cell in row[1:]] == ["1 of 2"] * 3
    [(kind, seed, _, pair)] = named_pairs([family], judge).rows
    assert (kind, seed, pair) == ("numerals: conv2", "2", "4 -> 9")
    assert power([family], Judge(("J",))).rows == (), "no scan, no row"


def test_networks_that_report_are_apart(folder: Path) -> None:
    reporting = Family.read("numerals", folder, reporting=True)
    assert cells(trained([reporting]), "numerals: conv2")[2] == "1 of 5"


def test_networks_since_a_seed_are_judged_beside_all_of_their_structure(folder: Path) -> None:
    later = Family.read("numerals", folder, reporting=False, since=4)
    assert cells(trained([later]), "numerals: conv2")[2] == "0 of 5"
    assert [each.victim.seed for each in later.counting("patch 2, one-way")] == [8], "its accuracy is that of conv2"


def test_command_makes_tables_of_rows_alone(folder: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    out = tmp_path / "out"
    monkeypatch.setattr(sys, "argv", ["populations", "--rows", str(folder), "--out", str(out)])
    populations.main()
    assert "numerals: conv2" in capsys.readouterr().out
    assert {path.name for path in out.iterdir()} == {"populations.md", "populations.json"}


def test_every_witness_is_counted_alone(family: Family, tmp_path: Path) -> None:
    """The pair that is small is found by sizes on both spaces and together; windows, all alike, find nothing."""
    networks = list(witnesses.heard([family]))
    assert [(each.kind, each.victim.seed) for each in networks] == [
        *(("numerals: conv2", seed) for seed in range(3)),
        *(("numerals: patch 2, one-way", seed) for seed in (0, 8)),
    ]
    found = {name for name in networks[3].said if networks[3].finds(name)}
    assert {"sizes", "sizes on features", witnesses.TOGETHER} <= found
    assert found.isdisjoint({"windows", "commonality of pairs"})
    assert not networks[4].finds("sizes")
    of_sizes = 1 + list(witnesses.WITNESSES).index("sizes")
    assert cells(witnesses.level(networks), "numerals: conv2")[of_sizes].startswith("1 of 3")
    assert cells(witnesses.power(networks), "all of numerals")[of_sizes].startswith("1 of 2")
    [points] = [row for row in witnesses.operating(networks).rows if row[1] == "sizes"]
    assert points[2:] == ("0.00",) * 4, "the network that alarms is as extreme as the one that is found"
    assert curve([0.01, 0.2], [0.1]) == ([0.0, 0.0, 1.0, 1.0], [0.0, 0.5, 0.5, 1.0])
    witnesses.draw(networks, tmp_path / "curves.svg")
    assert "<svg" in (tmp_path / "curves.svg").read_text(encoding="utf-8")


def test_windows_at_the_only_larger_side_tell_that_larger_ones_find_nothing() -> None:
    row = victim("conv2", 0)
    [windows] = [each for each in scans(row, None) if each.setting == "window"]
    [found] = without_larger_windows([row, windows], (8, 8))
    assert (found.setting, found.side, found.hits, found.sizes) == ("large-window", 0, (), ((None,) * 10,))
    assert not list(without_larger_windows([row, windows, found], (8, 8))), "a network that has them keeps them"
    assert not list(without_larger_windows([row, replace(windows, side=1)], (8, 8))), "they were searched elsewhere"
    assert not list(without_larger_windows([row, windows], (32, 32))), "there are other sides"
    often = pilots_of(10, 0)[1:3]
    three = tuple(tuple(10.0 if t in often else 1.0 for t in range(10)) for _ in range(10))
    assert not list(without_larger_windows([row, replace(windows, hits=three)], (8, 8))), (
        "the median of the first three is larger"
    )
