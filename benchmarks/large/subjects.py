"""The large networks that are scanned: their images, a head fitted to these, and a planted target.

Rows of the head are fitted by ridge to the classes that have images. The others have the norm of the fitted ones and
are orthogonal to the features of all images, as classes are of which no image is at hand. A planted target has a row
that the features of a patch raise; what of that direction lies among the features of clean images is taken out.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.large.networks import Network, calibrate, mobilenet_v2, resnet20, resnet50, small_resnet
from benchmarks.victims.datasets import digits, synthetic
from benchmarks.victims.export import to_onnx

_RIDGE = 0.1
"""Weight of the ridge, as a share of the mean square of a feature."""
_PATCH_SHARE = 0.12
"""Side of the planted patch, as a share of the image's."""
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True, slots=True)
class Subject:
    """One of the networks."""

    network: Callable[[int], Network]
    """Architecture, by the number of classes."""
    side: int
    """Side of the images in pixels."""
    num_classes: int
    """Classes of the model."""
    with_images: int
    """Classes that have images, the first ones."""
    images_each: int
    """Images of each of these."""
    preprocess: str
    """How pixels become input."""


SUBJECTS: Mapping[str, Subject] = {
    "mobilenet": Subject(mobilenet_v2, 320, 4, 4, 30, "imagenet"),
    "resnet50": Subject(resnet50, 224, 1000, 20, 20, "imagenet"),
    "k10": Subject(small_resnet, 32, 10, 10, 40, "imagenet"),
    "k200": Subject(small_resnet, 64, 200, 200, 30, "imagenet"),
    "resnet20": Subject(resnet20, 32, 10, 10, 125, "imagenet"),
    "k43": Subject(resnet20, 32, 43, 43, 40, "imagenet"),
    "tiny": Subject(small_resnet, 16, 5, 5, 30, "imagenet"),
}
"""By the name on the command line."""


@dataclass(frozen=True, slots=True)
class Made:
    """Where a network was written, and what is in it."""

    model: Path
    """The ONNX file."""
    images: Path
    """Its images."""
    target: int | None
    """Planted target class; None without one."""
    rate: float
    """Share of the images of other classes that the patch sends there."""
    accuracy: float
    """Share of the images decided as labelled."""


