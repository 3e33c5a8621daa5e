"""Broken and hostile inputs of `scanner check`: models, the files around them, clean images, and generated ones.

Every entry prepares a folder and gives the arguments of the command line and the exit codes that are right.
"""

from __future__ import annotations

import os
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from benchmarks.hostile.fuzz import base_models, mutate
from benchmarks.hostile.models import CLASSES, HOSTILE_MODELS, IMAGE, classifier, external, ints

USER, NO_VERDICT, INCONCLUSIVE = frozenset({2}), frozenset({3}), frozenset({4})
UNSCANNED = NO_VERDICT | INCONCLUSIVE
ANY = frozenset({0, 1, 2, 3, 4})
"""What a generated input may end in: anything but an internal error."""

Prepare = Callable[[Path, Generator], list[str]]


@dataclass(frozen=True, slots=True)
class HostileInput:
    """One row of the table."""

    name: str
    """What is hostile or broken."""
    expected: frozenset[int]
    """Exit codes that are right."""
    prepare: Prepare
    """Fills a folder; gives the arguments after `scanner check`. A folder `here` in it becomes the working folder."""
    command: str = "check"
    """Command that gets the arguments."""
    spared: str = ""
    """A file of the folder, or beside it, that the run may not write."""


def good_images(rng: Generator, each: int = 12) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Images [N, 8, 8, 1] with the decisions of `classifier()` as labels, as many of each class."""
    weights = numpy_helper.to_array(classifier().graph.initializer[0])
    directions = (weights / weights.std(axis=0)).T.reshape(CLASSES, *IMAGE)
    labels = np.repeat(np.arange(CLASSES), each)
    noise = rng.uniform(-0.2, 0.2, (len(labels), *IMAGE))
    images = np.clip(0.5 + 0.25 * directions[labels] + noise, 0, 1).astype(np.float32)
    return images.transpose(0, 2, 3, 1), labels


def good_folder(folder: Path, rng: Generator, model: bytes | None = None, **arrays: object) -> list[str]:
    """Arguments for a model and an archive; what is not given is good."""
    (folder / "model.onnx").write_bytes(classifier().SerializeToString() if model is None else model)
    images, labels = good_images(rng)
    np.savez(folder / "images.npz", **(arrays or {"x": images, "y": labels}))
    return [str(folder / "model.onnx"), "--data", str(folder / "images.npz")]


def _model(make: Callable[[], bytes]) -> Prepare:
    return lambda folder, rng: good_folder(folder, rng, make())


def _around(change: Callable[[Path], object], location: str = "weights") -> Prepare:
    """A model with external data, and something done to the folder."""

    def prepare(folder: Path, rng: Generator) -> list[str]:
        arguments = good_folder(folder, rng, external(location).SerializeToString())
        (folder / "secret").write_bytes(classifier().graph.initializer[0].raw_data)
        change(folder)
        return arguments

    return prepare


def _path(make: Callable[[Path], Path]) -> Prepare:
    return lambda folder, rng: [str(make(folder)), *good_folder(folder, rng)[1:]]


def _fifo(folder: Path) -> Path:
    os.mkfifo(folder / "pipe.onnx")
    return folder / "pipe.onnx"


def _arrays(change: Callable[[NDArray[np.float32], NDArray[np.int64]], dict[str, object]]) -> Prepare:
    return lambda folder, rng: good_folder(folder, rng, **change(*good_images(rng)))


def _set(images: NDArray[np.float32], value: float) -> NDArray[np.float32]:
    images[3, 2, 1, 0] = value
    return images


def _archive(content: Callable[[Path], object]) -> Prepare:
    """Good model, archive written by hand."""

    def prepare(folder: Path, rng: Generator) -> list[str]:
        arguments = good_folder(folder, rng)
        content(folder / "images.npz")
        return arguments

    return prepare


def _lying_archive(path: Path) -> None:
    """A member that declares 10^12 numbers and holds none."""
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000, 1000, 1000, 1), }"
    header += b" " * (63 - (len(header) + 10) % 64) + b"\n"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header)


def _inflating_archive(path: Path) -> None:
    """Half a gigabyte of zeros in half a megabyte, which declares as much as float32 images of four."""
    header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (8000000, 8, 8, 3), }"
    header += b" " * (63 - (len(header) + 10) % 64) + b"\n"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("x.npy", "w") as member:
        member.write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header)
        for _ in range(512):
            member.write(bytes(1 << 20))


def _pictures(save: Callable[[Path, int], object], each: int = 10) -> Prepare:
    """A folder of pictures, one subfolder for each class."""

    def prepare(folder: Path, rng: Generator) -> list[str]:
        arguments = good_folder(folder, rng)
        images, labels = good_images(rng, each)
        for label in range(CLASSES):
            (folder / "pictures" / str(label)).mkdir(parents=True)
        for index, (image, label) in enumerate(zip(images, labels, strict=True)):
            picture = Image.fromarray((image[..., 0] * 255).astype(np.uint8))
            picture.save(folder / "pictures" / str(label) / f"{index}.png")
        save(folder / "pictures", each)
        return [arguments[0], "--data", str(folder / "pictures")]

    return prepare


def _bomb_picture(folder: Path, _: int) -> None:
    """A PNG of a few hundred bytes that declares 60000 x 60000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(bytes(1 << 20)))
    (folder / "0" / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + data + chunk(b"IEND", b""))


