"""Images that a program has in its hands: arrays, or a data set of images and labels as torchvision has them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from backscan.scanner.errors import CleanSetError
from backscan.scanner.images.archive import checked_images, checked_labels, unit_pixels
from backscan.scanner.images.limits import ReadImages, ReadLimits
from backscan.scanner.images.resizing import of_one_kind

if TYPE_CHECKING:
    from numpy.typing import NDArray

_IMAGES, _LABELS = ("image", "img", "pixel_values"), ("label", "labels", "fine_label", "target")


class Dataset(Protocol):
    """Anything with a length that gives an image and its label, or a mapping with both, by number."""

    def __len__(self) -> int:
        """Number of images."""
        ...

    def __getitem__(self, index: int, /) -> Any:
        """Image and label."""
        ...


def from_arrays(x: Any, y: Any, names: Mapping[int, str], limits: ReadLimits) -> ReadImages:
    """Arrays as images.

    Args:
        x: [N, H, W, C] or [N, H, W], uint8 or float in [0, 1].
        y: Class numbers [N], or None.
        names: Names of the classes.
        limits: Bounds on how much it may be.

    Raises:
        CleanSetError: the arrays are not as described.
    """
    pixels = np.asarray(x)
    checked_images(pixels.shape, pixels.dtype, limits, "the array")
    labels = None if y is None else checked_labels(_numbers(np.asarray(y), names), len(pixels), "the array")
    if labels is not None and names and labels.max(initial=0) not in names:
        raise CleanSetError(
            f"expected a name for every class number in `y`, found {len(names)} names and number {labels.max()}: pass "
            "`class_names` of all classes, in the order of the model's outputs"
        )
    images, warnings = unit_pixels(pixels, "the array")
    return ReadImages(images, labels, names, warnings)


def _numbers(y: NDArray[Any], names: Mapping[int, str]) -> NDArray[Any]:
    """Labels as class numbers: names by the place that the class names give them.

    Raises:
        CleanSetError: names that are not among the class names.
    """
    if y.dtype.kind not in "UO" or not all(isinstance(label, str) for label in y.flat):
        return y
    places = {name: number for number, name in names.items()}
    if unknown := sorted({str(label) for label in y.flat} - places.keys()):
        raise CleanSetError(
            f"expected class numbers in `y`, or names among `class_names`, found {unknown[0]!r}: pass `class_names` in "
            "the order of the model's outputs"
        )
    return np.array([places[str(label)] for label in y.flat], np.int64).reshape(y.shape)


def from_dataset(dataset: Dataset, names: Mapping[int, str], limits: ReadLimits) -> ReadImages:
    """All images of a data set.

    Raises:
        CleanSetError: an item that is no image with a label, or an image whose pixels are not in [0, 1].
    """
    images: list[NDArray[np.float32]] = []
    labels: list[int] = []
    num_values = 0
    for index, (image, label) in enumerate(_items(dataset)):
        images.append(_pixels(image, index))
        num_values += images[-1].size
        limits.check_total(num_values, "the data set")
        labels.append(_number(label, index))
    if not images:
        raise CleanSetError("expected images in the data set, found none: pass one that has some of each class")
    same, notes = of_one_kind(images)
    return ReadImages(same, np.array(labels, np.int64), names, notes)


def names_of(dataset: object, class_names: Sequence[str] | None) -> dict[int, str]:
    """Names of the classes: the given ones, else those that the data set knows."""
    known = class_names if class_names is not None else getattr(dataset, "classes", None)
    return dict(enumerate(map(str, known))) if isinstance(known, Sequence) and not isinstance(known, str) else {}


def _items(dataset: Dataset) -> Iterator[tuple[Any, Any]]:
    for index in range(len(dataset)):
        item = dataset[index]
        if isinstance(item, Mapping):
            image, label = (next((item[name] for name in known if name in item), None) for known in (_IMAGES, _LABELS))
        else:
            image, label = item if isinstance(item, Sequence) and len(item) == 2 else (None, None)
        if image is None or label is None:
            raise CleanSetError(
                f"expected an image and its label as item {index} of the data set, found {type(item).__name__}: give "
                "pairs (image, label), or mappings with `image` and `label`"
            )
        yield image, label


def _number(label: Any, index: int) -> int:
    array = np.asarray(label)
    if array.size != 1 or not np.issubdtype(array.dtype, np.integer) or array.item() < 0:
        raise CleanSetError(f"expected a class number from 0 as label of item {index}, found {label!r}: correct it")
    return int(array.item())


def _pixels(image: Any, index: int) -> NDArray[np.float32]:
    """An image [C, H, W] in [0, 1]: a tensor has its channels first, an array or picture last."""
    is_tensor = hasattr(image, "detach")
    pixels = np.asarray(image.detach().cpu().numpy() if is_tensor else image)
    if pixels.ndim == 3 and is_tensor:
        pixels = pixels.transpose(1, 2, 0)
    where = f"item {index} of the data set"
    try:
        checked_images((1, *pixels.shape), pixels.dtype, ReadLimits(), where)
        unit, _ = unit_pixels(pixels[np.newaxis], where, warns=False)
    except CleanSetError as error:
        raise CleanSetError(
            f"{error}; leave the normalisation out of the data set's transforms, `ToTensor()` or nothing is right"
        ) from error
    first: NDArray[np.float32] = unit[0]
    return first
