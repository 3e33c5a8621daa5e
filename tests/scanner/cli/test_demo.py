"""The demo: the shipped models, and a pair made anew from another seed, give the verdicts that are true."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import resources
from pathlib import Path

import pytest

from backscan.scanner.cli.demo import BACKDOORED, UNATTACKED, run_demo
from backscan.scanner.progress import SilentProgress

SEED = 1  # the shipped pair is of seed 0


def test_shipped_models_give_the_true_verdicts():
    shown = run_demo(SilentProgress())
    assert shown.right, shown.text
    assert "planted" in shown.text
    assert "recovered" in shown.text


@pytest.mark.slow
def test_models_of_another_seed_give_the_true_verdicts(tmp_path):
    command = [sys.executable, "-m", "benchmarks.demo_models", "--seed", str(SEED), "--out", str(tmp_path)]
    subprocess.run(command, check=True, cwd=Path(__file__).parents[3])
    shown = run_demo(SilentProgress(), tmp_path)
    assert shown.right, shown.text


def test_the_samples_are_small():
    folder = Path(str(resources.files("backscan.scanner") / "samples"))
    sizes = {path.name: path.stat().st_size for path in folder.iterdir()}
    assert {BACKDOORED, UNATTACKED, "digits_clean.npz", "truth.json"} <= sizes.keys()
    assert sum(sizes.values()) < 500_000
    assert "Alpaydin" in json.loads((folder / "truth.json").read_text(encoding="utf-8"))["attribution"]
