"""What lies around a model: configuration files, odd names, data that is used twice, files that change meanwhile."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from numpy.random import Generator
from onnx import ModelProto, TensorProto, helper, numpy_helper

from benchmarks.hostile.inputs import ANY, NO_VERDICT, USER, HostileInput, Prepare, good_folder
from benchmarks.hostile.models import classifier, external


def _configured(text: str, name: str = "backscan.toml", *, above: bool = False) -> Prepare:
    """A good model whose folder, in which the user stands, has a configuration file; or the one above has."""

    def prepare(folder: Path, rng: Generator) -> list[str]:
        here = folder / "here"
        here.mkdir()
        arguments = good_folder(here, rng)
        (folder / name if above else here / name).write_text(text)
        return arguments

    return prepare


def _linked_report(folder: Path, rng: Generator) -> list[str]:
    arguments = _configured('report = ["deep/report.html"]')(folder, rng)
    (folder / "here" / "deep").symlink_to(folder)
    return arguments


def _endless_configuration(folder: Path, rng: Generator) -> list[str]:
    arguments = _configured("")(folder, rng)
    (folder / "here" / "backscan.toml").unlink()
    os.mkfifo(folder / "here" / "backscan.toml")
    return arguments


def _huge_configuration(folder: Path, rng: Generator) -> list[str]:
    arguments = _configured("")(folder, rng)
    os.truncate(folder / "here" / "backscan.toml", 1 << 34)
    return arguments


def _repeating(count: int, megabytes: int) -> ModelProto:
    """A model that multiplies the image with as many tensors that all lie in the same place of one file."""
    rows = (megabytes << 20) // (4 * 64)
    nodes, tensors, scores = [], [], "logits"
    for index in range(count):
        tensor = TensorProto(name=f"w{index}", data_type=TensorProto.FLOAT, dims=[64, rows])
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in {"location": "weights", "offset": "0", "length": str(rows * 256)}.items():
            tensor.external_data.add(key=key, value=value)
        tensors.append(tensor)
        nodes += [
            helper.make_node("MatMul", ["flat", f"w{index}"], [f"m{index}"], name=f"m{index}"),
            helper.make_node("ReduceMax", [f"m{index}"], [f"r{index}"], name=f"r{index}", axes=[1]),
            helper.make_node("Add", [scores, f"r{index}"], [f"s{index}"], name=f"s{index}"),
        ]
        scores = f"s{index}"
    return classifier([*nodes, helper.make_node("Identity", [scores], ["scores"], name="end")], tensors)


def _repeated_data(folder: Path, rng: Generator) -> list[str]:
    """Forty tensors over the same 64 MB, of which none is stored on the disk."""
    arguments = good_folder(folder, rng, _repeating(40, 64).SerializeToString())
    (folder / "weights").touch()
    os.truncate(folder / "weights", 64 << 20)
    return arguments


def _overlapping_data(folder: Path, rng: Generator) -> list[str]:
    """Two small tensors that share a part of their bytes: odd, but harmless."""
    model = external("weights")
    shifted = TensorProto()
    shifted.CopyFrom(model.graph.initializer[0])
    shifted.name = "shifted"
    shifted.external_data[1].value = "64"
    model.graph.initializer.append(shifted)
    arguments = good_folder(folder, rng, model.SerializeToString())
    (folder / "weights").write_bytes(numpy_helper.to_array(classifier().graph.initializer[0]).tobytes() + bytes(64))
    return arguments


def _swapped(change: Callable[[Path, int], object], location: str) -> Prepare:
    """A model with external data; another thread changes a file again and again until the folder is gone."""

    def prepare(folder: Path, rng: Generator) -> list[str]:
        weights = numpy_helper.to_array(classifier().graph.initializer[0]).tobytes()
        (folder / "secret").write_bytes(weights)
        (folder / "weights").write_bytes(weights)
        arguments = good_folder(folder, rng, external("weights").SerializeToString())
        threading.Thread(target=_keep_changing, args=(folder / location, change), daemon=True).start()
        return arguments

    return prepare


def _keep_changing(path: Path, change: Callable[[Path, int], object]) -> None:
    turn = 0
    while path.with_name("secret").exists():
        scratch = path.with_suffix(".scratch")
        try:
            change(scratch, turn)
            scratch.replace(path)
        except OSError:  # the folder is being removed
            scratch.unlink(missing_ok=True)
        turn += 1
        time.sleep(0.001)


def _file_or_link(path: Path, turn: int) -> None:
    if turn % 2:
        path.symlink_to(path.with_name("secret"))
    else:
        path.write_bytes(path.with_name("secret").read_bytes())


def _longer_or_shorter(path: Path, turn: int) -> None:
    path.write_bytes(path.with_name("secret").read_bytes() * 100 if turn % 2 else b"")


def _two_models(path: Path, turn: int) -> None:
    path.write_bytes((external("../secret") if turn % 2 else external("weights")).SerializeToString())


def _odd_names(folder: Path, rng: Generator) -> list[str]:
    """A folder of files that are no models, whose names are no text, commands, markup or links."""
    arguments = good_folder(folder, rng)
    names = os.fsencode(folder) + b"/names/"
    os.mkdir(names)
    long = b"a" * 250
    for name in (b"\xff\xfe", "\u202eevil".encode(), b"\x1b[31m", b"new\nline", b"-rf", long, b"<script>alert(1)<"):
        with open(names + name + b".onnx", "wb") as file:
            file.write(b"no model")
    (folder / "names" / "loop.onnx").symlink_to(folder / "names")
    reports = [part for end in ("sarif", "html", "junit.xml", "md") for part in ("--report", f"{folder}/report.{end}")]
    return [str(folder / "names"), *arguments[1:], *reports]


def _dangling_name(folder: Path, rng: Generator) -> list[str]:
    arguments = good_folder(folder, rng)
    (folder / "other.onnx").symlink_to(folder / "nowhere")
    return [str(folder), *arguments[1:]]


SURROUNDINGS = [
    HostileInput("found configuration without sandbox", USER, _configured("sandbox = false")),
    HostileInput("found configuration above without sandbox", USER, _configured("sandbox = false", above=True)),
    HostileInput(
        "found project file without sandbox", USER, _configured("[tool.backscan]\nsandbox = false", "pyproject.toml")
    ),
    HostileInput("found configuration that fails on less", USER, _configured('fail-on = "detected"')),
    HostileInput("found configuration with a baseline", USER, _configured('baseline = "baseline.json"')),
    HostileInput("found configuration with a journal", USER, _configured('journal = "kept"\nresume = true')),
    HostileInput("found configuration that lowers the search", USER, _configured("max-steps = 1")),
    HostileInput(
        "found configuration that reports outside", USER, _configured('report = ["../out.html"]'), spared="out.html"
    ),
    HostileInput("found configuration that reports through a link", USER, _linked_report, spared="report.html"),
    HostileInput("found configuration that reports beneath", ANY - USER, _configured('report = ["own.html"]')),
    HostileInput("found configuration nested 100000 deep", USER, _configured("a = " + "[" * 100_000)),
    HostileInput("found configuration of 16 gigabytes", USER, _huge_configuration),
    HostileInput("found configuration is a named pipe", ANY - USER, _endless_configuration),
    HostileInput("external data of 40 tensors in one place", NO_VERDICT, _repeated_data),
    HostileInput("external data that overlaps a little", ANY - USER, _overlapping_data),
    HostileInput("external data swapped with a link meanwhile", ANY - USER, _swapped(_file_or_link, "weights")),
    HostileInput("external data of changing length", ANY - USER, _swapped(_longer_or_shorter, "weights")),
    HostileInput("model swapped with another meanwhile", ANY - USER, _swapped(_two_models, "model.onnx")),
    HostileInput("odd names in a folder of models", NO_VERDICT, _odd_names),
    HostileInput("link to nothing in a folder of models", USER, _dangling_name),
]
"""Rows of the table."""
