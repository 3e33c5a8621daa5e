"""Which names a graph defines and uses: no cycle, nothing defined twice, nothing used that does not exist."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from graphlib import CycleError, TopologicalSorter

from onnx import GraphProto, NodeProto

from backscan.converters.graph import subgraphs
from backscan.converters.intake.violations import Violations, shown


def check_graph(graph: GraphProto, violations: Violations) -> None:
    """Check the names of a graph and of all its subgraphs."""
    missing = _missing_names(graph, violations)
    _forbid_missing(missing, f"graph {shown(graph.name)}", violations)


def check_function(name: str, inputs: Sequence[str], nodes: Sequence[NodeProto], violations: Violations) -> None:
    """Check the names of a function's body, which sees nothing from outside."""
    _forbid_missing(_missing(set(inputs), nodes, (), violations), f"function {shown(name)}", violations)


def _missing_names(graph: GraphProto, violations: Violations) -> set[str]:
    stored = {tensor.name for tensor in graph.initializer}
    if len(stored) < len(graph.initializer):
        violations.forbid("name-repeated", f"graph {shown(graph.name)} stores two tensors of one name: export it again")
    given = stored | {value.name for value in graph.input}
    return _missing(given, graph.node, [value.name for value in graph.output], violations)


def _missing(given: set[str], nodes: Sequence[NodeProto], outputs: Iterable[str], violations: Violations) -> set[str]:
    """Names that are used here but come from outside; also notes what is defined twice, and cycles."""
    makers: dict[str, int] = {}
    for index, node in enumerate(nodes):
        for name in filter(None, node.output):
            if name in makers or name in given:
                violations.forbid("name-repeated", f"the name {shown(name)} is defined twice: export the model again")
            makers[name] = index
    uses = [_used(node, violations) for node in nodes]
    stuck = _first_stuck([{makers[name] for name in used if name in makers} for used in uses])
    if stuck is not None:
        violations.forbid(
            "cycle",
            f"node {stuck} ({shown(nodes[stuck].op_type)}) of {len(nodes)} waits for its own output: "
            "this is no model that can run, export it again",
        )
    return set().union(outputs, *uses) - makers.keys() - given


def _used(node: NodeProto, violations: Violations) -> set[str]:
    within = (_missing_names(graph, violations) for graph in subgraphs(node))
    return set(filter(None, node.input)).union(*within)


def _first_stuck(needs: Sequence[set[int]]) -> int | None:
    """The first node of a cycle, given which nodes each needs; None if there is none."""
    try:
        TopologicalSorter(dict(enumerate(needs))).prepare()
    except CycleError as error:
        return int(min(error.args[1]))
    return None


def _forbid_missing(missing: set[str], where: str, violations: Violations) -> None:
    for name in sorted(missing, key=repr):
        violations.forbid("name-unknown", f"{where} uses {shown(name)}, which nothing defines: export the model again")
