"""What a program registers beside the tables: loaded where it is used, recorded, and never taken from a file."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from backscan.scanner import (
    ScanConfig,
    ScanResult,
    register_detector,
    register_objective,
    register_operator,
    register_statistic,
    scan,
)
from backscan.scanner.choices import known, names, registered
from backscan.scanner.cli.config_file import defaults, read_configuration
from backscan.scanner.config import DETECTORS as DETECTOR_TABLE
from backscan.scanner.detectors import DETECTORS, TARGET_DETECTORS
from backscan.scanner.errors import OptionError
from backscan.scanner.inference.statistics import STATISTICS, plain
from backscan.scanner.process.parent import open_process
from backscan.scanner.search.objectives import OBJECTIVES
from tests.scanner.pipeline.scans import QUICK, SOURCE, TARGET, write_images, write_model

MODULE = '''
from dataclasses import replace
import os
from backscan.scanner.detectors import pairwise
from backscan.scanner.detectors.pair_search import Detector

def focal(log_p, log_rest):
    """The weights of the cross-entropy, cubed."""
    return 3.0 * log_rest

def doubled(reciprocals):
    """What every statistic may be multiplied by."""
    return 2.0 * reciprocals

def infer(pairs, searched, config):
    return pairwise.infer(pairs, searched, config)

MINE = Detector("whatever", pairwise.pattern_space, infer, objective="ce")
NUMBER = 3
'''
OPERATORS = """
from torch import nn
from backscan.converters.operators.registry import OperationConverterResult, onnx_mapping_from_node, register

@register("Det", versions=(11, 22))
def convert_det(node, graph):
    return OperationConverterResult(nn.Identity(), onnx_mapping_from_node(node))
"""


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A module of a user, importable here and in child processes; what tests register is forgotten."""
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "users_module.py").write_text(MODULE)
    (tmp_path / "lib" / "users_operators.py").write_text(OPERATORS)
    (tmp_path / "lib" / "users_broken.py").write_text("x = 1\nraise RuntimeError('half of it')")
    (tmp_path / "lib" / "users_dynamic.py").write_text("globals()['ma' + 'de'] = lambda log_p, log_rest: log_rest")
    monkeypatch.syspath_prepend(tmp_path / "lib")
    yield
    registered.forget()
    registered.load.cache_clear()


@pytest.mark.parametrize(
    "path", ["module", "module:", ":name", "a.b", "a:b.c", "a b:c", "../x:y", "a-b:c", "a:b:c", "", 3]
)
def test_only_import_paths_are_registered(path: str) -> None:
    for register in (register_objective, register_statistic, register_detector, register_operator):
        with pytest.raises(OptionError, match=r"as package\.module:name, found"):
            register(path)
    assert registered.every() == ()


def test_names_become_options_and_the_literal_tables_stay_as_they_are() -> None:
    with pytest.raises(OptionError, match="found 'users_module:focal': register it in the program"):
        ScanConfig(objective="users_module:focal")
    before = {name: names(each) for name, each in (("detectors", DETECTOR_TABLE),)}
    assert register_objective("users_module:focal") == "users_module:focal"
    register_statistic("users_module:doubled")
    register_detector("users_module:MINE")
    config = ScanConfig(
        objective="users_module:focal", statistics=("users_module:doubled",), detectors=("users_module:MINE",)
    )
    assert config.num_tests == 1
    assert names(DETECTOR_TABLE) == before["detectors"]
    assert known(DETECTOR_TABLE) == (*before["detectors"], "users_module:MINE")
    assert "users_module:focal" in OBJECTIVES
    assert list(OBJECTIVES)[-1] == "users_module:focal"
    with pytest.raises(TypeError):
        OBJECTIVES["new"] = None


def test_entries_are_loaded_on_use_as_what_they_have_to_be() -> None:
    register_objective("users_module:focal")
    register_statistic("users_module:doubled")
    register_detector("users_module:MINE")
    assert float(OBJECTIVES["users_module:focal"].log_weight(0.0, 2.0)) == 6.0
    matrix = np.ones((3, 3))
    np.testing.assert_array_equal(STATISTICS["users_module:doubled"](matrix), 2 * plain(matrix))
    assert DETECTORS["users_module:MINE"].name == "users_module:MINE"


