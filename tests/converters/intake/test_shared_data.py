"""External data that several tensors use: each makes its own copy of it in memory."""

from __future__ import annotations

import pytest
from onnx import ModelProto, TensorProto

from backscan.converters import Policy, audit
from benchmarks.hostile.models import external

SIZE = 768
"""Bytes of the weights."""


def _shared(*offsets: int) -> ModelProto:
    model = external("weights")
    for offset in offsets:
        tensor = TensorProto()
        tensor.CopyFrom(model.graph.initializer[0])
        tensor.name = f"again{len(model.graph.initializer)}"
        next(entry for entry in tensor.external_data if entry.key == "offset").value = str(offset)
        model.graph.initializer.append(tensor)
    return model


@pytest.mark.parametrize(
    ("offsets", "again"), [((), 0), ((SIZE,), 0), ((SIZE - 8,), 8), ((0,), SIZE), ((0, 0, 8), 3 * SIZE - 8)]
)
def test_every_use_but_the_first_counts(offsets: tuple[int, ...], again: int) -> None:
    data = _shared(*offsets).SerializeToString()
    assert audit(data, Policy(max_shared_bytes=again)).accepted
    if again:
        (violation,) = audit(data, Policy(max_shared_bytes=again - 1)).violations
        assert (violation.rule, violation.actual) == ("max_shared_bytes", again)
