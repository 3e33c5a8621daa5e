"""The models of the fleet's measurement: each another file, made the same every time."""

from __future__ import annotations

from pathlib import Path

import onnx

from benchmarks.fleet.models import make_fleet


def test_models_differ_and_are_made_the_same_again(tmp_path: Path) -> None:
    models, images = make_fleet(tmp_path, 4)
    first = [path.read_bytes() for path in sorted(models.iterdir())]
    assert len(set(first)) == 4
    assert images.is_file()
    onnx.checker.check_model(onnx.load_model_from_string(first[0]))
    assert [path.read_bytes() for path in sorted(make_fleet(tmp_path, 4)[0].iterdir())] == first
