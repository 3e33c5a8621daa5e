"""Clean images from archives and folders: what is read, what is refused and in which words."""

import io
import json
import os
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from backscan.converters.sandbox.runner import InProcess
from backscan.scanner.errors import CleanSetError
from backscan.scanner.images.cleanset import CleanSet, find_beside
from backscan.scanner.images.limits import ReadLimits

Rng = np.random.default_rng


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decode without a child: `test_decoding` has that."""
    monkeypatch.setattr("backscan.converters.sandbox.sandbox.Sandbox", InProcess)


def bytes_of(num_images: int = 12, *shape: int) -> np.ndarray:
    return Rng(0).integers(0, 256, (num_images, *(shape or (4, 5, 3))), dtype=np.uint8)


def archive(path: Path, **arrays: Any) -> Path:
    np.savez_compressed(path, **arrays)
    return path


def save(path: Path, pixels: np.ndarray, **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


def class_folders(root: Path, names: tuple[str, ...], images_each: int = 6) -> Path:
    for number, name in enumerate(names):
        for index in range(images_each):
            save(root / name / f"{index}.png", bytes_of(1, 4, 5, 3)[0] // (number + 1) + index)
    return root


# Archives.


def test_bytes_become_unit_floats_channels_first(tmp_path: Path) -> None:
    pixels, labels = bytes_of(), np.arange(12) % 3
    clean = CleanSet.load(archive(tmp_path / "data.npz", x=pixels, y=labels))
    assert clean.images.dtype == np.float32
    np.testing.assert_allclose(clean.images, pixels.transpose(0, 3, 1, 2) / 255, rtol=1e-6)
    np.testing.assert_array_equal(clean.labels, labels)
    assert (clean.name, clean.warnings, clean.found_beside_model) == ("data.npz", (), False)
    with pytest.raises(ValueError, match="read-only"):
        clean.images[0] = 0


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floats_in_the_unit_range_and_grey_images_without_channel_axis(tmp_path: Path, dtype: type) -> None:
    pixels = Rng(0).random((8, 4, 5)).astype(dtype)
    clean = CleanSet.load(archive(tmp_path / "data.npz", x=pixels))
    assert clean.labels is None
    np.testing.assert_allclose(clean.images[:, 0], pixels.astype(np.float32), rtol=1e-6)


@pytest.mark.parametrize("labels", [np.arange(12.0), np.arange(12)[:, None], np.arange(12, dtype=np.uint8)])
def test_labels_of_any_whole_type(tmp_path: Path, labels: np.ndarray) -> None:
    clean = CleanSet.load(archive(tmp_path / "data.npz", x=bytes_of(), y=labels))
    assert clean.labels is not None
    assert clean.labels.dtype == np.int64
    np.testing.assert_array_equal(clean.labels, np.arange(12))


def spoiled(value: float) -> np.ndarray:
    pixels = np.full((4, 3, 3, 1), 0.5, np.float32)
    pixels[2, 1, 1, 0] = value
    return pixels


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"images": bytes_of()}, "an array `x` of images in data.npz, found images"),
        ({"x": bytes_of(12, 4)}, r"found \[12, 4\]"),
        ({"x": bytes_of(12, 4, 5, 3, 1)}, r"found \[12, 4, 5, 3, 1\]"),
        ({"x": bytes_of(12, 3, 8, 8)}, "transpose"),
        ({"x": bytes_of(12, 4, 5, 2)}, "found 2"),
        ({"x": bytes_of(12, 0, 5, 3)}, r"found \[12, 0, 5, 3\]"),
        ({"x": bytes_of(0, 4, 5, 3)}, "found none"),
        ({"x": bytes_of().astype(np.int64)}, "found int64"),
        ({"x": bytes_of() > 100}, "found bool"),
        ({"x": spoiled(np.nan)}, "NaN or infinity in image 2"),
        ({"x": spoiled(np.inf)}, "NaN or infinity in image 2"),
        ({"x": spoiled(1.5)}, "found 0.5 to 1.5"),
        ({"x": spoiled(-0.1)}, "found -0.1 to 0.5"),
        ({"x": bytes_of(), "y": np.arange(11)}, r"one label for each of 12 images, found `y` of shape \[11\]"),
        ({"x": bytes_of(), "y": np.eye(12)}, r"shape \[12, 12\]"),
        ({"x": bytes_of(), "y": np.arange(12) - 1}, "found -1 for image 0"),
        ({"x": bytes_of(), "y": np.arange(12) / 2}, "found 0.5 for image 1"),
        ({"x": bytes_of(), "y": np.full(12, np.nan)}, "found nan for image 0"),
        ({"x": bytes_of(), "y": np.full(12, 2**63, np.uint64)}, "found 9223372036854775808 for image 0"),
        ({"x": bytes_of(), "y": np.array(["cat"] * 12)}, "class numbers in `y`, found type <U3"),
        ({"x": np.array([None] * 12, object)}, "Python objects"),
        ({"x": bytes_of(), "y": np.array([{}] * 12, object)}, "Python objects"),
    ],
)
def test_archives_that_are_refused(tmp_path: Path, arrays: dict[str, np.ndarray], words: str) -> None:
    refused(archive(tmp_path / "data.npz", **arrays), words)


def refused(path: Path, words: str, **options: Any) -> None:
    """One sentence with what was expected, found, and to do."""
    with pytest.raises(CleanSetError, match=words) as caught:
        CleanSet.load(path, **options)
    message = str(caught.value)
    assert message.startswith("expected ")
    assert ", found" in message
    assert ": " in message
    assert "\n" not in message


def refusal(path: Path) -> str | None:
    """Why the images cannot be read; None if they can. Any other error fails the test."""
    try:
        CleanSet.load(path)
    except CleanSetError as error:
        return str(error)
    return None


def test_a_missing_file_and_files_of_another_kind(tmp_path: Path) -> None:
    refused(tmp_path / "nothing.npz", "no such file or folder: check --data")
    for name, content in {"text.npz": b"hello", "empty.npz": b"", "image.png": b"\x89PNG\r\n\x1a\n"}.items():
        (tmp_path / name).write_bytes(content)
        refused(tmp_path / name, f"damaged or other file in {name}")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_truncated_archive(tmp_path: Path, share: float) -> None:
    path = archive(tmp_path / "data.npz", x=bytes_of(), y=np.arange(12))
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    refused(path, "damaged or other file in data.npz")


def test_flipped_bytes_never_crash(tmp_path: Path) -> None:
    path = archive(tmp_path / "data.npz", x=bytes_of(), y=np.arange(12))
    whole, rng, reasons = path.read_bytes(), Rng(1), []
    for _ in range(300):
        damaged = bytearray(whole)
        for place in rng.integers(len(whole), size=3):
            damaged[place] = rng.integers(256)
        path.write_bytes(damaged)
        reasons.append(refusal(path))
    assert any(reasons)
    assert all(reason.startswith("expected ") for reason in reasons if reason)


def declaring(shape: tuple[int, ...]) -> bytes:
    """An array file whose header declares a shape that its content does not have."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return stream.getvalue() + bytes(1000)