def chained_tiff(num_directories: int) -> bytes:
    """A TIFF whose directories follow each other and share one picture of 2 x 2 pixels."""
    tags = {256: 2, 257: 2, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: 2, 279: 4}
    start, size = 12, 2 + 12 * len(tags) + 4
    fields = b"".join(struct.pack("<HHIHH", tag, 3, 1, value, 0) for tag, value in tags.items())
    chain = [start + size * (index + 1) for index in range(num_directories - 1)] + [0]
    directories = b"".join(struct.pack("<H", len(tags)) + fields + struct.pack("<I", after) for after in chain)
    return b"II*\0" + struct.pack("<I", start) + bytes(4) + directories


def _add_chained_tiff(folder: Path, _: int) -> None:
    (folder / "0" / "chain.tiff").write_bytes(chained_tiff(40_000))


def _cut_picture(folder: Path, _: int) -> None:
    whole = next((folder / "1").glob("*.png"))
    whole.write_bytes(whole.read_bytes()[:60])


def _convert(mode: str, suffix: str) -> Callable[[Path, int], object]:
    def convert(folder: Path, _: int) -> None:
        for path in folder.rglob("*.png"):
            picture = Image.open(path)
            picture = (
                Image.fromarray(np.asarray(picture).astype(np.uint16) * 257)
                if mode == "I;16"
                else picture.convert(mode)
            )
            path.unlink()
            picture.save(path.with_suffix(suffix))

    return convert


def _head(*nodes: object, tensors: list[TensorProto] | None = None) -> Callable[[], bytes]:
    return lambda: classifier(list(nodes), tensors).SerializeToString()


def _outputs(count: int) -> bytes:
    """A classifier of so many classes."""
    model = classifier([helper.make_node("Slice", ["logits", "from", "to", "axis"], ["scores"], name="cut")],
                       [ints("from", 0), ints("to", count), ints("axis", 1)])  # fmt: skip
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = count
    return model.SerializeToString()


def _label_output(operator: str) -> bytes:
    model = classifier([helper.make_node(operator, ["logits"], ["scores"], name="label", axis=1)])
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.INT64
    return model.SerializeToString()


def _flat_input() -> bytes:
    model = classifier()
    del model.graph.input[0].type.tensor_type.shape.dim[2:]
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 63
    return model.SerializeToString()


HONEST = HostileInput("nothing is hostile or broken", ANY, good_folder)

MODELS = [
    HostileInput(f"model: {name}", NO_VERDICT if entry.rule else ANY - USER, _model(entry.make))
    for name, entry in HOSTILE_MODELS.items()
]

