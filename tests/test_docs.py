"""The guide: up to date with the code, whole, and true to what exists."""

import html
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer

from backscan.scanner.choices import told
from backscan.scanner.cli.app import app
from backscan.scanner.config import OPTIONS

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))
# Options of other programs that the guide shows.
FOREIGN = {"--statement", "--bundle", "--hook-type", "--saved-model", "--graphdef", "--inputs", "--outputs"}
FOREIGN |= {"--output", "--tflite", "--model", "--torch-backend", "--constraint", "--find-links"}
FOREIGN |= {"--install-hooks", "--extra-index-url", "--no-deps"}


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_generated_pages_are_up_to_date() -> None:
    for path, text in load(DOCS / ".tools" / "generate.py").pages().items():
        assert path.read_text(encoding="utf-8") == text, "run python docs/.tools/generate.py"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_file_and_name_that_a_page_names_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for path, names in re.findall(
        r"`((?:scanner|kernels|converters|benchmarks|tests)/[\w/.]+\.py)`((?:,? `\w+`)*)", text
    ):
        assert (ROOT / path).is_file(), path
        source = (ROOT / path).read_text(encoding="utf-8")
        for name in re.findall(r"`(\w+)`", names):
            assert re.search(rf"\b{name}\b", source), f"{path} has no {name}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_option_that_a_page_shows_exists(page: Path) -> None:
    group: Any = typer.main.get_command(app)
    commands = [group, *group.commands.values()]
    known = {name for command in commands for each in command.params for name in (*each.opts, *each.secondary_opts)}
    text = re.sub(r"python -m benchmarks.*", "", page.read_text(encoding="utf-8"))  # these have options of their own
    shown = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text))
    assert shown - known - FOREIGN - {"--help"} <= set()


def test_every_page_is_in_the_navigation() -> None:
    listed = set(re.findall(r'"([\w-]+\.md)"', (ROOT / "zensical.toml").read_text(encoding="utf-8")))
    assert listed == {page.name for page in PAGES}


@pytest.fixture
def guide(tmp_path: Path) -> Path:
    """A copy of the guide that a test may build and break."""
    if importlib.util.find_spec("zensical") is None:
        pytest.skip("zensical is not installed: pip install '.[docs]'")
    shutil.copytree(DOCS, tmp_path / "docs")
    shutil.copy(ROOT / "zensical.toml", tmp_path)
    return tmp_path


def build(folder: Path) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(folder / "docs" / ".tools"), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "zensical", "build", "--strict"]
    return subprocess.run(command, cwd=folder, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True)


def test_the_guide_builds_and_fetches_nothing(guide: Path) -> None:
    done = build(guide)
    assert done.returncode == 0, done.stderr
    pages = list((guide / "site").glob("*.html"))
    assert len(pages) >= len(PAGES)
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert not re.search(
            r'<(?:script|img|iframe)[^>]* src="https?:|<link[^>]* rel="stylesheet"[^>]* href="https?:', text
        )
    assert "<math" in (guide / "site" / "method.html").read_text(encoding="utf-8")
    reference = (guide / "site" / "api.html").read_text(encoding="utf-8")
    assert "Say whether the classifier" in reference
    for name, option in OPTIONS.items():
        described = reference.partition(f'id="backscan.scanner.config.ScanConfig.{name}"')[2].partition("</p>")[0]
        assert told(option).replace("`", "") in html.unescape(re.sub("<[^>]+>", "", described))


def test_broken_links_fail_the_build_each_by_itself(guide: Path) -> None:
    with (guide / "docs" / "index.md").open("a", encoding="utf-8") as page:
        page.write("\n[gone](nowhere.md)\n\n[gone](report.md#no-such-part)\n")
    done = build(guide)
    assert done.returncode != 0
    assert "2 issues found" in done.stdout + done.stderr  # of a page and of a part of one
