"""The intake accepts what exporters really write."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch import nn

from backscan.converters.intake.audit import audit
from tests.exports import export


def test_shared_models_are_accepted(shared: Path) -> None:
    models = sorted((shared / "models").glob("*.onnx"))
    assert models
    for path in models:
        report = audit(path.read_bytes())
        assert report.accepted, (path.name, report.violations)
        assert report.num_nodes > 3


@pytest.mark.parametrize("dynamo", [False, True])
def test_torch_exports_are_accepted(*, dynamo: bool) -> None:
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Hardswish(), nn.Flatten(), nn.Linear(8 * 64, 4)
    )
    report = audit(export(net, (3, 8, 8), dynamo=dynamo, opset=18).SerializeToString())
    assert report.accepted, report.violations
    assert report.operators["Conv"] == 1