BEHAVIOUR = [
    HostileInput("model gives NaN", UNSCANNED, _model(_head(
        helper.make_node("Neg", ["flat"], ["minus"], name="n"), helper.make_node("Log", ["minus"], ["nan"], name="l"),
        helper.make_node("MatMul", ["nan", "weights"], ["scores"], name="m"))),
    ),
    HostileInput("model gives a constant", UNSCANNED, _model(_head(
        helper.make_node("Mul", ["logits", "zero"], ["scores"], name="m"),
        tensors=[numpy_helper.from_array(np.float32(0), "zero")])),
    ),
    HostileInput("model gives infinite scores", UNSCANNED, _model(_head(
        helper.make_node("Div", ["logits", "zero"], ["scores"], name="d"),
        tensors=[numpy_helper.from_array(np.float32(0), "zero")])),
    ),
    HostileInput("model gives scores that add up to 2", ANY, _model(_head(
        helper.make_node("Softmax", ["logits"], ["p"], name="s"),
        helper.make_node("Add", ["p", "p"], ["scores"], name="a"))),
    ),
    HostileInput("model has one class", UNSCANNED | USER, _model(partial(_outputs, 1))),
    HostileInput("model has two classes", UNSCANNED | USER, _model(partial(_outputs, 2))),
    HostileInput("model gives labels of the largest scores only", ANY - NO_VERDICT - USER, _model(
        partial(_label_output, "ArgMax")),
    ),
    HostileInput("model gives labels of the smallest distances only", NO_VERDICT, _model(
        partial(_label_output, "ArgMin")),
    ),
    HostileInput("model declares another input than it takes", UNSCANNED | USER, _model(_flat_input)),
]  # fmt: skip

FILES = [
    HostileInput("no such model", USER, _path(lambda folder: folder / "none.onnx")),
    HostileInput("model is an empty folder", USER, _path(lambda folder: _made(folder / "empty"))),
    HostileInput("model is a named pipe", USER, _path(_fifo)),
    HostileInput("model is an endless device", USER, _path(lambda _: Path("/dev/zero"))),
    HostileInput("external data is missing", NO_VERDICT, _around(lambda _: None)),
    HostileInput("external data is a link", NO_VERDICT, _around(lambda f: (f / "weights").symlink_to(f / "secret"))),
    HostileInput("external data is a hard link", NO_VERDICT, _around(lambda f: os.link(f / "secret", f / "weights"))),
    HostileInput("external data is a named pipe", NO_VERDICT, _around(lambda f: os.mkfifo(f / "weights"))),
    HostileInput("external data is a folder", NO_VERDICT, _around(lambda f: (f / "weights").mkdir())),
    HostileInput("external data is short", NO_VERDICT, _around(lambda f: (f / "weights").write_bytes(b"\x00" * 100))),
    HostileInput("external data is a terabyte", NO_VERDICT, _around(lambda f: _grow(f / "weights", 1 << 40))),
    HostileInput(
        "external data lies behind a link", NO_VERDICT, _around(lambda f: (f / "deep").symlink_to(f), "deep/secret")
    ),
]  # fmt: skip

