"""Of few pairs there may be no image near the quantile: then nothing more is asked."""

from __future__ import annotations

from types import SimpleNamespace

import torch

from backscan.scanner.search.individual import _Descents


def test_no_problem_is_no_pass():
    descents = SimpleNamespace(_points=torch.zeros(1, 1, 2, 2), _settings=SimpleNamespace(images_per_pass=4))
    assert _Descents._passes(descents, 0) == ()
    assert [len(rows) for rows in _Descents._passes(descents, 9)] == [4, 4, 1]
