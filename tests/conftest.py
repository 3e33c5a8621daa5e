"""Fixtures for all tests."""

from __future__ import annotations

from pathlib import Path

import pytest

SHARED = Path(__file__).parents[2] / "shared"


@pytest.fixture
def shared() -> Path:
    """Real models and images beside the checkout; tests that need them skip without."""
    if not (SHARED / "models").is_dir():
        pytest.skip("needs the folder ../shared with real models and images")
    return SHARED
