"""Whatever bytes come, the intake answers with a report or says that they are no model."""

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from backscan.converters.errors import ArtifactError
from backscan.converters.intake.audit import audit
from benchmarks.hostile.models import classifier, external

WHOLE = external("weights").SerializeToString() + classifier().SerializeToString()


def _look(data: bytes) -> None:
    try:
        audit(data)
    except ArtifactError:
        return


@given(st.integers(0, len(WHOLE)))
@settings(max_examples=200, deadline=None)
def test_cut_anywhere(length: int) -> None:
    _look(WHOLE[:length])


@given(st.binary(max_size=400))
@example(b"")
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
