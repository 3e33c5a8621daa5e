"""Makes the small files of tests/converters/fixtures: what exporters other than torch's really write.

    python -m benchmarks.exporter_fixtures sklearn jax keras quantised --out tests/converters/fixtures

Each maker needs its own packages, which the project does not depend on: `skl2onnx`; `flax` and `jax2onnx`; `tensorflow`
and `tf2onnx`; `onnxruntime` with its quantiser. Nothing here imports the project, so each can run where they are.
The networks are tiny and trained for seconds or not at all: what counts is the dialect.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx

Named = Iterator[tuple[str, bytes]]


def sklearn() -> Named:
    """Pipelines with a label branch and `ZipMap`, a network with softmax, and trees, which have no gradient."""
    from skl2onnx import to_onnx
    from sklearn.datasets import load_digits
    from sklearn.linear_model import LogisticRegression
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.tree import DecisionTreeClassifier

    pixels, labels = load_digits(return_X_y=True)
    images = (pixels / 16).astype(np.float32)
    estimators = {
        "sklearn_mlp": MLPClassifier((16,), max_iter=60, random_state=0, tol=1e-3, learning_rate_init=0.01),
        "sklearn_pipeline": make_pipeline(StandardScaler(), LogisticRegression(max_iter=60, tol=1e-2)),
        "sklearn_tree": DecisionTreeClassifier(max_depth=3, random_state=0),
    }
    for name, estimator in estimators.items():
        yield name, to_onnx(estimator.fit(images, labels), images[:1], target_opset=17).SerializeToString()


def jax() -> Named:
    """A flax network, whose layout is NHWC, with a free batch and with a batch of 4."""
    from flax import nnx
    from jax2onnx import to_onnx

    class Network(nnx.Module):
        """Convolution, batch normalisation, pooling, two dense layers, softmax."""

        def __init__(self, rngs: nnx.Rngs) -> None:
            self.conv = nnx.Conv(3, 8, (3, 3), rngs=rngs)
            self.norm = nnx.BatchNorm(8, use_running_average=True, rngs=rngs)
            self.hidden = nnx.Linear(8 * 4 * 4, 16, rngs=rngs)
            self.last = nnx.Linear(16, 5, rngs=rngs)

        def __call__(self, x: object) -> object:
            """Class probabilities of images [N, 8, 8, 3]."""
            x = nnx.avg_pool(nnx.relu(self.norm(self.conv(x))), window_shape=(2, 2), strides=(2, 2))
            x = nnx.gelu(self.hidden(x.reshape(x.shape[0], -1)))
            return nnx.softmax(self.last(x))

    for name, batch in (("jax_free", "B"), ("jax_batch4", 4)):
        yield name, to_onnx(Network(nnx.Rngs(0)), [(batch, 8, 8, 3)], opset=23).SerializeToString()


def keras() -> Named:
    """A Keras network, whose layout is NHWC and whose pixels are 0 to 255, by tf2onnx and by Keras's own export."""
    import keras as framework
    import tensorflow as tf
    import tf2onnx

    framework.utils.set_random_seed(0)
    layers = framework.layers
    model = framework.Sequential(
        [
            layers.Input((12, 12, 3), name="image"),
            layers.Rescaling(1 / 255),
            layers.Conv2D(8, 3, padding="same", strides=2, use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(max_value=6.0),
            layers.DepthwiseConv2D(3, padding="same"),
            layers.LeakyReLU(),
            layers.MaxPooling2D(2, padding="same"),
            layers.Dropout(0.5),
            layers.Flatten(),
            layers.Dense(16, activation="swish"),
            layers.Dense(5, activation="softmax"),
        ]
    )
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            rng = np.random.default_rng(0)
            layer.set_weights([rng.uniform(0.5, 1.5, 8) for _ in range(4)])
    signature = (tf.TensorSpec((None, 12, 12, 3), tf.float32, name="image"),)
    function = tf.function(lambda image: model(image, training=False), input_signature=signature)
    for opset in (9, 18):
        yield f"keras_tf2onnx_{opset}", _tf2onnx(tf2onnx, function, signature, opset)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        model.export(path, format="onnx", verbose=False)
        yield "keras_export", path.read_bytes()


def _tf2onnx(tf2onnx: ModuleType, function: object, signature: tuple[object, ...], opset: int) -> bytes:
    model, _ = tf2onnx.convert.from_function(function, input_signature=signature, opset=opset)
    return model.SerializeToString()


def quantised() -> Named:
    """A small convolutional network, statically and dynamically quantised by onnxruntime in both of its formats."""
    from onnxruntime import quantization as q

    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "float.onnx", Path(folder) / "quantised.onnx"
        source.write_bytes(_convolutional())
        for name, settings in {
            "quantised_qdq": {"quant_format": q.QuantFormat.QDQ, "activation_type": q.QuantType.QUInt8},
            "quantised_qdq_per_channel": {"quant_format": q.QuantFormat.QDQ, "per_channel": True},
            "quantised_qoperator": {"quant_format": q.QuantFormat.QOperator, "activation_type": q.QuantType.QUInt8},
        }.items():
            q.quantize_static(source, target, _calibration(q), **settings)
            yield name, target.read_bytes()
        q.quantize_dynamic(source, target, weight_type=q.QuantType.QUInt8)
        yield "quantised_dynamic", target.read_bytes()


def _convolutional() -> bytes:
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    tensors = {
        "kernel": 0.4 * rng.normal(size=(8, 3, 3, 3)),
        "shift": 0.1 * rng.normal(size=8),
        "second": 0.2 * rng.normal(size=(8, 8, 3, 3)),
        "matrix": rng.normal(size=(8, 5)),
        "bias": 0.1 * rng.normal(size=5),
    }
    nodes = [
        helper.make_node("Conv", ["image", "kernel", "shift"], ["a"], name="conv1", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"], name="relu1"),
        helper.make_node("Conv", ["b", "second"], ["c"], name="conv2", pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["b", "c"], ["d"], name="add"),
        helper.make_node("Relu", ["d"], ["e"], name="relu2"),
        helper.make_node("GlobalAveragePool", ["e"], ["f"], name="pool"),
        helper.make_node("Flatten", ["f"], ["g"], name="flatten"),
        helper.make_node("Gemm", ["g", "matrix", "bias"], ["h"], name="classify"),
        helper.make_node("Softmax", ["h"], ["scores"], name="softmax", axis=1),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, 8, 8])
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", 5])
    initialisers = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in tensors.items()]
    graph = helper.make_graph(nodes, "float", [image], [scores], initialisers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


def _calibration(q: ModuleType) -> object:
    class Calibration(q.CalibrationDataReader):
        """Eight batches of noise."""

        def __init__(self) -> None:
            rng = np.random.default_rng(1)
            self.batches = iter([{"image": rng.random((16, 3, 8, 8), dtype=np.float32)} for _ in range(8)])

        def get_next(self) -> dict[str, np.ndarray] | None:
            """The next batch, None at the end."""
            return next(self.batches, None)

    return Calibration()


MAKERS: dict[str, Callable[[], Named]] = {"sklearn": sklearn, "jax": jax, "keras": keras, "quantised": quantised}


def main() -> int:
    """Make the files of the named makers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("makers", nargs="+", choices=list(MAKERS))
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for maker in options.makers:
        for name, data in MAKERS[maker]():
            model = onnx.load_model_from_string(data)
            for node in model.graph.node:
                node.doc_string = ""
                del node.metadata_props[:]
            del model.metadata_props[:]
            (options.out / f"{name}.onnx").write_bytes(model.SerializeToString())
            print(name, len(model.graph.node), "nodes", len(data), "bytes")
    return 0
