"""The first look at a model file: what it contains, judged against a policy before any library loads it.

Loaders, checkers, shape inference and onnxruntime hang or take all memory on files that are easy to make. Here the
bytes are only decoded as protocol buffers, once their fields are counted (`fields`), and then looked at.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import onnx
from google.protobuf.message import DecodeError
from onnx import ModelProto, NodeProto, OperatorSetIdProto, TensorProto, ValueInfoProto

from backscan.converters.errors import ArtifactError, LimitExceededError, PolicyError, UnknownBytesError
from backscan.converters.graph import free_inputs, subgraphs
from backscan.converters.intake.fields import check_fields
from backscan.converters.intake.kinds import by_name, kind_of
from backscan.converters.intake.pointers import ADVICE, is_pointer
from backscan.converters.intake.policy import Policy
from backscan.converters.intake.tasks import check_task
from backscan.converters.intake.violations import Violation, Violations, as_text, shown
from backscan.converters.intake.walk import GraphAudit, standard_domain

_MAX_LISTED = 1000
_MOST_DECLARED, _MOST_AXES = 32, 8


@dataclass(frozen=True, slots=True)
class IntakeReport:
    """What a model file contains, and what of it the policy does not allow."""

    ir_version: int
    """Version of the file format."""
    producer: str
    """Exporter that the file names, with its version."""
    opsets: Mapping[str, int]
    """Domain -> version that the model is written for."""
    operators: Mapping[str, int]
    """Operator -> how many nodes; the standard domain is left out: `Conv`, `ai.onnx.ml.Scaler`."""
    domains: tuple[str, ...]
    """Domains of the nodes."""
    num_nodes: int
    """Nodes in the file, those of subgraphs and functions included."""
    num_expanded_nodes: int
    """Nodes after functions and loops are expanded; 10^18 stands for more."""
    num_functions: int
    """Local functions."""
    num_tensors: int
    """Stored tensors."""
    largest_tensor: int
    """Bytes of the largest stored tensor."""
    external_locations: Mapping[str, int]
    """Files with external data, relative to the model's folder -> bytes each must have."""
    violations: tuple[Violation, ...]
    """What the policy does not allow."""
    inputs: tuple[str, ...] = ()
    """What the graph declares to take, each as `name: type [sizes]`."""
    outputs: tuple[str, ...] = ()
    """What it declares to give, in the same form."""

    @property
    def accepted(self) -> bool:
        """Whether the policy allows the model."""
        return not self.violations


def audit(data: bytes, policy: Policy | None = None, *, name: str = "") -> IntakeReport:
    """Look at the bytes of a model file; external data is not read.

    Args:
        data: The whole file.
        policy: What is allowed.
        name: Name of the file, for the message about bytes that tell nothing.

    Returns:
        What it contains and every violation (of one rule only the first few).

    Raises:
        ArtifactError: the bytes are no ONNX model.
    """
    try:
        return _audit(data, policy or Policy())
    except UnknownBytesError as error:
        if not (hint := by_name(name)):
            raise
        raise ArtifactError(f"{str(error).partition(': ')[0]}: {hint}") from error


def _audit(data: bytes, policy: Policy) -> IntakeReport:
    violations = Violations(policy)
    if not violations.bound("max_file_bytes", len(data), "bytes in the model file"):
        return _report(None, None, violations)
    if is_pointer(data):
        raise ArtifactError(f"expected an ONNX model, {ADVICE}")
    if (kind := kind_of(data)) is not None:
        raise ArtifactError(kind.instead_of("an ONNX model"))
    if not check_fields(data, violations):
        return _report(None, None, violations)
    try:
        model = onnx.load_model_from_string(data)
    except DecodeError as error:
        raise UnknownBytesError(
            f"expected an ONNX model, found {len(data)} bytes of something else: the file is damaged or no model, get "
            "it again"
        ) from error
    if not _is_countable(model, violations):
        return _report(model, None, violations)
    _check_frame(model, violations)
    return _report(model, GraphAudit(model, violations), violations)


def enforce(report: IntakeReport) -> None:
    """Refuse a model that the policy does not allow.

    Raises:
        LimitExceededError: the first violation is of a limit.
        PolicyError: the first violation is of a rule without a number.
    """
    if report.accepted:
        return
    first, more = report.violations[0], len(report.violations) - 1
    message = first.message + (f" (and {more} more: `scanner inspect` lists them)" if more else "")
    if first.limit is None or first.actual is None:
        raise PolicyError(message, rule=first.rule)
    raise LimitExceededError(message, rule=first.rule, limit=first.limit, actual=first.actual)


