"""What holds for every report format, read from the table."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from backscan.scanner.errors import OptionError
from backscan.scanner.reports import RENDERERS, format_of, render
from tests.scanner.reports.examples import ALL, detected, not_detected

HEAVY = {"html": ("matplotlib", "jinja2"), "fleet": ("jinja2",), "bom": ("cyclonedx",)}


@pytest.mark.parametrize("format_", RENDERERS)
@pytest.mark.parametrize("example", ALL)
def test_equal_input_gives_equal_bytes(format_: str, example: str) -> None:
    first = render(ALL[example](), format_)
    assert first == render(ALL[example](), format_)
    assert first.endswith("\n")


@pytest.mark.parametrize("format_", RENDERERS)
def test_several_models_make_one_report(format_: str) -> None:
    text = render([detected(3), not_detected(3)], format_)
    assert len(text) > len(render(detected(3), format_)) / 2


@pytest.mark.parametrize("format_", RENDERERS)
def test_every_format_says_what_it_is_for(format_: str) -> None:
    assert RENDERERS[format_].about


@pytest.mark.parametrize("format_", [name for name in RENDERERS if name not in HEAVY])
def test_light_formats_load_no_heavy_library(format_: str) -> None:
    heavy = sorted({module for modules in HEAVY.values() for module in modules} | {"torch", "onnx", "onnxruntime"})
    golden = Path(__file__).parents[2] / "golden" / "without_images.json"
    program = (
        "import sys, pathlib\n"
        "from backscan.scanner.reports import render\n"
        "from backscan.scanner.store.reports import parse\n"
        f"render(parse(pathlib.Path(sys.argv[1]).read_text(encoding='utf-8')), {format_!r})\n"
        f"print([name for name in {heavy!r} if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(golden)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_longest_suffix_chooses() -> None:
    for name, renderer in RENDERERS.items():
        for suffix in renderer.suffixes:
            assert format_of(f"some.folder/Model.v2{suffix.upper()}") == name
    assert format_of("-") == "json"


def test_an_unknown_suffix_names_the_known_ones() -> None:
    with pytest.raises(OptionError, match=r"\.sarif.*found 'report\.pdf'"):
        format_of("report.pdf")


def test_an_unknown_format_names_the_known_ones() -> None:
    with pytest.raises(OptionError, match=r"json.*found 'pdf'"):
        render(detected(3), "pdf")


def test_the_first_drawing_says_nothing_of_fonts(tmp_path: Path) -> None:
    """Matplotlib tells on standard error that it builds a cache, where it has none."""
    code = "from backscan.scanner.reports import render; from tests.scanner.reports.examples import detected\n"
    environment = os.environ | {"MPLCONFIGDIR": str(tmp_path)}
    command = (sys.executable, "-c", f"{code}render(detected(3), 'html')")
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")
    assert list(tmp_path.glob("fontlist*")), "no cache was built, so this shows nothing"
