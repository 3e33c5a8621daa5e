"""The converter table: what is found, in which order, and that its table of equal versions agrees with onnx."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import pytest
from onnx import defs

from backscan.converters.errors import UnsupportedOperatorError
from backscan.converters.operators import registry
from backscan.converters.operators.equal_versions import EQUAL_VERSIONS, equal_versions
from backscan.converters.operators.registry import find_converter, onnx2torch_registry, register


def structure(operator: str, version: int) -> tuple[object, ...]:
    """What decides whether two versions can share a converter: attributes, inputs and outputs, without types."""
    schema = defs.get_schema(operator, version, "")
    attributes = {name: (str(a.type), str(a.default_value)) for name, a in schema.attributes.items()}
    return (attributes, [str(i.option) for i in schema.inputs], [str(o.option) for o in schema.outputs])


# Structure changed while the arithmetic of a float tensor did not: each with its reason.
HARMLESS_DIFFERENCES = {
    ("BatchNormalization", 14),
    ("Cast", 19),  # saturate: float8 only
    ("Cast", 24),  # round_mode: float8 only
    ("CastLike", 19),
    ("CastLike", 24),
    ("Range", 27),  # stash_type: precision of half types while counting
}


@pytest.mark.parametrize("operator", sorted(EQUAL_VERSIONS))
def test_equal_versions_have_equal_structure(operator: str) -> None:
    existing = {s.since_version for s in defs.get_all_schemas_with_history() if (s.domain, s.name) == ("", operator)}
    for group in EQUAL_VERSIONS[operator]:
        present = [version for version in group if version in existing]
        assert present == list(group)
        for older, newer in itertools.pairwise(present):
            if (operator, newer) not in HARMLESS_DIFFERENCES:
                assert structure(operator, older) == structure(operator, newer), (older, newer)


def test_groups_of_an_operator_do_not_overlap() -> None:
    for operator, groups in EQUAL_VERSIONS.items():
        versions = [version for group in groups for version in group]
        assert len(versions) == len(set(versions)), operator


def test_softmax_that_flattens_is_not_softmax_along_one_axis() -> None:
    assert equal_versions("Softmax", 11) == (1,)
    assert equal_versions("Softmax", 13) == ()


def test_nearest_version_comes_first_and_older_before_newer() -> None:
    assert equal_versions("Identity", 16) == (14, 13, 19, 21, 23, 24, 25, 1)


def test_newer_opset_finds_the_converter_of_an_equal_version() -> None:
    assert find_converter("Flatten", "", 21) is find_converter("Flatten", "", 13)
    assert find_converter("Abs", "ai.onnx", 99) is find_converter("Abs", "", 13)


def test_own_converter_goes_before_onnx2torch(monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = onnx2torch_registry.get_converter("Abs", 13)
    monkeypatch.setattr(registry, "_OWN_CONVERTERS", {})
    assert find_converter("Abs", "", 13) is theirs

    @register("Abs", versions=(13,))
    def mine(node, graph): ...

    assert find_converter("Abs", "", 17) is mine
    assert find_converter("Abs", "", 7) is not mine
    with pytest.raises(ValueError, match="two converters claim Abs"):
        register("Abs", versions=(13,))(theirs)


def test_unknown_operator_names_operator_opset_node_and_remedy() -> None:
    with pytest.raises(UnsupportedOperatorError, match=r"node 'n7' \(com\.acme::Magic, opset 3\).*export") as caught:
        find_converter("Magic", "com.acme", 3, node="n7")
    assert (caught.value.operator, caught.value.domain, caught.value.opset) == ("Magic", "com.acme", 3)


@pytest.mark.parametrize(
    ("operator", "domain", "opset", "remedy"),
    [
        ("Loop", "", 17, "without control flow that depends on data"),
        ("FusedConv", "com.microsoft", 1, "before onnxruntime optimised it"),
        ("Det", "", 17, "with standard ONNX operators"),
    ],
)
def test_the_remedy_fits_the_operator(operator: str, domain: str, opset: int, remedy: str) -> None:
    with pytest.raises(UnsupportedOperatorError, match=rf"node 'n7' .*{operator}, opset {opset}.*{remedy}"):
        find_converter(operator, domain, opset, node="n7")


def test_operators_that_need_torchvision_are_unsupported() -> None:
    with pytest.raises(UnsupportedOperatorError):
        find_converter("NonMaxSuppression", "", 11)


def in_a_clean_process(code: str) -> str:
    """What a fresh interpreter prints."""
    command = [sys.executable, "-W", "error", "-c", code]
    return subprocess.run(command, check=True, timeout=120, stdout=subprocess.PIPE, text=True).stdout


@pytest.mark.parametrize("module", ["operators.registry", "torch_import.importer"])
def test_own_converters_are_found_in_a_clean_process_without_torchvision(module: str) -> None:
    code = f"""
import sys
import backscan.converters.{module}
from backscan.converters.operators.registry import find_converter
assert find_converter("Abs", "", 13).__module__.startswith("backscan.converters.operators")
assert "torchvision" not in sys.modules
"""
    in_a_clean_process(code)


def test_the_importer_alone_loads_every_family() -> None:
    """A new file of operators must be named in the package, or its converters would never register."""
    code = "import backscan.converters.torch_import.importer, sys; print(*sys.modules)"
    loaded = in_a_clean_process(code).split()
    files = Path(registry.__file__).parent.glob("[!_]*.py")
    assert [file.name for file in files if f"backscan.converters.operators.{file.stem}" not in loaded] == []
