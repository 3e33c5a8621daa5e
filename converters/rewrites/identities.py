"""Rules 2 and 7: nodes that hand their input on unchanged."""

from __future__ import annotations

import onnx
from onnx import helper, numpy_helper

from backscan.converters.graph import constants, rename_reads, set_nodes


def unzip_scores(graph: onnx.GraphProto) -> None:
    """Rule 2: scores stay a matrix where `ZipMap` would make a dictionary for each image of them."""
    for node in graph.node:
        if node.op_type == "ZipMap":
            node.CopyFrom(helper.make_node("Identity", node.input, node.output, name=node.name))


def drop_identities(graph: onnx.GraphProto) -> None:
    """Rule 7: readers of an unchanged copy read the original; a copy that is an output stays."""
    outputs = {value.name for value in graph.output}
    training_flags = constants(graph)
    renamed: dict[str, str] = {}
    kept = []
    for node in graph.node:
        for index, name in enumerate(node.input):
            node.input[index] = renamed.get(name, name)
        if _hands_on(node, training_flags) and node.output[0] not in outputs:
            renamed[node.output[0]] = node.input[0]
        else:
            kept.append(node)
    if renamed:
        set_nodes(graph, kept)
        rename_reads(graph, renamed)


def _hands_on(node: onnx.NodeProto, known: dict[str, onnx.TensorProto]) -> bool:
    if node.op_type == "Identity":
        return True
    if node.op_type != "Dropout" or any(node.output[1:]):
        return False
    flag = node.input[2] if len(node.input) > 2 else ""
    return not flag or (flag in known and not numpy_helper.to_array(known[flag]).any())
