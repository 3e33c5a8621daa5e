from pathlib import Path

import pytest

from backscan.scanner.errors import UserError
from backscan.scanner.fleet.model_paths import expand


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.onnx", "a/x.ONNX", "a/notes.txt", "c.onnx.data"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    return tmp_path


def test_a_folder_is_the_models_beneath_it(folder: Path) -> None:
    assert expand([folder]) == (folder / "b.onnx", folder / "a/x.ONNX")


def test_a_named_file_may_have_any_name_and_counts_once(folder: Path) -> None:
    assert expand([folder / "a/notes.txt", folder / "b.onnx", folder]) == (
        folder / "a/notes.txt",
        folder / "b.onnx",
        folder / "a/x.ONNX",
    )


def test_weights_stand_for_the_model_beside_them(folder: Path) -> None:
    (folder / "b.onnx_data").write_bytes(b"")
    (folder / "b.ONNX.data").write_bytes(b"")
    assert expand([folder / "b.onnx_data", folder / "b.onnx"]) == (folder / "b.onnx",)
    assert expand([folder / "c.onnx.data", folder / "b.ONNX.data"]) == (folder / "c.onnx.data", folder / "b.ONNX.data")


@pytest.mark.parametrize("name", ["m", "zero", "_data"])
def test_a_name_shorter_than_that_ending_is_a_file_like_any(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"")
    assert expand([tmp_path / name]) == (tmp_path / name,)
    assert expand([Path("/dev/zero")]) == (Path("/dev/zero"),)


def test_links_to_folders_are_not_followed(folder: Path) -> None:
    (folder / "a" / "loop").symlink_to(folder, target_is_directory=True)
    assert len(expand([folder])) == 2


def test_a_missing_path_and_an_empty_folder_are_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"missing\.onnx"):
        expand([folder / "missing.onnx"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"beneath .*empty"):
        expand([tmp_path / "empty"])