DATA = [
    HostileInput("no such images", USER, lambda folder, rng: [*good_folder(folder, rng)[:2], str(folder / "none")]),
    HostileInput("images are a model", USER, lambda folder, rng: [(a := good_folder(folder, rng))[0], "--data", a[0]]),
    HostileInput("archive is text", USER, _archive(lambda path: path.write_text("no archive"))),
    HostileInput("archive is a pickle", USER, _archive(lambda path: path.write_bytes(b"\x80\x04K\x01."))),
    HostileInput("archive is cut off", USER, _archive(lambda path: path.write_bytes(path.read_bytes()[:-200]))),
    HostileInput("archive declares 10^12 numbers", USER, _archive(_lying_archive)),
    HostileInput("archive inflates a thousandfold", USER, _archive(_inflating_archive)),
    HostileInput("archive of objects", USER, _arrays(lambda x, y: {"x": np.array([x, None], object), "y": y})),
    HostileInput("archive without images", USER, _arrays(lambda x, y: {"pictures": x, "y": y})),
    HostileInput("archive with no image", USER | INCONCLUSIVE, _arrays(lambda x, y: {"x": x[:0], "y": y[:0]})),
    HostileInput("images of another rank", USER, _arrays(lambda x, y: {"x": x[0, 0], "y": y})),
    HostileInput("images with seven channels", USER, _arrays(lambda x, y: {"x": np.repeat(x, 7, 3), "y": y})),
    HostileInput("images with three channels", ANY - {3}, _arrays(lambda x, y: {"x": np.repeat(x, 3, 3), "y": y})),
    HostileInput("images of text", USER, _arrays(lambda x, y: {"x": x.astype(str), "y": y})),
    HostileInput("a NaN pixel", USER, _arrays(lambda x, y: {"x": _set(x, np.nan), "y": y})),
    HostileInput("an infinite pixel", USER, _arrays(lambda x, y: {"x": _set(x, np.inf), "y": y})),
    HostileInput("pixels above 1", USER, _arrays(lambda x, y: {"x": x * 255, "y": y})),
    HostileInput("negative pixels", USER, _arrays(lambda x, y: {"x": x - 1, "y": y})),
    HostileInput("fewer labels than images", USER, _arrays(lambda x, y: {"x": x, "y": y[:-1]})),
    HostileInput("labels out of range", USER, _arrays(lambda x, y: {"x": x, "y": y + 7})),
    HostileInput("negative labels", USER, _arrays(lambda x, y: {"x": x, "y": y - 5})),
    HostileInput("labels with fractions", USER, _arrays(lambda x, y: {"x": x, "y": y + 0.5})),
    HostileInput("labels of 10^18", USER, _arrays(lambda x, y: {"x": x, "y": y + 10**18})),
    HostileInput("wrong labels", INCONCLUSIVE, _arrays(lambda x, y: {"x": x, "y": (y + 1) % CLASSES})),
    HostileInput("one image per class", INCONCLUSIVE, _arrays(lambda x, y: {"x": x[::12], "y": y[::12]})),
    HostileInput("a class without images", ANY - {2, 3}, _arrays(lambda x, y: {"x": x[y != 1], "y": y[y != 1]})),
    HostileInput("all images equal", ANY - {3}, _arrays(lambda x, y: {"x": np.repeat(x[:1], 36, 0), "y": y})),
    HostileInput("folder without folders", USER, _pictures(lambda f, _: _empty(f), 0)),
    HostileInput("picture cut off", USER, _pictures(_cut_picture)),
    HostileInput("picture of 60000 x 60000", USER, _pictures(_bomb_picture)),
    HostileInput("picture of 40000 directories", USER, _pictures(_add_chained_tiff)),
    HostileInput("text named .png", USER, _pictures(lambda f, _: (f / "0" / "note.png").write_text("no picture"))),
    HostileInput("pictures with a palette", ANY - {2, 3}, _pictures(_convert("P", ".png"))),
    HostileInput("pictures of 16 bits", ANY - {3}, _pictures(_convert("I;16", ".png"))),
    HostileInput("pictures in CMYK", ANY - {3}, _pictures(_convert("CMYK", ".jpg"))),
    HostileInput("link to a folder of itself", ANY - {3}, _pictures(lambda f, _: (f / "2" / "again").symlink_to(f))),
]  # fmt: skip


def generated(count: int, seed: int) -> list[HostileInput]:
    """Inputs made from a seed: mutated models and damaged images.

    Args:
        count: How many.
        seed: Of the whole series.
    """
    makers = (_mutated_model, _mutated_model, _damaged_archive, _damaged_picture)
    return [
        HostileInput(
            f"{maker.__name__[1:].replace('_', ' ')} {seed}/{index}", ANY, partial(_seeded, maker, seed, index)
        )
        for index, maker in ((index, makers[index % len(makers)]) for index in range(count))
    ]


def _seeded(maker: Prepare, seed: int, index: int, folder: Path, _: Generator) -> list[str]:
    return maker(folder, np.random.default_rng([seed, index]))


def _mutated_model(folder: Path, rng: Generator) -> list[str]:
    bases = base_models(None)
    return good_folder(folder, rng, mutate(bases[rng.integers(len(bases))], rng))


def _damaged_archive(folder: Path, rng: Generator) -> list[str]:
    arguments = good_folder(folder, rng)
    _damage(folder / "images.npz", rng)
    return arguments


def _damaged_picture(folder: Path, rng: Generator) -> list[str]:
    arguments = _pictures(lambda *_: None)(folder, rng)
    paths = sorted((folder / "pictures").rglob("*.png"))
    for index in rng.integers(0, len(paths), 3):
        _damage(paths[index], rng)
    return arguments


def _damage(path: Path, rng: Generator) -> None:
    data = bytearray(path.read_bytes())
    for position in rng.integers(0, len(data), 6):
        data[position] = rng.integers(256)
    path.write_bytes(bytes(data[: rng.integers(1, len(data) + 1)] if rng.random() < 0.3 else data))


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _grow(path: Path, size: int) -> None:
    path.touch()
    os.truncate(path, size)


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        path.rmdir()
