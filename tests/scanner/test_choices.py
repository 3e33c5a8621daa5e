"""What options may be: names come from the tables, and a value that none allows is refused by the option's spelling."""

from __future__ import annotations

import math
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from backscan.scanner.choices import RENDERERS, Table, allowed, alternatives, names, told
from backscan.scanner.config import DETECTORS, OPTIONS, ScanConfig
from backscan.scanner.errors import InternalError, OptionError
from backscan.scanner.inference.statistics import STATISTICS

ROOT = Path(__file__).parents[2]
ONE_TEST = {"detectors": ("pairwise",), "statistics": ("plain",)}
TABLES = [RENDERERS, *(each for option in OPTIONS.values() for each in option.choices if isinstance(each, Table))]
NAMED = [name for name, option in OPTIONS.items() if "{names}" in option.about]


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_the_names_are_those_of_the_table(table):
    assert names(table) == tuple(getattr(import_module(table.module), table.name))


def test_every_table_that_an_option_takes_is_read():
    of_search = "OBJECTIVES NORMS SPACES STEP_RULES DETECTORS RATE_DETECTORS TARGET_DETECTORS"
    of_judging = "STATISTICS INFERENCES NULL_FAMILIES CANDIDATES RENDERERS"
    assert {table.name for table in TABLES} == {*of_search.split(), *of_judging.split()}


@pytest.mark.parametrize("name", NAMED)
def test_help_lists_what_is_allowed(name):
    assert alternatives(allowed(OPTIONS[name])) in told(OPTIONS[name]).replace(" (by default)", "")


def test_help_tells_defaults():
    assert told(OPTIONS["norm"]) == "Size of a pattern: l2 (by default) or l1."
    assert told(OPTIONS["goal_rate"]).endswith("; 0.8 by default.")
    assert "By default pairwise, features, window, large-window and mask, with at most 4 classes" in told(
        OPTIONS["detectors"]
    )
    assert told(OPTIONS["device"]) == "auto, cpu or cuda.", "shown beside the text"


@pytest.mark.parametrize(
    "text",
    [
        "T: dict[str, int] = dict(a=1)",
        "T: dict[str, int] = M(OTHER | {'a': 1})",
        "T: dict[str, int] = M({**OTHER, 'a': 1})",
        "T: dict[str, int] = M({key(): 1})",
        "U: dict[str, int] = M({'a': 1})",
    ],
)
def test_a_table_that_is_not_written_out_is_an_error(tmp_path, monkeypatch, text):
    (tmp_path / "a_table.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    names.cache_clear()
    with pytest.raises(InternalError, match="the literal table T in a_table, found none"):
        names(Table("a_table", "T"))
    with pytest.raises(InternalError, match="the literal table T in no_module, found none"):
        names(Table("no_module", "T"))


def test_a_new_line_in_a_table_is_in_help_and_allowed(tmp_path):
    """In a copy of the packages, with nothing else touched."""
    for folder in ("scanner", "kernels", "converters"):
        shutil.copytree(ROOT / folder, tmp_path / "backscan" / folder, ignore=shutil.ignore_patterns("__pycache__"))
    home = tmp_path / "backscan" / "scanner" / "search" / "norms.py"
    home.write_text(home.read_text().replace('{"l2": l2, ', '{"l2": l2, "largest": l1, '))
    code = (
        "import sys; from backscan.scanner import choices, config; from backscan.scanner.cli.app import app\n"
        "config.ScanConfig(norm='largest').check(); app(['check', '--help-all'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(tmp_path), "COLUMNS": "200"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "Size of a pattern: l2 (by default), largest or l1." in done.stdout


def test_reading_names_loads_no_table():
    code = (
        "import sys; from backscan.scanner import choices, config\nconfig.ScanConfig().check()\n"
        "for option in config.OPTIONS.values(): choices.told(option)\n"
        "choices.names(choices.RENDERERS)\n"
        "print(*(sys.modules.keys() & {'numpy', 'torch', 'numba', 'onnx', 'onnxruntime', 'pydantic'}))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "\n"


def test_detectors_of_targets_take_no_share_of_the_threshold():
    each = replace(ScanConfig(), combination="each", statistics=("source-adjusted", "target-contrast"))
    assert replace(each, detectors=("pairwise", "features")).num_tests == 4
    assert replace(each, detectors=("pairwise", "margin")).num_tests == 2
    assert replace(each, detectors=("margin",)).num_tests == 1
    assert replace(each, detectors=("window",)).num_tests == 1
    assert replace(each, detectors=("pairwise", "window")).num_tests == 3
    assert replace(each, detectors=("pairwise",), statistics=("plain", "commonality")).num_tests == 3


def test_pairs_together_share_their_threshold_and_half_of_the_whole():
    assert ScanConfig().num_tests == 4, "two searches of pairs, beside what is concluded about targets"
    assert ScanConfig(detectors=("pairwise",)).num_tests == 2
    assert ScanConfig(detectors=("pairwise",), statistics=("plain",)).num_tests == 1
    assert ScanConfig(detectors=("pairwise",), statistics=("commonality",)).num_tests == 2
    assert ScanConfig(detectors=("window",)).num_tests == 1
    of_all = ScanConfig(detectors=names(DETECTORS), statistics=("plain",))
    assert of_all.num_tests == len(names(DETECTORS)) + 1, "that of few classes says two things"


def test_the_defaults_are_allowed():
    ScanConfig().check()


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
        (
            {"inference": "x"},
            "--inference to be one of distinct, unconfused, principal, corrected, leave-target-out, naive",
        ),
        ({"null": "x"}, "--null to be one of gamma, exponential, inverse-gaussian, found 'x'"),
        ({"preprocess": "x"}, "--preprocess to be one of auto, none, imagenet, cifar10, mnist.*, found 'x'"),
        ({"channel_order": "grb"}, "--channel-order to be one of rgb, bgr, found 'grb'"),
        ({"device": "tpu"}, "--device to be one of auto, cpu, cuda, found 'tpu'"),
        ({"detectors": ("pairwise", "x")}, "--detector to be one of .*pairwise.*, found 'x'"),
        ({"detectors": "pairwise"}, r"--detector as a tuple of names, found a text: write \('pairwise',\)"),
        ({"statistics": ()}, "at least one --statistic, each of them once, found none"),
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


@pytest.mark.parametrize(
    "changes",
    [
        {"detectors": "pairwise"},
        {"mean": [math.nan]},
        {"std": [math.inf]},
        {"mean": (np.float32("nan"),)},
        {"mean": np.array([math.nan])},
        {"norm": ("l1", "l3")},
    ],
    ids=str,
)
def test_values_in_another_container_are_looked_at_too(changes):
    with pytest.raises(OptionError):
        replace(ScanConfig(), **changes).check()
