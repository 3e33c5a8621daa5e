"""Whatever bytes come, the intake answers with a report or says that they are no model."""

from __future__ import annotations

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from backscan.converters.errors import ArtifactError
from backscan.converters.intake.audit import IntakeReport, audit
from backscan.converters.intake.kinds import KINDS
from benchmarks.hostile.models import classifier, external

WHOLE = external("weights").SerializeToString() + classifier().SerializeToString()


def _look(data: bytes) -> IntakeReport | None:
    """The report, which is whole and can be printed; None where the intake says in a sentence that it is no model."""
    refusal = ""
    try:
        report = audit(data)
    except ArtifactError as error:
        refusal = str(error)
    if refusal:
        found = [f"{len(data)} bytes of something else", "a Git LFS pointer in its place"]
        found += [kind.name for kind in KINDS.values()]
        assert refusal.startswith(tuple(f"expected an ONNX model, found {each}" for each in found))
        return None
    assert all(violation.message.isprintable() for violation in report.violations)
    return report


def test_both_endings_are_met() -> None:
    """Fields that stand one after the other are merged, so two models in a row are one."""
    report = _look(WHOLE)
    assert report is not None
    assert report.num_nodes == 6
    assert _look(WHOLE[:-1]) is None
    empty = _look(b"")
    assert empty is not None
    assert "no-graph" in {violation.rule for violation in empty.violations}


@given(st.integers(0, len(WHOLE)))
@settings(max_examples=200, deadline=None)
def test_cut_anywhere(length: int) -> None:
    _look(WHOLE[:length])


@given(st.binary(max_size=400))
@example(b"")
@example(b"version https://git-lfs.github.com/spec/")
@settings(max_examples=300, deadline=None)
def test_any_bytes(data: bytes) -> None:
    _look(data)


@given(st.integers(0, 2**32 - 1), st.integers(1, 20))
@settings(max_examples=300, deadline=None)
def test_flipped_bytes(seed: int, flips: int) -> None:
    rng = np.random.default_rng(seed)
    data = bytearray(WHOLE)
    for position in rng.integers(0, len(data), flips):
        data[position] = rng.integers(256)
    _look(bytes(data))
