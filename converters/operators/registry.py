"""How an operator at a schema version becomes a torch module: own converters on top of onnx2torch's.

A converter has onnx2torch's protocol: it gets the node and its graph, and returns the module with the names of the
values that the module is called with. To add one, write in `converters/operators/FAMILY.py`:

    @register("HardSwish", versions=(14, 22))
    def convert_hard_swish(node: OnnxNode, graph: OnnxGraph) -> OperationConverterResult: ...

This module is the one border to onnx2torch: its types are imported from here, so the torchvision guard always runs.
"""

from __future__ import annotations

from collections.abc import Callable

from onnx import defs

from backscan.converters.errors import UnsupportedOperatorError
from backscan.converters.operators.equal_versions import equal_versions
from backscan.converters.operators.torchvision_guard import NEEDS_TORCHVISION, torchvision_stand_in

with torchvision_stand_in():
    from onnx2torch.node_converters import registry as onnx2torch_registry
    from onnx2torch.onnx_graph import OnnxGraph, ValueType
    from onnx2torch.onnx_node import OnnxNode
    from onnx2torch.onnx_tensor import OnnxTensor
    from onnx2torch.utils.common import OnnxMapping, OperationConverterResult, onnx_mapping_from_node

__all__ = [
    "ConverterFunction",
    "OnnxGraph",
    "OnnxMapping",
    "OnnxNode",
    "OnnxTensor",
    "OperationConverterResult",
    "ValueType",
    "find_converter",
    "onnx_mapping_from_node",
    "register",
    "since_version",
]

_Key = tuple[str, str, int]
ConverterFunction = Callable[[OnnxNode, OnnxGraph], OperationConverterResult]

_CONTROL = frozenset({"If", "Loop", "Scan"})
_OWN_CONVERTERS: dict[_Key, ConverterFunction] = {}


def register(
    operator: str, *, versions: tuple[int, ...], domain: str = ""
) -> Callable[[ConverterFunction], ConverterFunction]:
    """Decorate the converter of an operator for some of its schema versions; it goes before onnx2torch's.

    Args:
        operator: ONNX operator, such as `HardSwish`.
        versions: Every `since_version` of the operator that the converter is right for.
        domain: Operator domain; empty for ONNX's own.

    Returns:
        The decorator, which leaves the function as it is.

    Raises:
        ValueError: a version already has an own converter.
    """

    def decorate(converter: ConverterFunction) -> ConverterFunction:
        for version in versions:
            key = (domain, operator, version)
            if key in _OWN_CONVERTERS:
                raise ValueError(f"two converters claim {operator} version {version} of domain '{domain}'")
            _OWN_CONVERTERS[key] = converter
        return converter

    return decorate


def find_converter(operator: str, domain: str, opset: int, *, node: str = "") -> ConverterFunction:
    """The converter of an operator as it stands at an opset.

    Looked up in this order: own table, onnx2torch's table, then both again for the schema versions that mean the same.

    Args:
        operator: ONNX operator.
        domain: Operator domain; empty or `ai.onnx` for ONNX's own.
        opset: Version of that domain which the model imports.
        node: Name of the node, for the error message.

    Returns:
        A function from node and graph to torch module.

    Raises:
        UnsupportedOperatorError: no converter is known.
    """
    domain = "" if domain == "ai.onnx" else domain
    version = since_version(operator, domain, opset)
    candidates = (version, *(equal_versions(operator, version) if not domain else ()))
    for candidate in candidates:
        converter = _OWN_CONVERTERS.get((domain, operator, candidate)) or _from_onnx2torch(operator, domain, candidate)
        if converter is not None:
            return converter
    raise UnsupportedOperatorError.at(
        operator=operator,
        domain=domain,
        opset=opset,
        node=node,
        reason=f"the importer has no converter for this operator; {_remedy(operator, domain)}",
    )


def _remedy(operator: str, domain: str) -> str:
    if operator in _CONTROL and not domain:
        return (
            "only conditions and numbers of turns that do not depend on the image can be settled: export the model "
            "without control flow that depends on data"
        )
    if domain.startswith("com.microsoft"):
        return "use the model as it was before onnxruntime optimised it, or report the operator"
    return "export the model with standard ONNX operators, or report the operator so that a converter is added"


def since_version(operator: str, domain: str, opset: int) -> int:
    """The schema version of an operator that holds at an opset.

    Where onnx has no schema (contributed domains), the newest own converter that is not newer than the opset counts.
    """
    try:
        return int(defs.get_schema(operator, max_inclusive_version=opset, domain=domain).since_version)
    except defs.SchemaError:
        known = [version for (d, o, version) in _OWN_CONVERTERS if (d, o) == (domain, operator) and version <= opset]
        return max(known, default=opset)


def _from_onnx2torch(operator: str, domain: str, version: int) -> ConverterFunction | None:
    if operator in NEEDS_TORCHVISION:
        return None
    try:
        converter: ConverterFunction = onnx2torch_registry.get_converter(operator, version, domain)
    except NotImplementedError:
        return None
    return converter
