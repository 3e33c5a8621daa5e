"""The command line's options are the fields of `ScanConfig`: what is written there comes out as the field's value."""

from __future__ import annotations

import ast
import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, get_args

import pytest
import typer
from typer.testing import CliRunner

from backscan.scanner.choices import OUTPUT, SEARCH, STATISTICS, option, told
from backscan.scanner.cli import app, command_options, config_file
from backscan.scanner.cli.typer_signature import spread
from backscan.scanner.config import BUDGETS, OPTIONS, PRESETS, ScanConfig
from backscan.scanner.errors import ExitCode

SHOWN = {name: getattr(ScanConfig(), name) for name, option in OPTIONS.items() if option.shown}


def parameters(command: str) -> dict[str, inspect.Parameter]:
    return dict(inspect.signature(getattr(app, command)).parameters)


def chosen(*arguments: str) -> dict[str, object]:
    """What a command with all options of a scan gets, without the defaults that are always there."""
    got: dict[str, object] = {}

    @spread
    def command(given: command_options.Chosen) -> ExitCode:
        got.update(given)
        return ExitCode.NOT_DETECTED

    program = typer.Typer()
    program.command()(command)
    done = CliRunner().invoke(program, arguments)
    assert done.exit_code == 0, done.output
    return {name: value for name, value in got.items() if SHOWN.get(name) != value}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("", {}),
        ("--images-per-class 7 --seed 3 --device cpu", {"images_per_class": 7, "seed": 3, "device": "cpu"}),
        ("--goal-rate 0.7 --max-size 2", {"goal_rate": 0.7, "max_size": 2.0}),
        ("--mean 0.5,0.4 --std 1", {"mean": (0.5, 0.4), "std": (1.0,)}),
        ("--range 0 255 --image-size 32 48", {"range": (0.0, 255.0), "image_size": (32, 48)}),
        ("--targets 3,5 --pairs 1:9,2:7", {"targets": (3, 5), "pairs": ((1, 9), (2, 7))}),
        (
            "--detector margin --detector tabor --statistic plain",
            {"detectors": ("margin", "tabor"), "statistics": ("plain",)},
        ),
        ("--box --published-p", {"box": True, "published_p": True}),
        ("--clip --calibrated-p", {"box": False, "published_p": False}),
        ("--no-sandbox --no-images", {"sandbox": False, "images_in_report": False}),
    ],
)
def test_what_is_given_becomes_the_fields_value(arguments, expected):
    assert chosen(*arguments.split()) == expected


def test_check_takes_every_field_and_infer_those_that_judge():
    assert parameters("check").keys() >= OPTIONS.keys()
    judging = {name for name, option in OPTIONS.items() if option.panel == STATISTICS}
    assert parameters("infer").keys() == judging | {"report_file", "report", "format_", "reference_reports"}


@pytest.mark.parametrize("name", OPTIONS)
def test_help_and_panel_are_those_of_the_field(name):
    [written] = [each for each in get_args(parameters("check")[name].annotation) if hasattr(each, "help")]
    assert (written.help, written.rich_help_panel) == (told(OPTIONS[name]), OPTIONS[name].panel)


@pytest.mark.parametrize("name", PRESETS)
def test_no_default_of_the_command_line_overrides_a_preset(name):
    assert PRESETS[name].keys().isdisjoint(SHOWN)


@pytest.mark.parametrize("name", BUDGETS)
def test_nor_a_budget(name):
    assert BUDGETS[name].keys().isdisjoint(SHOWN)


def test_the_files_that_a_configuration_file_names_are_those_of_check():
    """They are relative to the file."""
    paths = {
        name.replace("_", "-")
        for name, each in parameters("check").items()
        if "Path" in str(get_args(each.annotation)[0]) and name not in ("models", "config_file")
    }
    assert paths == {*config_file._PATHS}


@dataclass
class Group:
    """Two options that belong together."""

    first: int = option(1, "First.", SEARCH)
    second: tuple[Path, ...] = option((), "Second.", OUTPUT)


def test_groups_of_options_become_one_value_and_panels_keep_their_order():
    got: list[object] = []

    @spread
    def command(group: Group, third: Annotated[int, typer.Option(rich_help_panel=STATISTICS)]) -> ExitCode:
        got.extend((group, third))
        return ExitCode.NOT_DETECTED

    assert list(inspect.signature(command).parameters) == ["first", "third", "second"]
    command(first=4, second=[Path("c")], third=5)
    command(first=None, second=[], third=6)
    assert got == [Group(4, (Path("c"),)), 5, Group(), 6]


def test_no_function_of_the_command_line_takes_more_than_eight_values():
    for path in Path(app.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                taken = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
                assert len(taken) <= 8, f"{path.name}: {node.name}"
