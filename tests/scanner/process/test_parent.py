"""The model seen from the parent: every answer is checked before it is believed, every failure has one meaning."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from backscan.converters import ConverterError, artifact_from_bytes
from backscan.converters.sandbox.errors import ResourceLimitError, SandboxDiedError, UnexpectedError
from backscan.converters.sandbox.sandbox import Protections, Sandbox
from backscan.converters.signature.signature import Normalisation
from backscan.scanner.config import ScanConfig
from backscan.scanner.errors import InternalError, NoVerdictError, OptionError
from backscan.scanner.process.parent import (
    CutFile,
    CutModel,
    ModelProcess,
    OpenedModel,
    PreparedSearch,
    SettledFile,
    SettledModel,
    _Line,
    open_process,
)
from backscan.scanner.process.protocol import Opened, Preparation, decode
from backscan.scanner.results import DormantUnits, PairResult, PairStatus, SignatureRecord, TargetResult, Trajectory
from tests import planted
from tests.scanner.reports import examples

ARTIFACT = artifact_from_bytes("planted.onnx", planted.linear_softmax())
IMAGES = np.zeros((3, 1, 6, 6), np.float32)
OPENED = {
    "signature": {
        "input_name": "image",
        "input_shape": [1, 6, 6],
        "layout": "NCHW",
        "dtype": "float32",
        "batch": None,
        "output_name": "scores",
        "output_kind": "logits",
        "opset": 17,
        "producer": "planted",
        "other_outputs": [],
    },
    "num_classes": 4,
    "provider": "CPUExecutionProvider",
    "device": "cpu",
    "warnings": ["rounded"],
}
PARITY = {
    "decision_agreement": 1.0,
    "largest_probability_gap": 0.0,
    "largest_logit_gap": 0.0,
    "gradient_error": None,
    "num_images": 3,
    "real_images": True,
    "passed": True,
    "reason": "",
}
FINDING = dataclasses.asdict(examples.with_findings().findings[0])
DORMANT = {"dormant": 3, "tried": 2, "deciding": 1, "searched": 0, "obstacle": "the time was up"}
IN_GRAPH = {"findings": [FINDING], "dormant": DORMANT}
CUT = {"tensor": "here", "shape": [3, 4], "obstacle": ""}
PATTERN = np.ones((1, 6, 6), np.float32)
PAIR = PairResult("pairwise", 0, 1, PairStatus.REACHED, 6.0, 0.0, 0.8, 1, Trajectory((0.0, 6.0), (0.0, 0.8)))


class Scripted:
    """A runner that answers as it is told, in place of the child process."""

    protections = Protections(("no network",), ("memory limit: not on this system",))

    def __init__(self, answer: object = None, events: list[dict[str, Any]] | None = None) -> None:
        self.answer, self.events = answer, events or []
        self.calls: list[tuple[str, dict[str, Any]]] = []

    def call(
        self, method: str, message: dict[str, Any], *, limits: object, on_event: Callable[[Any], None] | None = None
    ) -> Any:
        """The scripted answer, or its error."""
        assert limits is not None
        self.calls.append((method, message))
        for event in self.events:
            assert on_event is not None
            on_event(event)
        if isinstance(self.answer, Exception):
            raise self.answer
        return {"answer": self.answer}


FACTS = decode(Opened, OPENED)


def process(runner: Scripted) -> ModelProcess:
    return ModelProcess(_Line(runner))


def opened(runner: Scripted) -> OpenedModel:
    return OpenedModel(_Line(runner), FACTS)


def settled(runner: Scripted) -> SettledModel:
    return SettledModel(_Line(runner), FACTS)


def prepared(runner: Scripted) -> PreparedSearch:
    return PreparedSearch(_Line(runner), "pairwise", PATTERN.shape, Preparation(0.25, 0.01))


def optimise(runner: Scripted, pairs=((0, 1),), on_pair=lambda _: None) -> list[PairResult]:
    return prepared(runner).optimise(pairs, seconds=None, on_pair=on_pair)


CALLS: dict[str, Callable[[Scripted], object]] = {
    "audit": lambda runner: process(runner).audit(ARTIFACT),
    "open": lambda runner: process(runner).open(ARTIFACT, ScanConfig()),
    "open_file": lambda runner: process(runner).open_file(ARTIFACT, ScanConfig()),
    "settle": lambda runner: opened(runner).settle(Normalisation()),
    "try": lambda runner: opened(runner).decisions(IMAGES, Normalisation()),
    "decide": lambda runner: settled(runner).decisions(IMAGES),
    "decide_with": lambda runner: CutFile(_Line(runner), "here", (3, 4)).decisions(
        IMAGES, np.zeros((3, 4), np.float32)
    ),
    "find_switches": lambda runner: settled(runner).find_switches(IMAGES, seed=0),
    "find_switches_alone": lambda runner: opened(runner).find_switches(seed=0),
    "list_cuts": lambda runner: opened(runner).list_cuts(),
    "cut": lambda runner: settled(runner).cut("here", IMAGES),
    "cut_file": lambda runner: settled(runner).cut_file("here"),
    "compare": lambda runner: settled(runner).compare(IMAGES, real_images=True),
    "prepare": lambda runner: settled(runner).prepare("pairwise", {0: IMAGES}, ScanConfig(), cut=None),
    "estimate": lambda runner: prepared(runner).estimate(((0, 1),), seconds=None),
    "optimise": optimise,
    "search_targets": lambda runner: settled(runner).search_targets("margin", {}, ScanConfig(), seconds=None),
}


def test_answers_become_types():
    answer = process(Scripted(OPENED)).open(ARTIFACT, ScanConfig())
    assert isinstance(answer, OpenedModel)
    facts = answer.facts
    assert isinstance(facts.signature, SignatureRecord)
    assert (facts.signature.input_shape, facts.num_classes, facts.warnings) == ((1, 6, 6), 4, ("rounded",))
    assert settled(Scripted(PARITY)).compare(IMAGES, real_images=True).passed
    runner = Scripted({"step_size": 0.5, "seconds_per_image": 0.01})
    search = settled(runner).prepare("pairwise", {0: IMAGES}, ScanConfig(), cut=None)
    assert search.preparation == Preparation(0.5, 0.01)
    found = opened(Scripted(IN_GRAPH)).find_switches(seed=0)
    assert found.findings == examples.with_findings().findings[:1]
    assert found.dormant == DormantUnits(3, 2, 1, 0, "the time was up")
    decisions = settled(Scripted(np.array([2, 0, 1]))).decisions(IMAGES)
    assert decisions.tolist() == [2, 0, 1]
    assert prepared(Scripted([0.5, 2])).estimate(((0, 1), (1, 0)), seconds=None) == [0.5, 2.0]


def test_the_type_of_a_handle_says_what_has_been_done():
    """A call in the wrong order is one that the type does not have."""
    assert not hasattr(ModelProcess, "decisions")
    assert not hasattr(OpenedModel, "prepare")
    assert not hasattr(SettledFile, "prepare")
    assert not hasattr(SettledModel, "optimise")
    file = process(Scripted(OPENED)).open_file(ARTIFACT, ScanConfig())
    file.line.runner.answer = None
    assert type(file.settle(Normalisation())) is SettledFile
    assert type(opened(Scripted()).settle(Normalisation())) is SettledModel


def test_patterns_have_the_shape_of_what_the_detector_acts_on():
    runner = Scripted(CUT)
    cut = settled(runner).cut(None, IMAGES)
    assert cut == CutModel(_Line(runner), "here", (3, 4))
    for detector, shape in (("features", (3, 4)), ("pairwise", (1, 6, 6))):
        runner.answer = {"step_size": 0.5, "seconds_per_image": 0.01}
        search = settled(runner).prepare(detector, {0: IMAGES}, ScanConfig(statistics=("plain",)), cut=cut)
        runner.answer = 1
        pattern = np.ones(shape, np.float32)
        runner.events = [event(pattern, detector=detector)]
        [found] = search.optimise(((0, 1),), seconds=None, on_pair=lambda _: None)
        np.testing.assert_array_equal(found.pattern, pattern)
        runner.events = [event(np.ones((2, *shape), np.float32), detector=detector)]
        with pytest.raises(NoVerdictError, match="expected a float32 pattern of shape"):
            search.optimise(((0, 1),), seconds=None, on_pair=lambda _: None)
        runner.events = []


def test_a_detector_of_features_needs_a_cut():
    with pytest.raises(ValueError, match="expected a cut model for detector features"):
        settled(Scripted()).prepare("features", {0: IMAGES}, ScanConfig(), cut=None)


def test_features_that_would_fill_the_memory_are_refused():
    cut = settled(Scripted(CUT | {"shape": [2048, 2049]})).cut("here", IMAGES)
    assert cut == "an image has 4196352 features there, more than 4194304"
    assert isinstance(settled(Scripted(CUT | {"shape": [2048, 2048]})).cut("here", IMAGES), CutModel)


def test_messages_hold_plain_data_only():
    runner = Scripted({"step_size": 0.5, "seconds_per_image": 0.01})
    settled(runner).prepare("pairwise", {7: IMAGES}, ScanConfig(pairs=((0, 1),)), cut=None)
    [(method, message)] = runner.calls
    assert (method, message["detector"], list(message["images_by_class"])) == ("prepare", "pairwise", ["7"])
    assert ScanConfig.from_dict(message["config"]) == ScanConfig(pairs=((0, 1),))


def test_a_normalisation_goes_along_only_when_it_is_given():
    runner = Scripted(np.zeros(3, np.int64))
    settled(runner).decisions(IMAGES)
    opened(runner).decisions(IMAGES, Normalisation(mean=(0.5,)))
    assert runner.calls[0][1]["normalisation"] is None
    assert runner.calls[1][1]["normalisation"]["mean"] == [0.5]


@pytest.mark.parametrize("step", CALLS)
@pytest.mark.parametrize(
    ("failure", "expected"),
    [
        (ConverterError("no such operator"), NoVerdictError),
        (ResourceLimitError("too long", phase="x", resource="wall_seconds", limit=1, actual=2), NoVerdictError),
        (SandboxDiedError("it died", phase="x", reason="killed"), NoVerdictError),
        (UnexpectedError("KeyError", phase="x", child_traceback=""), InternalError),
        (OptionError("no GPU"), OptionError),
    ],
    ids=lambda value: getattr(value, "__name__", type(value).__name__),
)
def test_failures_of_every_step_have_one_meaning(step, failure, expected):
    with pytest.raises(expected, match=str(failure)):
        CALLS[step](Scripted(failure))


LIES = {
    "audit": [{}, {"ir_version": 8}, {"violations": 3}],
    "open": [
        {},
        OPENED | {"num_classes": "many"},
        OPENED | {"signature": None},
        OPENED | {"signature": OPENED["signature"] | {"input_shape": [1, 6]}},
    ],
    "decide": [
        np.zeros(2, np.int64),
        np.zeros((3, 1), np.int64),
        [0, 0, 0],
        np.full(3, np.nan),
        None,
    ],
    "find_switches": [
        None,
        3,
        [FINDING],
        IN_GRAPH | {"findings": [{"rule": "x"}]},
        IN_GRAPH | {"findings": [FINDING | {"colour": 1}]},
        IN_GRAPH | {"dormant": None},
        IN_GRAPH | {"dormant": DORMANT | {"tried": -1}},
    ],
    "list_cuts": [None, 3, [{"colour": 1}]],
    "cut": [
        {},
        CUT | {"tensor": "there"},
        CUT | {"shape": []},
        CUT | {"shape": [3, 0]},
        CUT | {"shape": [-3, -4]},
        CUT | {"shape": "wide"},
        CUT | {"obstacle": None},
        CUT | {"obstacle": "x" * 10_001},
    ],
    "compare": [{}, PARITY | {"passed": "perhaps"}, PARITY | {"hidden": 1}],
    "estimate": [None, 3, [], [0.5, 0.5], [-0.5], [float("nan")], [float("inf")]],
    "settle": [{}, 1],
    "optimise": [None, "all"],
    "prepare": [
        {"step_size": 0.1},
        {"step_size": "large", "seconds_per_image": 1.0},
        {"step_size": float("nan"), "seconds_per_image": 1.0},
        {"step_size": -1.0, "seconds_per_image": 1.0},
        {"step_size": 1.0, "seconds_per_image": float("inf")},
    ],
}


@pytest.mark.parametrize(
    ("step", "lie"), [(step, lie) for step, lies in LIES.items() for lie in lies], ids=lambda value: str(value)[:60]
)
def test_no_other_answer_is_believed(step, lie):
    """The child handles hostile input; what it says may be anything."""
    with pytest.raises(NoVerdictError, match="the model may have taken it over"):
        CALLS[step](Scripted(lie))


def event(pattern: object = PATTERN, **changes: object) -> dict[str, Any]:
    return PAIR.to_dict() | {"pattern": pattern} | changes


def test_pairs_arrive_as_they_are_found():
    seen: list[PairResult] = []
    found = optimise(Scripted(1, [event()]), on_pair=seen.append)
    assert found == seen == [PAIR]
    np.testing.assert_array_equal(found[0].pattern, PATTERN)


@pytest.mark.parametrize(
    "lie",
    [
        {},
        {"pattern": PATTERN},
        event(colour=1),
        event(status="won"),
        event(source=1),
        event(target=2),
        event(detector="other"),
        event(size=None),
        event(size=None, status="no_images"),
        event(size=0.0),
        event(size=float("nan")),
        event(size=-1.0),
        event(size=1e308),
        event(size=1e-320),
        event(clean_margin=1e-300),
        event(clean_margin=float("nan")),
        event(rate=2.0),
        event(rate=None),
        event(initial_rate=float("nan")),
        event(trajectory={"sizes": [0.0, float("inf")], "rates": [0.0, 0.8]}),
        event(trajectory={"sizes": [0.0, 1.0], "rates": [0.0]}),
        event(pattern=None),
        event(pattern="text"),
        event(pattern=PATTERN.astype(np.float64)),
        event(pattern=np.ones((1, 5, 6), np.float32)),
        event(pattern=np.full((1, 6, 6), np.nan, np.float32)),
    ],
    ids=lambda lie: str(lie)[-60:],
)
def test_no_other_pair_is_believed(lie):
    seen: list[PairResult] = []
    with pytest.raises(NoVerdictError, match="the model may have taken it over"):
        optimise(Scripted(1, [lie]), on_pair=seen.append)
    assert seen == []


SUPPORT = {
    "side": 1,
    "pixels": [0],
    "content": {"shape": [1, 1], "data": "AAAAAA=="},
    "sources": [0],
    "hits": [1],
    "counts": [2],
}
TARGET = {"detector": "margin", "target": 1, "status": "reached", "value": 2.5, "rate": None, "steps": 9}


def search_targets(*events: object) -> list[TargetResult]:
    runner = Scripted(len(events), list(events))
    return settled(runner).search_targets("margin", {}, ScanConfig(), seconds=None)


def test_targets_arrive_in_order():
    found = search_targets(TARGET, TARGET | {"target": 0, "value": None})
    assert found == [
        TargetResult("margin", 0, PairStatus.REACHED, None, None, 9),
        TargetResult("margin", 1, PairStatus.REACHED, 2.5, None, 9),
    ]


def test_what_takes_the_place_of_the_image_is_believed_where_it_fits():
    [found] = search_targets(TARGET | {"support": SUPPORT})
    assert (found.support.hits, found.support.counts) == ((1,), (2,))


@pytest.mark.parametrize(
    "change",
    [
        {"target": 4},
        {"target": -1},
        {"detector": "tabor"},
        {"status": "won"},
        {"value": float("nan")},
        {"value": "large"},
        {"rate": 1.5},
        {"support": SUPPORT | {"pixels": [10**6]}},
        {"support": SUPPORT | {"hits": [3]}},
        {"support": SUPPORT | {"sources": [99]}},
        {"support": SUPPORT | {"content": {"shape": [1, 1], "data": "AAAA"}}},
        {"support": SUPPORT | {"content": {"shape": [9, 1], "data": "AAAAAA=="}}},
        {"hidden": 1},
    ],
    ids=str,
)
def test_no_other_target_is_believed(change):
    with pytest.raises(NoVerdictError, match="the model may have taken it over"):
        search_targets(TARGET | change)
    with pytest.raises(NoVerdictError, match="the model may have taken it over"):
        search_targets(TARGET, TARGET)


def test_a_pair_counts_once():
    with pytest.raises(NoVerdictError, match="the model may have taken it over"):
        optimise(Scripted(2, [event(), event()]))


def test_every_pair_is_answered_unless_the_time_is_up():
    runner = Scripted(1, [event()])
    with pytest.raises(NoVerdictError, match="expected every pair that was asked for"):
        optimise(runner, pairs=((0, 1), (0, 2)))
    assert prepared(runner).optimise(((0, 1), (0, 2)), seconds=0.5, on_pair=lambda _: None) == [PAIR]


def test_a_defect_in_the_child_carries_its_traceback():
    """`--debug` prints it."""
    failure = UnexpectedError("KeyError", phase="x", child_traceback="  File 'child.py', line 7")
    with pytest.raises(InternalError) as caught:
        settled(Scripted(failure)).decisions(IMAGES)
    assert caught.value.__notes__ == [failure.child_traceback]


def test_protections_are_those_of_the_runner():
    assert process(Scripted()).protections == ("no network",)
    assert process(Scripted()).unprotected == ("memory limit: not on this system",)


def open_and_stop(*, sandbox: bool) -> None:
    with open_process(sandbox=sandbox) as opened_process:
        assert bool(opened_process.protections) is sandbox
        raise RuntimeError("stop")


@pytest.mark.parametrize("sandbox", [False, True])
def test_the_process_ends_with_its_context(monkeypatch, sandbox):
    closed: list[bool] = []
    real = Sandbox.close
    monkeypatch.setattr(Sandbox, "close", lambda self: (closed.append(True), real(self)))
    with pytest.raises(RuntimeError, match="stop"):
        open_and_stop(sandbox=sandbox)
    assert closed == [True] * sandbox


def test_an_answer_that_is_missing_is_not_believed():
    runner = Scripted()
    runner.call = lambda *_, **__: {}
    with pytest.raises(NoVerdictError, match="the model may have taken it over"):
        opened(runner).settle(Normalisation())
