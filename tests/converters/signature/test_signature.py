"""What is read from a model: layout, sizes, batch, output and its kind; and what is refused, with the remedy."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper, parser

from backscan.converters.errors import SignatureError
from backscan.converters.intake.artifact import artifact_from_bytes, with_external
from backscan.converters.ort_classifier import open_runtime
from backscan.converters.parity.parity import compare
from backscan.converters.signature.signature import ModelSignature, Normalisation, read_signature
from backscan.converters.torch_import.importer import import_model
from tests import planted


def signature_of(data: bytes, **options: object) -> ModelSignature:
    return read_signature(artifact_from_bytes("m.onnx", data), **options)


def text_model(body: str, *, image: str, outputs: str, tensors: dict[str, np.ndarray] | None = None) -> bytes:
    model = parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> g ({image}) => ({outputs}) {{ {body} }}')
    arrays = {"w": np.ones((4, 3, 3, 3), np.float32)} | (tensors or {})
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in arrays.items())
    return model.SerializeToString()


POOLED = "c = Conv(image, w) p = GlobalAveragePool(c) scores = Flatten(p)"


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("make", [planted.linear_softmax, planted.convolutional])
def test_layout_and_sizes(make, layout: str) -> None:
    signature = signature_of(make(image_shape=(3, 5, 7), layout=layout))
    assert (signature.layout, signature.input_shape) == (layout, (3, 5, 7))
    assert (signature.input_name, signature.output_name, signature.num_classes) == ("image", "scores", 4)
    assert (signature.dtype, signature.opset, signature.producer) == ("float32", 17, "planted")


def test_the_convolution_decides_where_the_sizes_do_not() -> None:
    """An image of 3 x 3 pixels with 3 channels: only the transpose before the convolution tells the layout."""
    assert signature_of(planted.convolutional(image_shape=(3, 3, 3), layout="NHWC")).layout == "NHWC"
    assert signature_of(planted.convolutional(image_shape=(3, 3, 3), layout="NCHW")).layout == "NCHW"


@pytest.mark.parametrize("head", planted.HEADS)
def test_output_kind(head: str) -> None:
    assert signature_of(planted.linear_softmax(head=head)).output_kind == head


@pytest.mark.parametrize("batch", [None, 1, 3])
def test_batch(batch: int | None) -> None:
    assert signature_of(planted.linear_softmax(batch=batch)).batch == batch


def test_batch_that_is_free_in_name_only() -> None:
    """The input says N, a constant inside says 1; onnxruntime at batch 2 tells."""
    model = onnx.load_model_from_string(planted.linear_softmax(batch=1))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "N"
    assert signature_of(model.SerializeToString()).batch == 1


def test_external_data_is_used() -> None:
    artifact = artifact_from_bytes("m", planted.linear_softmax(external="weight.bin"))
    assert read_signature(with_external(artifact, planted.external_weight())).num_classes == 4


def test_grey_images_without_a_channel_axis() -> None:
    body = "f = Flatten(image) scores = Gemm(f, m)"
    data = text_model(
        body, image="float[N,4,5] image", outputs="float[N,3] scores", tensors={"m": np.ones((20, 3), "f")}
    )
    signature = signature_of(data)
    assert (signature.layout, signature.input_shape) == ("NHW", (1, 4, 5))


@pytest.mark.parametrize(
    ("pixels", "size", "shape"), [(64, None, (1, 8, 8)), (48, None, (3, 4, 4)), (40, (5, 8), (1, 5, 8))]
)
def test_flat_pixels(pixels: int, size: tuple[int, int] | None, shape: tuple[int, int, int]) -> None:
    data = text_model(
        "scores = Gemm(image, m)",
        image=f"float[N,{pixels}] image",
        outputs="float[N,3] scores",
        tensors={"m": np.ones((pixels, 3), "f")},
    )
    signature = signature_of(data, image_size=size)
    assert (signature.layout, signature.input_shape) == ("NC", shape)


def test_flat_pixels_that_are_no_square() -> None:
    data = text_model(
        "scores = Gemm(image, m)",
        image="float[N,40] image",
        outputs="float[N,3] scores",
        tensors={"m": np.ones((40, 3), "f")},
    )
    with pytest.raises(SignatureError, match="--image-size H W"):
        signature_of(data)


def test_any_image_size_must_be_given_and_may_not_contradict() -> None:
    free = text_model(POOLED, image="float[N,3,H,W] image", outputs="float[N,4] scores")
    with pytest.raises(SignatureError, match="images of any size: pass --image-size"):
        signature_of(free)
    assert signature_of(free, image_size=(9, 11)).input_shape == (3, 9, 11)
    with pytest.raises(SignatureError, match="takes images of 6 x 6, not 9 x 11"):
        signature_of(planted.linear_softmax(), image_size=(9, 11))


def test_unknown_channels_come_from_the_convolution() -> None:
    data = text_model(POOLED, image="float[N,C,8,8] image", outputs="float[N,4] scores")
    assert signature_of(data).input_shape == (3, 8, 8)


def test_labels_and_features_are_not_the_classifying_output() -> None:
    body = """
        c = Conv(image, w) features = GlobalAveragePool(c) scores = Flatten(features)
        label = ArgMax <axis = 1, keepdims = 0> (scores)
    """
    data = text_model(
        body, image="float[N,3,8,8] image", outputs="int64[N] label, float[N,4] scores, float[N,4,1,1] features"
    )
    signature = signature_of(data)
    assert signature.output_name == "scores"
    assert set(signature.other_outputs) == {"label", "features"}


def test_probabilities_are_preferred_to_the_logits_that_they_come_from() -> None:
    body = f"{POOLED} probabilities = Softmax(scores)"
    data = text_model(body, image="float[N,3,8,8] image", outputs="float[N,4] scores, float[N,4] probabilities")
    assert signature_of(data).output_name == "probabilities"
    assert signature_of(data, output_name="scores").output_kind == "logits"


def test_copies_of_what_leads_to_the_probabilities_are_not_the_classifying_output() -> None:
    """Exporters hand every output on by an `Identity`, so the softmax reads another name than the output's."""
    body = f"""{POOLED.replace("scores", "sums")}
        probabilities = Softmax(sums) scores = Identity(sums) copy = Identity(sums)
        label = ArgMax <axis = 1, keepdims = 0> (sums)
    """
    outputs = "int64[N] label, float[N,4] scores, float[N,4] copy, float[N,4] probabilities"
    signature = signature_of(text_model(body, image="float[N,3,8,8] image", outputs=outputs))
    assert signature.output_name == "probabilities"
    both = text_model(body, image="float[N,3,8,8] image", outputs="float[N,4] scores, float[N,4] copy")
    assert signature_of(both).output_name == "scores"


