"""Scans in other spaces: a planted attack of each kind is found, told of, stored and replayed."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from backscan.scanner.aftercare.guard import Guard
from backscan.scanner.cli import output
from backscan.scanner.errors import ReportError
from backscan.scanner.pipeline.rejudge import infer, verify
from backscan.scanner.pipeline.scan import scan
from backscan.scanner.reports import render
from backscan.scanner.results import ScanResult, Verdict
from backscan.scanner.search.spaces import SPACES
from tests import planted
from tests.scanner.pipeline.scans import QUICK, SOURCE, TARGET, scanned

SHAPE = (3, 12, 12)
OTHERS = [name for name in SPACES if name != "additive"]


def ways_of(name: str) -> tuple[np.ndarray, np.ndarray, float]:
    """What each number of a pattern changes of an image, that image, and how much of it the classes have."""
    rows, columns = np.indices(SHAPE[1:])
    channels = np.arange(SHAPE[0])[:, None, None]  # each of a texture of its own
    base = (0.5 + 0.2 * np.sin(2 * np.pi * ((1 + channels) * rows + 2 * columns) / 7)).astype(np.float32)
    change, step = SPACES[name], np.float32(1e-2)
    units = np.eye(int(np.prod(change.pattern_shape(SHAPE))), dtype=np.float32).reshape(
        -1, *change.pattern_shape(SHAPE)
    )
    ways = np.stack([(change.replayed(base[None], step * unit)[0] - base) / step for unit in units])
    used = ways[: planted.NUM_ALONG + 1].reshape(planted.NUM_ALONG + 1, -1)
    return ways, base, 0.2 / float(np.median(np.linalg.norm(used, axis=1)))


@pytest.fixture(scope="module", params=OTHERS)
def attacked(request, tmp_path_factory):
    """A model with an attack of a kind, its images, and the scan in that space."""
    folder = tmp_path_factory.mktemp(request.param)
    model, data = folder / "model.onnx", folder / "images.npz"
    made = ways_of(request.param)
    model.write_bytes(planted.led_along(*made, source=SOURCE, target=TARGET))
    images, labels = planted.images_along(*made)
    np.savez(data, x=np.moveaxis(images, 1, -1), y=labels)
    return request.param, model, data, scan(model, data, replace(QUICK, space=request.param))


def test_a_planted_attack_is_found_at_its_pair_and_confirmed(attacked):
    name, _, _, result = attacked
    assert result.verdict is Verdict.BACKDOOR_DETECTED, result.reasons
    found = result.deciding_conclusion
    assert (found.detected, found.source, found.target) == (True, SOURCE, TARGET)
    assert result.verification.confirmed
    assert result.verification.rate_original == pytest.approx(result.verification.rate_torch, abs=0.07)
    assert {each.space for each in result.detectors} == {result.patterns[0].space} == {result.space.name} == {name}
    assert result.patterns[0].values.shape == SPACES[name].pattern_shape(SHAPE)
    assert result.examples
    assert any(f"of another kind than that of --space {name}" in each for each in result.not_tested)


def test_its_report_comes_back_and_is_verified(attacked):
    name, model, data, result = attacked
    again = ScanResult.from_dict(json.loads(json.dumps(result.to_dict())))
    assert again.to_dict() == result.to_dict()
    assert again.patterns == result.patterns
    assert infer(again, {}).verdict is Verdict.BACKDOOR_DETECTED
    replayed = verify(again, model, data, sandbox=False)
    assert replayed.verification == result.verification
    assert replayed.verdict is Verdict.BACKDOOR_DETECTED
    other = replace(again.patterns[0], values=replace(again.patterns[0].values, shape=(1,), data="AAAAAA=="))
    with pytest.raises(ReportError, match=r"expected a model of patterns \[1\]"):
        verify(replace(again, patterns=(other,)), model, data, sandbox=False)
    with pytest.raises(ReportError, match=f"for a guard, found one of --space {name}"):
        Guard(again)


def test_reports_name_the_space_and_draw_the_pattern(attacked, tmp_path):
    name, _, _, result = attacked
    page = render(result, "html")
    assert f"Recovered pattern in space {name}" in page
    assert result.space.card in page
    for format_ in ("terminal", "markdown"):
        assert name in render(result, format_)
    assert output.save_pattern(result, tmp_path / "p.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "p.npy"), result.patterns[0].values.decode())
    assert output.save_pattern(result, tmp_path / "p.png")
    assert np.asarray(Image.open(tmp_path / "p.png")).shape == (*SHAPE[1:], 3)


def test_reports_of_added_patterns_say_nothing_of_spaces():
    document = scanned().to_dict()
    assert "space" not in document
    assert "picture" not in document["patterns"][0]
