"""Options: ranges and names are refused by the option's own spelling; presets are the paper's, explicit choices win."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import fields, replace

import pytest

from backscan.scanner.config import PRESETS, ScanConfig
from backscan.scanner.errors import OptionError
from backscan.scanner.inference.statistics import STATISTICS

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
ONE_TEST = {"detectors": ("pairwise",), "statistics": ("plain",)}


def test_the_defaults_are_those_of_the_contract():
    defaults = ScanConfig()
    defaults.check()
    expected = {
        "images_per_class": 100,
        "goal_rate": 0.8,
        "order": 3,
        "significance": 0.05,
        "bootstrap_draws": 999,
        "seed": 0,
        "detectors": ("pairwise", "features"),
        "statistics": ("source-adjusted", "target-contrast"),
        "null": "inverse-gaussian",
        "inference": "principal",
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


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images_per_class": 4}, "--images-per-class between 5 and .*, found 4"),
        ({"goal_rate": 0.0}, "--goal-rate between 0.05 and 1, found 0"),
        ({"goal_rate": 1.01}, "--goal-rate between 0.05 and 1, found 1.01"),
        ({"goal_rate": math.nan}, "--goal-rate between 0.05 and 1, found nan"),
        ({"significance": 0.0}, "--significance between 1e-06 and 0.5, found 0"),
        ({"bootstrap_draws": -1}, "--bootstrap-draws between 0 and"),
        ({"order": 0}, "--order between 1 and 8, found 0"),
        ({"max_size": 0.0}, "--max-size between"),
        ({"max_size": math.inf}, "--max-size between .*, found inf"),
        ({"max_steps": 0}, "--max-steps between 1 and"),
        ({"min_accuracy": 1.1}, "--min-accuracy between 0 and 1"),
        ({"time_limit": 0.0}, "--time-limit between"),
        ({"threads": 0}, "--threads between 1 and"),
        ({"seed": -1}, "--seed between 0 and"),
        ({"objective": "K"}, "--objective to be one of J, Jp, Jc, Jpc, ce, found 'K'"),
        ({"norm": "linf"}, "--norm to be one of l2, l1, found 'linf'"),
        ({"step_rule": "adam"}, "--step-rule to be one of unit, plain, found 'adam'"),
        ({"statistics": ("x",)}, f"--statistic to be one of {', '.join(STATISTICS)}, found 'x'"),
        ({"inference": "x"}, "--inference to be one of principal, corrected, naive, found 'x'"),
        ({"null": "x"}, "--null to be one of gamma, exponential, inverse-gaussian, found 'x'"),
        ({"preprocess": "x"}, "--preprocess to be one of auto, none, imagenet, cifar10, mnist.*, found 'x'"),
        ({"channel_order": "grb"}, "--channel-order to be one of rgb, bgr, found 'grb'"),
        ({"device": "tpu"}, "--device to be one of auto, cpu, cuda, found 'tpu'"),
        ({"detectors": ("pairwise", "x")}, "--detector to be one of .*pairwise.*, found 'x'"),
        ({"detectors": ()}, "at least one --detector, each of them once, found none"),
        ({"detectors": ("pairwise", "pairwise")}, "each of them once, found pairwise, pairwise"),
        ({"mean": (0.5, math.nan)}, "--mean of finite numbers, found"),
        ({"std": (math.inf,)}, "--std of finite numbers, found"),
        ({"range": (-math.inf, 1.0)}, "--range of finite numbers, found"),
        ({"image_size": (0, 32)}, "--image-size of at least 1 1, found 0 32"),
        (
            {**ONE_TEST, "significance": 0.01, "bootstrap_draws": 98},
            "at least 99 bootstrap draws for --significance 0.01, found 98",
        ),
        (
            {**ONE_TEST, "significance": 0.03, "bootstrap_draws": 32},
            "at least 33 bootstrap draws for --significance 0.03",
        ),
        ({**ONE_TEST, "bootstrap_draws": 0}, "at least 19 bootstrap draws for --significance 0.05, found 0"),
        ({"bootstrap_draws": 78}, "at least 79 bootstrap draws for --significance 0.05, found 78"),
    ],
    ids=lambda value: str(value)[:50],
)
def test_what_cannot_be_is_refused_by_its_name(changes, message):
    with pytest.raises(OptionError, match=message):
        replace(ScanConfig(), **changes).check()


@pytest.mark.parametrize(
    "changes",
    [
        {"images_per_class": 5},
        {"goal_rate": 1.0},
        {"goal_rate": 0.05},
        {**ONE_TEST, "significance": 0.01, "bootstrap_draws": 99},
        {**ONE_TEST, "bootstrap_draws": 19},
        {**ONE_TEST, "significance": 0.03, "bootstrap_draws": 33},
        {"bootstrap_draws": 79},
        {"bootstrap_draws": 0, "published_p": True},
        {"min_accuracy": 0.0},
        {"image_size": (1, 1)},
    ],
    ids=str,
)
def test_the_borders_are_allowed(changes):
    replace(ScanConfig(), **changes).check()


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
    config.check()
    assert (config.objective, config.norm, config.inference) == PAPER[name]
    assert (config.statistics, config.step_rule, config.published_p) == (("plain",), "plain", True)
    touched = {
        entry.name for entry in fields(config) if getattr(config, entry.name) != getattr(ScanConfig(), entry.name)
    }
    assert config.null == "gamma"
    searched = {"detectors", "objective", "norm", "step_rule"}
    assert touched <= searched | {"inference", "statistics", "null", "published_p"}


def test_presets_of_the_paper_are_all_there():
    assert set(PAPER) <= set(PRESETS)


def test_a_preset_keeps_other_choices():
    changes = {**ONE_TEST, "objective": "J", "null": "gamma", "published_p": True, "step_rule": "plain"}
    assert SOME.with_preset("AD-J-P") == replace(SOME, **changes)


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
    "objective": "J",
    "norm": "l1",
    "box": True,
    "step_rule": "plain",
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
    "detectors": ("other",),
    "statistics": ("source-normalised",),
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
