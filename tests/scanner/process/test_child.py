"""The opened model in its own process, on models whose decisions and least patterns are known on paper."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper
from scipy.optimize import minimize

from backscan.converters import ConverterError, artifact_from_bytes
from backscan.converters.signature.signature import Normalisation
from backscan.scanner.config import ScanConfig
from backscan.scanner.errors import OptionError
from backscan.scanner.process.child import ModelHost
from backscan.scanner.process.protocol import AddScore, Differ, Repair, Repaired, decode, encode
from backscan.scanner.results import PairResult, PairStatus
from benchmarks.victims.export import to_onnx
from benchmarks.victims.networks import digit_net, initialise
from tests import planted
from tests.scanner.process.messages import message

SHAPE, NUM_CLASSES = (1, 6, 6), 4


def parameters() -> tuple[np.ndarray, np.ndarray]:
    """Weights, and a bias with which grey images fall to all classes alike."""
    weight, _ = planted.linear_parameters(NUM_CLASSES, SHAPE)
    return weight, (-0.5 * weight.sum(axis=(1, 2, 3))).astype(np.float32)


WEIGHT, BIAS = parameters()
IMAGES = (0.5 + 0.05 * np.random.default_rng(0).normal(size=(120, *SHAPE))).astype(np.float32)


def paper_decisions(images: np.ndarray) -> np.ndarray:
    return (np.einsum("kchw,nchw->nk", WEIGHT.astype(np.float64), images) + BIAS).argmax(axis=1)


def opened(data: bytes | None = None, **changes: Any) -> ModelHost:
    host = ModelHost()
    host.open(message(data or planted.linear_softmax(parameters=(WEIGHT, BIAS)), **changes))
    return host


def by_class() -> dict[int, np.ndarray]:
    decisions = paper_decisions(IMAGES)
    return {label: IMAGES[decisions == label] for label in range(NUM_CLASSES)}


def prepared(host: ModelHost, images: Mapping[int, np.ndarray], **options: Any) -> float:
    config = ScanConfig(threads=1, **options)
    answer = host.prepare(
        {
            "detector": "pairwise",
            "images_by_class": {str(label): array for label, array in images.items()},
            "config": encode(config),
        }
    )["answer"]
    assert answer["seconds_per_image"] >= 0
    assert answer["is_reduced"] == (host.examination.reduced is not None and config.step_rule != "plain")
    return answer["step_size"]


def search(host: ModelHost, pairs: list[tuple[int, int]], step_size: float, seconds: float | None = None):
    """Events and the answer of a streaming step."""
    events, stream = (
        [],
        host.optimise(
            {
                "detector": "pairwise",
                "pairs": [list(pair) for pair in pairs],
                "step_size": step_size,
                "seconds": seconds,
            }
        ),
    )
    while True:
        try:
            events.append(next(stream))
        except StopIteration as end:
            return [decode(PairResult, event) for event in events], end.value


def test_the_audit_opens_nothing():
    report = ModelHost().audit({"data": planted.linear_softmax()})["answer"]
    assert report["violations"] == []
    assert report["producer"].strip() == "planted"


@pytest.mark.parametrize("head", planted.HEADS)
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("batch", [None, 3])
def test_opening_says_what_the_model_takes_and_gives(head, layout, batch):
    data = planted.linear_softmax(head=head, layout=layout, batch=batch)
    answer = ModelHost().open(message(data))["answer"]
    signature = answer["signature"]
    assert (signature["input_shape"], signature["layout"], signature["batch"]) == (list(SHAPE), layout, batch)
    assert (signature["output_kind"], answer["num_classes"]) == (head, NUM_CLASSES)
    assert (answer["provider"], answer["device"]) == ("CPUExecutionProvider", "cpu")


def test_external_data_is_handed_over_in_memory():
    data = planted.linear_softmax(external="weight.bin")
    host = opened(data, external=planted.external_weight())
    inside = opened(planted.linear_softmax())
    np.testing.assert_array_equal(
        host.decide({"images": IMAGES})["answer"], inside.decide({"images": IMAGES})["answer"]
    )


def test_decisions_are_those_of_the_formula():
    np.testing.assert_array_equal(opened().decide({"images": IMAGES})["answer"], paper_decisions(IMAGES))


def test_a_normalisation_is_tried_without_staying():
    host, inverted = opened(), {"low": 1.0, "high": 2.0, "mean": [0.5], "std": [0.5], "channel_order": "rgb"}
    tried = host.decide({"images": IMAGES, "normalisation": inverted})["answer"]
    np.testing.assert_array_equal(tried, paper_decisions((1.0 + IMAGES - 0.5) / 0.5))
    np.testing.assert_array_equal(host.decide({"images": IMAGES})["answer"], paper_decisions(IMAGES))
    host.settle({"normalisation": inverted})
    np.testing.assert_array_equal(host.decide({"images": IMAGES})["answer"], tried)


def test_the_copy_agrees_with_the_file():
    answer = opened().compare({"images": IMAGES, "real_images": True})["answer"]
    assert answer["passed"]
    assert (answer["decision_agreement"], answer["num_images"], answer["real_images"]) == (1.0, len(IMAGES), True)
    assert answer["reason"] == ""
    assert answer["gradient_error"] < 0.1


def test_the_copy_follows_a_settled_normalisation():
    host = opened()
    host.settle({"normalisation": asdict(Normalisation(mean=(0.4,), std=(0.1,)))})
    assert host.compare({"images": IMAGES, "real_images": True})["answer"]["passed"]


def least_size_for_all(images: np.ndarray, target: int) -> float:
    """Size of the least pattern that sends every image to the target: a quadratic program of K - 1 half-spaces."""
    others = [c for c in range(NUM_CLASSES) if c != target]
    weight = WEIGHT.reshape(NUM_CLASSES, -1).astype(np.float64)
    scores = images.reshape(len(images), -1) @ weight.T + BIAS
    normals = weight[target] - weight[others]
    needed = (scores[:, others] - scores[:, [target]]).max(axis=0)
    # The least pattern is a combination of the normals: minimise over its coefficients.
    gram = normals @ normals.T
    start = np.linalg.solve(gram, np.maximum(needed, 0) + 1)
    constraint = {"type": "ineq", "fun": lambda c: gram @ c - needed, "jac": lambda _: gram}
    solved = minimize(
        lambda c: c @ gram @ c, start, jac=lambda c: 2 * gram @ c, constraints=[constraint], method="SLSQP"
    )
    assert solved.success
    return float(np.sqrt(solved.fun))


@pytest.mark.parametrize("objective", ["J", "ce"])
def test_found_patterns_are_about_as_small_as_patterns_can_be(objective):
    """With a goal rate of 1 a linear model has one least pattern, and it is known; descent comes within a third."""
    host, images = opened(), by_class()
    step_size = prepared(host, images, goal_rate=1.0, objective=objective)
    pairs = [(s, t) for s in images for t in images if s != t]
    found, answer = search(host, pairs, step_size)
    assert answer == {"answer": len(pairs)}
    assert {(pair.source, pair.target) for pair in found} == set(pairs)
    ratios = []
    for pair in found:
        assert pair.status is PairStatus.REACHED
        ratios.append(pair.size / least_size_for_all(images[pair.source], pair.target))
        moved = paper_decisions(np.clip(images[pair.source] + pair.pattern, 0, 1)) == pair.target
        assert (pair.rate, moved.mean()) == (1.0, 1.0)
        scores = np.einsum("kchw,nchw->nk", WEIGHT.astype(np.float64), images[pair.source]) + BIAS
        lead = np.sort(scores[:, pair.source] - scores[:, pair.target])[(len(scores) - 1) // 2]
        assert pair.clean_margin == pytest.approx(lead, rel=1e-4)
    assert min(ratios) >= 0.999
    assert max(ratios) <= 4 / 3


def test_only_correct_images_count_for_jc():
    """A third of class 0 are images of class 1: they neither count towards the rates nor pull."""
    host, images = opened(), by_class()
    mixed = images | {0: np.concatenate([images[0], images[1][: len(images[0]) // 2]])}
    rates = {}
    for objective in ("J", "Jc"):
        step_size = prepared(host, mixed, objective=objective)
        [pair], _ = search(host, [(0, 1)], step_size)
        rates[objective] = (pair.initial_rate, pair.rate)
    wrong = len(images[0]) // 2
    assert rates["J"][0] == pytest.approx(wrong / (len(images[0]) + wrong))
    assert rates["Jc"][0] == 0.0
    assert round(rates["Jc"][1] * len(images[0])) == pytest.approx(rates["Jc"][1] * len(images[0]))


def test_pilots_end_when_the_time_is_up():
    host = opened()
    answer = host.prepare(
        {
            "detector": "pairwise",
            "images_by_class": {str(label): array for label, array in by_class().items()},
            "config": encode(ScanConfig(threads=1)),
            "seconds": 0.0,
        }
    )["answer"]
    assert answer["step_size"] > 0
    assert search(host, [(0, 1)], answer["step_size"], seconds=None)[1] == {"answer": 1}


def test_precision_is_that_of_the_request_and_not_of_the_one_before():
    """The copy is the same and so are the images: what was made of them for bfloat16 must not serve float32."""
    network = initialise(digit_net((1, 8, 8), 4), torch.Generator().manual_seed(0))
    host = opened(to_onnx(network, (1, 8, 8)))
    images = {label: np.random.default_rng(label).random((6, 1, 8, 8), np.float32) for label in range(4)}
    seen = []
    for precision in ("bfloat16", "float32", "bfloat16"):
        prepared(host, images, precision=precision)
        seen.append(host.examination.reduced is not None)
    assert seen == [True, False, True]
    prepared(host, images, precision="bfloat16", step_rule="plain")


def test_no_time_is_no_result():
    host, images = opened(), by_class()
    step_size = prepared(host, images)
    assert search(host, [(0, 1)], step_size, seconds=0.0) == ([], {"answer": 0})


@pytest.mark.parametrize("step", ["settle", "decide", "compare", "prepare"])
def test_nothing_works_before_the_model_is_open(step):
    given = {
        "settle": {"normalisation": asdict(Normalisation())},
        "decide": {"images": IMAGES},
        "compare": {"images": IMAGES, "real_images": True},
        "prepare": {"detector": "pairwise", "images_by_class": {"0": IMAGES}, "config": encode(ScanConfig())},
    }[step]
    with pytest.raises(RuntimeError, match="expected `open`"):
        getattr(ModelHost(), step)(given)


def test_searching_needs_images():
    with pytest.raises(RuntimeError, match="expected `prepare` before this step"):
        search(opened(), [(0, 1)], 0.1)


def test_the_replay_alone_needs_no_copy():
    host = opened(runtime_only=True)
    host.settle({"normalisation": asdict(Normalisation())})
    np.testing.assert_array_equal(host.decide({"images": IMAGES})["answer"], paper_decisions(IMAGES))
    with pytest.raises(RuntimeError, match="without `runtime_only`"):
        host.compare({"images": IMAGES, "real_images": True})


def test_a_file_that_is_no_model_is_a_converter_error():
    with pytest.raises(ConverterError):
        ModelHost().open(message(b"not a model"))


def test_a_missing_gpu_is_the_users_choice(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(OptionError, match="expected a CUDA device for --device cuda, found none"):
        opened(device="cuda")


def alone() -> tuple[bytes, np.ndarray]:
    """The linear model for one image without a batch axis, and images."""
    tensors = {"m": WEIGHT.reshape(NUM_CLASSES, -1).T.copy(), "bias": BIAS}
    tensors |= {"flat": np.array([1, 36], np.int64), "shape": np.array([NUM_CLASSES], np.int64)}
    nodes = [
        helper.make_node("Reshape", ["image", "flat"], ["row"]),
        helper.make_node("Gemm", ["row", "m", "bias"], ["rows"]),
        helper.make_node("Reshape", ["rows", "shape"], ["scores"]),
    ]
    graph = helper.make_graph(
        nodes,
        "alone",
        [helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, SHAPE[1:])],
        [helper.make_tensor_value_info("scores", onnx.TensorProto.FLOAT, [NUM_CLASSES])],
        [numpy_helper.from_array(array, name) for name, array in tensors.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return model.SerializeToString(), IMAGES[:20]


def test_a_file_without_a_batch_axis_is_repaired_without_one() -> None:
    data, images = alone()
    host = opened(data)
    np.testing.assert_array_equal(host.runtime.decisions(images), paper_decisions(images))
    lesson = {"images": images, "labels": paper_decisions(images), "pattern": None, "mask": None, "target": None}
    made = decode(Repaired, host.repair(encode(Repair("fine-tune", **lesson, steps=3, seed=0)))["answer"])
    before, after = (onnx.load_model_from_string(each) for each in (data, made.data))
    assert set(made.tensors) <= {"m", "bias"}
    assert made.tensors
    assert (after.graph.input, after.graph.output) == (before.graph.input, before.graph.output)
    assert list(after.graph.node) == list(before.graph.node)
    again = opened(made.data)
    difference = again.differ(encode(Differ(artifact_from_bytes("planted.onnx", data))))["answer"]
    assert (set(difference["tensors"]), difference["elsewhere"]) == (set(made.tensors), False)


def test_a_file_without_a_batch_axis_has_no_output_more() -> None:
    host = opened(alone()[0])
    with pytest.raises(ConverterError, match="expected an input with a batch axis for an output more, found none"):
        host.add_score(encode(AddScore(np.ones(SHAPE, np.float32), 0.0, "pattern_score")))