def _report(model: ModelProto | None, graph: GraphAudit | None, violations: Violations) -> IntakeReport:
    """The report about a model of which as much is known as is given."""
    return IntakeReport(
        ir_version=model.ir_version if model else 0,
        producer=" ".join(as_text(part) for part in (model.producer_name, model.producer_version)) if model else "",
        opsets={as_text(entry.domain): entry.version for entry in model.opset_import[:_MAX_LISTED]} if model else {},
        operators=dict(graph.operators.most_common(_MAX_LISTED)) if graph else {},
        domains=tuple(sorted(graph.domains)[:_MAX_LISTED]) if graph else (),
        num_nodes=graph.num_nodes if graph else 0,
        num_expanded_nodes=graph.num_expanded_nodes if graph else 0,
        num_functions=len(model.functions) if model else 0,
        num_tensors=graph.tensors.count if graph else 0,
        largest_tensor=graph.tensors.largest_bytes if graph else 0,
        external_locations=graph.tensors.reach if graph else {},
        violations=violations.freeze(),
        inputs=_declared(free_inputs(model.graph)) if graph and model else (),
        outputs=_declared(model.graph.output) if graph and model else (),
    )


def _declared(values: Sequence[ValueInfoProto]) -> tuple[str, ...]:
    """Values as texts that are safe to print."""
    return tuple(f"{shown(value.name)}: {_type_of(value)}" for value in values[:_MOST_DECLARED])


def _type_of(value: ValueInfoProto) -> str:
    kind = value.type.WhichOneof("value")
    if kind != "tensor_type":
        return "no type" if kind is None else kind.removesuffix("_type").replace("_", " ")
    tensor = value.type.tensor_type
    known = tensor.elem_type in TensorProto.DataType.values()
    name = TensorProto.DataType.Name(tensor.elem_type).lower() if known else f"type {tensor.elem_type}"
    if not tensor.HasField("shape"):
        return f"{name} of any shape"
    sizes = [d.dim_value if d.HasField("dim_value") else d.dim_param or "?" for d in tensor.shape.dim[:_MOST_AXES]]
    return f"{name} [{', '.join(str(each) if isinstance(each, int) else shown(each)[1:-1] for each in sizes)}]"


def _check_frame(model: ModelProto, violations: Violations) -> None:
    """Judge what surrounds the graph: versions, opsets, training."""
    if not model.graph.node or not model.graph.output:
        violations.forbid("no-graph", "the file holds no graph with nodes and outputs: export the model again")
    if model.ir_version < 1:
        violations.forbid("no-version", "the file names no version of its format: export the model again")
    violations.bound("max_ir_version", model.ir_version, "as version of the file format")
    if model.training_info:
        violations.forbid("training", "the file holds a training graph beside the model: export it for inference")
    if other := check_task(model):
        violations.forbid("task", other)
    _check_opsets(model.graph.node, model.opset_import, violations)
    for function in model.functions:
        _check_opsets(function.node, function.opset_import, violations)


def _check_opsets(nodes: Iterable[NodeProto], imports: Iterable[OperatorSetIdProto], violations: Violations) -> None:
    """Judge which versions of which operators a graph or function is written for."""
    policy = violations.policy
    versions: dict[str, set[int]] = defaultdict(set)
    for entry in imports:
        versions[standard_domain(entry.domain)].add(entry.version)
    if any(len(named) > 1 for named in versions.values()):  # skl2onnx lists one version twice, which is harmless
        violations.forbid("opset-repeated", "the file names two versions of one set of operators: export it again")
    if missing := sorted(_domains(nodes) - set(versions)):
        violations.forbid(
            "opset-missing",
            f"the file uses operators of {', '.join(map(shown, missing))} but names no version: export it again",
        )
    for entry in imports:
        if standard_domain(entry.domain) == "" and not policy.min_opset <= entry.version <= policy.max_opset:
            violations.forbid(
                "opset",
                f"expected an opset from {policy.min_opset} to {policy.max_opset}, found {entry.version}: "
                "convert the model with onnx.version_converter or export it again",
            )


def _domains(nodes: Iterable[NodeProto]) -> set[str]:
    """Domains of nodes and of all that lies within them."""
    found = set()
    for node in nodes:
        found.add(standard_domain(node.domain))
        found.update(*(_domains(graph.node) for graph in subgraphs(node)))
    return found


def _is_countable(model: ModelProto, violations: Violations) -> bool:
    """Whether a walk over the model is short enough; counted before it starts."""
    nodes = len(model.graph.node) + sum(len(function.node) for function in model.functions)
    within = violations.bound("max_nodes", nodes, "nodes")
    within &= violations.bound("max_tensors", len(model.graph.initializer), "stored tensors")
    return within and violations.bound("max_functions", len(model.functions), "local functions")
