"""Pictures and archives are decoded in a limited child, which is not believed."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from backscan.scanner.errors import CleanSetError
from backscan.scanner.images import archive, decoding
from backscan.scanner.images.archive import Archive
from backscan.scanner.images.cleanset import CleanSet
from backscan.scanner.images.decoding import open_decoding
from backscan.scanner.images.limits import ReadLimits
from backscan.scanner.images.pictures import read_picture
from benchmarks.hostile.inputs import chained_tiff
from tests.scanner.images.decoder_targets import ARCHIVES, LIES

LIMITS = ReadLimits(total_bytes=1 << 20, image_pixels=1000)


def test_the_second_picture_is_asked_for_and_none_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "one.tiff").write_bytes(chained_tiff(1))
    assert read_picture(tmp_path / "one.tiff", LIMITS, 0).shape == (1, 2, 2)
    monkeypatch.setattr(TiffImageFile, "n_frames", property(lambda _: pytest.fail("all pictures were counted")))
    (tmp_path / "many.tiff").write_bytes(chained_tiff(40_000))
    with pytest.raises(CleanSetError, match=r"one picture in .*many.tiff, found several: save one of them"):
        read_picture(tmp_path / "many.tiff", LIMITS, 0)


@pytest.mark.parametrize("sandbox", [True, False])
def test_pictures_and_archives_are_the_same_in_a_child_and_here(tmp_path: Path, *, sandbox: bool) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (9, 300, 300, 3), dtype=np.uint8)  # more than one batch
    for index, each in enumerate(pixels):
        (tmp_path / "data" / str(index % 2)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(each).save(tmp_path / "data" / str(index % 2) / f"{index}.png")
    labels = np.arange(9) % 2
    order = np.argsort(labels, kind="stable")
    np.savez(tmp_path / "data.npz", x=pixels[order], y=labels[order])
    folder = CleanSet.load(tmp_path / "data", sandbox=sandbox)
    stored = CleanSet.load(tmp_path / "data.npz", sandbox=sandbox)
    np.testing.assert_allclose(folder.images, pixels[order].transpose(0, 3, 1, 2) / 255, rtol=1e-6)
    assert folder.digest == stored.digest


@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float32, np.dtype(">f8")])
@pytest.mark.parametrize("by_columns", [True, False])
def test_an_archive_is_read_in_parts_and_held_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: type, *, by_columns: bool
) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (7, 5, 4, 3)).astype(np.uint8)
    given = pixels if dtype == np.uint8 else (pixels / 255).astype(dtype)
    np.savez_compressed(tmp_path / "x.npz", x=np.asfortranarray(given) if by_columns else given, y=np.arange(7))
    whole = CleanSet.load(tmp_path / "x.npz", sandbox=False)
    monkeypatch.setattr(archive, "_PART_VALUES", 2 * 60)
    parts = list(Archive(tmp_path / "x.npz", LIMITS).parts())
    assert [len(part) for part in parts] == [2, 2, 2, 1]
    np.testing.assert_array_equal(np.concatenate(parts), whole.images)
    np.testing.assert_allclose(whole.images.transpose(0, 2, 3, 1), pixels / 255, atol=1e-3)
    again = CleanSet.load(tmp_path / "x.npz", sandbox=False)
    assert again.digest == whole.digest


def test_what_is_wrong_in_a_later_part_is_told_by_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "_PART_VALUES", 2 * 16)
    pixels = np.full((7, 4, 4), 0.5, np.float16)
    pixels[5, 0, 0] = np.nan
    np.savez(tmp_path / "x.npz", x=pixels)
    with pytest.raises(CleanSetError, match="NaN or infinity in image 5 of `x`"):
        CleanSet.load(tmp_path / "x.npz", sandbox=False)
    whole = np.zeros((7, 4, 4), np.uint8)
    np.savez(tmp_path / "dark.npz", x=whole)
    assert "read as nearly black" in CleanSet.load(tmp_path / "dark.npz", sandbox=False).warnings[0]
    whole[0, 0, 0] = 2
    np.savez(tmp_path / "grey.npz", x=whole)
    assert not any("black" in text for text in CleanSet.load(tmp_path / "grey.npz", sandbox=False).warnings)


def test_damage_behind_the_first_part_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "_PART_VALUES", 2 * 16)
    np.savez(tmp_path / "x.npz", x=np.full((7, 4, 4), 77, np.uint8))
    data = bytearray((tmp_path / "x.npz").read_bytes())
    data[data.rindex(b"M" * 16)] = 78
    (tmp_path / "x.npz").write_bytes(data)
    with pytest.raises(CleanSetError, match=r"damaged or other file in x\.npz .*CRC"):
        CleanSet.load(tmp_path / "x.npz", sandbox=False)


def test_the_default_limit_takes_fifty_thousand_small_images_and_not_what_two_gigabytes_cannot_hold() -> None:
    ReadLimits().check_total(50_000 * 32 * 32 * 3, "x")
    with pytest.raises(CleanSetError, match="at most 1536 MiB of images, found 1562 MiB in x: pass fewer or smaller"):
        ReadLimits().check_total(1562 << 18, "x")


def test_more_images_than_allowed_are_refused_by_the_header(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=np.zeros((7, 4, 4), np.uint8))
    assert len(CleanSet.load(tmp_path / "x.npz", limits=ReadLimits(images=7), sandbox=False).images) == 7
    with pytest.raises(CleanSetError, match=r"at most 6 images, found 7 in x\.npz: pass fewer"):
        CleanSet.load(tmp_path / "x.npz", limits=ReadLimits(images=6), sandbox=False)


def test_a_damaged_file_is_told_by_the_child_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"no image")
    with pytest.raises(CleanSetError, match=r"^expected an image in .*bad.png, found a damaged or other file"):
        CleanSet.load(tmp_path)
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as file:
        file.writestr("x.npy", b"")
    with pytest.raises(CleanSetError, match=r"damaged or other file in x\.npz"):
        CleanSet.load(tmp_path / "x.npz")


@pytest.fixture
def liar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    monkeypatch.setattr(decoding, "_DECODER", "decoder_targets:Liar")


@pytest.mark.usefixtures("liar")
@pytest.mark.parametrize("lie", [*LIES, "other"])
def test_pictures_are_believed_only_if_they_can_be_those(lie: str) -> None:
    with (
        open_decoding(LIMITS, sandbox=False) as process,
        pytest.raises(CleanSetError, match="may have taken it over"),
    ):
        process.pictures([Path(lie), Path("b")])


@pytest.mark.usefixtures("liar")
@pytest.mark.parametrize("lie", ARCHIVES)
def test_arrays_are_believed_only_if_they_can_be_those(lie: str) -> None:
    with (
        open_decoding(LIMITS, sandbox=False) as process,
        pytest.raises(CleanSetError, match="may have taken it over"),
    ):
        process.archive(Path(lie))


@pytest.mark.usefixtures("liar")
@pytest.mark.parametrize(
    ("lie", "said"),
    [("dies", "exit code 3"), ("waits", "sign of life"), ("works", "seconds"), ("large", "taken it over")],
)
def test_a_child_that_dies_or_does_not_end_is_the_images_fault(
    lie: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "_SECONDS", 1)
    monkeypatch.setattr(decoding, "_SECONDS_EACH", 0)
    with open_decoding(LIMITS, sandbox=True) as process, pytest.raises(CleanSetError, match=said):
        process.pictures([Path(lie), Path("b")])