def test_labels_alone_are_no_scores() -> None:
    """What is chosen at each place of a map has no vector of scores behind it."""
    body = "c = Conv(image, w) label = ArgMax <axis = 1, keepdims = 0> (c)"
    data = text_model(body, image="float[N,3,8,8] image", outputs="int64[N,6,6] label")
    with pytest.raises(SignatureError, match=r"'label' \(ArgMax gives labels, which have no gradient\)"):
        signature_of(data)


@pytest.mark.parametrize(("last", "axis"), [("scores = Identity(f)", 0), ("scores = Transpose(f)", 1)])
def test_as_many_images_as_classes_are_told_apart(last: str, axis: int) -> None:
    body = f"c = Conv(image, w) p = GlobalAveragePool(c) f = Flatten(p) {last}"
    signature = signature_of(text_model(body, image="float[4,3,8,8] image", outputs="float[4,4] scores"))
    assert (signature.batch, signature.batch_axis) == (4, axis)


TWO_HEADS = {"a": np.ones((4, 5), "f"), "b": np.ones((4, 2), "f")}


def test_heads_of_different_width_must_be_chosen() -> None:
    body = f"{POOLED} first = Gemm(scores, a) second = Gemm(scores, b)"
    data = text_model(
        body, image="float[N,3,8,8] image", outputs="float[N,5] first, float[N,2] second", tensors=TWO_HEADS
    )
    with pytest.raises(SignatureError, match="pass --output-name"):
        signature_of(data)
    assert signature_of(data, output_name="second").num_classes == 2
    with pytest.raises(SignatureError, match="'third' is no output"):
        signature_of(data, output_name="third")


