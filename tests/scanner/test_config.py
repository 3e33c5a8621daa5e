"""Options: they survive a report; presets are the paper's, explicit choices win."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import fields, replace

import pytest

from backscan.scanner.config import PRESETS, ScanConfig
from backscan.scanner.errors import OptionError

SOME = ScanConfig(
    targets=(3, 5),
    pairs=((1, 9), (2, 7)),
    mean=(0.5, 0.4, 0.3),
    range=(0.0, 255.0),
    image_size=(32, 48),
    max_size=2.5,
    time_limit=60.0,
    box=True,
    seed=7,
)


def test_the_defaults_are_those_of_the_contract():
    defaults = ScanConfig()
    expected = {
        "images_per_class": 100,
        "goal_rate": 0.8,
        "order": 3,
        "significance": 0.05,
        "bootstrap_draws": 999,
        "seed": 0,
        "detectors": (),
        "statistics": ("source-adjusted", "margin-contrast"),
        "combination": "together",
        "null": "inverse-gaussian",
        "inference": "distinct",
        "norm": "l2",
        "step_rule": "unit",
        "preprocess": "auto",
        "device": "auto",
        "published_p": False,
        "box": False,
        "sandbox": True,
        "images_in_report": True,
    }
    assert {name: getattr(defaults, name) for name in expected} == expected


@pytest.mark.parametrize("config", [ScanConfig(), SOME], ids=["defaults", "some"])
def test_options_come_back_from_a_report(config):
    assert ScanConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_options_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        SOME.seed = 1


def test_an_unknown_option_of_a_report_is_named():
    with pytest.raises(OptionError, match="expected the options of this version, found colour, taste: make the report"):
        ScanConfig.from_dict(ScanConfig().to_dict() | {"taste": 1, "colour": 2})


@pytest.mark.parametrize(
    ("name", "value"), [("seed", "abc"), ("mean", "0.5"), ("image_size", [1]), ("pairs", [[1, 2, 3]]), ("box", None)]
)
def test_a_damaged_option_of_a_report_is_named(name, value):
    with pytest.raises(OptionError, match=f"expected --{name.replace('_', '-')} as this version writes it, found"):
        ScanConfig.from_dict(ScanConfig().to_dict() | {name: value})


PAPER = {
    "AD-J-P": ("J", "l2", "principal"),
    "AD-Jp-P": ("Jp", "l2", "principal"),
    "AD-Jc-P": ("Jc", "l2", "principal"),
    "AD-J-C": ("J", "l2", "corrected"),
    "AD-J-P-L1": ("J", "l1", "principal"),
}


@pytest.mark.parametrize("name", PAPER)
def test_a_preset_is_the_variant_of_the_paper(name):
    """XMK section 5.2.2: objective, norm, inference; with the plain statistic, null, steps and p-value of the paper."""
    config = ScanConfig().with_preset(name)
    assert (config.objective, config.norm, config.inference) == PAPER[name]
    assert (config.statistics, config.step_rule, config.published_p) == (("plain",), "plain", True)
    touched = {
        entry.name for entry in fields(config) if getattr(config, entry.name) != getattr(ScanConfig(), entry.name)
    }
    assert config.null == "gamma"
    searched = {"detectors", "objective", "norm", "step_rule"}
    assert touched <= searched | {"inference", "statistics", "combination", "null", "published_p"}


def test_presets_of_the_paper_are_all_there():
    assert set(PAPER) <= set(PRESETS)


def test_a_preset_keeps_other_choices():
    changes = {
        "detectors": ("pairwise",),
        "statistics": ("plain",),
        "objective": "J",
        "null": "gamma",
        "published_p": True,
        "combination": "each",
        "inference": "principal",
        "step_rule": "plain",
    }
    assert SOME.with_preset("AD-J-P") == replace(SOME, **changes)


def test_a_budget_spends_more_or_less_and_the_standard_one_as_much_as_the_default():
    assert ScanConfig().with_budget("standard") == ScanConfig()
    quick, thorough = (ScanConfig().with_budget(name) for name in ("quick", "thorough"))
    assert quick.images_per_class < ScanConfig().images_per_class < thorough.images_per_class
    assert thorough.screen == "off"
    assert SOME.with_budget("quick") == replace(SOME, images_per_class=50)


def test_no_such_budget():
    with pytest.raises(OptionError, match="expected --budget to be one of quick, standard, thorough, found 'lavish'"):
        ScanConfig().with_budget("lavish")


def test_no_such_preset():
    with pytest.raises(OptionError, match=r"expected --preset to be one of AD-J-P, .*, found 'AD-X'"):
        ScanConfig().with_preset("AD-X")


# Options that decide what the search for one pair finds, against those that only say which pairs, or judge them.
DECIDES = {
    "images_per_class": 50,
    "preprocess": "none",
    "mean": (0.4,),
    "std": (0.3,),
    "range": (0.0, 255.0),
    "channel_order": "bgr",
    "image_size": (64, 64),
    "output_name": "logits",
    "cut": "conv",
    "space": "multiplicative",
    "objective": "J",
    "norm": "l1",
    "box": True,
    "step_rule": "plain",
    "precision": "float32",
    "goal_rate": 0.5,
    "max_size": 1.0,
    "max_steps": 9,
    "seed": 1,
    "device": "cpu",
}
LEAVES = {
    "targets": (1,),
    "pairs": ((0, 1),),
    "min_accuracy": 0.2,
    "detectors": ("pairwise",),
    "statistics": ("source-normalised",),
    "combination": "each",
    "inference": "naive",
    "mask_weight": 2.0,
    "anomaly_threshold": 3.0,
    "order": 2,
    "null": "exponential",
    "significance": 0.1,
    "published_p": True,
    "bootstrap_draws": 99,
    "screen": "on",
    "time_limit": 9.0,
    "threads": 2,
    "repeats": 2,
    "images_in_report": False,
    "sandbox": False,
}


def test_every_option_either_decides_a_pair_or_does_not():
    assert {entry.name for entry in fields(ScanConfig)} == DECIDES.keys() | LEAVES.keys()


@pytest.mark.parametrize("name", DECIDES)
def test_another_search_has_another_key(name):
    """The journal's key: pairs found under other options must not be taken for those of this scan."""
    assert replace(ScanConfig(), **{name: DECIDES[name]}).pair_options != ScanConfig().pair_options


@pytest.mark.parametrize("name", LEAVES)
def test_other_statistics_may_continue_a_journal(name):
    assert replace(ScanConfig(), **{name: LEAVES[name]}).pair_options == ScanConfig().pair_options


def test_a_space_chooses_its_detector_and_goes_with_no_other():
    config = ScanConfig(space="multiplicative")
    config.check()
    assert config.num_tests == ScanConfig(detectors=("pairwise",)).num_tests
    for num_classes in (2, 10):
        assert config.for_classes(num_classes).detectors == ("pairwise",)
    for changes, found in (
        ({"detectors": ("pairwise", "features")}, "--detector features"),
        ({"cut": "conv"}, "--cut"),
        ({"box": True, "detectors": ("window",)}, "--detector window and --box"),
    ):
        with pytest.raises(
            OptionError, match=f"pairwise alone with --space multiplicative, found {found}: leave it out"
        ):
            replace(config, **changes).check()