def test_oversized_member_is_refused_by_its_header(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "data.npz", "w", zipfile.ZIP_DEFLATED) as target:
        target.writestr("x.npy", declaring((10**9, 1000, 1000, 3)))
    refused(tmp_path / "data.npz", "at most 1536 MiB of images")


def test_a_header_that_declares_more_than_there_is(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "data.npz", "w") as target:
        target.writestr("x.npy", declaring((1000, 32, 32, 3)))
    refused(tmp_path / "data.npz", "damaged or other file")


def test_the_limit_on_all_images_is_a_parameter(tmp_path: Path) -> None:
    path = archive(tmp_path / "data.npz", x=bytes_of(20, 16, 16, 3))
    limits = ReadLimits(total_bytes=20 * 16 * 16 * 3 * 4)
    assert len(CleanSet.load(path, limits=limits).images) == 20
    refused(path, "at most 0 MiB", limits=ReadLimits(total_bytes=limits.total_bytes - 1))


def test_duplicates_and_bytes_that_look_like_floats_are_warned_of(tmp_path: Path) -> None:
    pixels = np.concatenate([bytes_of(), bytes_of()[:3]])
    [warning] = CleanSet.load(archive(tmp_path / "data.npz", x=pixels)).warnings
    assert "3 of 15 images in data.npz are exact copies" in warning
    pixels = (bytes_of(40, 8, 8) > 127).astype(np.uint8)
    [warning] = CleanSet.load(archive(tmp_path / "binary.npz", x=pixels)).warnings
    assert "0 or 1" in warning


# Folders.