@pytest.mark.parametrize("shape", ["float[N,4,1,1]", "float[N,1,4]", "float[4,N]"])
def test_unit_axes_and_a_class_axis_that_is_not_the_last(shape: str) -> None:
    last = {
        "float[N,4,1,1]": "scores = Identity(p)",
        "float[N,1,4]": "f = Flatten(p) axis = Constant <value_ints = [1]> () scores = Unsqueeze(f, axis)",
        "float[4,N]": "f = Flatten(p) scores = Transpose(f)",
    }[shape]
    body = f"c = Conv(image, w) p = GlobalAveragePool(c) {last}"
    signature = signature_of(text_model(body, image="float[N,3,8,8] image", outputs=f"{shape} scores"))
    assert signature.num_classes == 4
    assert signature.batch_axis == (1 if shape == "float[4,N]" else 0)


def test_one_sigmoid_is_two_classes() -> None:
    body = f"{POOLED} z = ReduceMean <axes = [1]> (scores) one = Sigmoid(z)"
    signature = signature_of(text_model(body, image="float[N,3,8,8] image", outputs="float[N,1] one"))
    assert (signature.output_kind, signature.num_scores, signature.num_classes) == ("sigmoids", 1, 2)


def test_a_map_of_scores_is_no_classifier() -> None:
    data = text_model("scores = Conv(image, w)", image="float[N,3,8,8] image", outputs="float[N,4,6,6] scores")
    with pytest.raises(SignatureError, match="expected an output with one score for each class"):
        signature_of(data)


def test_two_inputs_without_defaults_are_refused_by_name() -> None:
    body = f"{POOLED.replace('scores', 'sums')} scores = Mul(sums, temperature)"
    data = text_model(body, image="float[N,3,8,8] image, float temperature", outputs="float[N,4] scores")
    with pytest.raises(SignatureError, match=r"found 2 \(image, temperature"):
        signature_of(data)


def test_an_input_with_a_default_is_not_asked_for() -> None:
    body = f"{POOLED.replace('scores', 'sums')} scores = Mul(sums, temperature)"
    data = text_model(
        body,
        image="float[N,3,8,8] image, float temperature",
        outputs="float[N,4] scores",
        tensors={"temperature": np.array(2, "f")},
    )
    assert signature_of(data).input_name == "image"


def test_two_channels_are_no_image() -> None:
    data = text_model(
        "p = GlobalAveragePool(image) scores = Flatten(p)", image="float[N,2,8,8] image", outputs="float[N,2] scores"
    )
    with pytest.raises(SignatureError, match="1, 3 or 4 channels"):
        signature_of(data)


def test_precision() -> None:
    assert signature_of(planted.linear_softmax()).precision == "float"
    quantised = """
        q = QuantizeLinear(image, s, z) i = DequantizeLinear(q, s, z)
        c = Conv(i, w) p = GlobalAveragePool(c) scores = Flatten(p)
    """
    tensors = {"s": np.array(0.01, "f"), "z": np.array(0, np.uint8)}
    data = text_model(quantised, image="float[N,3,8,8] image", outputs="float[N,4] scores", tensors=tensors)
    assert signature_of(data).precision == "quantised"
    half = text_model(
        POOLED,
        image="float16[N,3,8,8] image",
        outputs="float16[N,4] scores",
        tensors={"w": np.ones((4, 3, 3, 3), np.float16)},
    )
    assert (signature_of(half).precision, signature_of(half).dtype) == ("half", "float16")


