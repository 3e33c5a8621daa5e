"""Models of texts, sound, boxes, maps and embeddings are named as such; classifiers of images are not."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from backscan.converters.errors import ConverterError, SignatureError
from backscan.converters.intake.artifact import artifact_from_bytes
from backscan.converters.intake.audit import audit, enforce
from backscan.converters.intake.tasks import other_task
from backscan.converters.signature.signature import ModelSignature, read_signature
from tests import planted

RNG = np.random.default_rng(0)
TENSORS = {
    "table": RNG.normal(size=(50, 6)),
    "m": RNG.normal(size=(6, 4)),
    "wave": RNG.normal(size=(6, 1, 5)),
    "w": RNG.normal(size=(5, 3, 3, 3)),
    "m5": RNG.normal(size=(5, 4)),
    "axes": np.array([1], np.int64),
}


def model(body: str, takes: str, gives: str) -> onnx.ModelProto:
    made = parser.parse_model(f'<ir_version: 8, opset_import: ["" : 18]> g ({takes}) => ({gives}) {{ {body} }}')
    used = {name for node in made.graph.node for name in node.input}
    made.graph.initializer.extend(
        numpy_helper.from_array(array if array.dtype == np.int64 else array.astype(np.float32), name)
        for name, array in TENSORS.items()
        if name in used
    )
    return made


def opened(made: onnx.ModelProto) -> ModelSignature:
    data = made.SerializeToString()
    enforce(audit(data))
    return read_signature(artifact_from_bytes("m.onnx", data))


LOOKED_UP = "e = Gather(table, ids) p = ReduceMean <keepdims = 0> (e, axes) scores = MatMul(p, m)"
POOLED = "c = Conv(image, w) g = GlobalAveragePool(c) f = Flatten(g)"
IMAGE = "float[N,3,8,8] image"
OTHERS = {
    "token ids, as many as a picture has pixels": (
        LOOKED_UP,
        "int64[N,64] ids",
        "float[N,4] scores",
        "a model of texts (input 'ids' holds token ids",
    ),
    "token ids of any length": (LOOKED_UP, "int64[N,L] ids", "float[N,4] scores", "a model of texts"),
    "token ids that are cast": (
        "i = Cast <to = 7> (ids) " + LOOKED_UP.replace("ids", "i"),
        "int32[N,64] ids",
        "float[N,4] scores",
        "a model of texts",
    ),
    "images and texts": (
        LOOKED_UP.replace("scores", "t") + " " + POOLED + " v = MatMul(f, m5) scores = Add(t, v)",
        f"{IMAGE}, int64[N,64] ids",
        "float[N,4] scores",
        "a model of images and texts",
    ),
    "a waveform": (
        "c = Conv(sound, wave) g = GlobalAveragePool(c) f = Flatten(g) scores = MatMul(f, m)",
        "float[N,1,16384] sound",
        "float[N,4] scores",
        "a model of sound or of another signal",
    ),
    "a waveform of any length": (
        "c = Conv(sound, wave) g = GlobalAveragePool(c) f = Flatten(g) scores = MatMul(f, m)",
        "float[N,1,L] sound",
        "float[N,4] scores",
        "a model of sound or of another signal",
    ),
    "a map": ("maps = Conv(image, w)", IMAGE, "float[N,5,6,6] maps", "a model of segmentation"),
    "pictures": (
        'maps = Resize <mode = "nearest"> (image, , sizes)',
        IMAGE,
        "float[N,3,16,16] maps",
        "a model that makes pictures of pictures",
    ),
    "rows of boxes and scores": (
        "c = Conv(image, w) r = Reshape(c, rows)",
        IMAGE,
        "float[N,9,20] r",
        "a detector of objects, or another model with rows of numbers",
    ),
    "embeddings": (
        POOLED + " n = ReduceL2 <keepdims = 1> (f, axes) e = Div(f, n)",
        IMAGE,
        "float[N,5] e",
        "a model that gives embeddings (output 'e' has the length 1",
    ),
    "embeddings by one operator": (
        POOLED + " n = LpNormalization <axis = 1, p = 2> (f) e = Identity(n)",
        IMAGE,
        "float[N,5] e",
        "a model that gives embeddings",
    ),
}
TENSORS |= {"sizes": np.array([1, 1, 2, 2], np.float32), "rows": np.array([-1, 9, 20], np.int64)}


@pytest.mark.parametrize("case", OTHERS)
def test_models_of_something_else_are_named(case: str) -> None:
    body, takes, gives, said = OTHERS[case]
    with pytest.raises(ConverterError) as refused:
        opened(model(body, takes, gives))
    assert said in str(refused.value)
    assert "backscan scans classifiers of images" in str(refused.value)


def test_a_detector_with_its_choice_among_boxes_is_named_before_its_operator_is_refused() -> None:
    made = model("r = NonMaxSuppression(boxes, scores)", "float[1,9,4] boxes, float[1,2,9] scores", "int64[K,3] r")
    report = audit(made.SerializeToString())
    assert [violation.rule for violation in report.violations][:1] == ["task"]
    assert "a detector of objects (NonMaxSuppression chooses among boxes)" in report.violations[0].message


@pytest.mark.parametrize(
    "data",
    [planted.convolutional(), planted.linear_softmax(), planted.linear_softmax(head="probabilities", num_classes=2)],
)
def test_classifiers_of_images_are_not_taken_for_anything_else(data: bytes) -> None:
    assert other_task(onnx.load_model_from_string(data).graph) is None
    assert audit(data).accepted
    read_signature(artifact_from_bytes("m", data))


def test_rows_of_pixels_may_meet_a_convolution_along_them() -> None:
    """Digits row by row, as networks for sequences read them, are pictures all the same."""
    body = "c = Conv(image, wave) g = GlobalAveragePool(c) f = Flatten(g) scores = MatMul(f, m)"
    assert opened(model(body, "float[N,1,784] image", "float[N,4] scores")).input_shape == (1, 28, 28)


def test_a_palette_is_no_table_of_words() -> None:
    made = model(
        "i = Cast <to = 7> (image) e = Gather(palette, i) p = ReduceMean <keepdims = 0> (e, two) s = MatMul(p, m)",
        "uint8[N,8,8] image",
        "float[N,4] s",
    )
    palette = RNG.normal(size=(256, 6)).astype(np.float32)
    extra = {"two": np.array([1, 2], np.int64), "palette": palette}
    made.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in extra.items())
    assert opened(made).num_classes == 4


def test_scores_beside_embeddings_are_what_is_scanned() -> None:
    body = POOLED + " n = ReduceL2 <keepdims = 1> (f, axes) e = Div(f, n) scores = MatMul(e, m5)"
    made = model(body, IMAGE, "float[N,5] e, float[N,4] scores")
    assert opened(made).output_name == "scores"
    body = body.replace("scores = MatMul(e, m5)", "s = MatMul(f, m5)")
    alone = model(body, IMAGE, "float[N,5] e, float[N,4] s")
    assert opened(alone).output_name == "s"
    with pytest.raises(SignatureError, match="embeddings"):
        read_signature(artifact_from_bytes("m", alone.SerializeToString()), output_name="e")


def test_probabilities_without_doubt_are_no_embeddings() -> None:
    """One-hot rows have the length 1 too."""
    body = POOLED + " h = Mul(f, steep) x = Exp(h) t = ReduceSum <keepdims = 1> (x, axes) p = Div(x, t)"
    made = model(body, IMAGE, "float[N,5] p")
    made.graph.initializer.append(numpy_helper.from_array(np.float32(20), "steep"))
    assert opened(made).output_kind == "probabilities"
