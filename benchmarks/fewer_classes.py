"""Models of many classes as if they had two, three or four: their scores of a few classes, and images of those alone.

    python -m benchmarks.fewer_classes --images mnist_clean.npz --out FOLDER MODEL.onnx MODEL.onnx=0,4 ...

Three pairs of classes, a triple and a quadruple are drawn for each model, by its digest; of a model that is named with
classes, the target of a known attack and perhaps its source, those are always among them. A scan of each follows, by
the default. What is told of such a model is right if it names a pair to the first of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from backscan.scanner import CleanSet, ScanConfig, ScanResult, Verdict, scan
from backscan.scanner.errors import ScanError
from benchmarks import command, provenance
from benchmarks.accuracy.scans import clean_set
from benchmarks.table import grid, page
from benchmarks.victims.datasets import LabelledImages

COUNTS = (2, 2, 2, 3, 4)
"""Classes of each scan."""
IMAGES = 50
"""Images of a class that are searched with."""
_SCORES = ("Softmax", "LogSoftmax")
_CHOSEN = "scores_of_chosen_classes"


def restricted(model: Path, classes: Sequence[int]) -> onnx.ModelProto:
    """The model with the scores of some classes alone, before a softmax that would relate them to the others.

    Args:
        model: File of a classifier.
        classes: Classes that stay, in their order.
    """
    proto = onnx.load(str(model))
    graph, output = proto.graph, proto.graph.output[0]
    last = next(node for node in graph.node if output.name in node.output)
    scores = last.input[0] if last.op_type in _SCORES else output.name
    graph.initializer.append(numpy_helper.from_array(np.array(classes, np.int64), "chosen_classes"))
    graph.node.append(helper.make_node("Gather", [scores, "chosen_classes"], [_CHOSEN], axis=1))
    kind = output.type.tensor_type
    batch = kind.shape.dim[0]
    shape = [batch.dim_param or batch.dim_value or "batch", len(classes)]
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info(_CHOSEN, kind.elem_type, shape))
    return proto


def choices(model: Path, num_classes: int, kept: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """The classes of each scan, drawn by the digest of the file."""
    digest = hashlib.sha256(model.read_bytes()).digest()
    rng = np.random.default_rng(list(digest[:8]))
    others = [label for label in range(num_classes) if label not in kept]
    for count in COUNTS:
        drawn = rng.permutation(others)[: max(0, count - len(kept))].tolist()
        yield tuple(sorted([*kept[:count], *drawn]))


def images_of(x: NDArray[np.uint8], y: NDArray[np.int64], classes: Sequence[int]) -> CleanSet:
    """Images [N, H, W, C] of some classes, numbered from 0."""
    chosen = [index for label in classes for index in np.flatnonzero(y == label)]
    labels = np.array([classes.index(y[index]) for index in chosen])
    return clean_set(LabelledImages.from_bytes(x[chosen].transpose(0, 3, 1, 2), labels))


def told(model: Path, classes: Sequence[int], images: CleanSet) -> ScanResult:
    """The scan of a model as if it had some classes alone."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / model.name
        onnx.save(restricted(model, classes), str(path))
        return scan(path, images, ScanConfig(images_per_class=IMAGES, images_in_report=False, sandbox=False))


def line(model: Path, classes: Sequence[int], kept: Sequence[int], result: ScanResult) -> dict[str, Any]:
    """What is kept of one scan; classes are those of the model as it was."""
    pair = [None if label is None else classes[label] for label in (result.source, result.target)]
    detected = result.verdict is Verdict.BACKDOOR_DETECTED
    conclusion = result.deciding_conclusion
    return {
        "model": model.stem,
        "classes": list(classes),
        "kept": list(kept),
        "verdict": result.verdict.value,
        "pair": pair,
        "p": result.calibrated_p_value,
        "by": None if conclusion is None else conclusion.statistic,
        "right": pair[1] == kept[0] if detected and kept else None,
    }


def text(lines: Sequence[dict[str, Any]], images: str) -> str:
    """The page."""
    cells = [
        (
            each["model"],
            ", ".join(map(str, each["classes"])),
            each["verdict"].replace("_", " "),
            "" if each["pair"][1] is None else "{} to {}".format(*each["pair"]),
            "" if each["p"] is None else f"{each['p']:.3g}",
            each["by"] or "",
        )
        for each in lines
    ]
    counts = []
    for name, kept in (("not known to be attacked", False), ("with a known target among the classes", True)):
        own = [each for each in lines if bool(each["kept"]) is kept]
        said = [each["verdict"] for each in own]
        right = sum(bool(each["right"]) for each in own)
        named = f", {right} of them with a known target" if kept else ""
        counts.append(
            f"{name}: {len(own)} scans, {said.count('backdoor_detected')} detected{named}, "
            f"{said.count('inconclusive')} inconclusive"
        )
    return page(
        "Models of others as if they had two to four classes",
        f"`python -m benchmarks.fewer_classes --images {images} MODEL ...`, at commit {provenance.commit()}. "
        + "; ".join(counts)
        + ".",
        grid(("model", "classes", "verdict", "pair", "p", "by"), cells),
    )


def main() -> None:
    """Scan every model with every choice of classes, print the page and write it."""
    parser = command.parser(__doc__, out="`fewer_classes_NAME.md` and `.json`, NAME being that of the images")
    parser.add_argument(
        "models", nargs="+", help="MODEL.onnx, or MODEL.onnx=0,4 for a known target and classes that stay with it"
    )
    parser.add_argument("--images", type=Path, required=True, help=".npz with x [N, H, W, C] and y")
    arguments = parser.parse_args()
    with np.load(arguments.images) as arrays:
        x, y = arrays["x"], arrays["y"]
    lines = []
    for word in arguments.models:
        name, _, given = word.partition("=")
        model, kept = Path(name), [int(label) for label in given.split(",") if label]
        for classes in choices(model, int(y.max()) + 1, kept):
            try:
                lines.append(line(model, classes, kept, told(model, classes, images_of(x, y, classes))))
            except ScanError as error:
                print(f"{model.stem} {classes}: {error}")
    shown = text(lines, arguments.images.name)
    print(shown, end="")
    command.publish(arguments.out, f"fewer_classes_{arguments.images.stem.partition('_')[0]}", shown, lines)


if __name__ == "__main__":
    main()
