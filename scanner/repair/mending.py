"""From a method to a file: the copy is made, the method learns on it, and what it learnt is written back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from backscan.converters import Artifact, ModelSignature, Normalisation
from backscan.converters.torch_import.stored import write_weights
from backscan.converters.torch_import.trainable import TrainableClassifier, import_trainable
from backscan.scanner.choices.registered import load
from backscan.scanner.repair import METHODS
from backscan.scanner.repair.lesson import Lesson


@dataclass(frozen=True, slots=True)
class Patient:
    """A file that is to be repaired."""

    artifact: Artifact
    """The file with its external data."""
    signature: ModelSignature
    """Its signature."""
    normalisation: Normalisation
    """How pixels become its input."""
    device: str | torch.device = "cpu"
    """Where its copy shall live."""


@dataclass(frozen=True, slots=True)
class Mended:
    """A file that a method has worked on."""

    artifact: Artifact
    """The file."""
    tensors: tuple[str, ...]
    """Stored tensors that differ."""
    nodes: tuple[str, ...]
    """Nodes that were added."""


def mended(
    way: str, patient: Patient, images: NDArray[np.float32], lesson: Callable[[TrainableClassifier], Lesson]
) -> Mended:
    """The file after a method that learns.

    Args:
        way: Name in `METHODS` of a method with a function.
        patient: The file.
        images: Clean images [N, C, H, W] in [0, 1], those of the lesson.
        lesson: What the method learns from, of the copy.

    Raises:
        ConverterError: the file cannot be repaired this way; the message says why.
    """
    method, artifact = METHODS[way], patient.artifact
    nodes, only = tuple[str, ...](), None
    if method.adds:
        added = load(method.adds)(artifact, patient.signature, patient.normalisation, images)
        artifact, nodes, only = added.artifact, added.nodes, added.bounds
    copy = import_trainable(artifact, patient.signature, patient.normalisation, device=patient.device, only=only)
    with torch.enable_grad():
        learnt = load(method.function)(lesson(copy))
    written = write_weights(artifact, {name: held.detach().cpu().numpy() for name, held in learnt.items()})
    return Mended(written.artifact, () if method.adds else written.tensors, nodes)
