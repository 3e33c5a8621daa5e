"""What lies in a folder that was named for a model and has no .onnx file: other models, by names of files alone."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

_MOST_FILES = 10_000
_MOST_SHOWN = 4
_WHOLE: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "saved_model.pb": (
            "a TensorFlow SavedModel",
            "python -m tf2onnx.convert --saved-model {folder} --output model.onnx",
        ),
        "model.mlmodel": (
            "a CoreML package",
            "nothing leads back from CoreML in general, so export the network from which it was made",
        ),
        "model.safetensors": (
            "a model of Hugging Face",
            "optimum-cli export onnx --model {folder} out/",
        ),
    }
)
"""What a folder is by a file in it, and what makes an ONNX model of that."""
_SUFFIXES = frozenset(
    {".bin", ".engine", ".gguf", ".h5", ".hdf5", ".keras", ".mlmodel", ".npz", ".ort", ".pb", ".pkl", ".pt", ".pt2"}
    | {".pth", ".safetensors", ".tflite", ".zip"}
)
"""Endings of files in which models are kept that are no ONNX models."""


def other_models(folder: Path) -> str:
    """What is said of a folder without any ONNX file: what it holds, and what to do.

    Args:
        folder: The folder; links in it are not followed.
    """
    counts: Counter[str] = Counter()
    for place, name in _files(folder):
        if name in _WHOLE:
            kind, remedy = _WHOLE[name]
            return f"found {kind}: {remedy.format(folder=place)}"
        counts[Path(name).suffix.lower()] += 1
    known = [f"{count} {suffix} files" for suffix, count in counts.most_common() if suffix in _SUFFIXES]
    if not known:
        return "found none: name the model itself"
    return f"found {', '.join(known[:_MOST_SHOWN])}: `scanner inspect FILE` says what each is and how it is exported"


def _files(folder: Path) -> Iterator[tuple[Path, str]]:
    """The first files beneath a folder, each with its own folder."""
    seen = 0
    for place, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            yield Path(place), name
            seen += 1
            if seen == _MOST_FILES:
                return
