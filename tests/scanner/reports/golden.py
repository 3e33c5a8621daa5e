"""Whole-output comparison with stored reports. `UPDATE_GOLDEN=1 pytest` writes them anew: read the difference then."""

import os
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "golden"


def check(name: str, text: str) -> None:
    """Compare `text` with the stored file `name`."""
    path = FOLDER / name
    if os.environ.get("UPDATE_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="\n")
    assert text == path.read_text(encoding="utf-8"), f"{name} changed; UPDATE_GOLDEN=1 stores it if that is meant"