def test_one_subfolder_a_class_sorted_names(tmp_path: Path) -> None:
    clean = CleanSet.load(class_folders(tmp_path / "data", ("dog", "cat")))
    assert clean.labels is not None
    np.testing.assert_array_equal(clean.labels, [0] * 6 + [1] * 6)
    assert dict(clean.class_names) == {0: "cat", 1: "dog"}
    assert "cat = 0, dog = 1" in clean.warnings[0]
    expected = np.asarray(Image.open(tmp_path / "data" / "cat" / "2.png")).transpose(2, 0, 1) / 255
    np.testing.assert_allclose(clean.images[2], expected, rtol=1e-6)


def test_numeric_names_are_the_class_numbers(tmp_path: Path) -> None:
    clean = CleanSet.load(class_folders(tmp_path / "data", ("00010", "2", "0"), images_each=1))
    assert clean.labels is not None
    assert clean.labels.tolist() == [0, 2, 10]
    assert clean.warnings == ()
    refused(class_folders(tmp_path / "twice", ("1", "01")), "found '01' and '1' for class 1|found '1' and '01'")


@pytest.mark.parametrize(
    ("text", "number"),
    [
        (json.dumps({"limit 30": 4, "stop": 2, "other": 0}), 4),
        ("limit 30 4\nstop 2\nother 0\n", 4),
        ("a\nb\nstop\n\nlimit 30\n", 3),
    ],
)
def test_labels_file_in_three_forms(tmp_path: Path, text: str, number: int) -> None:
    root = class_folders(tmp_path / "data", ("limit 30", "stop"), images_each=2)
    (tmp_path / "labels.txt").write_text(text, encoding="utf-8")
    clean = CleanSet.load(root, labels=tmp_path / "labels.txt")
    assert dict(clean.class_names) == {2: "stop", number: "limit 30"}
    assert clean.labels is not None
    assert clean.labels.tolist() == [2, 2, number, number]
    assert clean.warnings == ()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "a text file of class names"),
        (b"\xff\xfe\x00", "a text file of class names"),
        (b"{", "found a mistake"),
        (b'{"cat": -1, "dog": 0}', "found -1 for 'cat'"),
        (b'{"cat": 1.0, "dog": 0}', "found 1.0 for 'cat'"),
        (b'{"cat": 1, "dog": 1}', "for class 1"),
        (b"cat 0\n", "a class number for folder 'dog' in labels.txt"),
        (b"", "a class number for folder"),
    ],
)
def test_labels_files_that_are_refused(tmp_path: Path, content: bytes | None, words: str) -> None:
    root = class_folders(tmp_path / "data", ("cat", "dog"), images_each=1)
    if content is not None:
        (tmp_path / "labels.txt").write_bytes(content)
    refused(root, words, labels=tmp_path / "labels.txt")


def test_a_labels_file_needs_class_folders(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("cat 0")
    refused(archive(tmp_path / "data.npz", x=bytes_of()), "subfolder per class", labels=tmp_path / "labels.txt")
    save(tmp_path / "flat" / "0.png", bytes_of(1)[0])
    refused(tmp_path / "flat", "class folders in flat for --labels", labels=tmp_path / "labels.txt")


def test_flat_folder_is_unlabelled_and_other_files_are_passed_over(tmp_path: Path) -> None:
    for index in (10, 9, 1):
        save(tmp_path / "data" / f"{index}.png", np.full((4, 4), index, np.uint8))
    (tmp_path / "data" / "notes.txt").write_text("x")
    (tmp_path / "data" / ".hidden.png").write_text("x")
    clean = CleanSet.load(tmp_path / "data")
    assert clean.labels is None
    assert (clean.images[:, 0, 0, 0] * 255).round().tolist() == [1, 10, 9]
    assert clean.warnings == ("1 .txt file passed over",)


def test_a_class_folder_is_searched_in_depth_and_may_be_empty(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "data", ("0", "2"), images_each=2)
    save(root / "2" / "more" / "deep.jpg", bytes_of(1)[0])
    (root / "1").mkdir()
    clean = CleanSet.load(root)
    assert clean.labels is not None
    assert clean.labels.tolist() == [0, 0, 2, 2, 2]
    assert "class folder '1' has no images" in clean.warnings[0]


def test_folders_that_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "image files .* in .*empty, found none")
    (tmp_path / "classes" / "0").mkdir(parents=True)
    refused(tmp_path / "classes", "image files .* in .*classes, found none")
    save(class_folders(tmp_path / "both", ("0",)) / "loose.png", bytes_of(1)[0])
    refused(tmp_path / "both", r"found both \(loose.png, 0\)")

    def denied(path: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", denied)
    refused(tmp_path / "both", "a readable folder at .*, found: Permission denied")


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [("L", "png"), ("RGB", "png"), ("RGB", "bmp"), ("RGB", "tiff"), ("RGB", "ppm"), ("1", "png"), ("L", "webp")],
)
def test_lossless_formats_are_read_exactly(tmp_path: Path, mode: str, suffix: str) -> None:
    image = Image.fromarray(bytes_of(1, 6, 5, 3)[0]).convert(mode)
    options = {"lossless": True} if suffix == "webp" else {}
    (tmp_path / "data").mkdir()
    image.save(tmp_path / "data" / f"x.{suffix}", **options)
    [read] = CleanSet.load(tmp_path / "data").images
    expected = np.asarray(image.convert("L" if mode == "1" else mode), np.float32) / 255
    expected = expected[None] if expected.ndim == 2 else expected.transpose(2, 0, 1)
    np.testing.assert_allclose(read if len(read) == len(expected) else read[:1], expected, atol=1e-7)


