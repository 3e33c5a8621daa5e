"""A model whose scores have an axis of length 0 is no classifier, and no reason for an internal error."""

from __future__ import annotations

import pytest
from onnx import helper

from backscan.converters import artifact_from_bytes, read_signature
from backscan.converters.errors import SignatureError
from benchmarks.hostile.models import classifier, ints


@pytest.mark.parametrize("batch", ["N", 2])
def test_model_without_any_score_is_no_classifier(batch: str | int) -> None:
    cut = helper.make_node("Slice", ["logits", "from", "to", "axis"], ["scores"], name="cut")
    model = classifier([cut], [ints("from", 0), ints("to", 0), ints("axis", 1)], batch=batch)
    model.graph.output[0].type.tensor_type.ClearField("shape")
    with pytest.raises(SignatureError, match="expected an output with one score for each class"):
        read_signature(artifact_from_bytes("empty.onnx", model.SerializeToString()))
