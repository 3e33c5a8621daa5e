"""What the commands share: their options, and how they keep what they find."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any


def parser(description: str | None, *, out: str = "") -> argparse.ArgumentParser:
    """A parser whose help is a module's docstring, as it is written.

    Args:
        description: The docstring.
        out: What `--out` is a folder for; without it there is no such option.
    """
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    if out:
        made.add_argument("--out", type=Path, help=f"folder for {out}")
    return made


def publish(folder: Path | None, name: str, page: str, document: object, *, indent: int = 1) -> None:
    """Write a page and the figures it was made of, if a folder for them was named.

    Args:
        folder: Where `NAME.md` and `NAME.json` go; None writes nothing.
        name: Their name.
        page: Markdown, with the end of its last line.
        document: What goes into the JSON file.
        indent: Spaces a level there.
    """
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        replace_text(folder / f"{name}.md", page)
        replace_text(folder / f"{name}.json", json.dumps(document, indent=indent) + "\n")


def read_lines(path: Path | None) -> list[dict[str, Any]]:
    """The documents of a file with one on each line; none without the file."""
    lines = path.read_text(encoding="utf-8").splitlines() if path and path.exists() else []
    return [json.loads(line) for line in lines]


def append_line(path: Path | None, document: object) -> None:
    """Add a line to such a file, if there is to be one."""
    if path is not None:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(document) + "\n")


def replace_text(path: Path, text: str) -> None:
    """Write a file whole or not at all: a kill at any moment leaves the old one or the new one."""
    partial = path.with_suffix(".partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)
