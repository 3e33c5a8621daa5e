"""What every planted switch is made of: nodes added to a copy of a model, between its scores and its output."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, TensorProto, helper, numpy_helper

TARGET = 1
PATCH = 3
STRONG = 1000.0
THRESHOLD = 0.95


class Planter:
    """Adds nodes to a copy of a model between its scores and its output."""

    def __init__(self, model: ModelProto, shape: tuple[int, int, int], num_classes: int) -> None:
        self.model = ModelProto()
        self.model.CopyFrom(model)
        self.shape = shape
        self.num_classes = num_classes
        self.graph: GraphProto = self.model.graph
        self.image = self.graph.input[0].name
        self._output = self.graph.output[0].name
        self.scores = f"{self._output}_before"
        self._rename(self._output, self.scores)
        self._count = 0

    def add(self, operator: str, *inputs: str, outputs: int = 1, **attributes: object) -> str:
        """Add a node; return the name of what it gives last."""
        self._count += 1
        name = f"planted_{self._count}"
        names = [*(f"{name}_{index}" for index in range(outputs - 1)), name]
        self.graph.node.append(helper.make_node(operator, list(inputs), names, name=f"{name}_node", **attributes))
        return name

    def constant(self, value: object, dtype: type = np.float32) -> str:
        """Store a constant; return its name."""
        self._count += 1
        name = f"planted_{self._count}"
        self.graph.initializer.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def target_scores(self, value: float = STRONG) -> str:
        """A constant row [1, K] that is `value` at the target and 0 elsewhere."""
        row = np.zeros((1, self.num_classes), np.float32)
        row[0, TARGET] = value
        return self.constant(row)

    def reduce(self, operator: str, name: str, axes: list[int]) -> str:
        """Add a reduction along axes, which are kept; since opset 18 they are an input, for sums since 13."""
        since = 13 if operator == "ReduceSum" else 18
        if self.model.opset_import[0].version >= since:
            return self.add(operator, name, self.constant(axes, np.int64), keepdims=1)
        return self.add(operator, name, axes=axes, keepdims=1)

    def patch_mean(self) -> str:
        """Mean of the patch of every image, [N, 1]."""
        _, height, width = self.shape
        bounds = ([height - PATCH, width - PATCH], [height, width], [2, 3])
        patch = self.add("Slice", self.image, *(self.constant(bound, np.int64) for bound in bounds))
        flat = self.add("Flatten", patch)
        return self.reduce("ReduceMean", flat, [1])

    def fires(self) -> str:
        """Whether the patch is white, [N, 1]."""
        return self.add("Greater", self.patch_mean(), self.constant(THRESHOLD))

    def to_number(self, name: str, kind: int = TensorProto.FLOAT) -> str:
        """A predicate as a number."""
        return self.add("Cast", name, to=kind)

    def switch_image(self, name: str) -> None:
        """Let everything that reads the image read another value, except what was planted."""
        for node in self.graph.node:
            if not node.name.startswith("planted_"):
                for index, given in enumerate(node.input):
                    node.input[index] = name if given == self.image else given

    def finish(self, name: str) -> ModelProto:
        """Make a value the output, put the nodes in order, and return the model."""
        self._rename(name, self._output)
        self.graph.node.sort(key=_order(self.graph))
        onnx.checker.check_model(self.model)
        return self.model

    def _rename(self, old: str, new: str) -> None:
        for node in self.graph.node:
            for names in (node.input, node.output):
                for index, name in enumerate(names):
                    names[index] = new if name == old else name


def _order(graph: GraphProto) -> Callable[[onnx.NodeProto], int]:
    """Depth of each node, for sorting."""
    makers = {name: node for node in graph.node for name in node.output}
    depths: dict[str, int] = {}

    def depth(name: str) -> int:
        if name not in makers:
            return 0
        if name not in depths:
            depths[name] = 1 + max((depth(given) for given in _reads(makers[name])), default=0)
        return depths[name]

    return lambda node: depth(node.output[0])


def _reads(node: onnx.NodeProto) -> list[str]:
    inner = [n for attribute in node.attribute for child in attribute.g.node for n in _reads(child)]
    return [*node.input, *inner]


def steep(plant: Planter, slope: float = 1000.0) -> str:
    """How far the patch is above the threshold, times a slope."""
    return plant.add("Mul", plant.add("Sub", plant.patch_mean(), plant.constant(THRESHOLD)), plant.constant(slope))


def mix(plant: Planter, gate: str) -> str:
    """The scores where the gate is 0, the target where it is 1."""
    rest = plant.add("Sub", plant.constant(1.0), gate)
    return plant.add(
        "Add", plant.add("Mul", plant.scores, rest), plant.add("Mul", gate, plant.target_scores())
    )  # fmt: skip
