"""The models that a command names: files, and all `.onnx` files beneath folders."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from backscan.scanner.errors import UserError

SUFFIX = ".onnx"
_WEIGHTS = (".onnx.data", ".onnx_data")
"""Endings that exporters give the file of weights beside a model."""


def expand(paths: Sequence[Path]) -> tuple[Path, ...]:
    """Files as they are named and folders as the models beneath them, each once, in a fixed order.

    Args:
        paths: Files of any name and folders; weights beside a model, as exporters name them, stand for it, as they are
            among the files that a change touches. Links to folders are not followed: they may lead in circles.

    Raises:
        UserError: a path that does not exist, or a folder without any model.
    """
    found: dict[Path, None] = {}
    for path in paths:
        models = list(_beneath(path)) if path.is_dir() else [_model_of(path)]
        if not models:
            from backscan.converters.intake.folders import other_models

            raise UserError(f"expected {SUFFIX} files beneath {path}, {other_models(path)}")
        for model in models:
            if not model.exists():
                raise UserError(f"expected a model at {model}, found nothing: check the path")
            found[model] = None
    return tuple(found)


def _beneath(folder: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(folder):
        folders.sort()
        yield from (Path(place) / name for name in sorted(names) if name.lower().endswith(SUFFIX))


def _model_of(path: Path) -> Path:
    """The model that a file holds weights of, where it lies beside it; else the file."""
    if not path.name.lower().endswith(_WEIGHTS):
        return path
    model = path.with_name(path.name[: -len("_data")])
    return model if model.is_file() else path
