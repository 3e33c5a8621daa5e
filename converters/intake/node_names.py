"""Names for the nodes of a file, and for the values that the converters add.

Exporters leave nodes without names, tools that cut and join graphs give one name to several, and nobody has to keep
them apart: nothing may depend on what a file calls its nodes. So each gets a name of our own before anything reads it,
which is the file's own wherever that names one node only, and holds it where it does not. The names of values do have
to differ, but those of the file may be just what a rewrite would make up.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

import onnx

OWN = "\ufdd0"
"""A character that no text may hold, in every value name of our own: `parse` refuses files that use it."""
_MAX_TYPED = 40
"""Characters of an operator or attribute that go into the name of a node without one."""

Placed = tuple[onnx.NodeProto, str]


def name_nodes(model: onnx.ModelProto) -> None:
    """Give every node of a model a name that no other has, those in subgraphs and functions included.

    A name that occurs once stays as it is. `Relu#7` is an unnamed `Relu`, the eighth node of the graph, `act#7` the one
    of several nodes `act` that stands there, and `Relu#3.body.0` the first node of the subgraph `body` of the fourth.
    """
    name_apart([*_placed(model.graph.node), *(pair for f in model.functions for pair in _placed(f.node, f.name))])


def name_apart(nodes: Iterable[Placed]) -> None:
    """Give every node a name that no other has.

    Args:
        nodes: Nodes with their places, which make the difference.
    """
    pairs = list(nodes)
    counts = Counter(node.name for node, _ in pairs)
    taken = {name for name, count in counts.items() if count == 1}
    for node, place in pairs:
        if node.name and counts[node.name] == 1:
            continue
        name = wanted = f"{node.name or node.op_type[:_MAX_TYPED]}#{place}"
        number = 1
        while name in taken:
            number += 1
            name = f"{wanted}({number})"
        taken.add(name)
        node.name = name


def _placed(nodes: Iterable[onnx.NodeProto], outer: str = "") -> Iterator[Placed]:
    """Nodes with their places: numbers from 0, after those of the nodes around them."""
    for index, node in enumerate(nodes):
        place = f"{outer[:_MAX_TYPED]}.{index}" if outer else str(index)
        yield node, place
        for attribute in node.attribute:
            for graph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from _placed(graph.node, f"{place}.{attribute.name[:_MAX_TYPED]}")
