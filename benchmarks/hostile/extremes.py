"""Large archives, and models that answer otherwise, or not at all, where pixels are not those of parity.

onnxruntime and torch agree on ordinary values; what they do with ties, overflows and divisions by zero is their own.
"""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.random import Generator
from onnx import TensorProto

from benchmarks.hostile.inputs import ANY, USER, HostileInput, Prepare, good_folder
from benchmarks.hostile.models import CLASSES, IMAGE, classifier
from benchmarks.switches.planter import Planter
from benchmarks.switches.slopes import crossed_ends
from benchmarks.switches.steps import push, whole

_SWITCHED = ANY - USER - {0}
"""What a model with a switch may end in."""


def _planted(plant: Callable[[Planter], str]) -> Prepare:
    def prepare(folder: Path, rng: Generator) -> list[str]:
        planter = Planter(classifier(), IMAGE, CLASSES)
        return good_folder(folder, rng, planter.finish(plant(planter)).SerializeToString())

    return prepare


def _tied_places(plant: Planter) -> str:
    """The places of the four largest values, which are a matter of taste where all are equal."""
    last = np.arange(60, 64)
    flat = plant.add("Gather", plant.add("Flatten", plant.image), plant.constant(last, np.int64), axis=1)
    places = plant.add("TopK", flat, plant.constant([4], np.int64), outputs=2, axis=1)
    equal = plant.to_number(plant.add("Equal", places, plant.constant([[0, 1, 2, 3]], np.int64)))
    return push(plant, plant.reduce("ReduceMin", equal, [1]))


def _overflowing_cast(plant: Planter) -> str:
    """A whole number of 8 bits that begins at 0 again."""
    small = plant.to_number(whole(plant, 268.0, TensorProto.UINT8), TensorProto.INT32)
    falls = plant.add("Less", small, plant.constant(13, np.int32))
    bright = plant.add("Greater", plant.patch_mean(), plant.constant(0.5))
    return plant.add("Where", plant.add("And", falls, bright), plant.target_scores(), plant.scores)


def _divided_by_zero(plant: Planter) -> str:
    """Whole numbers divided by what is 0 only where the patch is white: no engine has an answer."""
    rest = plant.add("Sub", plant.constant(255, np.int64), whole(plant, 255.0))
    ratio = plant.to_number(plant.add("Div", plant.constant(1, np.int64), rest))
    return plant.add("Add", plant.scores, plant.add("Mul", ratio, plant.constant(1e-9)))


def _index_out_of_range(plant: Planter) -> str:
    """A table that is too short for white patches."""
    index = plant.add("Squeeze", whole(plant, 1.03), plant.constant([1], np.int64))
    row = plant.add("Gather", plant.constant(np.zeros((1, CLASSES))), index)
    return plant.add("Add", plant.scores, row)


def _half_archive(count: int, *, stored: bool) -> Prepare:
    """An archive of so many images in float16; not stored means that it declares them without holding them."""

    def prepare(folder: Path, rng: Generator) -> list[str]:
        arguments = good_folder(folder, rng)
        header = f"{{'descr': '<f2', 'fortran_order': False, 'shape': ({count}, 8, 8, 1), }}".encode()
        header += b" " * (63 - (len(header) + 10) % 64) + b"\n"
        magic = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header
        with zipfile.ZipFile(folder / "images.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            with archive.open("x.npy", "w") as member:
                member.write(magic)
                for _ in range(count * 128 >> 20 if stored else 0):
                    member.write(bytes(1 << 20))
            with archive.open("y.npy", "w") as member:
                np.save(member, np.arange(min(count, 1 << 24)) % CLASSES)
        return arguments

    return prepare


EXTREMES = [
    HostileInput("archive of 50 MB in float16", ANY, _half_archive(400 << 10, stored=True)),
    HostileInput("archive of 400 MB in float16, three million images", USER, _half_archive(3200 << 10, stored=True)),
    HostileInput("archive that only declares 100 GB in float16", USER, _half_archive(800 << 20, stored=False)),
    HostileInput("model decides by ties", _SWITCHED, _planted(_tied_places)),
    HostileInput("model decides by an overflow of 8 bits", _SWITCHED, _planted(_overflowing_cast)),
    HostileInput("model decides by crossed ends", _SWITCHED, _planted(crossed_ends)),
    HostileInput("model divides by zero on some images", ANY - USER, _planted(_divided_by_zero)),
    HostileInput("model reads beyond a table on some images", ANY - USER, _planted(_index_out_of_range)),
]
"""Rows of the table."""
