"""Fragile pairs: those that are not planted, with patterns that work on the file and images to train with."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from backscan.scanner.aftercare import fragile as module
from backscan.scanner.aftercare.augmentation import Augmentation
from backscan.scanner.aftercare.fragile import Fragile, find_fragile
from backscan.scanner.cli.app import main
from backscan.scanner.errors import NoVerdictError, OptionError, ReportError, UserError
from backscan.scanner.images.cleanset import CleanSet
from backscan.scanner.pipeline.scan import scan
from backscan.scanner.process.parent import PreparedSearch, SettledModel
from backscan.scanner.reports import render
from backscan.scanner.reports.aftercare import FORMS
from backscan.scanner.reports.fragile import fragile_sheet, rows
from backscan.scanner.results import PairStatus, ScanResult, Verdict, commonality_of, fragile_pairs
from tests.scanner.pipeline.scans import QUICK, SOURCE, TARGET, write_images, write_model

MEASURED = replace(QUICK, statistics=("plain", "commonality"))


@dataclass(frozen=True)
class Case:
    """A planted model on disk, its images and its scan."""

    model: Path
    images: Path
    report: ScanResult

    def found(self, **changed: object) -> Fragile:
        """Its three most fragile pairs by a report with some fields changed."""
        return find_fragile(self.model, self.images, report=replace(self.report, **changed), most=3, sandbox=False)


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    folder = tmp_path_factory.mktemp("fragile")
    model, images = write_model(folder, num_classes=4), write_images(folder, num_classes=4, per_class=32)
    report = scan(model, CleanSet.load(images), MEASURED)
    stored = ScanResult.from_dict(json.loads(json.dumps(report.to_dict())))
    return Case(model, images, stored)


@pytest.fixture(scope="module")
def found(case: Case) -> Fragile:
    return case.found()


def test_pairs_are_ranked_by_size_and_commonality_and_a_planted_target_is_left_out(case: Case) -> None:
    assert case.report.verdict is Verdict.BACKDOOR_DETECTED
    ranked = fragile_pairs(case.report)
    assert ranked
    assert all(pair.target != TARGET and pair.status is PairStatus.REACHED for pair in ranked)
    keys = [pair.size / commonality_of(pair) for pair in ranked]
    assert keys == sorted(keys)
    assert keys != [pair.size for pair in ranked]
    cleared = fragile_pairs(replace(case.report, verdict=Verdict.NOT_DETECTED))
    assert (cleared[0].source, cleared[0].target) == (SOURCE, TARGET)
    bare = [replace(pair, individual_size=None) for pair in case.report.pairs]
    assert [p.size for p in fragile_pairs(replace(case.report, pairs=tuple(bare)))] == sorted(p.size for p in ranked)


def test_the_patterns_work_on_the_file_and_the_first_images_flip_at_a_part_of_them(found: Fragile) -> None:
    assert [each.pattern.key for each in found.result.pairs]
    for pair in found.result.pairs:
        assert pair.rate >= found.result.goal_rate
        assert pair.rate_held_out is not None
        assert pair.rate_held_out > 0.4
        assert list(pair.multiples) == sorted(pair.multiples)
        assert all(0 < multiple <= 1 for multiple in pair.multiples)
        assert {each.decision_before for each in pair.examples} == {pair.pattern.source}
        assert {each.decision_after for each in pair.examples} == {pair.pattern.target}
    assert found.result.left_out == TARGET


def test_only_what_the_report_lacks_is_searched(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[tuple[int, int], ...]] = []
    searched = PreparedSearch.optimise

    def optimise(self: PreparedSearch, pairs: object, **options: object) -> object:
        asked.append(tuple(pairs))  # type: ignore[arg-type]
        assert not self.measures_individuals  # the report has them
        return searched(self, pairs, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(PreparedSearch, "optimise", optimise)
    ranked = fragile_pairs(replace(case.report, verdict=Verdict.NOT_DETECTED))[:3]
    result = case.found(verdict=Verdict.NOT_DETECTED).result
    assert asked == [tuple((pair.source, pair.target) for pair in ranked[1:])]  # the first is the report's pattern
    assert result.num_searched == 2
    assert result.pairs[0].pattern.values == case.report.patterns[0].values


def test_a_scan_of_its_own_is_not_searched_again(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "scan", lambda model, clean, _config, **_: scan(model, clean, QUICK))
    monkeypatch.setattr(SettledModel, "prepare", _once(SettledModel.prepare))
    result = find_fragile(case.model, case.images, most=2, sandbox=False).result
    assert (len(result.pairs), result.num_searched) == (2, 0)


def _once(function: object) -> object:
    calls: list[int] = []

    def called(*given: object, **named: object) -> object:
        calls.append(1)
        assert len(calls) == 1
        return function(*given, **named)  # type: ignore[operator]

    return called


def test_exported_images_carry_the_pattern_under_their_own_label(case: Case, found: Fragile, tmp_path: Path) -> None:
    found.augmentation.write(tmp_path / "more")
    found.augmentation.write(tmp_path / "more.npz")
    pictures, arrays = (
        CleanSet.load(tmp_path / "more", sandbox=False),
        CleanSet.load(tmp_path / "more.npz", sandbox=False),
    )
    clean = CleanSet.load(case.images, sandbox=False)
    sources = [each.pattern.source for each in found.result.pairs]
    assert clean.labels is not None
    assert len(arrays.images) == sum((clean.labels == source).sum() for source in sources)
    assert set(arrays.labels.tolist()) == set(sources)
    assert sorted(pictures.labels.tolist()) == sorted(arrays.labels.tolist())
    assert np.abs(np.sort(pictures.images, axis=None) - np.sort(arrays.images, axis=None)).max() < 0.01
    session = onnxruntime.InferenceSession(case.model.read_bytes())
    scores = session.run(None, {session.get_inputs()[0].name: arrays.images})[0]
    assert (scores.argmax(axis=1) != arrays.labels).mean() > 0.6  # the model is wrong on what it should learn


def test_images_are_written_to_new_places_and_pictures_have_colours(found: Fragile, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="to be new"):
        found.augmentation.write(tmp_path)
    with pytest.raises(UserError, match="a folder that exists"):
        found.augmentation.write(tmp_path / "none" / "more")
    many = Augmentation(np.zeros((1, 5, 2, 2), np.float32), np.zeros(1, np.int64), ((0, 1),))
    with pytest.raises(OptionError, match="one or three channels"):
        many.write(tmp_path / "more")
    many.write(tmp_path / "more.npz")
    assert np.load(tmp_path / "more.npz")["x"].shape == (1, 2, 2, 5)


def test_the_report_shows_each_pair_with_its_pattern_and_pictures(found: Fragile) -> None:
    sheet = fragile_sheet(found.result)
    text, markdown, page = (FORMS[form](sheet) for form in (".txt", ".md", ".html"))
    for told in (text, markdown, page):
        assert "commonality" in told
        assert "--export-augmentation" in told
    assert page.count("<svg") == 3
    assert page.count("<img src") == 2 * sum(len(each.examples) for each in found.result.pairs)
    assert json.loads(FORMS[".json"](sheet))["schema_version"] == "fragile-1.0"


def test_the_report_of_a_scan_lists_them_and_names_the_command(case: Case) -> None:
    listed = rows(case.report)
    assert [cells[0] for cells in listed] == [
        f"class {pair.source} → class {pair.target}" for pair in fragile_pairs(case.report)[:5]
    ]
    for form in ("html", "markdown"):
        told = render(case.report, form).replace("\\", "")
        assert listed[0][1] in told
        assert "scanner fragile MODEL" in told.replace('<span class="option">', "")
        assert f"Pairs towards class {TARGET} are left out" in told
    assert "Fragile pairs" not in render(replace(case.report, pairs=()), "html")


def test_what_cannot_be_used_is_refused(case: Case, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="--most of at least 1"):
        find_fragile(case.model, case.images, report=case.report, most=0)
    with pytest.raises(ReportError, match="class pairs"):
        case.found(pairs=())
    with pytest.raises(ReportError, match="expected the report of"):
        case.found(model=replace(case.report.model, sha256="0" * 64))
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"nothing")
    with pytest.raises(NoVerdictError):
        find_fragile(broken, case.images, sandbox=False)


def test_the_command_writes_pictures_and_report(
    case: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    report = tmp_path / "scan.json"
    report.write_text(json.dumps(case.report.to_dict()))
    given = ["fragile", str(case.model), "--data", str(case.images), "--report", str(report), "--most", "1"]
    given += ["--no-sandbox", "--export-augmentation", str(tmp_path / "more"), "--write", str(tmp_path / "f.json")]
    monkeypatch.setattr("sys.argv", ["scanner", *given])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 0
    told = json.loads((tmp_path / "f.json").read_text())
    assert told["num_exported"] == len(list((tmp_path / "more").glob("*.png"))) > 0
    assert "fragile pairs: model.onnx" in capsys.readouterr().out