def test_palette_cmyk_and_opaque_alpha_are_converted(tmp_path: Path) -> None:
    colours = Image.fromarray(np.repeat([[[255, 0, 0], [0, 0, 255]]], 3, axis=0).astype(np.uint8))
    (tmp_path / "data").mkdir()
    colours.convert("P", palette=Image.Palette.ADAPTIVE).save(tmp_path / "data" / "palette.png")
    colours.convert("RGBA").save(tmp_path / "data" / "alpha.png")
    colours.convert("CMYK").save(tmp_path / "data" / "cmyk.tiff")
    clean = CleanSet.load(tmp_path / "data")
    for image in clean.images:
        np.testing.assert_array_equal(image[:, 0, 0], [1, 0, 0])
        np.testing.assert_array_equal(image[:, 0, 1], [0, 0, 1])


def test_sixteen_bit_png_keeps_its_levels(tmp_path: Path) -> None:
    levels = np.array([[0, 257], [32768, 65535]], np.uint16)
    save(tmp_path / "data" / "x.png", levels)
    np.testing.assert_allclose(CleanSet.load(tmp_path / "data").images[0, 0], levels / 65535, rtol=1e-6)


def test_grey_and_coloured_images_together_become_coloured(tmp_path: Path) -> None:
    save(tmp_path / "data" / "a.png", bytes_of(1, 4, 4, 3)[0])
    save(tmp_path / "data" / "b.png", bytes_of(1, 4, 4)[0])
    clean = CleanSet.load(tmp_path / "data")
    assert clean.images.shape == (2, 3, 4, 4)
    assert "1 of 2 images are grey" in clean.warnings[0]


def test_transparent_pixels_are_refused(tmp_path: Path) -> None:
    pixels = np.full((4, 4, 4), 255, np.uint8)
    pixels[0, 0, 3] = 254
    save(tmp_path / "data" / "x.png", pixels)
    refused(tmp_path / "data", "found transparent pixels in data/x.png")


@pytest.mark.parametrize("mode", ["F", "I", "LAB"])
def test_modes_without_a_plain_meaning_are_refused(tmp_path: Path, mode: str) -> None:
    (tmp_path / "data").mkdir()
    Image.new(mode, (4, 4)).save(tmp_path / "data" / "x.tiff")
    refused(tmp_path / "data", f"data/x.tiff, found mode {mode}")


def test_sixteen_bit_tiff_has_no_defined_white(tmp_path: Path) -> None:
    save(tmp_path / "data" / "x.tiff", np.full((4, 4), 4095, np.uint16))
    refused(tmp_path / "data", "data/x.tiff, found mode I;16")


def test_animations_are_refused(tmp_path: Path) -> None:
    frames = [Image.fromarray(frame) for frame in bytes_of(3, 4, 4)]
    (tmp_path / "data").mkdir()
    frames[0].save(tmp_path / "data" / "x.gif", save_all=True, append_images=frames[1:])
    refused(tmp_path / "data", "one picture in data/x.gif, found several")


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "tiff", "webp", "gif"])
def test_corrupt_image_is_named(tmp_path: Path, suffix: str) -> None:
    save(tmp_path / "data" / f"bad.{suffix}", bytes_of(1, 64, 64, 3)[0])
    path = tmp_path / "data" / f"bad.{suffix}"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    refused(tmp_path / "data", rf"image in data/bad.{suffix}, found a .*: remove or replace it")
    path.write_bytes(b"no image at all")
    refused(tmp_path / "data", rf"image in data/bad.{suffix}, found a damaged or other file")


