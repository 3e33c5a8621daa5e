"""Networks that report are trained after the default is fixed, and not before."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.victims import seeds
from benchmarks.victims.plans import make_plans
from benchmarks.victims.seeds import check_seeds, reports
from benchmarks.victims.victims import obtain


def test_seeds_from_two_thousand_on_report() -> None:
    assert [reports(seed) for seed in (0, 1999, 2000, 5000)] == [False, False, True, True]


@pytest.mark.parametrize("content", [None, "", "main", "0123abc", "g" * 40])
def test_networks_that_report_are_refused_until_a_file_names_the_commit(content: str | None, tmp_path: Path) -> None:
    named = tmp_path / "fixed_default.txt"
    if content is not None:
        named.write_text(content)
    check_seeds([0, 1999], fixed_default=named)
    with pytest.raises(ValueError, match=r"expected seeds below 2000, found 2003: .* fixed_default.txt first"):
        check_seeds([5, 2003], fixed_default=named)


def test_they_are_trained_once_it_does(tmp_path: Path) -> None:
    named = tmp_path / "fixed_default.txt"
    named.write_text("0123456789abcdef" * 2 + "01234567\n")
    check_seeds([2000], fixed_default=named)


def test_training_asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seeds.check_seeds, "__kwdefaults__", {"fixed_default": tmp_path / "none"})
    with pytest.raises(ValueError, match="expected seeds below 2000"):
        list(obtain(make_plans("trial", "Clean", [2000]), cache=tmp_path / "cache"))
    assert not list((tmp_path / "cache").iterdir())