def test_text_is_no_image() -> None:
    value = helper.make_tensor_value_info("image", onnx.TensorProto.STRING, ["N", 3, 8, 8])
    out = helper.make_tensor_value_info("scores", onnx.TensorProto.STRING, ["N", 3, 8, 8])
    graph = helper.make_graph([helper.make_node("Identity", ["image"], ["scores"])], "g", [value], [out])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    with pytest.raises(SignatureError, match="STRING"):
        signature_of(model.SerializeToString())


@pytest.mark.parametrize(
    "values", [{"channel_order": "grb"}, {"low": 1.0, "high": 1.0}, {"std": (1.0, 0.0, 1.0)}, {"std": (-1.0,)}]
)
def test_impossible_normalisations_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="expected"):
        Normalisation(**values)


def test_normalisation_as_factor_and_offset() -> None:
    """Worked by hand: value = (low + (high - low) pixel - mean) / std."""
    normalisation = Normalisation(low=-1, high=3, mean=(0.5, 1.0, 2.0), std=(1.0, 2.0, 4.0))
    factor, offset = normalisation.affine(3)
    assert factor == (4.0, 2.0, 1.0)
    assert offset == (-1.5, -1.0, -0.75)
    reversed_order = Normalisation(mean=(0.0, 1.0, 2.0), std=(1.0, 1.0, 1.0), channel_order="bgr")
    assert reversed_order.affine(3)[1] == (-2.0, -1.0, 0.0)  # mean[0] belongs to blue, the last of RGB
    with pytest.raises(ValueError, match="expected 1 or 4 values of mean, found 3"):
        normalisation.affine(4)


@pytest.mark.parametrize(
    ("sizes", "layout"),
    [
        ("1,784,1", "NC1"),
        ("1,1,784", "N1C"),
        ("N,784,1", "NC1"),
        ("N,1,784,1", "N1C1"),
        ("N,1,1,784", "N11C"),
        ("N,784,1,1", "NC11"),
    ],
)
def test_an_image_as_a_row_of_numbers_beside_axes_of_one(sizes: str, layout: str) -> None:
    body = "rows = Reshape(image, flat) scores = Gemm(rows, m)"
    weight = np.random.default_rng(0).normal(size=(784, 3)).astype(np.float32)
    tensors = {"m": weight, "flat": np.array([-1, 784], np.int64)}
    batch = sizes.split(",", maxsplit=1)[0]
    data = text_model(body, image=f"float[{sizes}] image", outputs=f"float[{batch},3] scores", tensors=tensors)
    artifact = artifact_from_bytes("m.onnx", data)
    signature = read_signature(artifact)
    assert (signature.layout, signature.input_shape) == (layout, (1, 28, 28))
    images = np.random.default_rng(1).random((4, 1, 28, 28), dtype=np.float32)
    runtime = open_runtime(artifact, signature)
    np.testing.assert_allclose(runtime.scores(images), images.reshape(4, -1) @ weight, rtol=1e-4, atol=1e-4)
    report = compare(import_model(artifact, signature), runtime, images)
    assert report.passed, report.reason


@pytest.mark.parametrize("sizes", ["N,768", "N,768,1"])
@pytest.mark.parametrize(
    ("clean", "size", "shape"),
    [
        ((1, 24, 32), None, (1, 24, 32)),
        ((3, 16, 16), None, (3, 16, 16)),
        ((1, 28, 28), None, (3, 16, 16)),
        ((1, 24, 32), (16, 48), (1, 16, 48)),
    ],
)
def test_the_clean_images_tell_what_a_row_of_numbers_shows(
    sizes: str, clean: tuple[int, int, int], size: tuple[int, int] | None, shape: tuple[int, int, int]
) -> None:
    """768 numbers are a colour image of 16 x 16, unless the images have as many values or a size is given."""
    body = "rows = Flatten(image) scores = Gemm(rows, m)"
    tensors = {"m": np.ones((768, 3), np.float32)}
    data = text_model(body, image=f"float[{sizes}] image", outputs="float[N,3] scores", tensors=tensors)
    assert signature_of(data, image_size=size, clean_shape=clean).input_shape == shape


