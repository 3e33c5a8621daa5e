"""Which of ONNX's own node test cases import, and with the right values.

    python -m benchmarks.backend_suite [--only Conv] [--out benchmarks/results]

Every case of `backend_cases` runs at every schema version that can express it, in onnxruntime at that opset, in
onnx2torch as it is and in our converters. A case counts where onnxruntime runs it and, if the version means the same as
the one that the suite was written for, agrees with the suite. The table gives, for each opset, how many count, how many
convert and how many match within 1e-3. Schema versions newer than onnxruntime are compared with the suite itself.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
import torch
from onnx import ModelProto, TensorProto, defs, helper

from backscan.converters.operators.equal_versions import equal_versions
from backscan.converters.operators.torchvision_guard import torchvision_stand_in
from backscan.converters.torch_import.builder import GraphBuilder
from benchmarks import command
from benchmarks.exporters.backend_cases import FIRST_OPSET, Array, Case, StatedCase, all_cases, schema_of, statements
from benchmarks.exporters.backend_exceptions import EXCEPTIONS
from benchmarks.provenance import circumstances
from benchmarks.table import grid, page

Module = Callable[..., Any]

CASE_LIST = Path(__file__).parent / "backend_cases.json"
MATCH = "match"


@dataclass(frozen=True)
class Outcome:
    """What became of one case at one schema version."""

    case: Case
    """The case."""
    version: int
    """Schema version of the operator."""
    oracle: str
    """`onnxruntime`, or `suite` where only that can tell, or empty where nothing can."""
    verdicts: dict[str, str]
    """For each importer `match`, `refused: ...`, `fails: ...` or `mismatch: ...`."""

    @property
    def counts(self) -> bool:
        """Whether onnxruntime passes the case."""
        return self.oracle == "onnxruntime"

    @property
    def excepted(self) -> bool:
        """Whether the committed list of exceptions names it."""
        return (self.case.name, self.version) in EXCEPTIONS


def import_with_ours(model: ModelProto) -> Module:
    """Import a model with the converters of this repository."""
    return GraphBuilder(model).build()


def import_with_onnx2torch(model: ModelProto) -> Module:
    """Import a model with onnx2torch as it is."""
    with torchvision_stand_in():
        import onnx2torch

    module: Module = onnx2torch.convert(model)
    return module


IMPORTERS: dict[str, Callable[[ModelProto], Module]] = {"onnx2torch": import_with_onnx2torch, "ours": import_with_ours}


def judge(stated: StatedCase, importers: Iterable[str]) -> Outcome:
    """Run one case in onnxruntime and in every importer."""
    oracle, expected = _oracle(stated)
    verdicts = {name: _verdict(stated, IMPORTERS[name], expected) for name in importers} if oracle else {}
    return Outcome(stated.case, stated.version, oracle, verdicts)


def _oracle(stated: StatedCase) -> tuple[str, Sequence[Array]]:
    """Who says what is right, and what: onnxruntime, unless it fails or contradicts the suite."""
    case, written = stated.case, stated.case.schema.since_version
    same = stated.version == written or stated.version in equal_versions(case.operator, written)
    try:
        outputs = run_onnxruntime(stated.model, stated.inputs)
    except Exception:  # onnxruntime raises its own types, which it does not export
        return ("suite", case.outputs) if stated.version == written else ("", ())
    if same and any(difference(*pair) for pair in zip(outputs, case.outputs, strict=True)):
        return "", ()
    return "onnxruntime", outputs


def _verdict(stated: StatedCase, importer: Callable[[ModelProto], Module], expected: Sequence[Array]) -> str:
    model = ModelProto()
    model.CopyFrom(stated.model)
    try:
        module = importer(model)
    except Exception as error:  # whatever an importer raises counts as a refusal
        return f"refused: {_one_line(error)}"
    try:
        with torch.no_grad():
            outputs = module(*[as_tensor(value) for value in stated.inputs.values()])
    except Exception as error:
        return f"fails: {_one_line(error)}"
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    differences = [difference(_as_floats(mine), theirs) for mine, theirs in zip(outputs, expected, strict=False)]
    found = [text for text in differences if text] or ([] if len(outputs) == len(expected) else ["outputs missing"])
    return f"mismatch: {found[0]}" if found else MATCH


def run_onnxruntime(model: ModelProto, inputs: dict[str, Array]) -> list[Array]:
    """Outputs of a model in onnxruntime on the CPU."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    outputs: list[Array] = session.run(None, inputs)
    return outputs


def difference(mine: Array, theirs: Array) -> str:
    """In words how two arrays differ by more than 1e-3 (two units in the last place of half precision), or nothing."""
    if mine.shape != theirs.shape:
        return f"shape {mine.shape} instead of {theirs.shape}"
    tolerance = {np.dtype(np.float16): 2e-3, np.dtype(ml_dtypes.bfloat16): 2e-2}.get(theirs.dtype, 1e-3)
    left, right = mine.astype(np.float64), theirs.astype(np.float64)
    close = np.isclose(left, right, rtol=tolerance, atol=tolerance * 1e-3, equal_nan=True)
    if close.all():
        return ""
    return (
        f"{np.count_nonzero(~close)} of {close.size} values, the first {left[~close][0]:.6g} for {right[~close][0]:.6g}"
    )


