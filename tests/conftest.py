"""Fixtures for all tests."""

from __future__ import annotations

import os
from pathlib import Path

# Before any numerical library is loaded: threads that wait for each other on tiny arrays only slow the tests down.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

SHARED = Path(__file__).parents[2] / "shared"


@pytest.fixture
def shared() -> Path:
    """Real models and images beside the checkout; tests that need them skip without."""
    if not (SHARED / "models").is_dir():
        pytest.skip("needs the folder ../shared with real models and images")
    return SHARED
