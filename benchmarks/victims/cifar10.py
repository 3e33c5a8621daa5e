"""CIFAR-10 from a folder, in any of the forms in which it is passed around. Nothing is downloaded.

python batches   data_batch_1 ... data_batch_5, test_batch (pickles, opened with an allow-list)
binary batches   data_batch_1.bin ... data_batch_5.bin, test_batch.bin
image folders    train/CLASS/*.png and test/CLASS/*.png
one archive      *.npz with x_train, y_train, x_test, y_test
sheet archives   *.npz with SPLIT_blob, SPLIT_off, SPLIT_y: see `_Sheets`
"""

from __future__ import annotations

import io
import pickle
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from backscan.scanner import CleanSet
from benchmarks.victims.datasets import LabelledImages

SHAPE = (3, 32, 32)
TRAIN_BATCHES = tuple(f"data_batch_{number}" for number in range(1, 6))
TEST_BATCHES = ("test_batch",)
SUBFOLDERS = ("", "cifar-10-batches-py", "cifar-10-batches-bin")


def read_cifar10(folder: Path) -> tuple[LabelledImages, LabelledImages]:
    """Training and test images.

    Args:
        folder: Holds one of the forms above, or a folder with one by its usual name.

    Returns:
        50,000 training and 10,000 test images, or what the folder has of them.

    Raises:
        ValueError: none of the forms is there.
    """
    for place in (folder / name for name in SUBFOLDERS):
        if (place / "test_batch").is_file():
            return _python_batches(place, TRAIN_BATCHES), _python_batches(place, TEST_BATCHES)
        if (place / "test_batch.bin").is_file():
            return _binary_batches(place, TRAIN_BATCHES), _binary_batches(place, TEST_BATCHES)
    if (folder / "train").is_dir() and (folder / "test").is_dir():
        return _image_folder(folder / "train"), _image_folder(folder / "test")
    archives = sorted(folder.glob("*.npz"))
    whole = next((path for path in archives if "x_train" in _members(path)), None)
    if whole is not None:
        return _from_archive(whole, "train"), _from_archive(whole, "test")
    sheets = [path for path in archives if any(name.endswith("_blob") for name in _members(path))]
    if sheets:
        return _from_sheets(sheets, "train"), _from_sheets(sheets, "test")
    raise ValueError(f"expected CIFAR-10 as batches, image folders or .npz in {folder}, found none of them")


class _ArrayUnpickler(pickle.Unpickler):
    """Opens pickled dictionaries of arrays; whatever else a pickle asks for is refused."""

    ALLOWED = frozenset(
        {
            ("numpy", "ndarray"),
            ("numpy", "dtype"),
            ("numpy.core.multiarray", "_reconstruct"),
            ("numpy._core.multiarray", "_reconstruct"),
            ("_codecs", "encode"),
        }
    )

    def find_class(self, module: str, name: str) -> Any:
        """The named object, if it is one that arrays are made of."""
        if (module, name) not in self.ALLOWED:
            raise pickle.UnpicklingError(f"expected a pickle of arrays, found {module}.{name} in it: not opened")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def _python_batches(folder: Path, names: tuple[str, ...]) -> LabelledImages:
    pixels, labels = [], []
    for name in names:
        with (folder / name).open("rb") as stream:
            batch = _ArrayUnpickler(stream, encoding="bytes").load()
        pixels.append(np.asarray(batch[b"data"], np.uint8).reshape(-1, *SHAPE))
        labels.append(np.asarray(batch[b"labels"]))
    return LabelledImages.from_bytes(np.concatenate(pixels), np.concatenate(labels))


def _binary_batches(folder: Path, names: tuple[str, ...]) -> LabelledImages:
    """Records of one label byte and 3072 pixel bytes."""
    contents = b"".join((folder / f"{name}.bin").read_bytes() for name in names)
    records = np.frombuffer(contents, np.uint8).reshape(-1, 1 + int(np.prod(SHAPE)))
    return LabelledImages.from_bytes(records[:, 1:].reshape(-1, *SHAPE), records[:, 0])


def _image_folder(folder: Path) -> LabelledImages:
    """One subfolder per class; CIFAR-10's names in sorted order are its class numbers."""
    clean = CleanSet.load(folder).fit_to(SHAPE)
    if clean.labels is None:
        raise ValueError(f"expected one subfolder per class in {folder}, found images alone")
    return LabelledImages(clean.images, clean.labels)


def _members(path: Path) -> list[str]:
    with np.load(path, allow_pickle=False) as archive:
        return list(archive.files)


def _from_archive(path: Path, split: str) -> LabelledImages:
    with np.load(path, allow_pickle=False) as archive:
        pixels, labels = archive[f"x_{split}"], archive[f"y_{split}"].reshape(-1)
    return LabelledImages.from_bytes(pixels.transpose(0, 3, 1, 2), labels)


class _Sheets:
    """Lossless pictures of 25 rows of 40 images each, one after the other in a byte array.

    `off` holds where each picture begins and the last one ends; the last sheet may be only partly used, and as many
    images count as there are labels.
    """

    ROWS, COLUMNS = 25, 40

    @classmethod
    def decode(cls, blob: NDArray[np.uint8], offsets: NDArray[np.int64], num_images: int) -> NDArray[np.uint8]:
        """Images [N, C, H, W] from the byte array."""
        channels, height, width = SHAPE
        sheets = []
        for begin, end in pairwise(offsets):
            picture = Image.open(io.BytesIO(blob[begin:end].tobytes()), formats=("PNG", "WEBP")).convert("RGB")
            tiles = np.asarray(picture).reshape(cls.ROWS, height, cls.COLUMNS, width, channels)
            sheets.append(tiles.transpose(0, 2, 4, 1, 3).reshape(-1, *SHAPE))
        return np.concatenate(sheets)[:num_images]


def _from_sheets(paths: list[Path], split: str) -> LabelledImages:
    pixels, labels = [], []
    for path in paths:
        with np.load(path, allow_pickle=False) as archive:
            if f"{split}_blob" not in archive.files:
                continue
            labels.append(archive[f"{split}_y"])
            pixels.append(_Sheets.decode(archive[f"{split}_blob"], archive[f"{split}_off"], len(labels[-1])))
    if not pixels:
        raise ValueError(f"expected {split} images in {', '.join(path.name for path in paths)}, found none")
    return LabelledImages.from_bytes(np.concatenate(pixels), np.concatenate(labels))
