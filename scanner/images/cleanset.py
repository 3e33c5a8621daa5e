"""The clean set: images that nobody tampered with, their classes, and which of them a scan uses."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from backscan.scanner.errors import CleanSetError
from backscan.scanner.images.decoding import open_decoding
from backscan.scanner.images.folder import Labelling, read_folder
from backscan.scanner.images.given import from_arrays, from_dataset, names_of
from backscan.scanner.images.limits import ReadImages, ReadLimits
from backscan.scanner.images.resizing import common_shape, fit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from backscan.scanner.images.given import Dataset

# Shares of the draw, see the contract's section on images.
_HELD_OUT_SHARE = 5
_LEAST_HELD_OUT = 3
_LEAST_OPTIMISED = 5
FEWEST_IMAGES = _LEAST_HELD_OUT + _LEAST_OPTIMISED
"""Images of a class below which nothing is searched from it."""


@dataclass(frozen=True, slots=True)
class Draw:
    """Which images a scan uses, by class. A class with too few images is not among the keys."""

    optimise: Mapping[int, NDArray[np.int64]]
    """Indices of the images that the search uses."""
    held_out: Mapping[int, NDArray[np.int64]]
    """Indices of the images kept for verification."""


@dataclass(frozen=True, slots=True, eq=False)
class CleanSet:
    """Clean images, with labels if they are known. Arrays are read-only."""

    images: NDArray[np.float32]
    """[N, C, H, W] in [0, 1], RGB or one channel."""
    labels: NDArray[np.int64] | None
    """Class numbers [N]; None: the model's own decisions stand in (XMK note 7)."""
    name: str
    """File or folder name, without the path before it."""
    digest: str
    """sha256 of pixels and labels as they were read; names of files do not enter."""
    class_names: Mapping[int, str]
    """Names of the classes as far as folders give them."""
    warnings: tuple[str, ...] = ()
    """What weakens the evidence or was guessed."""
    found_beside_model: bool = False
    """True when no data was named and these images lay beside the model."""
    originals: Sequence[NDArray[np.float32]] | None = None
    """[C, H, W] each, when the images had several sizes; `fit_to` starts from them."""

    def __post_init__(self) -> None:
        self.images.flags.writeable = False
        if self.labels is not None:
            self.labels.flags.writeable = False

    @classmethod
    def load(
        cls,
        path: Path | str,
        *,
        labels: Path | str | None = None,
        class_names: Sequence[str] | None = None,
        found_beside_model: bool = False,
        limits: ReadLimits | None = None,
        sandbox: bool = True,
    ) -> CleanSet:
        """Read clean images from an .npz archive, a folder or a parquet file.

        Args:
            path: Archive with `x` [N, H, W, C] or [N, H, W] (uint8, or float in [0, 1]) and perhaps `y` [N]; or a
                folder with one subfolder per class, with a table of labels, with parquet files as Hugging Face stores
                them, or with image files alone (no labels).
            labels: File that numbers the class folders (`class_tables.read_tables`), or a table (CSV, TSV, JSON lines)
                of pictures and labels.
            class_names: Names of the model's classes in their order: folders that are called so get their numbers.
            found_beside_model: Whether the path was found and not named.
            limits: Bounds on what is read; None are the defaults.
            sandbox: Decode in a limited child process; False, for debugging and for files of one's own, here.

        Returns:
            The images, their labels if there are any, and warnings.

        Raises:
            CleanSetError: nothing there, or not such images; the message says what and where.
        """
        path = Path(path)
        labelling = Labelling(None if labels is None else Path(labels), class_names)
        read = _read(path, labelling, limits or ReadLimits(), sandbox=sandbox)
        return cls._made(read, path.name, found_beside_model=found_beside_model)

    @classmethod
    def from_arrays(
        cls, x: ArrayLike, y: ArrayLike | None = None, class_names: Sequence[str] | None = None, *, name: str = "arrays"
    ) -> CleanSet:
        """Clean images from arrays.

        Args:
            x: Images [N, H, W, C] or [N, H, W], uint8, or float in [0, 1].
            y: Class numbers [N], or names among `class_names`; None: the model's own decisions stand in.
            class_names: Names of the classes in their order.
            name: What reports call the images.

        Raises:
            CleanSetError: arrays of another shape, type or range, or a class without a name among names.
        """
        return cls._made(from_arrays(x, y, names_of(None, class_names), ReadLimits()), name)

    @classmethod
    def from_dataset(
        cls, dataset: Dataset, class_names: Sequence[str] | None = None, *, name: str = "dataset"
    ) -> CleanSet:
        """Clean images from a data set, such as those of torchvision or of Hugging Face; all of it is read.

        Args:
            dataset: Anything with a length that gives an image and its class number by its number, or a mapping with
                `image` and `label`: a picture of pillow, an array [H, W, C] or [H, W], or a tensor [C, H, W]; bytes or
                floats in [0, 1], so without a normalisation.
            class_names: Names of the classes in their order; by default `dataset.classes`, if it has them.
            name: What reports call the images.

        Raises:
            CleanSetError: an item that is no such image with a label.
        """
        return cls._made(from_dataset(dataset, names_of(dataset, class_names), ReadLimits()), name)

    @classmethod
    def _made(cls, read: ReadImages, name: str, *, found_beside_model: bool = False) -> CleanSet:
        digests = _digests(read.images)
        images, originals, size_note = _one_size(read.images)
        labels = b"" if read.labels is None else read.labels.tobytes()
        return cls(
            images=images,
            labels=read.labels,
            name=name,
            digest=hashlib.sha256(digests.tobytes() + labels).hexdigest(),
            class_names=read.class_names,
            warnings=(*read.warnings, *size_note, *_duplicate_note(digests, name)),
            found_beside_model=found_beside_model,
            originals=originals,
        )

    def __repr__(self) -> str:
        sizes = " x ".join(map(str, self.shape))
        labels = "no labels" if self.labels is None else f"{len(np.unique(self.labels))} classes"
        return f"<CleanSet {self.name}: {len(self.images)} images of {sizes}, {labels}>"

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the images."""
        _, channels, height, width = self.images.shape
        return channels, height, width

    def fit_to(self, shape: tuple[int, int, int]) -> CleanSet:
        """The same images in the model's shape; what had to be changed is said in a warning.

        Args:
            shape: Channels, height and width that the model takes.

        Returns:
            This set, or one with converted images.

        Raises:
            CleanSetError: the channels have no plain conversion.
        """
        if self.originals is None and self.images.shape[1:] == shape:
            return self
        images, change = fit(self.images if self.originals is None else self.originals, shape)
        return replace(self, images=images, originals=None, warnings=(*self.warnings, change))

    def check_labels(self, num_classes: int) -> None:
        """Refuse labels that the model cannot decide for.

        Raises:
            CleanSetError: a class number is not below `num_classes`.
        """
        if self.labels is None or self.labels.max() < num_classes:
            return
        first = int(np.argmax(self.labels >= num_classes))
        number = int(self.labels[first])
        known = f" ({self.class_names[number]})" if number in self.class_names else ""
        raise CleanSetError(
            f"expected class numbers below {num_classes}, found {number}{known} for image {first} of {self.name}: "
            "numbers start at 0; correct them or pass --labels"
        )

    def draw(self, labels: NDArray[np.int64], *, images_per_class: int, seed: int, num_classes: int) -> Draw:
        """Set a fifth of each class aside for verification, then limit the rest. CONTRACT, Images and preprocessing.

        Args:
            labels: Class numbers [N]: this set's, or the model's decisions.
            images_per_class: Most images of a class to search with.
            seed: Decides the draw, with the order of the images and nothing else.
            num_classes: Classes of the model.

        Returns:
            Indices into `images`, by class; a class with fewer than five images to search with is not in `optimise`.
        """
        optimise: dict[int, NDArray[np.int64]] = {}
        held_out: dict[int, NDArray[np.int64]] = {}
        for label in range(num_classes):
            # A generator a class: the draw of one class does not depend on the others.
            members = np.random.default_rng((seed, label)).permutation(np.flatnonzero(labels == label))
            aside = max(_LEAST_HELD_OUT, len(members) // _HELD_OUT_SHARE)
            rest = members[aside:][:images_per_class]
            if len(members):
                held_out[label] = np.sort(members[:aside])
            if len(rest) >= _LEAST_OPTIMISED:
                optimise[label] = np.sort(rest)
        return Draw(optimise, held_out)


def find_beside(model: Path) -> Path | None:
    """Images beside a model: `<stem>.npz`, `<stem>/`, `clean.npz` or `clean/`, the first that exists."""
    for stem in (model.stem, "clean"):
        archive, folder = model.with_name(f"{stem}.npz"), model.with_name(stem)
        if archive.is_file():
            return archive
        if folder.is_dir():
            return folder
    return None


def _read(path: Path, labelling: Labelling, limits: ReadLimits, *, sandbox: bool) -> ReadImages:
    if not path.is_dir() and not path.is_file():
        raise CleanSetError(f"expected images at {path}, found no such file or folder: check --data")
    if labelling.file is not None and not path.is_dir():
        raise CleanSetError(
            f"expected a folder with one subfolder per class for --labels, found the file {path.name}: save the class "
            "numbers as `y` in it"
        )
    with open_decoding(limits, sandbox=sandbox) as decoding:
        if path.is_dir():
            return read_folder(path, labelling, decoding)
        return decoding.parquet([path]) if path.suffix.lower() == ".parquet" else decoding.archive(path)


def _one_size(
    images: Sequence[NDArray[np.float32]] | NDArray[np.float32],
) -> tuple[NDArray[np.float32], Sequence[NDArray[np.float32]] | None, tuple[str, ...]]:
    """Images as one array; if sizes differ, resized to the commonest, and with them the originals and a note."""
    if isinstance(images, np.ndarray):
        return images, None, ()
    shapes = {image.shape for image in images}
    if len(shapes) == 1:
        return np.stack(images), None, ()
    resized, _ = fit(images, common_shape(images))
    return resized, images, (f"the images have {len(shapes)} different sizes",)


def _digests(images: Sequence[NDArray[np.float32]] | NDArray[np.float32]) -> NDArray[np.bytes_]:
    """sha256 of every image and its shape, [N] of 32 bytes: objects of Python take three times as much."""
    found = np.empty((len(images), hashlib.sha256().digest_size), np.uint8)
    for row, image in zip(found, images, strict=True):
        row[:] = np.frombuffer(hashlib.sha256(repr(image.shape).encode() + image.tobytes()).digest(), np.uint8)
    digests: NDArray[np.bytes_] = found.reshape(-1).view("S32")
    return digests


def _duplicate_note(digests: NDArray[np.bytes_], name: str) -> tuple[str, ...]:
    copies = len(digests) - len(np.unique(digests))
    if not copies:
        return ()
    return (f"{copies} of {len(digests)} images in {name} are exact copies of others and count several times",)
