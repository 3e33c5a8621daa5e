"""A comparison names a pair that became easier alone, not one that chance or the whole model explain."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backscan.scanner.aftercare.comparing import compare
from backscan.scanner.aftercare.easier import size_error
from backscan.scanner.cli.app import main
from backscan.scanner.config import ScanConfig
from backscan.scanner.errors import OptionError, ReportError
from backscan.scanner.reports import render
from backscan.scanner.results import ComparisonOutcome, PairResult, PairStatus, ScanResult, Trajectory, Verdict
from tests.scanner.reports import examples

K = 6
PAIR = (2, 4)
Sizes = Mapping[tuple[int, int], float]


def pair_of(key: tuple[int, int], size: float, **changed: Any) -> PairResult:
    """A pair whose rate rises evenly with the size, to the goal at its end."""
    steps = np.linspace(0, 1, 11)
    found = PairResult(
        detector="pairwise",
        source=key[0],
        target=key[1],
        status=PairStatus.REACHED,
        size=size,
        initial_rate=0.0,
        rate=0.8,
        steps=10,
        trajectory=Trajectory(tuple((size * steps).tolist()), tuple((0.8 * steps**2).tolist())),
    )
    return replace(found, **changed)


def scan(seed: int, *, times: Sizes | None = None, num_images: int = 50, **changed: Any) -> ScanResult:
    """A scan of an ordinary model: sizes that vary by a tenth about 1, with some of them multiplied."""
    rng, factors = np.random.default_rng(seed), times or {}
    keys = [(source, target) for source in range(K) for target in range(K) if source != target]
    pairs = tuple(pair_of(key, factors.get(key, 1.0) * float(np.exp(0.1 * rng.normal()))) for key in keys)
    base = examples.not_detected(10)
    assert base.data is not None
    made = replace(
        base,
        model=replace(base.model, num_classes=K, class_names=None, sha256=f"{seed:064x}"),
        data=replace(base.data, images_per_class=(num_images,) * K),
        pairs=pairs,
        screens=(),
        config=ScanConfig().to_dict(),
    )
    return replace(made, **changed)


def changed_pair(result: ScanResult, **fields: Any) -> ScanResult:
    """The scan with other fields of the pair."""
    pairs = tuple(replace(p, **fields) if (p.source, p.target) == PAIR else p for p in result.pairs)
    return replace(result, pairs=pairs)


def test_two_ordinary_models_have_no_shortcut_and_the_same_file_has_none() -> None:
    for after in (scan(2), scan(1)):
        result = compare(scan(1), after)
        assert result.outcome is ComparisonOutcome.NO_NEW_SHORTCUT
        assert [len(space.pairs) for space in result.spaces] == [K * (K - 1)]
        assert not result.shortcuts
    assert "both are the same file" in result.warnings


def test_a_pair_that_shrank_alone_is_named_first() -> None:
    result = compare(scan(1), scan(2, times={PAIR: 0.3}))
    [found] = result.shortcuts
    assert result.outcome is ComparisonOutcome.NEW_SHORTCUT
    assert (found.source, found.target) == PAIR == (result.spaces[0].pairs[0].source, result.spaces[0].pairs[0].target)
    assert 0.2 < found.ratio < 0.4
    assert "class 2 to class 4 became easier" in result.reasons[0]
    assert compare(scan(2, times={PAIR: 0.3}), scan(1)).outcome is ComparisonOutcome.NO_NEW_SHORTCUT, "it is gone"


def test_the_same_pair_with_enough_images_is_one() -> None:
    assert compare(scan(1), scan(2, times={PAIR: 0.45})).outcome is ComparisonOutcome.NEW_SHORTCUT


def test_all_sources_of_a_target_are_told_as_such() -> None:
    result = compare(scan(1), scan(2, times={(source, 4): 0.3 for source in range(K) if source != 4}))
    assert result.reasons[0].endswith("5 pairs did, all to class 4")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (scan(1), scan(2, times={(i, j): 0.3 for i in range(K) for j in range(K)})),
        (scan(1, num_images=2), scan(2, times={PAIR: 0.45}, num_images=2)),
        (scan(1, times={PAIR: 4.0}), scan(2, times={PAIR: 1.3})),
        (scan(1), changed_pair(scan(2, times={PAIR: 0.3}), status=PairStatus.SIZE_LIMIT)),
        (scan(1), changed_pair(scan(2, times={PAIR: 0.3}), initial_rate=0.3)),
    ],
    ids=["all shrank", "few images", "not short", "not reached", "confused"],
)
def test_a_smaller_size_is_no_shortcut_if_something_else_explains_it(before: ScanResult, after: ScanResult) -> None:
    assert compare(before, after).outcome is ComparisonOutcome.NO_NEW_SHORTCUT


def test_classes_that_the_second_model_alone_confuses_are_named() -> None:
    result = compare(scan(1), changed_pair(scan(2), initial_rate=0.5))
    assert any("confuses classes on clean images that the first tells apart" in each for each in result.warnings)
    assert PAIR not in {(pair.source, pair.target) for pair in result.spaces[0].pairs}


def test_what_a_screen_chose_does_not_set_the_spread() -> None:
    """Pairs chosen for being small in the second model are smaller there by that choice alone."""
    easier = [(0, 1), (0, 2), (0, 3), (0, 4), (0, 5), (1, 0), (1, 2), (1, 3)]
    after = scan(2, times=dict.fromkeys(easier, 0.5))
    chosen = replace(after, pairs=tuple(replace(p, chosen=(p.source, p.target) in easier) for p in after.pairs))
    assert compare(scan(1), chosen).spaces[0].spread < compare(scan(1), after).spaces[0].spread


def test_pairs_that_cannot_be_compared_never_pass() -> None:
    result = compare(replace(scan(1), pairs=scan(1).pairs[:10]), scan(2))
    assert (result.outcome, result.spaces) == (ComparisonOutcome.INCONCLUSIVE, ())
    assert "could not be compared" in result.reasons[0]


@pytest.mark.parametrize(
    ("other", "refusal"),
    [
        (replace(scan(2), model=replace(scan(2).model, num_classes=7)), ReportError),
        (replace(scan(2), config={**scan(2).config, "norm": "l1"}), OptionError),
    ],
    ids=["classes", "norm"],
)
def test_scans_of_other_tasks_or_searches_are_refused(other: ScanResult, refusal: type[Exception]) -> None:
    with pytest.raises(refusal, match="expected two"):
        compare(scan(1), other)


def test_classes_in_another_order_are_refused() -> None:
    first, second = (
        replace(scan(1), model=replace(scan(1).model, class_names=tuple(names))) for names in ("abcdef", "abcdfe")
    )
    with pytest.raises(ReportError, match="same classes in the same order"):
        compare(first, second)


def test_the_error_of_a_size_is_that_of_resampled_images() -> None:
    """Where the rate of an image is a step at its own size, the size is a quantile: drawn anew, it varies so."""
    rng = np.random.default_rng(0)
    needs = np.exp(0.3 * rng.normal(size=(4000, 60)))
    spread = np.log(np.quantile(needs, 0.8, axis=1)).std()
    places = np.linspace(0.05, np.quantile(needs, 0.8), 15)
    rates = [(needs < place).mean() for place in places]
    curve = Trajectory((0.0, *places.tolist()), (0.0, *rates))
    error = size_error(pair_of(PAIR, 1.0, trajectory=curve), 60, 0.8)
    assert error == pytest.approx(spread, rel=0.35)
    assert size_error(pair_of(PAIR, 1.0, trajectory=Trajectory((0.0,), (0.0,))), 60, 0.8) is None


def write(folder: Path, **scans: ScanResult) -> None:
    for name, result in scans.items():
        (folder / f"{name}.json").write_text(render(result, "json"))


def ended(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr("sys.argv", ["scanner", "--quiet", "compare", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        main()
    assert isinstance(end.value.code, int)
    return end.value.code


@pytest.mark.parametrize(
    ("before", "after", "code"),
    [
        (scan(1), scan(2), 0),
        (scan(1), scan(2, times={PAIR: 0.3}), 4),
        (scan(1), replace(scan(2), verdict=Verdict.INCONCLUSIVE), 4),
        (scan(1), replace(scan(2), verdict=Verdict.NO_VERDICT, pairs=()), 3),
        (replace(scan(1), verdict=Verdict.BACKDOOR_DETECTED), scan(2, times={PAIR: 0.3}), 1),
        (scan(1), replace(scan(2), verdict=Verdict.BACKDOOR_DETECTED), 1),
        (scan(1), replace(scan(2), model=replace(scan(2).model, num_classes=7)), 2),
    ],
    ids=["level", "shortcut", "inconclusive", "no verdict", "first detected", "second detected", "other task"],
)
def test_exit_codes_and_reports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: ScanResult, after: ScanResult, code: int
) -> None:
    write(tmp_path, a=before, b=after)
    page, document, text = (tmp_path / f"out.{suffix}" for suffix in ("html", "json", "md"))
    files = [argument for file in (page, document, text) for argument in ("--write", file)]
    assert ended(monkeypatch, tmp_path / "a.json", tmp_path / "b.json", *files) == code
    if code == 2:
        return
    found = json.loads(document.read_text())
    assert (found["after"]["verdict"], found["schema_version"]) == (after.verdict.value, "comparison-1.0")
    assert ("became easiest" in page.read_text()) == ("became easiest" in text.read_text()) == bool(after.pairs)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a.json", "b.json", "--goal-rate", "0.7"], "no options of scans with two reports, found --goal-rate"),
        (["a.json", "b.json", "--data", "a.json"], "no options of scans with two reports, found --data"),
        (["a.json", "b.json", "--write", "b.json"], "a place of its own for what is written, found b.json"),
        (["a.json", "b.json", "--scans", "none/new"], "expected a folder for --scans"),
        (["a.json", "missing.onnx"], "a model or a JSON report at missing.onnx, found nothing"),
        (["a.json", "."], "a model or a JSON report at ., found a folder"),
        (["a.json", "b.json", "--write", "out.pdf"], "expected --write to end in"),
        (["a.json", "m.onnx", "--norm", "l1"], "same search, found others in --norm"),
        (["m.onnx", "m.onnx", "--output-name", "all"], "expected one output to compare"),
    ],
)
def test_mistakes_end_before_any_scan(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, a=scan(1), b=scan(2))
    (tmp_path / "m.onnx").write_bytes(b"no model")
    assert ended(monkeypatch, *arguments) == 2
    assert message in capsys.readouterr().err


def test_models_are_scanned_and_their_reports_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = iter([scan(1), scan(2, times={PAIR: 0.3})])
    monkeypatch.setattr("backscan.scanner.fleet.one_model.scan_one", lambda *_: next(made))
    monkeypatch.setattr("backscan.scanner.fleet.one_model.images_of", lambda *_, **__: None)
    models = [tmp_path / name for name in ("a.onnx", "b.onnx")]
    for model in models:
        model.write_bytes(b"")
    assert ended(monkeypatch, *models, "--scans", tmp_path / "new") == 4
    kept = {side: json.loads((tmp_path / "new" / f"{side}.json").read_text()) for side in ("before", "after")}
    assert {side: Path(each["model"]["name"]).name for side, each in kept.items()} == {
        "before": "a.onnx",
        "after": "b.onnx",
    }
    assert (tmp_path / "new" / "after.html").exists()
