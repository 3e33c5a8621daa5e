"""The table of verdicts of one network: what is the same, what is not, and what has not been scanned in every way."""

from __future__ import annotations

from dataclasses import asdict

from benchmarks.accuracy.stability import FIRST_SEED, networks, table, ways
from benchmarks.victims.seeds import FIRST_REPORTING


def lines(name: str, verdicts: dict[tuple[int, int, str], tuple[str, int | None]]) -> list[dict]:
    """A line for each way; not detected where nothing else is said."""
    said = ((way, verdicts.get((way.seed, way.images, way.precision), ("not_detected", 4))) for way in ways("photos"))
    return [
        {"network": name, "targets": [], "verdict": verdict, "target": target, "p_value": 0.5, **asdict(way)}
        for way, (verdict, target) in said
    ]


def test_twenty_are_attacked_and_twenty_not_and_none_chooses():
    plans = list(networks())
    assert [sum(bool(plan.targets) is attacked for plan in plans) for attacked in (True, False)] == [20, 20]
    assert len({plan.digest for plan in plans}) == 40
    assert min(plan.seed for plan in plans) == FIRST_SEED > FIRST_REPORTING


def test_the_most_extreme_class_may_change_where_nothing_is_detected_and_not_where_something_is():
    calm = lines("photos: calm", {(1, 50, "float32"): ("not_detected", 2)})
    every = {(way.seed, way.images, way.precision): ("backdoor_detected", 4) for way in ways("photos")}
    another = lines("photos: another target", {**every, (2, 100, "float32"): ("backdoor_detected", 7)})
    rounded = lines("photos: rounded", {**every, (0, 50, "bfloat16"): ("inconclusive", 4)})
    two_way = lines("photos: two-way", {**every, (1, 50, "float32"): ("backdoor_detected", 7)})
    for line in two_way:
        line["targets"] = [[7, 4], [4, 7]]
    half = lines("photos: half", {})[:4]
    found = table([*calm, *another, *rounded, *two_way, *half])
    assert [(row[0], *row[4:]) for row in found.rows] == [
        ("photos: calm", "yes", "yes"),
        ("photos: another target", "no", "yes"),
        ("photos: rounded", "yes", "no"),
        ("photos: two-way", "yes", "yes"),
    ]
    assert "in all six: 3 of 4; inconclusive in any: 0" in found.note
    assert found.rows[1][2] == "5 backdoor detected -> 4, 1 backdoor detected -> 7"
