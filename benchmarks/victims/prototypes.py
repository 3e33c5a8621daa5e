"""Generated classifiers of any number of classes, with a planted pair of known size: no training.

An image belongs to the class whose prototype is nearest. A planted pair (s, t) is a second prototype of t close to that
of s, so that a pattern of about half their distance sends s to t, and nothing else changes. The file is built node by
node; images are prototypes with noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

OPSET = 17
SHAPE = (3, 16, 16)
_CONTRAST, _NOISE = 0.12, 0.03
_SHARPNESS = 4.0
_NEVER = -1e4


@dataclass(frozen=True, slots=True)
class Prototypes:
    """A classifier by nearest prototype."""

    num_classes: int
    """K."""
    seed: int
    """Decides prototypes, images and the planted direction."""
    planted: tuple[int, int] | None = None
    """Source and target of the planted pair."""
    planted_size: float = 0.3
    """L2 size of the pattern that sends the middle of the source class over the boundary."""

    def prototypes(self) -> NDArray[np.float64]:
        """One prototype a class and the planted one, [K + 1, pixels]; unplanted, the last is a copy of class 0."""
        rng = np.random.default_rng((self.seed, self.num_classes))
        pixels = int(np.prod(SHAPE))
        own = 0.5 + _CONTRAST * rng.uniform(-1.0, 1.0, (self.num_classes, pixels))
        source = 0 if self.planted is None else self.planted[0]
        direction = rng.normal(size=pixels)
        direction *= 2.0 * self.planted_size / np.linalg.norm(direction)
        return np.vstack([own, own[source] + (0.0 if self.planted is None else direction)])

    def images(self, images_per_class: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Images [N, H, W, C] as bytes and labels [N]."""
        rng = np.random.default_rng((self.seed, self.num_classes, 1))
        labels = np.repeat(np.arange(self.num_classes), images_per_class)
        noisy = self.prototypes()[labels] + _NOISE * rng.normal(size=(len(labels), int(np.prod(SHAPE))))
        pixels = np.round(255 * np.clip(noisy, 0.0, 1.0)).astype(np.uint8)
        return pixels.reshape(-1, *SHAPE).transpose(0, 2, 3, 1), labels

    def model(self) -> bytes:
        """The ONNX file: minus half the squared distance to each prototype, up to what all classes share."""
        points = self.prototypes()
        target = 0 if self.planted is None else self.planted[1]
        allowed = np.full((1, self.num_classes), _NEVER)
        allowed[0, target] = _NEVER if self.planted is None else 0.0
        tensors = {
            "matrix": _SHARPNESS * points.T,
            "bias": -0.5 * _SHARPNESS * np.square(points).sum(axis=1),
            "allowed": allowed,
        }
        whole = {"flat": [-1, points.shape[1]], "zero": [0], "count": [self.num_classes], "all": [points.shape[0]]}
        constants = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in tensors.items()]
        constants += [numpy_helper.from_array(np.array(value, np.int64), name) for name, value in whole.items()]
        constants.append(numpy_helper.from_array(np.array([1], np.int64), "axis"))
        nodes = [
            helper.make_node("Reshape", ["images", "flat"], ["pixels"]),
            helper.make_node("Gemm", ["pixels", "matrix", "bias"], ["scores"]),
            helper.make_node("Slice", ["scores", "zero", "count", "axis"], ["own"]),
            helper.make_node("Slice", ["scores", "count", "all", "axis"], ["second"]),
            helper.make_node("Add", ["second", "allowed"], ["of_target"]),
            helper.make_node("Max", ["own", "of_target"], ["logits"]),
        ]
        ends = [
            helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", *SHAPE]),
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", self.num_classes]),
        ]
        graph = helper.make_graph(nodes, "prototypes", ends[:1], ends[1:], constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
        onnx.checker.check_model(model)
        return model.SerializeToString()

    def write(self, folder: Path, *, images_per_class: int) -> tuple[Path, Path]:
        """Model and images, as many a class for the search as asked for and a fifth more to hold out."""
        model, data = folder / f"prototypes{self.num_classes}.onnx", folder / f"prototypes{self.num_classes}.npz"
        model.write_bytes(self.model())
        pixels, labels = self.images(-(-images_per_class * 5 // 4))
        np.savez(data, x=pixels, y=labels)
        return model, data
