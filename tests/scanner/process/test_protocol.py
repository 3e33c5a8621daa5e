"""What goes over the wire comes back as it was, for every request, answer and event; and nothing else is taken."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from pydantic import ValidationError

from backscan.converters import IntakeReport, Normalisation, artifact_from_bytes, audit
from backscan.converters.intake.policy import Policy
from backscan.converters.sandbox.wire import copy
from backscan.scanner.config import ScanConfig
from backscan.scanner.process import protocol
from backscan.scanner.process.child import ModelHost
from backscan.scanner.process.protocol import Request, decode, encode
from benchmarks.hostile.models import HOSTILE_MODELS

IMAGES = np.arange(18, dtype=np.float32).reshape(2, 1, 3, 3)
CONFIG = ScanConfig(pairs=((0, 1),), mean=(0.5,), threads=2)
REQUESTS = [
    protocol.Extend((("OBJECTIVES", "math:log"),), ("/somewhere",)),
    protocol.Audit(b"bytes"),
    protocol.Open(artifact_from_bytes("m.onnx", b"bytes"), None, (3, 4), threads=1, device="cpu", runtime_only=True),
    protocol.Settle(Normalisation(high=255.0, mean=(0.1, 0.2, 0.3))),
    protocol.Decide(IMAGES, Normalisation(), addition=IMAGES[0]),
    protocol.MeasureSpeed(IMAGES, threads=2),
    protocol.FindSwitches(None, seed=3),
    protocol.CallAlone(),
    protocol.ListHeads(artifact_from_bytes("m.onnx", b"bytes"), None, (1, 3, 3)),
    protocol.MeanPosterior(IMAGES, Normalisation()),
    protocol.LabelPosterior(IMAGES, np.zeros(len(IMAGES), np.int64), Normalisation()),
    protocol.SeveralLabels(IMAGES),
    protocol.ListCuts(),
    protocol.Cut("tensor", IMAGES),
    protocol.Compare(IMAGES, real_images=False),
    protocol.Prepare("pairwise", {7: IMAGES}, CONFIG, seconds=2.5),
    protocol.Estimate("pairwise", ((0, 1), (1, 0)), seconds=None),
    protocol.Optimise("pairwise", ((0, 1),), step_size=0.25, seconds=1.0),
    protocol.SearchTargets("umd", {}, CONFIG, seconds=None, pairs=((0, 1), (1, 0)), patterns=IMAGES[:2]),
    protocol.Repair("unlearn", IMAGES, np.array([0, 1]), IMAGES[0], None, target=1, steps=2, seed=0, gates=("gate",)),
    protocol.Differ(artifact_from_bytes("m.onnx", b"bytes"), ("node",)),
    protocol.AddScore(IMAGES[0], 0.25, "score"),
    protocol.AddScore(IMAGES[0], 0.25, "score", tensor="t", feature_weights=IMAGES[0, 0, 0], feature_offset=0.5),
    protocol.AddScore(IMAGES[0], 0.25, "score", tensor="t", feature_centre=IMAGES[0, 0, 0]),
    protocol.ReadFeatures(IMAGES),
    protocol.ReadScore(IMAGES, "score"),
    protocol.TimeInTurns(artifact_from_bytes("m.onnx", b"bytes"), IMAGES, "score"),
]


def same(one: object, other: object) -> bool:
    """Equal, arrays by their values."""
    if isinstance(one, np.ndarray):
        return isinstance(other, np.ndarray) and np.array_equal(one, other)
    if dataclasses.is_dataclass(one):
        return type(one) is type(other) and all(
            same(getattr(one, entry.name), getattr(other, entry.name)) for entry in dataclasses.fields(one)
        )
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(item, other[name]) for name, item in one.items())
    return one == other


def test_every_request_is_here_and_has_its_method():
    every = {kind for kind in vars(protocol).values() if isinstance(kind, type) and issubclass(kind, Request)}
    assert {type(request) for request in REQUESTS} == every - {Request}
    for request in REQUESTS:
        assert callable(getattr(ModelHost, request.method()))


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda request: request.method())
def test_requests_come_back_as_they_were(request_):
    message = copy(encode(request_))
    assert same(decode(type(request_), message), request_)
    with pytest.raises(ValidationError):
        decode(type(request_), message | {"colour": 1})
    for name in message:
        if dataclasses.MISSING is next(e.default for e in dataclasses.fields(request_) if e.name == name):
            with pytest.raises(ValidationError):
                decode(type(request_), {other: value for other, value in message.items() if other != name})


def test_the_audit_of_hostile_models_comes_back_as_it_was():
    made = [entry.make() for entry in HOSTILE_MODELS.values() if entry.rule not in (None, "unreadable")]
    assert made
    for data in made:
        report = audit(data, Policy(max_nodes=1000, max_tensors=1000))
        assert decode(IntakeReport, copy(encode(report))) == report


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_none(number):
    assert encode([number, {"x": number}, 1.5]) == [None, {"x": None}, 1.5]


@pytest.mark.parametrize("value", [[1.0], IMAGES.astype(np.float64), IMAGES.astype(np.int64), "text", None])
def test_arrays_are_of_their_kind(value):
    with pytest.raises(ValidationError):
        decode(protocol.Compare, {"images": value, "real_images": True})
