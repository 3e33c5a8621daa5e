"""Decoders that answer something else than they were asked for; the name of the first file chooses what."""

from __future__ import annotations

import os
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np

GREY = np.full((1, 4, 4), 0.5, np.float32)
LIES: dict[str, list[Any]] = {
    "too-few": [],
    "too-many": [GREY, GREY, GREY],
    "no-array": [GREY, 3],
    "doubles": [GREY, GREY.astype(np.float64)],
    "flat": [GREY, GREY[0]],
    "two-channels": [GREY, np.repeat(GREY, 2, axis=0)],
    "four-channels": [GREY, np.repeat(GREY, 4, axis=0)],
    "empty": [GREY, GREY[:, :0]],
    "bright": [GREY, GREY * 3],
    "dark": [GREY, -GREY],
    "no-number": [GREY, GREY * np.nan],
    "large": [GREY, np.zeros((1, 40, 40), np.float32)],
}
ONE = [{"images": GREY[None], "of": 1}]
ARCHIVES: dict[str, tuple[list[dict[str, Any]], dict[str, Any]]] = {
    "nothing": ([], {}),
    "one-image": ([{"images": GREY, "of": 1}], {"labels": None, "warnings": []}),
    "no-total": ([{"images": GREY[None]}], {"labels": None, "warnings": []}),
    "too-few-parts": ([{"images": GREY[None], "of": 2}], {"labels": None, "warnings": []}),
    "too-many-parts": ([*ONE, *ONE], {"labels": None, "warnings": []}),
    "other-total": ([{"images": GREY[None], "of": 2}, *ONE], {"labels": None, "warnings": []}),
    "other-size": ([{"images": GREY[None, :, k:], "of": 2} for k in (0, 1)], {"labels": None, "warnings": []}),
    "few-labels": (ONE, {"labels": np.zeros(2, np.int64), "warnings": []}),
    "huge-label": (ONE, {"labels": np.array([1 << 62]), "warnings": []}),
    "negative-label": (ONE, {"labels": np.array([-1]), "warnings": []}),
    "bytes-as-labels": (ONE, {"labels": np.zeros(1, np.uint8), "warnings": []}),
    "no-list": (ONE, {"labels": None, "warnings": "x"}),
    "no-text": (ONE, {"labels": None, "warnings": [3]}),
    "long-text": (ONE, {"labels": None, "warnings": ["x" * 20_000]}),
    "large": ([{"images": np.zeros((1, 1, 4000, 4000), np.float32), "of": 1}], {"labels": None, "warnings": []}),
    "large-in-all": ([{"images": GREY[None], "of": 1 << 40}], {"labels": None, "warnings": []}),
}


class Liar:
    """Answers what the parent has to disbelieve."""

    def pictures(self, request: dict[str, Any]) -> Generator[dict[str, Any], None, dict[str, Any]]:
        """The images of a lie, or no answer at all."""
        lie = Path(request["files"][0]).stem
        if lie == "dies":
            os._exit(3)
        if lie == "waits":
            time.sleep(60)
        if lie == "works":
            while True:
                pass
        yield {"images": LIES[lie]} if lie in LIES else {"other": 1}
        return {}

    def archive(self, request: dict[str, Any]) -> Generator[dict[str, Any], None, dict[str, Any]]:
        """The arrays of a lie."""
        parts, told = ARCHIVES[Path(request["file"]).stem]
        yield from parts
        return told
