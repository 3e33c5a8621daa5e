"""What is written by an attempt takes the place of nothing that the user has, but for an earlier attempt."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from backscan.scanner.aftercare.attempt import check_attempt, check_external, keep
from backscan.scanner.aftercare.guarding import guard_model
from backscan.scanner.aftercare.repair import repair
from backscan.scanner.errors import UserError
from tests.scanner.aftercare.test_guard import patch_report


def external_model(path: Path, location: str) -> Path:
    """A file whose only tensor lies beside it, under some name."""
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4])],
        [numpy_helper.from_array(np.ones((64, 4), np.float32), "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    (path.parent / location).parent.mkdir(exist_ok=True)
    onnx.save(model, path, save_as_external_data=True, location=location, size_threshold=0)
    return path


def made(folder: Path, *names: str) -> Path:
    """The files of an attempt in a folder of their own; gives the model."""
    place = folder / ".r.made"
    place.mkdir()
    for name in names:
        (place / name).write_bytes(b"new")
    return place / names[0]


def test_a_kept_attempt_takes_the_place_of_an_earlier_one_and_of_nothing_else(tmp_path: Path) -> None:
    beside = tmp_path / "r.attempt"
    (beside / "notes").mkdir(parents=True)
    others = ["mine.onnx", "r.json", "r.onnx.data.bak", "notes/r.onnx"]
    for name in [*others, "r.onnx", "r.onnx.data", "r.onnx.data.1"]:
        (beside / name).write_bytes(b"old")
    told = keep(made(tmp_path, "r.onnx", "r.onnx.data"), tmp_path / "r.onnx", believed=False)
    assert told == "r.attempt/r.onnx"
    assert all((beside / name).read_bytes() == b"old" for name in others)
    assert (beside / "r.onnx").read_bytes() == (beside / "r.onnx.data").read_bytes() == b"new"
    assert not (beside / "r.onnx.data.1").exists()


def test_an_attempt_that_cannot_be_kept_is_the_users_mistake(tmp_path: Path) -> None:
    (tmp_path / "r.attempt" / "r.onnx").mkdir(parents=True)
    with pytest.raises(UserError, match=r"expected a folder to move r\.onnx to"):
        keep(made(tmp_path, "r.onnx"), tmp_path / "r.onnx", believed=False)


@pytest.mark.parametrize("link", [False, True])
def test_a_model_among_the_attempts_is_refused_before_any_work(tmp_path: Path, link: bool) -> None:
    (tmp_path / "r.attempt").mkdir()
    model = tmp_path / "r.attempt" / "r.onnx"
    model.write_bytes(b"the model")
    asked = model
    if link:
        asked = tmp_path / "linked.onnx"
        asked.symlink_to(model)
    with pytest.raises(UserError, match=r"expected nothing that is read in .*r\.attempt"):
        repair(asked, tmp_path / "no.npz", tmp_path / "r.onnx", sandbox=False)
    assert model.read_bytes() == b"the model"


def test_a_link_among_the_attempts_and_a_folder_that_links_there_are_refused_too(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "r.attempt").symlink_to(tmp_path / "real")
    (tmp_path / "m.onnx").write_bytes(b"")
    (tmp_path / "real" / "m.onnx").symlink_to(tmp_path / "m.onnx")
    (tmp_path / "real" / "images.npz").write_bytes(b"")
    for name in ("real/m.onnx", "real/images.npz", "r.attempt/images.npz"):
        with pytest.raises(UserError, match="where what is not believed is kept"):
            check_attempt([None, tmp_path / name], tmp_path / "r.onnx")
    check_attempt([None, tmp_path / "m.onnx", tmp_path / "images.npz"], tmp_path / "r.onnx")


@pytest.mark.parametrize("kind", ["file", "dangling link", "with a folder of the file's name"])
def test_an_attempt_that_is_no_folder_is_refused_before_any_work(tmp_path: Path, kind: str) -> None:
    place = tmp_path / "r.attempt"
    if kind == "file":
        place.write_bytes(b"mine")
    elif kind == "dangling link":
        place.symlink_to(tmp_path / "nowhere")
    else:
        (place / "r.onnx").mkdir(parents=True)
    with pytest.raises(
        UserError, match=r"r\.attempt to be a folder for a file r\.onnx that is not believed, found some"
    ):
        repair(tmp_path / "m.onnx", tmp_path / "no.npz", tmp_path / "r.onnx", sandbox=False)


@pytest.mark.parametrize("location", ["r.onnx.data", "r.onnx.data.2", "r.onnx", "r.attempt/r.onnx.data"])
def test_data_of_the_model_is_not_written_over(tmp_path: Path, location: str) -> None:
    model = external_model(tmp_path / "v.onnx", location)
    before = (tmp_path / location).read_bytes()
    with pytest.raises(UserError, match=r"expected a place of its own .*, which holds data of v\.onnx: name another"):
        repair(model, tmp_path / "no.npz", tmp_path / "r.onnx", sandbox=False)
    with pytest.raises(UserError, match=r"expected a place of its own .*, which holds data of v\.onnx: name another"):
        guard_model(model, tmp_path / "no.npz", tmp_path / "r.onnx", patch_report(), sandbox=False)
    assert (tmp_path / location).read_bytes() == before
    check_external(model, tmp_path / "s.onnx", sandbox=False)
    (tmp_path / "s.onnx.data").write_bytes(b"of an earlier repair")
    check_external(model, tmp_path / "s.onnx", sandbox=False)