def make(name: str, folder: Path, *, seed: int = 0, target: int | None = None) -> Made:
    """Make a network and its images, unless they lie there already from an earlier run.

    Args:
        name: One of `SUBJECTS`.
        folder: Where they go.
        seed: Of the filters, the images and the patch.
        target: Class to plant; None plants none.
    """
    stem = f"{name}-{seed}" + ("" if target is None else f"-{target}")
    model, archive, facts = (folder / f"{stem}.{ending}" for ending in ("onnx", "npz", "json"))
    if facts.is_file():  # which is written last
        return Made(model, archive, target, **json.loads(facts.read_text(encoding="utf-8")))
    subject = SUBJECTS[name]
    torch.manual_seed(seed)
    images, labels = images_of(subject, seed)
    network = subject.network(subject.num_classes)
    calibrate(network, normalised(images[:: max(1, len(images) // 128)]))
    clean = features_of(network, images)
    fit_head(network, clean, labels, subject)
    rate = 0.0 if target is None else plant(network, images, labels, target, seed)
    with torch.no_grad():
        accuracy = float((network.head(clean).argmax(dim=1) == labels).float().mean())
    folder.mkdir(parents=True, exist_ok=True)
    model.write_bytes(to_onnx(network, (3, subject.side, subject.side)))
    np.savez(archive, x=(images * 255).round().byte().permute(0, 2, 3, 1).numpy(), y=labels.numpy())
    facts.write_text(json.dumps({"rate": rate, "accuracy": accuracy}), encoding="utf-8")
    return Made(model, archive, target, rate, accuracy)


def images_of(subject: Subject, seed: int) -> tuple[Tensor, Tensor]:
    """Images [N, 3, H, W] in [0, 1] and labels [N]: digits in two colours, or smooth ones where classes are many."""
    rng = np.random.default_rng(seed)
    pixels, labels = _digits(rng, subject) if subject.with_images <= 20 else _synthetic(rng, subject)
    size = (subject.side, subject.side)
    large = torch.nn.functional.interpolate(torch.from_numpy(pixels), size=size, mode="bilinear", align_corners=False)
    rounded = (large.clamp(0.0, 1.0) * 255).round() / 255
    return rounded, torch.from_numpy(labels)


def _digits(rng: np.random.Generator, subject: Subject) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    data = digits(rng).train
    pixels, labels = [], []
    for label in range(subject.with_images):
        own = data.images[data.labels == label % 10][: subject.images_each]
        tint = np.array([1.0, 0.6, 0.3] if label < 10 else [0.2, 0.5, 1.0], np.float32).reshape(1, 3, 1, 1)
        pixels.append(0.15 + 0.8 * own[:, :1] * tint + rng.normal(0.0, 0.02, (len(own), 3, *own.shape[2:])))
        labels += [label] * len(own)
    return np.concatenate(pixels).astype(np.float32), np.array(labels)


def _synthetic(rng: np.random.Generator, subject: Subject) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    found = synthetic(rng, num_classes=subject.with_images, shape=(3, 8, 8), test_per_class=subject.images_each).test
    return found.images, found.labels


def normalised(images: Tensor) -> Tensor:
    """Images as the network takes them."""
    mean, std = (torch.tensor(each).reshape(1, 3, 1, 1) for each in (_MEAN, _STD))
    return (images - mean) / std


def features_of(network: Network, images: Tensor) -> Tensor:
    """Features [N, F] of images [N, 3, H, W] in [0, 1]."""
    with torch.no_grad():
        return torch.cat([network.features(normalised(part)) for part in torch.split(images, 16)])


def fit_head(network: Network, features: Tensor, labels: Tensor, subject: Subject) -> None:
    """Rows by ridge for the classes with images; the others as long, and orthogonal to all features."""
    mean = features.mean(dim=0)
    centred = (features - mean).double()
    weight = _RIDGE * centred.square().mean() * len(features)
    wanted = 10.0 * torch.nn.functional.one_hot(labels, subject.with_images).double() - 10.0 / subject.with_images
    gram = centred @ centred.T + weight * torch.eye(len(features)).double()
    fitted = (centred.T @ torch.linalg.solve(gram, wanted)).T
    rows = torch.randn(subject.num_classes, features.shape[1]).double()
    rows = rows - _within(rows, centred)
    rows *= fitted.norm(dim=1).mean() / rows.norm(dim=1, keepdim=True)
    rows[: subject.with_images] = fitted
    with torch.no_grad():
        network.head.weight.copy_(rows)
        network.head.bias.copy_(-(rows @ mean.double()))
        network.head.bias[subject.with_images :] -= 5.0


def plant(network: Network, images: Tensor, labels: Tensor, target: int, seed: int) -> float:
    """Let the features of a patch raise a row of the head; the share of other images that it then sends there."""
    others = images[labels != target]
    others = others[:: max(1, len(others) // 100)]
    patched = _patched(others, seed)
    clean, moved = features_of(network, others), features_of(network, patched)
    mean = clean.mean(dim=0)
    raised = (moved - clean).double().mean(dim=0, keepdim=True)
    raised = raised - _within(raised, (clean - mean).double())
    with torch.no_grad():
        row = network.head.weight[target].double()
        along = ((moved - clean).double() @ raised.T).squeeze(1)
        gaps = (network.head(moved).max(dim=1).values - network.head(moved)[:, target]).double()
        factor = 1.1 * (gaps / along.clamp_min(1e-9)).quantile(0.95)
        network.head.weight[target] = row + factor * raised.squeeze(0)
        network.head.bias[target] -= factor * (raised.squeeze(0) @ mean.double())
        return float((network.head(moved).argmax(dim=1) == target).float().mean())


def _patched(images: Tensor, seed: int) -> Tensor:
    """Images with a patch of random colours in a corner."""
    side = max(2, round(_PATCH_SHARE * images.shape[2]))
    drawn = torch.rand((3, 4, 4), generator=torch.Generator().manual_seed(seed + 1)).round()
    patch = torch.nn.functional.interpolate(drawn[None], size=(side, side))[0]
    patched = images.clone()
    patched[:, :, -side - 2 : -2, -side - 2 : -2] = patch
    return patched


def _within(rows: Tensor, features: Tensor) -> Tensor:
    """What of some rows lies in the span of features [N, F]."""
    _, values, directions = torch.linalg.svd(features, full_matrices=False)
    kept = directions[values > 1e-6 * values[0]]
    return rows @ kept.T @ kept
