"""How surely a network that was trained too long tells which of two readings of the pixels is its own.

    python -m benchmarks.readings --out benchmarks/results

Small networks for scikit-learn's digits are trained under one reading, for some epochs and for far too many, and asked
about other digits under every reading. A reading that decides as well by the scanner's paired test is tied with the
true one. Of tied readings one of a larger scale is left out where the labels are plainly more surprising by it: the
table has the ratio of mean surprise, larger scale over smaller, of true readings (which must stay) and of others.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from backscan.scanner.images.candidates import candidate
from backscan.scanner.images.likelihood import PLAINLY, surprise
from backscan.scanner.images.preprocessing import paired_p_value
from benchmarks import command
from benchmarks.provenance import commit
from benchmarks.table import grid, page
from benchmarks.victims.datasets import LabelledImages, load_dataset

READINGS = ("none", "symmetric", "mnist", "raw")
EPOCHS = {"as usual": 30, "far too long": 300}
_TIED = 0.01
_BATCH = 64


def networks() -> Iterator[tuple[str, nn.Module]]:
    """Untrained networks for images of 8 x 8, by name."""
    yield "mlp", nn.Sequential(nn.Flatten(), nn.Linear(64, 100), nn.ReLU(), nn.Linear(100, 10))
    convolved = (nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten())
    yield "conv", nn.Sequential(*convolved, nn.Linear(256, 64), nn.ReLU(), nn.Linear(64, 10))
    convolved = (nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.ReLU(), nn.Flatten())
    yield "conv, dropout", nn.Sequential(*convolved, nn.Dropout(0.5), nn.Linear(576, 10))


def read(images: NDArray[np.float32], reading: str) -> torch.Tensor:
    """Images in [0, 1] as a network gets them under a reading."""
    scale, shift = candidate(reading).affine(1)
    return torch.from_numpy(images) * float(scale[0]) + float(shift[0])


def scale_of(reading: str) -> float:
    """What a reading makes of the step from black to white."""
    return float(candidate(reading).affine(1)[0][0])


def train(network: nn.Module, data: LabelledImages, reading: str, epochs: int) -> None:
    """Fit a network to images under a reading."""
    images, labels = read(data.images, reading), torch.from_numpy(data.labels)
    rate = torch.optim.Adam(network.parameters(), 1e-3)
    for _ in range(epochs):
        for chosen in torch.randperm(len(images)).split(_BATCH):
            loss = nn.functional.cross_entropy(network(images[chosen]), labels[chosen])
            rate.zero_grad()
            loss.backward()
            rate.step()
    network.eval()


def asked(network: nn.Module, data: LabelledImages, reading: str) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Which images [N] are decided rightly under a reading, and how surprising their labels are."""
    with torch.no_grad():
        posterior = network(read(data.images, reading)).softmax(dim=1).numpy()
    return posterior.argmax(axis=1) == data.labels, surprise(posterior[np.arange(len(posterior)), data.labels])


def ties() -> Iterator[tuple[str, str, str, str, float, bool]]:
    """(epochs, network, its reading, a tied one, ratio of surprise, whether its own is the larger scale)."""
    for when, epochs in EPOCHS.items():
        for own in READINGS:
            for seed, (name, network) in enumerate(networks()):
                torch.manual_seed(seed)
                data = load_dataset("digits", seed=seed)
                train(network, data.train, own, epochs)
                right, surprises = asked(network, data.test, own)
                for other in READINGS:
                    also_right, theirs = asked(network, data.test, other)
                    if scale_of(other) == scale_of(own) or paired_p_value(also_right, right) <= _TIED:
                        continue
                    is_larger = scale_of(own) > scale_of(other)
                    ratio = float(np.mean(surprises) / np.mean(theirs))
                    yield when, name, own, other, ratio if is_larger else 1.0 / ratio, is_larger


def main() -> None:
    """Train, ask, print the page and write it."""
    arguments = command.parser(__doc__, out="`readings.md` and `readings.json`").parse_args()
    torch.set_num_threads(1)
    found = list(ties())
    true, false = ([each[4] for each in found if each[5] is is_larger] for is_larger in (True, False))
    out = sum(ratio >= PLAINLY for ratio in false)
    told = page(
        "Readings of the pixels that are tied",
        f"Made by `python -m benchmarks.readings --out benchmarks/results` at commit {commit()}. Of two tied readings "
        f"the larger is left out from a ratio of {PLAINLY:g} on. Where the larger is the true one the ratio is at most "
        f"{max(true, default=0.0):.2f} ({len(true)} ties); where the smaller is, {out} of {len(false)} are left out.",
        grid(
            (
                "trained",
                "network",
                "its reading",
                "tied with",
                "surprise by the larger over the smaller",
                "own is larger",
            ),
            [(*each[:4], f"{each[4]:.2f}", "yes" if each[5] else "no") for each in found],
        ),
    )
    print(told, end="")
    command.publish(arguments.out, "readings", told, {"commit": commit(), "ties": found})


if __name__ == "__main__":
    main()