def as_tensor(value: Array) -> torch.Tensor:
    """An array as torch's; of types that torch lacks, the values as floats."""
    if value.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(value.astype(np.float32)).to(torch.bfloat16)
    return torch.from_numpy(np.array(value.astype(np.float32) if value.dtype.kind == "V" else value))


def _as_floats(value: torch.Tensor) -> Array:
    return np.asarray(value.detach().double())


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:200]


def newest_runtime_opset() -> int:
    """Newest opset that onnxruntime loads."""
    given, made = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "g", [given], [made])
    opsets = range(FIRST_OPSET, defs.onnx_opset_version() + 1)
    return max(opset for opset in opsets if _loads(graph, opset))


def _loads(graph: onnx.GraphProto, opset: int) -> bool:
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    try:
        run_onnxruntime(model, {"x": np.ones(1, dtype=np.float32)})
    except Exception:  # its own types again
        return False
    return True


def table(outcomes: Sequence[Outcome], newest: int) -> list[dict[str, int]]:
    """One row an opset: cases that it can express, that onnxruntime passes, that convert and that match."""
    found = {(outcome.case.name, outcome.version): outcome for outcome in outcomes}
    rows = []
    for opset in range(FIRST_OPSET, newest + 1):
        current = [found.get((case.name, _version(case, opset))) for case in all_cases()]
        there = [outcome for outcome in current if outcome is not None]
        counted = [outcome for outcome in there if outcome.counts]
        row = {"opset": opset, "cases": len(there), "onnxruntime passes": len(counted)}
        for name in IMPORTERS:
            verdicts = [outcome.verdicts[name] for outcome in counted if name in outcome.verdicts]
            row[f"{name} converts"] = sum(not verdict.startswith("refused") for verdict in verdicts)
            row[f"{name} matches"] = sum(verdict == MATCH for verdict in verdicts)
        rows.append(row)
    return rows


def _version(case: Case, opset: int) -> int:
    schema = schema_of(case.operator, opset)
    return schema.since_version if schema is not None and not schema.deprecated else 0


def shortcomings(outcomes: Iterable[Outcome]) -> list[tuple[str, int, str, str]]:
    """What our converters do not match: name, schema version, oracle, verdict."""
    return [
        (outcome.case.name, outcome.version, outcome.oracle, outcome.verdicts["ours"])
        for outcome in outcomes
        if outcome.oracle and outcome.verdicts["ours"] != MATCH
    ]


def markdown(rows: Sequence[dict[str, int]], missing: Sequence[tuple[str, int, str, str]]) -> str:
    """The report."""
    made = circumstances(("onnx", "onnxruntime", "onnx2torch", "torch"))
    titles = list(rows[0])
    unmatched = [(*case, EXCEPTIONS.get(case[:2], "")) for case in missing]
    return page(
        "ONNX's backend node suite",
        f"Made by `python -m benchmarks.backend_suite --out benchmarks/results` {made}: cases of "
        f"{len({c.operator for c in all_cases()})} operators, weights as initialisers, relative tolerance 1e-3.",
        grid(titles, ([row[title] for title in titles] for row in rows), "r" * len(titles)),
        "## What ours does not match",
        grid(("case", "schema version", "oracle", "verdict", "reason if expected"), unmatched, "lrlll"),
    )


def check_list(listed: dict[str, list[int]]) -> None:
    """Stop if the installed onnx makes other cases than those that are committed.

    Raises:
        SystemExit: It does.
    """
    committed = json.loads(CASE_LIST.read_text())
    if committed != listed:
        names = sorted(set(committed) ^ set(listed)) or [n for n in listed if listed[n] != committed[n]]
        sys.exit(
            f"expected the cases of {CASE_LIST.name}, found others ({names[0]} and {len(names) - 1} more): "
            "install the onnx of constraints.txt, or write the list anew with --write-list"
        )


def main() -> None:
    """Run the suite and print the table."""
    parser = command.parser(__doc__, out="the results")
    parser.add_argument("--only", action="append", default=[], help="operators to run, instead of all")
    parser.add_argument("--write-list", action="store_true", help="write the list of cases and stop")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    onnxruntime.set_default_logger_severity(4)
    cases = [case for case in all_cases() if not options.only or case.operator in options.only]
    stated = [item for case in cases for item in statements(case, defs.onnx_opset_version())]
    listed: dict[str, list[int]] = {case.name: [] for case in cases}
    for item in stated:
        listed[item.case.name].append(item.version)
    if options.write_list:
        CASE_LIST.write_text(json.dumps(listed, indent=0) + "\n")
        return
    outcomes = [judge(item, IMPORTERS) for item in stated]
    rows, missing = table(outcomes, newest_runtime_opset()), shortcomings(outcomes)
    report = markdown(rows, missing)
    print(report)
    if not options.only:
        check_list(listed)
    command.publish(options.out, "backend_suite", report, {"opsets": rows, "not matched": missing})
    unexpected = [item for item in missing if item[:2] not in EXCEPTIONS]
    sys.exit(f"{len(unexpected)} cases do not match and are not listed as exceptions" if unexpected else 0)
