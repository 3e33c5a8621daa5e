"""Groups and victims at the scale of a trial: planned, trained, measured, kept and found again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from benchmarks.attacks import ATTACKS
from benchmarks.victims.datasets import load_dataset
from benchmarks.victims.groups import draw_pair
from benchmarks.victims.hard import HARD
from benchmarks.victims.images import clean_images
from benchmarks.victims.networks import NETWORKS
from benchmarks.victims.plans import make_plans
from benchmarks.victims.presets import POPULATIONS, PRESETS
from benchmarks.victims.victims import Victim, obtain
from benchmarks.victims.ways import WAYS

pytestmark = pytest.mark.filterwarnings(
    "ignore:You are using the legacy TorchScript-based ONNX export:DeprecationWarning"
)
GROUPS = set(PRESETS["full"].groups)


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_has_groups_of_known_parts(preset: str) -> None:
    scale = PRESETS[preset]
    assert (set(scale.groups) == GROUPS) == (preset not in POPULATIONS)
    for name, group in scale.groups.items():
        assert scale.built(name, 0).network in NETWORKS
        assert group.attack is None or group.attack in ATTACKS
        assert group.hard is None or group.hard in HARD
        assert group.way in WAYS
    if scale.dataset != "cifar10":
        assert load_dataset(scale.dataset, seed=0).num_classes == scale.num_classes


def test_the_full_preset_is_the_papers_setting() -> None:
    groups = PRESETS["full"].groups
    for name, attack, size, poisoned, sources in [
        ("BD-P-S", "pixel", 0.6, 1000, 1),
        ("BD-G-S", "chessboard", 0.2, 1000, 1),
        ("BD-G-M", "chessboard", 0.2, 900, 9),
        ("BD-multiplicative", "multiplicative", 0.02, 1000, 1),
        ("BD-G-S-large", "chessboard", 1.2, 1000, 1),
    ]:
        [plan] = make_plans("full", name, [0])
        assert (groups[name].attack, groups[name].size) == (attack, size)
        assert len(plan.targets) == sources
        assert sources * groups[name].images_per_source == poisoned
        assert plan.targets == ((1, 9),) or name == "BD-G-M"
    assert make_plans("full", "Clean", [0])[0].targets == ()


def test_ways_map_sources_to_targets() -> None:
    assert WAYS["one-way"](1, 3, 4) == {1: 3}
    assert WAYS["all-to-one"](1, 3, 4) == {0: 3, 1: 3, 2: 3}
    assert WAYS["two-way"](1, 3, 4) == {1: 3, 3: 1}
    assert WAYS["two-targets"](1, 3, 6) == {0: 1, 2: 3, 4: 1, 5: 3}
    assert WAYS["all-to-all"](1, 3, 4) == {0: 1, 1: 2, 2: 3, 3: 0}


def test_half_of_the_full_victims_draw_their_pair() -> None:
    pairs = [draw_pair(PRESETS["full"], seed) for seed in range(40)]
    assert set(pairs[::2]) == {(1, 9)}
    assert len(set(pairs[1::2])) > 10
    assert all(source != target for source, target in pairs)


def test_new_populations_draw_every_pair_and_take_their_structures_in_turns() -> None:
    plans = make_plans("photos", "patch 3, one-way", range(40))
    pairs = [plan.targets[0] for plan in plans]
    assert len(set(pairs)) > 20
    assert len({plan.network for plan in plans[:5]}) == 5
    assert [plan.network for plan in plans[:5]] == [plan.network for plan in plans[5:10]]
    assert pairs.count((1, 9)) < 5


def test_structures_of_attacked_networks_have_unattacked_ones_beside_them() -> None:
    for preset in POPULATIONS:
        groups = PRESETS[preset].groups
        plain = {
            (plan.network, plan.schedule, plan.classes)
            for name, group in groups.items()
            if group.attack is None and group.hard is None
            for plan in make_plans(preset, name, range(group.choosing))
        }
        for name, group in groups.items():
            for plan in make_plans(preset, name, range(group.choosing)) if group.attack else ():
                assert (plan.network, plan.schedule, plan.classes) in plain, plan


def test_later_fields_enter_digests_where_they_say_something() -> None:
    [plan] = make_plans("trial", "BD-G-S", [0])
    assert plan.digest == "bd4dfbdf2e42c922", "the committed rows and kept networks have this name"
    changes = [{"hard": "label noise"}, {"classes": 3}, {"attack": replace(plan.attack, covers=5)}]
    changes += [{"schedule": replace(plan.schedule, adversarial=0.1)}]
    assert len({plan.digest, *(replace(plan, **change).digest for change in changes)}) == 5


def test_numbers_of_networks_are_those_that_were_asked_for() -> None:
    photos, numerals, numbers = (PRESETS[name].groups for name in ("photos", "numerals", "numbers"))
    plain = [group for name, group in photos.items() if group.attack is None and not name.startswith("hard")]
    assert len(plain) >= 10
    assert sum(group.choosing for group in plain) == 60
    digits = [group for name, group in numerals.items() if group.attack is None and not name.startswith("hard")]
    assert sum(group.choosing for group in digits) == 40
    assert sum(group.choosing for group in numbers.values() if group.attack is None) == 20
    assert [group.choosing for group in numbers.values() if group.attack] == [6] * 6
    for groups, victims in ((photos, 5), (numerals, 20)):
        hard = [group for name, group in groups.items() if name.startswith("hard")]
        assert len(hard) == 8
        assert min(group.choosing for group in hard) >= 4
        attacked = [group for group in groups.values() if group.attack]
        assert len(attacked) == 24
        assert min(group.choosing for group in attacked) == victims


def test_digests_follow_everything_that_decides_a_victim() -> None:
    plan, other_seed = make_plans("trial", "BD-G-S", [0, 1])
    [other_group] = make_plans("trial", "BD-G-S-large", [0])
    changed = replace(plan, schedule=replace(plan.schedule, epochs=9))
    assert len({each.digest for each in (plan, other_seed, other_group, changed)}) == 4
    assert make_plans("trial", "BD-G-S", [0])[0].digest == plan.digest


@pytest.mark.parametrize(("preset", "group"), [("half", "Clean"), ("trial", "BD-X")])
def test_unknown_names_are_refused_with_the_known_ones(preset: str, group: str) -> None:
    with pytest.raises(ValueError, match=r"expected one of .*, got"):
        make_plans(preset, group, [0])


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def one(group: str, cache: Path) -> Victim:
    [victim] = obtain(make_plans("trial", group, [0]), cache=cache, device="cpu")
    return victim


@pytest.mark.parametrize("group", ["BD-G-S", "BD-G-M", "Clean", "two-way"])
def test_victims_learn_their_attack_and_their_task(group: str, cache: Path) -> None:
    victim = one(group, cache)
    onnx.checker.check_model(onnx.load(victim.model))
    assert victim.effect.accuracy > 0.95
    if group == "Clean":
        assert victim.pattern is None
        assert victim.effect.success_rate is None
    else:
        assert victim.pattern is not None
        assert victim.pattern.shape == (3, 8, 8)
        assert victim.effect.success_rate > 0.8
    assert bool(victim.effect.collateral_rates) == (group == "BD-G-S")


def test_a_kept_victim_is_not_trained_again(cache: Path) -> None:
    first = one("BD-G-S", cache)
    before = {path: path.stat().st_mtime_ns for path in cache.iterdir()}
    again = one("BD-G-S", cache)
    assert {path: path.stat().st_mtime_ns for path in cache.iterdir()} == before
    assert again.effect == first.effect
    np.testing.assert_array_equal(again.pattern, first.pattern)
    record = json.loads(first.model.with_suffix(".json").read_text(encoding="utf-8"))
    assert record["plan"]["targets"] == [list(pair) for pair in first.plan.targets]
    assert not list(cache.glob("*.pt"))


def test_without_its_record_a_victim_is_made_again_and_the_same(tmp_path: Path) -> None:
    first = one("BD-G-S", tmp_path)
    content = first.model.read_bytes()
    first.model.with_suffix(".json").unlink()
    first.model.write_bytes(b"half a file")
    assert one("BD-G-S", tmp_path).model.read_bytes() == content


def test_victims_that_train_beside_each_other_are_as_good_as_single_ones(tmp_path: Path) -> None:
    plans = make_plans("trial", "BD-G-S", [0, 1, 2])
    found = list(obtain(plans, cache=tmp_path, device="cpu", together=2))
    assert [victim.plan for victim in found] == plans
    for victim in found:
        assert victim.effect.accuracy > 0.95
        assert victim.effect.success_rate > 0.8


def test_clean_images_are_the_test_part_of_the_victims_own_split() -> None:
    plans = make_plans("digits", "Clean", [3, 4])
    first, second = (clean_images(plan) for plan in plans)
    assert not np.array_equal(first.images, second.images)
    np.testing.assert_array_equal(first.images, load_dataset("digits", seed=3).test.images)
