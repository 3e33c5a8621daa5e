"""Model files that ask for too much, lie about themselves or are broken; each is made, never stored.

`HOSTILE_MODELS` maps a name to a maker of bytes and the rule of the intake that refuses it (None: the intake lets it
through, and something behind it must cope). Tests and `benchmarks.hostile.run` share them.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

IMAGE = (1, 8, 8)
"""Shape of the images that the models take."""
CLASSES = 3

Node = NodeProto
Maker = Callable[[], bytes]


@dataclass(frozen=True, slots=True)
class HostileModel:
    """One entry of the table."""

    make: Maker
    """Makes the file."""
    rule: str | None
    """Rule of the intake that refuses it; None if a later step does."""


def classifier(
    nodes: list[Node] | None = None,
    tensors: list[TensorProto] | None = None,
    *,
    opset: int = 17,
    batch: str | int = "N",
    extra_opsets: tuple[tuple[str, int], ...] = (),
    seed: int = 0,
) -> ModelProto:
    """A linear classifier of small images, `image` -> Flatten -> `flat` -> MatMul -> `logits`.

    Args:
        nodes: What comes after, from `logits` to `scores`; by default an Identity.
        tensors: Stored tensors that these nodes need.
        opset: Version of the standard operators.
        batch: Length of the first axis.
        extra_opsets: Further (domain, version).
        seed: Seed of the weights.
    """
    rng = np.random.default_rng(seed)
    weights = rng.normal(size=(int(np.prod(IMAGE)), CLASSES)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["image"], ["flat"], name="flatten"),
            helper.make_node("MatMul", ["flat", "weights"], ["logits"], name="linear"),
            *(nodes if nodes is not None else [helper.make_node("Identity", ["logits"], ["scores"], name="end")]),
        ],
        "classifier",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, *IMAGE])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [batch, CLASSES])],
        [numpy_helper.from_array(weights, "weights"), *(tensors or [])],
    )
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(*entry) for entry in extra_opsets)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def ints(name: str, *values: int) -> TensorProto:
    """A stored tensor of whole numbers with one axis."""
    return numpy_helper.from_array(np.array(values, np.int64), name)


def external(location: str, *, offset: int = 0, length: int | None = None, **keys: str) -> ModelProto:
    """The classifier with its weights in another file."""
    model = classifier()
    tensor = model.graph.initializer[0]
    size = len(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entries = {"location": location, "offset": str(offset), "length": str(size if length is None else length), **keys}
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=value)
    return model


def _then(operator: str, *inputs: str, tensors: list[TensorProto] | None = None, **attributes: object) -> bytes:
    """The classifier, an operator on its logits, and a sum of what that gives."""
    bomb = helper.make_node(operator, list(inputs), ["made"], name="bomb", **attributes)
    return classifier([bomb, *_added("made")], tensors).SerializeToString()


def _added(value: str, **axes: list[int] | int) -> list[Node]:
    """Add the mean of a value to the logits."""
    mean = helper.make_node("ReduceMean", [value], ["mean"], name="mean", **(axes or {"keepdims": 0}))
    return [mean, helper.make_node("Add", ["logits", "mean"], ["scores"], name="sum")]


def _with_model(change: Callable[[ModelProto], object]) -> Maker:
    def make() -> bytes:
        model = classifier()
        change(model)
        return model.SerializeToString()

    return make


def _with_tensor(change: Callable[[TensorProto], object]) -> Maker:
    return _with_model(lambda model: change(model.graph.initializer[0]))


def _set_dims(*dims: int) -> Callable[[TensorProto], object]:
    def change(tensor: TensorProto) -> None:
        del tensor.dims[:]
        tensor.dims.extend(dims)

    return change


def _loop(trips: int | None, *, scan: bool = False) -> bytes:
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["on"], name="again"),
            helper.make_node("Add", ["state", "state"], ["next"], name="double"),
        ],
        "body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, None),
        ],
    )
    tensors = [numpy_helper.from_array(np.array(True), "true")]
    if trips is not None:
        tensors.append(numpy_helper.from_array(np.array(trips), "trips"))
    if scan:
        node = helper.make_node("Scan", ["logits"], ["scores"], name="scan", body=body, num_scan_inputs=1)
        return classifier([node], tensors).SerializeToString()
    inputs = ["trips" if trips is not None else "", "true", "logits"]
    return classifier(
        [helper.make_node("Loop", inputs, ["scores"], name="loop", body=body)], tensors
    ).SerializeToString()


def _functions(
    depth: int, *, calls: int = 2, recursive: bool = False, name: str = "F{}", domain: str = "local"
) -> bytes:
    """Functions of which each calls the one before several times: calls^depth nodes once they are expanded."""
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(domain, 1)]
    functions = []
    for level in range(depth):
        inner = name.format((level - 1) % depth if recursive else level - 1)
        operator, of = ("Relu", "") if level == 0 and not recursive else (inner, domain)
        steps = ["x", *(f"y{step}" for step in range(calls - 1)), "z"]
        nodes = [
            helper.make_node(operator, [before], [after], domain=of) for before, after in itertools.pairwise(steps)
        ]
        functions.append(helper.make_function(domain, name.format(level), ["x"], ["z"], nodes, opsets))
    call = helper.make_node(name.format(depth - 1), ["logits"], ["scores"], domain=domain, name="call")
    model = classifier([call], extra_opsets=((domain, 1),) if domain else ())
    model.functions.extend(functions)
    return model.SerializeToString()


def _nested_branches(depth: int) -> bytes:
    leaf = graph = _branch([helper.make_node("Identity", ["logits"], ["leaf"], name="leaf")], "leaf")
    for level in range(depth):
        name = f"level{level}"
        graph = _branch([helper.make_node("If", ["yes"], [name], name=name, then_branch=graph, else_branch=leaf)], name)
    nodes = [*graph.node, helper.make_node("Identity", [graph.output[0].name], ["scores"], name="end")]
    return classifier(nodes, [numpy_helper.from_array(np.array(True), "yes")]).SerializeToString()


def _branch(nodes: list[Node], output: str) -> GraphProto:
    return helper.make_graph(nodes, output, [], [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)])


def _cycle() -> bytes:
    nodes = [
        helper.make_node("Add", ["logits", "later"], ["sooner"], name="first"),
        helper.make_node("Relu", ["sooner"], ["later"], name="second"),
        helper.make_node("Identity", ["later"], ["scores"], name="end"),
    ]
    return classifier(nodes).SerializeToString()


def _cycle_through_branch() -> bytes:
    inner = _branch([helper.make_node("Relu", ["later"], ["inner"], name="inside")], "inner")
    nodes = [
        helper.make_node("If", ["yes"], ["sooner"], name="branch", then_branch=inner, else_branch=inner),
        helper.make_node("Relu", ["sooner"], ["later"], name="second"),
        helper.make_node("Identity", ["later"], ["scores"], name="end"),
    ]
    return classifier(nodes, [numpy_helper.from_array(np.array(True), "yes")]).SerializeToString()


def doubling(times: int, operator: str = "Concat", repeats: Sequence[int] = ()) -> bytes:
    """A value that becomes twice as long so many times."""
    names = ["logits", *(f"double{level}" for level in range(times))]
    tensors = [ints("repeats", *repeats), numpy_helper.from_array(np.array(repeats, np.float32), "scales")]
    given = {"Concat": ["{0}", "{0}"], "Tile": ["{0}", "repeats"], "Resize": ["{0}", "", "scales"]}[operator]
    nodes = [
        helper.make_node(
            operator, [name.format(before) for name in given], [after], name=after,
            **({"axis": 1} if operator == "Concat" else {}),
        )
        for before, after in itertools.pairwise(names)
    ]  # fmt: skip
    return classifier([*nodes, *_added(names[-1], axes=[1])], tensors).SerializeToString()


def _squaring() -> bytes:
    """A value times itself as column times row, five times: 64^32 elements, which no constant tells."""
    nodes, value = [], "flat"
    for level in range(5):
        nodes += [
            helper.make_node("Reshape", [value, "column"], [f"column{level}"], name=f"column{level}"),
            helper.make_node("Reshape", [value, "row"], [f"row{level}"], name=f"row{level}"),
            helper.make_node("MatMul", [f"column{level}", f"row{level}"], [f"square{level}"], name=f"square{level}"),
        ]
        value = f"square{level}"
    return classifier([*nodes, *_added(value)], [ints("column", -1, 1), ints("row", 1, -1)]).SerializeToString()


def _many_nodes(count: int) -> bytes:
    names = ["logits", *(f"n{index}" for index in range(count)), "scores"]
    nodes = [helper.make_node("Relu", [before], [after]) for before, after in itertools.pairwise(names)]
    return classifier(nodes).SerializeToString()


def _custom(domain: str, operator: str) -> Maker:
    def make() -> bytes:
        node = helper.make_node(operator, ["logits"], ["scores"], name="custom", domain=domain)
        return classifier([node], extra_opsets=((domain, 1),) if domain else ()).SerializeToString()

    return make


def _invalid_utf8() -> bytes:
    return classifier().SerializeToString().replace(b"logits", b"log\xff\xfes")


def _raw_nesting(depth: int) -> bytes:
    """Graphs within graphs written byte by byte, deeper than any parser allows."""
    data = b""
    for _ in range(depth):
        attribute = b"\x32" + _varint(len(data)) + data  # AttributeProto.g
        node = b"\x2a" + _varint(len(attribute)) + attribute  # NodeProto.attribute
        data = b"\x0a" + _varint(len(node)) + node  # GraphProto.node
    return b"\x08\x08\x3a" + _varint(len(data)) + data


def _many_empty(count: int, *path: int) -> bytes:
    """A small model and, two bytes each, as many empty fields behind a path of field numbers from the model.

    Parsed, they take up to three hundred times as much memory.
    """
    *outer, last = path
    data = _key(last) + b"\x00"
    data *= count
    for number in reversed(outer):
        data = _key(number) + _varint(len(data)) + data
    return classifier().SerializeToString() + data


def _many_small_numbers(count: int) -> bytes:
    """A stored tensor of zeros, a byte each, that take eight bytes in memory."""
    zeros = _key(7) + _varint(count) + bytes(count)  # TensorProto.int64_data
    tensor = _key(5) + _varint(len(zeros)) + zeros  # GraphProto.initializer
    return classifier().SerializeToString() + _key(7) + _varint(len(tensor)) + tensor


def _key(number: int) -> bytes:
    """What precedes a field with a length."""
    return _varint(number << 3 | 2)


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes(out) + bytes([number])


def _sparse(model: ModelProto) -> None:
    values = numpy_helper.from_array(np.ones(1, np.float32), "sparse")
    indices = numpy_helper.from_array(np.zeros(1, np.int64), "indices")
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [10**12]))


def _rename(model: ModelProto, name: str) -> None:
    for node in model.graph.node:
        node.name = name


def _change_opset(model: ModelProto, version: int) -> None:
    model.opset_import[0].version = version


def _forget_opset(model: ModelProto) -> None:
    del model.opset_import[:]


def _key_not_utf8() -> bytes:
    return external("w", unknown="x", other="y").SerializeToString().replace(b"unknown", b"unk\xff\xfeno")


def _repeat_opset(model: ModelProto) -> None:
    model.opset_import.append(helper.make_opsetid("ai.onnx", 9))


def _repeat_name(model: ModelProto) -> None:
    model.graph.node.append(helper.make_node("Relu", ["flat"], ["logits"], name="again"))


def _repeat_tensor(model: ModelProto) -> None:
    model.graph.initializer.append(numpy_helper.from_array(np.zeros((64, CLASSES), np.float32), "weights"))


def _forget_weights(model: ModelProto) -> None:
    del model.graph.initializer[:]


def _store_twice(tensor: TensorProto) -> None:
    tensor.float_data.extend([1.0] * (64 * CLASSES))


def _huge_attribute(model: ModelProto) -> None:
    model.graph.node[0].attribute.append(helper.make_attribute("text", "x" * (2 << 20)))


def _huge_rank(tensor: TensorProto) -> None:
    del tensor.dims[:]
    tensor.dims.extend([2] * 100_000)


def _train(model: ModelProto) -> None:
    model.training_info.add().initialization.name = "training"


HOSTILE_MODELS: dict[str, HostileModel] = {
    # Data outside the file
    "external-parent-folder": HostileModel(lambda: external("../secret").SerializeToString(), "external-path"),
    "external-absolute-path": HostileModel(lambda: external("/etc/passwd").SerializeToString(), "external-path"),
    "external-device": HostileModel(lambda: external("/dev/zero").SerializeToString(), "external-path"),
    "external-windows-path": HostileModel(lambda: external("C:\\secret").SerializeToString(), "external-path"),
    "external-backslash": HostileModel(lambda: external("..\\secret").SerializeToString(), "external-path"),
    "external-dots-within": HostileModel(lambda: external("a/../../secret").SerializeToString(), "external-path"),
    "external-empty-location": HostileModel(lambda: external("").SerializeToString(), "external-path"),
    "external-null-byte": HostileModel(lambda: external("weights\x00.bin").SerializeToString(), "external-path"),
    "external-url": HostileModel(lambda: external("https://example.org/w").SerializeToString(), "external-path"),
    "external-unknown-key": HostileModel(
        lambda: external("w", basepath="/etc").SerializeToString(), "external-key"
    ),
    "external-python-key": HostileModel(lambda: external("w", __class__="x").SerializeToString(), "external-key"),
    "external-key-not-utf8": HostileModel(_key_not_utf8, "external-key"),
    "external-huge-length": HostileModel(lambda: external("w", length=10**15).SerializeToString(), "external-range"),
    "external-negative-offset": HostileModel(lambda: external("w", offset=-8).SerializeToString(), "external-range"),
    # Sizes
    "tensor-1e12-elements": HostileModel(_with_tensor(_set_dims(10**6, 10**6)), "max_tensor_bytes"),
    "tensor-negative-length": HostileModel(_with_tensor(_set_dims(-64, -CLASSES)), "tensor-shape"),
    "tensor-other-length": HostileModel(_with_tensor(_set_dims(64, CLASSES + 1)), "tensor-size"),
    "tensor-overflowing-length": HostileModel(_with_tensor(_set_dims(1 << 62, 4, 3)), "max_tensor_bytes"),
    "tensor-100000-axes": HostileModel(_with_tensor(_huge_rank), "max_rank"),
    "tensor-unknown-type": HostileModel(_with_tensor(lambda t: setattr(t, "data_type", 99)), "tensor-type"),
    "tensor-stored-twice": HostileModel(_with_tensor(_store_twice), "tensor-size"),
    "tensor-sparse": HostileModel(_with_model(_sparse), "sparse-tensor"),
    "fill-1e12": HostileModel(
        lambda: _then("ConstantOfShape", "shape", tensors=[ints("shape", 10**6, 10**6)]), "max_elements"
    ),
    "fill-8-gigabytes": HostileModel(
        lambda: _then("ConstantOfShape", "shape", tensors=[ints("shape", 1 << 31)]), "max_elements"
    ),
    "fill-64-megabytes": HostileModel(
        lambda: _then("ConstantOfShape", "shape", tensors=[ints("shape", 1 << 24)]), None
    ),
    "expand-1e10": HostileModel(
        lambda: _then("Expand", "weights", "shape", tensors=[ints("shape", 10**10, 64, CLASSES)]), "max_elements"
    ),
    "tile-1e12": HostileModel(
        lambda: _then("Tile", "weights", "repeats", tensors=[ints("repeats", 10**6, 10**6)]), "max_elements"
    ),
    "pad-1e11": HostileModel(
        lambda: _then("Pad", "weights", "pads", tensors=[ints("pads", 0, 0, 0, 10**11)]), "max_elements"
    ),
    "range-1e12": HostileModel(
        lambda: classifier(
            [
                helper.make_node("Range", ["zero", "many", "one"], ["row"], name="bomb"),
                helper.make_node("Cast", ["row"], ["made"], name="cast", to=TensorProto.FLOAT),
                *_added("made"),
            ],
            [numpy_helper.from_array(np.array(v), n) for n, v in (("zero", 0), ("many", 10**12), ("one", 1))],
        ).SerializeToString(),
        "max_elements",
    ),
    "pool-huge-window": HostileModel(
        lambda: _then("MaxPool", "image", kernel_shape=[1, 1], pads=[0, 0, 10**9, 10**9]), "max_window"
    ),
    "concat-doubling-2^40": HostileModel(lambda: doubling(40), "max_elements"),
    "tile-doubling-2^40": HostileModel(lambda: doubling(40, "Tile", [1, 2]), "max_elements"),
    "resize-doubling-2^40": HostileModel(lambda: doubling(40, "Resize", [1, 2]), "max_elements"),
    "outer-product-squaring": HostileModel(_squaring, None),
    # Time
    "loop-1e12": HostileModel(lambda: _loop(10**12), "max_loop_trips"),
    "loop-endless": HostileModel(lambda: _loop(None), "unbounded-loop"),
    "scan": HostileModel(lambda: _loop(None, scan=True), "operator"),
    "functions-10^9": HostileModel(lambda: _functions(9, calls=10), "max_expanded_nodes"),
    "functions-2^25": HostileModel(lambda: _functions(25), "max_depth"),
    "functions-2^200": HostileModel(lambda: _functions(200), "max_depth"),
    "function-recursion": HostileModel(lambda: _functions(3, recursive=True), "recursion"),
    "branches-20-deep": HostileModel(lambda: _nested_branches(20), "max_depth"),
    "nesting-beyond-parsers": HostileModel(lambda: _raw_nesting(3000), "unreadable"),
    "nodes-150000": HostileModel(lambda: _many_nodes(150_000), "max_nodes"),
    "nodes-3000000-empty": HostileModel(lambda: _many_empty(3_000_000, 7, 1), "max_nodes"),
    "tensors-3000000-empty": HostileModel(lambda: _many_empty(3_000_000, 7, 5), "max_tensors"),
    "functions-3000000-empty": HostileModel(lambda: _many_empty(3_000_000, 25), "max_functions"),
    "values-3000000-empty": HostileModel(lambda: _many_empty(3_000_000, 7, 13), "max_values"),
    "quantisation-notes-3000000-empty": HostileModel(lambda: _many_empty(3_000_000, 7, 14), "max_notes"),
    "quantisation-note-of-3000000": HostileModel(lambda: _many_empty(3_000_000, 7, 14, 2), "max_notes"),
    "remarks-3000000-empty": HostileModel(lambda: _many_empty(3_000_000, 14), "max_notes"),
    "attributes-3000000-empty": HostileModel(lambda: _many_empty(3_000_000, 7, 1, 5), "max_notes"),
    "inputs-of-node-3000000-empty": HostileModel(lambda: _many_empty(3_000_000, 7, 1, 1), "max_notes"),
    "axes-3000000-empty": HostileModel(lambda: _many_empty(3_000_000, 7, 13, 2, 1, 2, 1), "max_notes"),
    "numbers-150-megabytes": HostileModel(lambda: _many_small_numbers(150_000_000), "max_unpacked_bytes"),
    # Lies
    "cycle": HostileModel(_cycle, "cycle"),
    "cycle-through-branch": HostileModel(_cycle_through_branch, "cycle"),
    "name-defined-twice": HostileModel(_with_model(_repeat_name), "name-repeated"),
    "tensor-stored-under-one-name": HostileModel(_with_model(_repeat_tensor), "name-repeated"),
    "name-undefined": HostileModel(_with_model(_forget_weights), "name-unknown"),
    "name-of-a-megabyte": HostileModel(_with_model(lambda m: _rename(m, "x" * (1 << 20))), "max_name_bytes"),
    "name-not-utf8": HostileModel(_invalid_utf8, "text-encoding"),
    "attribute-of-2-megabytes": HostileModel(_with_model(_huge_attribute), "max_text_bytes"),
    "function-named-relu": HostileModel(lambda: _functions(2, name="Relu", domain=""), "function-shadows-operator"),
    "custom-domain": HostileModel(_custom("evil.example", "Run"), "operator"),
    "unknown-operator": HostileModel(_custom("", "NoSuchOperator"), "operator"),
    "random-operator": HostileModel(_custom("", "Bernoulli"), "operator"),
    "training-operator": HostileModel(_custom("ai.onnx.preview.training", "Adam"), "operator"),
    "training-graph": HostileModel(_with_model(_train), "training"),
    "opset-1": HostileModel(_with_model(lambda m: _change_opset(m, 1)), "opset"),
    "opset-1e9": HostileModel(_with_model(lambda m: _change_opset(m, 10**9)), "opset"),
    "opset-negative": HostileModel(_with_model(lambda m: _change_opset(m, -3)), "opset"),
    "opset-missing": HostileModel(_with_model(_forget_opset), "opset-missing"),
    "opset-twice": HostileModel(_with_model(_repeat_opset), "opset-repeated"),
    "format-1e9": HostileModel(_with_model(lambda m: setattr(m, "ir_version", 10**9)), "max_ir_version"),
    # Broken files
    "empty": HostileModel(lambda: b"", "no-graph"),
    "cut-off": HostileModel(lambda: classifier().SerializeToString()[:-100], "unreadable"),
    "text": HostileModel(lambda: b"this is no model\n" * 50, "unreadable"),
    "zeros": HostileModel(lambda: bytes(10_000), "unreadable"),
    "pickle": HostileModel(lambda: b"\x80\x04\x95" + bytes(range(256)), "unreadable"),
    "zip": HostileModel(lambda: b"PK\x03\x04" + bytes(range(256)) * 4, "unreadable"),
    "png": HostileModel(lambda: b"\x89PNG\r\n\x1a\n" + bytes(range(256)), "unreadable"),
    "no-graph": HostileModel(lambda: ModelProto(ir_version=8).SerializeToString(), "no-graph"),
}  # fmt: skip
