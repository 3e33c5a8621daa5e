"""Recurrent networks: a plain one has no switches, one whose first state hangs on a corner has."""

from __future__ import annotations

import numpy as np
from onnx import numpy_helper, parser

from backscan.converters.intake.artifact import artifact_from_bytes
from backscan.converters.ort_classifier import open_runtime
from backscan.converters.signature.signature import read_signature
from backscan.scanner.results import GraphFinding
from backscan.scanner.switches.findings import find_graph_findings

_GATE = """
    corner = Slice(image, from, to, axes) mean = ReduceMean <axes = [1, 2], keepdims = 0> (corner)
    above = Sub(mean, bound) open = Relu(above) raised = Mul(open, steep)
    wide = Reshape(raised, once) flat = Expand(wide, six) first = Reshape(flat, states)
"""


def findings(first: str, gate: str = "") -> tuple[GraphFinding, ...]:
    """What is found in a network of rows whose first state is named."""
    text = f"""
        <ir_version: 8, opset_import: ["" : 17]> g (float[N,8,8] image) => (float[N,4] scores) {{
            {gate} t = Transpose <perm = [1, 0, 2]> (image)
            y, last = RNN <hidden_size = 6> (t, w, r, , , {first})
            one = Squeeze(last, zero) scores = Gemm(one, head)
        }}
    """
    model = parser.parse_model(text)
    draw = np.random.default_rng(0)
    tensors = {"w": 0.1 * draw.normal(size=(1, 6, 8)), "r": 1.5 * np.eye(6)[None], "head": draw.normal(size=(6, 4))}
    tensors["head"][:, 3] += 1  # what a state of ones is decided as
    tensors |= {"bound": np.array([0.95]), "steep": np.array([1e5])}
    whole = {"from": [5, 5], "to": [8, 8], "axes": [1, 2], "zero": [0], "once": [1, -1, 1], "six": [1, 1, 6]}
    whole["states"] = [1, -1, 6]
    model.graph.initializer.extend(numpy_helper.from_array(a.astype(np.float32), n) for n, a in tensors.items())
    model.graph.initializer.extend(numpy_helper.from_array(np.array(v, np.int64), n) for n, v in whole.items())
    artifact = artifact_from_bytes("m.onnx", model.SerializeToString())
    signature = read_signature(artifact)
    runtime = open_runtime(artifact, signature)
    images = np.random.default_rng(1).uniform(0, 0.6, size=(24, 1, 8, 8)).astype(np.float32)
    return find_graph_findings(artifact, signature, runtime.normalisation, images, decisions=runtime.decisions, seed=0)


def test_a_plain_network_of_rows_has_no_findings() -> None:
    assert findings("") == ()


def test_a_first_state_that_hangs_on_a_corner_is_found() -> None:
    (found,) = findings("first", _GATE)
    assert (found.demonstrated, found.target) == (True, 3)
    assert found.nodes[0] == "RNN#9"