@pytest.mark.parametrize(
    ("path", "words"), [("users_broken:x", "RuntimeError: half of it"), ("users_module:NUMBER", "is a int and no")]
)
def test_what_cannot_be_loaded_is_named(path: str, words: str) -> None:
    register_objective(path)
    register_detector(path, searches="targets")
    with pytest.raises(OptionError, match=words):
        OBJECTIVES[path]
    with pytest.raises(OptionError, match=words):
        TARGET_DETECTORS[path]


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("users_module:focl", "nothing called focl in .*users_module.*: check the name"),
        ("json:focal", "nothing called focal in json: check the name"),
        ("no_such_module:x", "no module no_such_module: put it where Python finds it"),
        ("no_such_package.module:x", "ModuleNotFoundError: No module named 'no_such_package': put the module where"),
        ("users_module.inner:x", "ModuleNotFoundError: .*: put the module where"),
        ("__main__:x", "the program itself"),
    ],
)
def test_what_does_not_exist_is_refused_at_the_call(path: str, words: str) -> None:
    for register in (register_objective, register_statistic, register_detector, register_operator):
        with pytest.raises(OptionError, match=f"^expected '{path}' to be the import path of the .*, found {words}"):
            register(path)
    assert registered.every() == ()


def test_what_is_there_is_not_run_at_the_call() -> None:
    assert register_objective("users_dynamic:made") == "users_dynamic:made"
    assert register_objective("users_broken:x") == "users_broken:x"
    assert not {"users_dynamic", "users_broken"} & set(sys.modules)


def test_a_detector_says_what_it_searches() -> None:
    with pytest.raises(OptionError, match="searches to be one of pairs, targets, rates, found 'all'"):
        register_detector("users_module:MINE", searches="all")


@pytest.mark.parametrize("sandbox", [False, True])
def test_a_scan_with_all_of_them_finds_the_shortcut_and_tells_them(tmp_path: Path, *, sandbox: bool) -> None:
    objective, statistic = register_objective("users_module:focal"), register_statistic("users_module:doubled")
    detector = register_detector("users_module:MINE")
    config = replace(QUICK, objective=objective, statistics=(statistic,), detectors=(detector,), sandbox=sandbox)
    result = scan(write_model(tmp_path), write_images(tmp_path), config)
    assert (result.source, result.target) == (SOURCE, TARGET)
    assert {pair.detector for pair in result.pairs} == {"users_module:MINE"}
    assert result.provenance.extensions == (
        "objective users_module:focal",
        "statistic users_module:doubled",
        "detector of class pairs users_module:MINE",
    )
    document = json.loads(json.dumps(result.to_dict()))
    assert ScanResult.from_dict(document).provenance.extensions == result.provenance.extensions


def test_reports_without_extensions_say_nothing_of_them(tmp_path: Path) -> None:
    result = scan(write_model(tmp_path), None, QUICK)
    assert "extensions" not in result.to_dict()["provenance"]


def test_the_child_loads_before_it_opens_a_model() -> None:
    register_objective("users_broken:x")
    with pytest.raises(OptionError, match="half of it"), open_process(sandbox=True):
        pytest.fail("a process without what was registered was given out")


def test_a_module_in_the_working_folder_is_found_there_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As beside a script that is started in its folder; the child has no working folder on its path by itself."""
    monkeypatch.chdir(tmp_path / "lib")
    assert registered.folders() == (), "nothing was registered"
    register_objective("users_module:focal")
    assert registered.folders() == (str(tmp_path / "lib"),)
    with open_process(sandbox=True):
        pass


def test_an_operator_is_converted_by_what_was_registered() -> None:
    from backscan.converters.errors import UnsupportedOperatorError
    from backscan.converters.operators.registry import find_converter

    with pytest.raises(UnsupportedOperatorError):
        find_converter("Det", "", 17)
    register_operator("users_operators:convert_det")
    with open_process(sandbox=False):
        assert find_converter("Det", "", 17).__name__ == "convert_det"


@pytest.mark.parametrize("key", ["objective", "statistic", "detector"])
def test_a_file_cannot_name_an_import_path(tmp_path: Path, key: str) -> None:
    import typer

    from backscan.scanner.cli.app import app

    register_objective("users_module:focal")
    value = '"users_module:focal"' if key == "objective" else '["users_module:focal"]'
    (tmp_path / "options.toml").write_text(f"{key} = {value}\n")
    check = typer.main.get_command(app).commands["check"]
    with pytest.raises(OptionError, match="found an import path, which runs code"):
        defaults(read_configuration(tmp_path / "options.toml"), check.params, ())