def test_a_column_that_is_no_image_stays_one() -> None:
    body = "rows = Flatten(image) scores = Gemm(rows, m)"
    tensors = {"m": np.ones((40, 3), np.float32)}
    signature = signature_of(
        text_model(body, image="float[N,40,1] image", outputs="float[N,3] scores", tensors=tensors)
    )
    assert (signature.layout, signature.input_shape) == ("NHW", (1, 40, 1))


@pytest.mark.parametrize(
    ("sizes", "layout", "shape"),
    [
        ((3, 8, 9), "NCHW", (3, 8, 9)),
        ((8, 9, 3), "NHWC", (3, 8, 9)),
        ((8, 8), "NHW", (1, 8, 8)),
    ],
)
@pytest.mark.parametrize("scores", ["{0}", "1,{0}", "{0},1"])
def test_one_image_with_as_many_classes_as_its_first_axis_is_long(sizes, layout, shape, scores) -> None:
    """Nothing but the way of the numbers through the graph tells images from colours and classes."""
    classes, sides = max(2, sizes[0]), scores.format(max(2, sizes[0]))
    tensors = {"row": np.array([1, -1]), "end": np.array([int(size) for size in sides.split(",")])}
    tensors["head"] = np.random.default_rng(0).normal(size=(int(np.prod(sizes)), classes)).astype(np.float32)
    body = "flat = Reshape(image, row) plain = MatMul(flat, head) scores = Reshape(plain, end)"
    data = text_model(
        body, image=f"float[{','.join(map(str, sizes))}] image", outputs=f"float[{sides}] scores", tensors=tensors
    )
    signature = signature_of(data)
    assert (signature.batch, signature.num_scores, signature.num_classes) == (1, classes, classes)
    assert (signature.layout, signature.input_shape) == (layout, shape)
    images = np.random.default_rng(1).random((4, *shape), dtype=np.float32)
    flat = images if layout != "NHWC" else images.transpose(0, 2, 3, 1)
    expected = flat.reshape(4, -1) @ tensors["head"]
    found = open_runtime(artifact_from_bytes("m.onnx", data), signature).scores(images)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("scores", ["3", "3,1"])
def test_three_grey_images_with_one_score_each_are_three_images(scores) -> None:
    tensors = {"row": np.array([3, -1]), "end": np.array([int(size) for size in scores.split(",")])}
    tensors["head"] = np.random.default_rng(0).normal(size=(72, 1)).astype(np.float32)
    body = "flat = Reshape(image, row) plain = MatMul(flat, head) scores = Reshape(plain, end)"
    data = text_model(body, image="float[3,8,9] image", outputs=f"float[{scores}] scores", tensors=tensors)
    signature = signature_of(data)
    assert (signature.batch, signature.layout, signature.input_shape) == (3, "NHW", (1, 8, 9))
    assert (signature.num_scores, signature.num_classes) == (1, 2)


@pytest.mark.parametrize("batch", ["N", "3"])
def test_grey_images_without_an_axis_of_channels_are_as_ever(batch) -> None:
    tensors = {"row": np.array([-1, 72]), "head": np.ones((72, 3), np.float32)}
    body = "flat = Reshape(image, row) scores = MatMul(flat, head)"
    data = text_model(body, image=f"float[{batch},8,9] image", outputs=f"float[{batch},3] scores", tensors=tensors)
    signature = signature_of(data)
    assert (signature.layout, signature.input_shape, signature.num_scores) == ("NHW", (1, 8, 9), 3)
    assert signature.batch == (None if batch == "N" else 3)