def test_flipped_bytes_in_images_never_crash(tmp_path: Path) -> None:
    rng = Rng(2)
    for suffix in ("png", "jpg", "tiff", "webp", "gif", "bmp"):
        save(tmp_path / suffix / f"x.{suffix}", bytes_of(1, 24, 24, 3)[0])
        path = tmp_path / suffix / f"x.{suffix}"
        whole, reasons = path.read_bytes(), []
        for _ in range(60):
            damaged = bytearray(whole)
            for place in rng.integers(len(whole), size=4):
                damaged[place] = rng.integers(256)
            path.write_bytes(damaged)
            reasons.append(refusal(tmp_path / suffix))
        assert any(reasons), suffix
        assert all(reason.startswith("expected ") for reason in reasons if reason)


def bomb(side: int) -> bytes:
    """A PNG of a few hundred bytes that declares side x side pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [8_000, 12_000, 60_000])
def test_decompression_bomb_is_refused_by_its_header(tmp_path: Path, side: int) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "bomb.png").write_bytes(bomb(side))
    refused(tmp_path / "data", "data/bomb.png")


def test_many_images_count_together(tmp_path: Path) -> None:
    for index in range(4):
        save(tmp_path / "data" / f"{index}.png", bytes_of(1, 16, 16, 3)[0])
    refused(tmp_path / "data", "MiB of images", limits=ReadLimits(total_bytes=4 * 3 * 16 * 16 * 3 + 1))


# Fitting to the model.


def test_mixed_sizes_are_resized_once_from_the_originals(tmp_path: Path) -> None:
    for index, side in enumerate((8, 8, 12)):
        save(tmp_path / "data" / f"{index}.png", np.full((side, side), 40 * index + 1, np.uint8))
    clean = CleanSet.load(tmp_path / "data")
    assert clean.images.shape == (3, 1, 8, 8)
    assert "2 different sizes" in clean.warnings[0]
    fitted = clean.fit_to((1, 12, 12))
    np.testing.assert_allclose(fitted.images[2], 81 / 255, rtol=1e-6)
    assert "resized from several sizes to 12 x 12" in fitted.warnings[-1]
    assert fitted.digest == clean.digest


def test_resizing_agrees_with_pillow_on_bytes(tmp_path: Path) -> None:
    pixels = bytes_of(2, 20, 30, 3)
    fitted = CleanSet.load(archive(tmp_path / "data.npz", x=pixels)).fit_to((3, 8, 9))
    expected = np.asarray(Image.fromarray(pixels[0]).resize((9, 8), Image.Resampling.BILINEAR))
    np.testing.assert_allclose(
        fitted.images[0] * 255, expected.transpose(2, 0, 1), atol=1.1
    )  # pillow rounds bytes twice
    assert fitted.warnings == ("the images were resized from 20 x 30 to 8 x 9 for this model",)


def test_grey_to_colour_and_back(tmp_path: Path) -> None:
    grey = CleanSet.load(archive(tmp_path / "grey.npz", x=bytes_of(3, 4, 4)))
    coloured = grey.fit_to((3, 4, 4))
    np.testing.assert_array_equal(coloured.images[:, 2], grey.images[:, 0])
    assert coloured.warnings == ("the images were converted from grey to colour for this model",)
    np.testing.assert_allclose(coloured.fit_to((1, 4, 4)).images, grey.images, rtol=1e-6)
    colour = CleanSet.load(archive(tmp_path / "colour.npz", x=bytes_of(3, 4, 4, 3))).fit_to((1, 4, 4))
    expected = np.asarray(Image.fromarray(bytes_of(3, 4, 4, 3)[0]).convert("L")) / 255
    np.testing.assert_allclose(colour.images[0, 0], expected, atol=0.6 / 255)
    four = CleanSet.load(archive(tmp_path / "four.npz", x=bytes_of(3, 4, 4, 4)))
    assert four.fit_to((4, 4, 4)) is four
    with pytest.raises(CleanSetError, match="expected images of 3 channels for this model, found 4"):
        four.fit_to((3, 4, 4))


def test_labels_beyond_the_models_classes(tmp_path: Path) -> None:
    clean = CleanSet.load(archive(tmp_path / "data.npz", x=bytes_of(), y=np.arange(12)))
    clean.check_labels(12)
    with pytest.raises(CleanSetError, match=r"class numbers below 10, found 10 for image 10 of data\.npz"):
        clean.check_labels(10)
    folders = CleanSet.load(class_folders(tmp_path / "data", ("a", "b", "c")))
    with pytest.raises(CleanSetError, match=r"found 2 \(c\)"):
        folders.check_labels(2)


def test_the_digest_is_of_pixels_and_labels_alone(tmp_path: Path) -> None:
    pixels, labels = bytes_of(4), np.array([0, 0, 1, 1])
    from_archive = CleanSet.load(archive(tmp_path / "data.npz", x=pixels, y=labels))
    for index, (image, label) in enumerate(zip(pixels, labels, strict=True)):
        save(tmp_path / "data" / str(label) / f"{index}.png", image)
    assert CleanSet.load(tmp_path / "data").digest == from_archive.digest
    assert CleanSet.load(archive(tmp_path / "b.npz", x=pixels, y=labels[::-1])).digest != from_archive.digest
    assert CleanSet.load(archive(tmp_path / "c.npz", x=pixels[::-1], y=labels)).digest != from_archive.digest


# Drawing.


def draw(labels: np.ndarray, images_per_class: int = 100, seed: int = 0, num_classes: int = 3) -> Any:
    clean = CleanSet(np.zeros((len(labels), 1, 1, 1), np.float32), labels, "x", "0", {})
    return clean.draw(labels, images_per_class=images_per_class, seed=seed, num_classes=num_classes)


@pytest.mark.parametrize(
    ("images", "searched", "held_out"),
    [(60, 48, 12), (20, 16, 4), (15, 12, 3), (8, 5, 3), (7, None, 3), (3, None, 3), (1, None, 1), (0, None, None)],
)
def test_a_fifth_and_at_least_three_are_set_aside_first(
    images: int, searched: int | None, held_out: int | None
) -> None:
    drawn = draw(np.repeat([0, 1], [images, 10]))
    assert len(drawn.optimise.get(0, ())) == (searched or 0)
    assert (0 in drawn.optimise) == (searched is not None)
    assert len(drawn.held_out.get(0, ())) == (held_out or 0)
    assert 2 not in drawn.optimise


@given(st.lists(st.integers(0, 3), max_size=120), st.integers(5, 30), st.integers(0, 1000))
def test_draws_are_disjoint_of_the_right_class_limited_and_seeded(labels: list[int], limit: int, seed: int) -> None:
    classes = np.array(labels, np.int64)
    drawn = draw(classes, limit, seed, num_classes=4)
    for label, indices in drawn.optimise.items():
        assert 5 <= len(indices) <= limit
        assert set(classes[indices]) == {label} == set(classes[drawn.held_out[label]])
        assert len(set(indices.tolist()) | set(drawn.held_out[label].tolist())) == len(indices) + len(
            drawn.held_out[label]
        )
    again = draw(classes, limit, seed, num_classes=4)
    assert all(np.array_equal(again.optimise[label], indices) for label, indices in drawn.optimise.items())
    wider = draw(classes, 1000, seed, num_classes=4)
    assert all(np.array_equal(wider.held_out[label], indices) for label, indices in drawn.held_out.items())


def test_another_seed_draws_others() -> None:
    labels = np.zeros(60, np.int64)
    assert not np.array_equal(draw(labels, seed=0).held_out[0], draw(labels, seed=1).held_out[0])


# Beside the model.


def test_images_beside_a_model_in_the_contracts_order(tmp_path: Path) -> None:
    model = tmp_path / "net.v2.onnx"
    assert find_beside(model) is None
    (tmp_path / "clean").mkdir()
    assert find_beside(model) == tmp_path / "clean"
    for name in ("clean.npz", "net.v2.npz"):
        archive(tmp_path / name, x=bytes_of())
    (tmp_path / "net.v2").mkdir()
    assert find_beside(model) == tmp_path / "net.v2.npz"
    (tmp_path / "net.v2.npz").unlink()
    assert find_beside(model) == tmp_path / "net.v2"
    (tmp_path / "net.v2").rmdir()
    assert find_beside(model) == tmp_path / "clean.npz"
    assert CleanSet.load(tmp_path / "clean.npz", found_beside_model=True).found_beside_model
