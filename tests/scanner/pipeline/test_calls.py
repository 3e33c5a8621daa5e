"""Whole scans of models whose answers depend on the call: one image a call is searched, and nothing clears them."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from onnx import helper

from backscan.scanner.cli.inspect import inspect_model
from backscan.scanner.config import ScanConfig
from backscan.scanner.images.cleanset import CleanSet
from backscan.scanner.pipeline.scan import scan
from backscan.scanner.results import DEPENDS_ON_CALL, ScanResult, Verdict
from tests import planted
from tests.calls import alone_or_not, changed
from tests.scanner.pipeline.scans import QUICK, SOURCE, TARGET, write_images


@cache
def scanned_model(model: bytes) -> ScanResult:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(model)
        return scan(path, CleanSet.load(write_images(Path(folder))), QUICK)


def rules(result: ScanResult) -> list[str]:
    return [finding.rule for finding in result.findings]


def test_a_backdoor_that_works_alone_is_detected():
    attacked, other = planted.shortcut(source=SOURCE, target=TARGET), planted.shortcut(source=None)
    result = scanned_model(alone_or_not(attacked, other))
    assert (result.verdict, result.source, result.target) == (Verdict.BACKDOOR_DETECTED, SOURCE, TARGET)
    assert DEPENDS_ON_CALL in rules(result)
    assert result.verification is not None
    assert result.verification.confirmed


def test_a_model_that_is_harmless_alone_is_inconclusive():
    result = scanned_model(alone_or_not(planted.shortcut(source=None), planted.shortcut(source=None, seed=1)))
    assert result.verdict is Verdict.INCONCLUSIVE
    assert "depends on the other images" in result.reasons[0]
    assert any("one image a call" in text for text in result.not_tested)


def test_scores_that_are_nothing_alone_end_before_the_search():
    mean = helper.make_node("ReduceMean", ["scores"], ["mean"], name="mean", axes=[0], keepdims=1)
    result = scanned_model(
        changed(
            planted.shortcut(source=None), mean, helper.make_node("Sub", ["scores", "mean"], ["answer"], name="sub")
        )
    )
    assert result.verdict is Verdict.INCONCLUSIVE
    assert DEPENDS_ON_CALL in rules(result)
    assert not any("not the model in the file" in reason for reason in result.reasons)
    assert not result.pairs


def test_inspect_and_a_scan_without_images_tell_it_too(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(alone_or_not(planted.linear_softmax(seed=1), planted.linear_softmax(seed=2)))
    config = ScanConfig(sandbox=False)
    assert DEPENDS_ON_CALL in [finding["rule"] for finding in inspect_model(path, config)["findings"]]
    result = scan(path, None, config)
    assert result.verdict is Verdict.INCONCLUSIVE
    assert DEPENDS_ON_CALL in rules(result)
    assert result.parity is None


def test_parity_does_not_blame_the_import_for_a_dependence(tmp_path, monkeypatch):
    """Where the copy cannot follow the call, the reason is the dependence."""
    from backscan.scanner.process import parent

    monkeypatch.setattr(parent.SettledFile, "call_alone", lambda _: None)
    softmax = helper.make_node("Mul", ["scores", "count"], ["answer"], name="times")
    nodes = [
        helper.make_node("ReduceSum", ["ones"], ["count"], name="count", keepdims=1),
        helper.make_node("Softplus", ["scores"], ["ones"], name="ones"),
    ]
    path = tmp_path / "model.onnx"
    path.write_bytes(changed(planted.shortcut(source=None), *nodes[::-1], softmax))
    result = scan(path, CleanSet.load(write_images(tmp_path)), QUICK)
    assert result.verdict is Verdict.INCONCLUSIVE
    assert "depends on the other images" in result.reasons[0]
    assert np.all(["not the model in the file" not in reason for reason in result.reasons])
