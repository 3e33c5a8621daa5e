"""The scanner in a program or notebook: paths as text, options checked when set, results that show themselves."""

from __future__ import annotations

import re
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import backscan.scanner as scanner
from backscan.scanner import CleanSet, ScanConfig, ScanResult, Verdict, scan, verify
from backscan.scanner.errors import OptionError
from tests.scanner.pipeline.scans import QUICK, SOURCE, TARGET, scanned, write_images, write_model


def test_paths_may_be_texts(tmp_path: Path) -> None:
    model, images = str(write_model(tmp_path)), str(write_images(tmp_path))
    result = scan(model, images, QUICK)
    assert result.verdict is Verdict.BACKDOOR_DETECTED
    assert replace(result, timings={}) == replace(scan(Path(model), CleanSet.load(images), QUICK), timings={})
    assert verify(result, model, images, sandbox=False).verification == result.verification


def test_without_images_and_options_a_scan_tests_what_it_can(tmp_path: Path) -> None:
    result = scan(str(write_model(tmp_path)), config=QUICK)
    assert result.verdict is Verdict.INCONCLUSIVE
    assert result.reasons


@pytest.mark.parametrize(
    "options", [{"goal_rate": 2.0}, {"objective": "nothing"}, {"statistics": ()}, {"image_size": (0, 3)}]
)
def test_options_are_checked_when_they_are_set(options: dict[str, object]) -> None:
    with pytest.raises(OptionError, match="expected"):
        ScanConfig(**options)
    with pytest.raises(OptionError, match="expected"):
        replace(QUICK, **options)


@pytest.fixture
def detected() -> ScanResult:
    return scanned()


def test_a_result_shows_itself_in_one_line(detected: ScanResult) -> None:
    assert re.fullmatch(
        rf"<ScanResult 'model.onnx': backdoor_detected, {SOURCE} -> {TARGET}, p = [\d.e-]+>", repr(detected)
    )
    assert "\n" not in repr(replace(detected, model=replace(detected.model, name="a\n\x1b[31m<b>")))


def test_a_notebook_shows_verdict_and_picture(detected: ScanResult) -> None:
    page = detected._repr_html_()
    assert "backdoor_detected" in page
    assert page.count("<img ") == 2
    assert f'src="data:image/png;base64,{detected.examples[0].before_png}"' in page
    hostile = replace(detected, model=replace(detected.model, name="<script>\x1b"), reasons=("<b>&",))
    assert "<script>" not in hostile._repr_html_()
    assert "&lt;b&gt;&amp;" in hostile._repr_html_()
    assert "<img " not in replace(detected, examples=())._repr_html_()


def test_the_pattern_is_an_array(detected: ScanResult) -> None:
    pattern = detected.pattern
    assert pattern is not None
    assert pattern.shape == detected.model.signature.input_shape
    assert np.isclose(np.linalg.norm(pattern), detected.patterns[0].size_l2)
    assert replace(detected, patterns=()).pattern is None


def test_pairs_are_a_table_of_pandas(detected: ScanResult) -> None:
    pandas = pytest.importorskip("pandas")
    frame = detected.to_frame()
    assert isinstance(frame, pandas.DataFrame)
    assert len(frame) == len(detected.pairs)
    smallest = frame.sort_values("size").iloc[0]
    assert (smallest["source"], smallest["target"], smallest["status"]) == (SOURCE, TARGET, "reached")
    assert list(replace(detected, pairs=()).to_frame().columns) == list(frame.columns)


@pytest.mark.skipif(find_spec("pandas") is not None, reason="pandas is installed")
def test_without_pandas_the_table_says_what_to_install(detected: ScanResult) -> None:
    with pytest.raises(ImportError, match="pip install pandas"):
        detected.to_frame()


def test_the_public_face_has_a_short_list() -> None:
    assert {"scan", "CleanSet", "ScanConfig"} <= set(scanner.__all__)
