"""Walk over every graph, function and node of a parsed model, and judge each against the policy."""

from __future__ import annotations

from collections import ChainMap, Counter
from collections.abc import Iterable, Sequence

from onnx import AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, ValueInfoProto

from backscan.converters.graph import subgraphs
from backscan.converters.intake.constant_sizes import Constants, check_sizes, read_constants, trip_count
from backscan.converters.intake.least_sizes import check_least_sizes, least_sizes
from backscan.converters.intake.names import check_function, check_graph
from backscan.converters.intake.stored_tensors import StoredTensors, count_elements
from backscan.converters.intake.violations import Violations, as_text, shown

FunctionKey = tuple[str, str, str]
"""Domain, name and overload, by which a node calls a local function."""

_MANY = 10**18  # counts stop here, for they can double with every function
_RUNNING = -1


class GraphAudit:
    """What one walk over a model counts, and what it finds against the policy."""

    def __init__(self, model: ModelProto, violations: Violations) -> None:
        self.operators: Counter[str] = Counter()
        self.domains: set[str] = set()
        self.tensors = StoredTensors(violations)
        self._violations = violations
        self._functions: dict[FunctionKey, FunctionProto] = {
            (function.domain, function.name, function.overload): function for function in model.functions
        }
        self._expanded: dict[FunctionKey, int] = {}
        self._check_functions(model)
        check_graph(model.graph, violations)
        self.num_expanded_nodes = self._graph(model.graph, ChainMap(), 0)
        for key in self._functions:
            self._function(key, 0)
        self.num_nodes = self.operators.total()
        violations.bound("max_nodes", self.num_nodes, "nodes, those of subgraphs included")
        violations.bound("max_expanded_nodes", self.num_expanded_nodes, "nodes after functions and loops are expanded")
        violations.bound("max_tensors", self.tensors.count, "stored tensors, those in attributes included")
        violations.bound("max_shared_bytes", self.tensors.shared_bytes, "bytes of external data in several tensors")

    def _check_functions(self, model: ModelProto) -> None:
        if len(self._functions) < len(model.functions):
            self._violations.forbid("function-repeated", "a local function is defined twice: export the model again")
        for key, function in self._functions.items():
            if _qualified(*key[:2]) in self._violations.policy.operators:
                self._violations.forbid(
                    "function-shadows-operator",
                    f"the local function {shown(key[1])} has the name of an operator, so that programs disagree on "
                    "what the model does: do not use this model unless you know why",
                )
            check_function(function.name, function.input, function.node, self._violations)

    def _graph(self, graph: GraphProto, outer: Constants, depth: int) -> int:
        """Judge a graph; return its number of expanded nodes."""
        if not self._violations.bound("max_depth", depth, "graphs within each other"):
            return _MANY
        for value in (*graph.input, *graph.output, *graph.value_info):
            self._check_value(value)
        self._check_count(len(graph.input) + len(graph.output), f"inputs and outputs of graph {shown(graph.name)}")
        for tensor in graph.initializer:
            self._check_names([tensor.name], "a stored tensor")
            self.tensors.add(tensor)
        if graph.sparse_initializer:
            self._violations.forbid("sparse-tensor", "the model stores sparse tensors: export it with plain ones")
        constants = outer.new_child(read_constants(graph.initializer, graph.node))
        check_least_sizes(graph.node, least_sizes(graph), constants, self._violations)
        return self._nodes(graph.node, constants, depth)

    def _function(self, key: FunctionKey, depth: int) -> int:
        """Judge a function when it is first met; return its number of expanded nodes."""
        known = self._expanded.get(key)
        if known == _RUNNING:
            self._violations.forbid(
                "recursion", f"function {shown(key[1])} calls itself: this is no model that can run"
            )
            return _MANY
        if known is not None:
            return known
        if not self._violations.bound("max_depth", depth, "functions that call each other"):
            return _MANY
        self._expanded[key] = _RUNNING
        function = self._functions[key]
        self._check_count(len(function.input) + len(function.output), f"inputs and outputs of {shown(function.name)}")
        constants: Constants = ChainMap(read_constants((), function.node))
        check_least_sizes(function.node, {}, constants, self._violations)
        self._expanded[key] = self._nodes(function.node, constants, depth)
        return self._expanded[key]

    def _nodes(self, nodes: Sequence[NodeProto], constants: Constants, depth: int) -> int:
        return min(_MANY, sum(self._node(node, constants, depth) for node in nodes))

    def _node(self, node: NodeProto, constants: Constants, depth: int) -> int:
        operator = _qualified(node.domain, node.op_type)
        self.operators[operator] += 1
        self.domains.add(standard_domain(node.domain))
        self._check_names([node.name, node.op_type, node.domain, *node.input, *node.output], f"node {shown(node.name)}")
        self._check_count(len(node.input) + len(node.output), f"inputs and outputs of node {shown(node.name)}")
        for attribute in node.attribute:
            self._check_attribute(attribute, node)
        check_sizes(node, constants, self._violations)
        inner = min(_MANY, sum(self._graph(graph, constants, depth + 1) for graph in subgraphs(node)))
        key = (node.domain, node.op_type, node.overload)
        if key in self._functions:
            return self._function(key, depth + 1)
        if operator not in self._violations.policy.operators:
            self._violations.forbid(
                "operator",
                f"node {shown(node.name)} is a {shown(operator)}, which is not among the operators of image "
                "classifiers: add it to `operators` of the policy if you trust the model",
            )
        return 1 + (inner * self._trips(node, constants) if node.op_type == "Loop" else inner)

    def _trips(self, node: NodeProto, constants: Constants) -> int:
        trips = trip_count(node, constants)
        if trips is None:
            self._violations.forbid(
                "unbounded-loop",
                f"the loop {shown(node.name)} has no constant number of turns: export the model with loops unrolled",
            )
            return 1
        self._violations.bound("max_loop_trips", trips, f"turns of loop {shown(node.name)}")
        return min(trips, _MANY)

    def _check_attribute(self, attribute: AttributeProto, node: NodeProto) -> None:
        where = f"attribute {shown(attribute.name)} of node {shown(node.name)}"
        self._check_names([attribute.name, attribute.ref_attr_name], where)
        length = max(len(attribute.s), len(attribute.ints), len(attribute.floats), len(attribute.strings))
        longest = max((len(text) for text in attribute.strings), default=0)
        self._violations.bound("max_text_bytes", max(length, longest), f"entries in {where}")
        if attribute.HasField("sparse_tensor") or attribute.sparse_tensors:
            self._violations.forbid("sparse-tensor", f"{where} is a sparse tensor: export the model with plain ones")
        if attribute.HasField("t"):
            self.tensors.add(attribute.t)
        for tensor in attribute.tensors:
            self.tensors.add(tensor)

    def _check_value(self, value: ValueInfoProto) -> None:
        self._check_names([value.name], "an input, output or value")
        dims = value.type.tensor_type.shape.dim
        # A negative length is how some exporters write an unknown one.
        sizes = [max(1, dim.dim_value) for dim in dims]
        elements = count_elements(sizes, f"value {shown(value.name)}", self._violations)
        self._violations.bound("max_elements", elements or 0, f"elements declared for {shown(value.name)}")

    def _check_names(self, names: Iterable[str | bytes], where: str) -> None:
        for name in names:
            if isinstance(name, bytes):
                self._violations.forbid(
                    "text-encoding", f"{where} has a name that is not UTF-8: export the model again"
                )
            self._violations.bound("max_name_bytes", len(name), f"characters in a name of {where}")

    def _check_count(self, count: int, what: str) -> None:
        self._violations.bound("max_inputs", count, what)


def standard_domain(domain: str | bytes) -> str:
    """A domain in one spelling: the standard one has two names."""
    text = as_text(domain)
    return "" if text == "ai.onnx" else text


def _qualified(domain: str | bytes, operator: str | bytes) -> str:
    prefix = standard_domain(domain)
    return f"{prefix}.{as_text(operator)}" if prefix else as_text(operator)
