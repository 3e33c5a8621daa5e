"""A cut switch turns nothing any more; where none is demonstrated, nothing is cut and the table says so."""

from __future__ import annotations

import onnx
import pytest

from benchmarks.exporters.models import ARCHITECTURES, NUM_CLASSES
from benchmarks.switches import cutting
from benchmarks.switches.hosts import HOSTS
from tests.planted import convolutional

HOST = HOSTS[0]


@pytest.fixture(autouse=True)
def small_export(monkeypatch: pytest.MonkeyPatch) -> None:
    size = ARCHITECTURES[HOST.model].size
    model = onnx.load_model_from_string(convolutional(num_classes=NUM_CLASSES, image_shape=(3, size, size)))
    monkeypatch.setattr(cutting, "exported", lambda _: model)
    monkeypatch.setattr(cutting, "circumstances", lambda _: "here")


def test_a_cut_switch_turns_nothing() -> None:
    done = cutting.cut("where-mean", HOST)
    assert (done.turned_before, done.turned_after, done.changed, done.obstacle) == (1.0, 0.0, 0.0, "")
    page = cutting.whole_page([done], "a command")
    assert "Of 1 planted switches 1 are cut. In 1 of these files" in page
    assert "| where-mean |" in page
    assert "100% | 0% | 0%" in page


def test_what_is_not_demonstrated_is_not_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cutting, "findings_of", lambda *_: ())
    done = cutting.cut("where-mean", HOST)
    assert done.turned_before == 1.0
    assert done.turned_after is None
    assert "Of 1 planted switches 0 are cut" in cutting.whole_page([done], "a command")
    assert "no switch was demonstrated" in cutting.whole_page([done], "a command")
