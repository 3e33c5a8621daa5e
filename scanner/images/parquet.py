"""Pictures and labels from parquet files, as Hugging Face stores data sets; read where pictures are decoded."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from backscan.scanner.errors import CleanSetError
from backscan.scanner.images.pictures import read_picture_bytes

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from backscan.scanner.images.limits import ReadLimits

_ROWS = 32
_IMAGES = ("image", "img", "picture", "pixels")
_LABELS = ("label", "labels", "fine_label", "target", "y", "class")
_MOST_NAMES = 100_000


def require_pyarrow() -> None:
    """Refuse parquet files where nothing can read them.

    Raises:
        CleanSetError: pyarrow is not installed.
    """
    if find_spec("pyarrow") is None:
        raise CleanSetError(
            "expected pyarrow for .parquet files, found it is not installed: `pip install pyarrow`, or write the "
            "images as files or as an .npz"
        )


@dataclass(frozen=True, slots=True)
class _Columns:
    """Where pictures and labels are in a file."""

    image: str
    """Column of the pictures."""
    label: str
    """Column of the labels, empty if there is none."""
    names: tuple[str, ...]
    """Names of the classes, as far as the file has them."""


def read_parquet(path: Path, limits: ReadLimits, num_values: int) -> Iterator[tuple[NDArray[np.float32], int | None]]:
    """The images [C, H, W] in [0, 1] of a file, and their labels.

    Args:
        path: The file.
        limits: Bounds on what is read.
        num_values: Pixels times channels of the images that were read before.

    Yields:
        Image and class number, None where the file has no labels.

    Raises:
        CleanSetError: the file is no parquet file, has no column of pictures, or an image cannot be read.
    """
    with _opened(path) as file:
        columns = _columns(file.schema_arrow, path)
        wanted = [columns.image, *([columns.label] if columns.label else [])]
        row = 0
        for batch in _batches(file, wanted, path):
            labels = batch[columns.label] if columns.label else [None] * len(batch[columns.image])
            for cell, label in zip(batch[columns.image], labels, strict=True):
                image = read_picture_bytes(_bytes_of(cell, path, row), f"row {row} of {path.name}", limits, num_values)
                num_values += image.size
                yield image, _number(label, path, row) if columns.label else None
                row += 1


def class_names(path: Path) -> tuple[str, ...]:
    """Names of the classes in a file, in their order; empty if it has none."""
    with _opened(path) as file:
        return _columns(file.schema_arrow, path).names


def _opened(path: Path) -> Any:
    import pyarrow.parquet

    try:
        return pyarrow.parquet.ParquetFile(path)
    except Exception as error:  # pyarrow raises whatever damaged bytes lead it to
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> CleanSetError:
    text = str(error).partition("\n")[0]
    return CleanSetError(
        f"expected a parquet file in {path.name}, found a damaged or other file ({text}): get it again"
    )


def _batches(file: Any, columns: list[str], path: Path) -> Iterator[dict[str, list[Any]]]:
    batches = file.iter_batches(batch_size=_ROWS, columns=columns, use_threads=False)
    while True:
        try:
            batch = next(batches, None)
            content = None if batch is None else {name: batch.column(name).to_pylist() for name in columns}
        except Exception as error:
            raise _damaged(path, error) from error
        if content is None:
            return
        yield content


def _columns(schema: Any, path: Path) -> _Columns:
    features = _features(schema)
    kinds = {field.name: str(field.type) for field in schema}
    images = [name for name, feature in features.items() if feature.get("_type") == "Image" and name in kinds]
    images += [name for name in _IMAGES if "binary" in kinds.get(name, "")]
    if not images:
        found = ", ".join(list(kinds)[:8]) or "nothing"
        raise CleanSetError(f"expected a column `image` with pictures in {path.name}, found {found}: rename it")
    classes = [name for name, feature in features.items() if feature.get("_type") == "ClassLabel" and name in kinds]
    labels = [
        name for name in (*_LABELS, *classes) if name in classes or kinds.get(name, "").startswith(("int", "uint"))
    ]
    label = labels[0] if labels else ""
    names = features.get(label, {}).get("names", ())
    known = isinstance(names, list) and len(names) <= _MOST_NAMES and all(isinstance(name, str) for name in names)
    return _Columns(images[0], label, tuple(names) if known else ())


def _features(schema: Any) -> Mapping[str, Mapping[str, Any]]:
    """What Hugging Face notes of the columns beside the schema."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return {}
    if not isinstance(features, dict):
        return {}
    return {name: feature for name, feature in features.items() if isinstance(feature, dict)}


def _bytes_of(cell: Any, path: Path, row: int) -> bytes:
    content = cell.get("bytes") if isinstance(cell, dict) else cell
    if not isinstance(content, bytes):
        raise CleanSetError(
            f"expected the bytes of a picture in row {row} of {path.name}, found none (a file beside it, perhaps): "
            "embed the pictures, or pass the folder of the files"
        )
    return content


def _number(label: Any, path: Path, row: int) -> int:
    if not isinstance(label, int) or label < 0:
        raise CleanSetError(
            f"expected class numbers from 0 in {path.name}, found {label!r} in row {row}: take a part with labels"
        )
    return label
