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
from backscan.scanner.process.parent import OpenedModel, Preparation, Subject, open_subject
from backscan.scanner.results import PairResult, PairStatus, SignatureRecord, TargetResult, Trajectory
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
        return self.answer


def optimise(subject: Subject, pairs=((0, 1),), on_pair=lambda _: None) -> list[PairResult]:
    subject._pattern_shape = PATTERN.shape  # as `prepare` leaves it
    return subject.optimise("pairwise", pairs, 0.25, seconds=None, on_pair=on_pair)


CALLS: dict[str, Callable[[Subject], object]] = {
    "audit": lambda subject: subject.audit(ARTIFACT),
    "open": lambda subject: subject.open(ARTIFACT, ScanConfig()),
    "settle": lambda subject: subject.settle(Normalisation()),
    "decide": lambda subject: subject.decisions(IMAGES),
    "find_switches": lambda subject: subject.find_switches(IMAGES, seed=0),
    "list_cuts": lambda subject: subject.list_cuts(),
    "cut": lambda subject: subject.cut("here", IMAGES),
    "compare": lambda subject: subject.compare(IMAGES, images_real=True),
    "prepare": lambda subject: subject.prepare("pairwise", {0: IMAGES}, ScanConfig()),
    "optimise": optimise,
    "search_targets": lambda subject: subject.search_targets("margin", {}, ScanConfig(), 4, seconds=None),
}


def test_answers_become_types():
    opened = Subject(Scripted(OPENED)).open(ARTIFACT, ScanConfig())
    assert isinstance(opened, OpenedModel)
    assert isinstance(opened.signature, SignatureRecord)
    assert (opened.signature.input_shape, opened.num_classes, opened.warnings) == ((1, 6, 6), 4, ("rounded",))
    assert Subject(Scripted(PARITY)).compare(IMAGES, images_real=True).passed
    preparation = Subject(Scripted({"step_size": 0.5, "seconds_per_image": 0.01})).prepare(
        "pairwise", {0: IMAGES}, ScanConfig()
    )
    assert preparation == Preparation(0.5, 0.01)
    assert (
        Subject(Scripted({"findings": [FINDING]})).find_switches(None, seed=0) == examples.with_findings().findings[:1]
    )
    decisions = Subject(Scripted({"decisions": np.array([2, 0, 1])})).decisions(IMAGES)
    assert decisions.tolist() == [2, 0, 1]


def test_patterns_have_the_shape_of_what_the_detector_acts_on():
    subject = Subject(Scripted(CUT))
    assert subject.cut(None, IMAGES).tensor == "here"
    for detector, shape in (("features", (3, 4)), ("pairwise", (1, 6, 6))):
        subject._runner.answer = {"step_size": 0.5, "seconds_per_image": 0.01}
        subject.prepare(detector, {0: IMAGES}, ScanConfig())
        subject._runner.answer = {"finished": 1}
        pattern = np.ones(shape, np.float32)
        subject._runner.events = [event(pattern, detector=detector)]
        [found] = subject.optimise(detector, ((0, 1),), 0.25, seconds=None, on_pair=lambda _: None)
        np.testing.assert_array_equal(found.pattern, pattern)
        subject._runner.events = [event(np.ones((2, *shape), np.float32), detector=detector)]
        with pytest.raises(NoVerdictError, match="expected a float32 pattern of shape"):
            subject.optimise(detector, ((0, 1),), 0.25, seconds=None, on_pair=lambda _: None)
        subject._runner.events = []


def test_features_that_would_fill_the_memory_are_refused():
    cut = Subject(Scripted(CUT | {"shape": [2048, 2049]})).cut("here", IMAGES)
    assert cut.obstacle == "an image has 4196352 features there, more than 4194304"
    assert Subject(Scripted(CUT | {"shape": [2048, 2048]})).cut("here", IMAGES).obstacle == ""


def test_messages_hold_plain_data_only():
    runner = Scripted({"step_size": 0.5, "seconds_per_image": 0.01})
    Subject(runner).prepare("pairwise", {7: IMAGES}, ScanConfig(pairs=((0, 1),)))
    [(method, message)] = runner.calls
    assert (method, message["detector"], list(message["images_by_class"])) == ("prepare", "pairwise", ["7"])
    assert ScanConfig.from_dict(message["config"]) == ScanConfig(pairs=((0, 1),))


def test_a_normalisation_goes_along_only_when_it_is_given():
    runner = Scripted({"decisions": np.zeros(3, np.int64)})
    Subject(runner).decisions(IMAGES)
    Subject(runner).decisions(IMAGES, Normalisation(mean=(0.5,)))
    assert "normalisation" not in runner.calls[0][1]
    assert runner.calls[1][1]["normalisation"]["mean"] == (0.5,)


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
        CALLS[step](Subject(Scripted(failure)))


LIES = {
    "audit": [{}, {"ir_version": 8}, {"violations": 3}],
    "open": [
        {},
        OPENED | {"num_classes": "many"},
        OPENED | {"signature": None},
        OPENED | {"signature": OPENED["signature"] | {"input_shape": [1, 6]}},
    ],
    "decide": [
        {"decisions": np.zeros(2, np.int64)},
        {"decisions": np.zeros((3, 1), np.int64)},
        {"decisions": [0, 0, 0]},
        {"decisions": np.full(3, np.nan)},
        {},
    ],
    "find_switches": [{}, {"findings": 3}, {"findings": [{"rule": "x"}]}, {"findings": [FINDING | {"colour": 1}]}],
    "list_cuts": [{}, {"cuts": 3}, {"cuts": [{"colour": 1}]}],
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
        CALLS[step](Subject(Scripted(lie)))


def event(pattern: object = PATTERN, **changes: object) -> dict[str, Any]:
    return {"pair": PAIR.to_dict() | changes, "pattern": pattern}


def test_pairs_arrive_as_they_are_found():
    seen: list[PairResult] = []
    found = optimise(Subject(Scripted({"finished": 1}, [event()])), on_pair=seen.append)
    assert found == seen == [PAIR]
    np.testing.assert_array_equal(found[0].pattern, PATTERN)


@pytest.mark.parametrize(
    "lie",
    [
        {"pair": {}, "pattern": PATTERN},
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
        optimise(Subject(Scripted({"finished": 1}, [lie])), on_pair=seen.append)
    assert seen == []


TARGET = {"detector": "margin", "target": 1, "status": "reached", "value": 2.5, "rate": None, "steps": 9}


def search_targets(*events: object) -> list[TargetResult]:
    subject = Subject(Scripted({"finished": len(events)}, [{"target": entry} for entry in events]))
    return subject.search_targets("margin", {}, ScanConfig(), 4, seconds=None)


def test_targets_arrive_in_order():
    found = search_targets(TARGET, TARGET | {"target": 0, "value": None})
    assert found == [
        TargetResult("margin", 0, PairStatus.REACHED, None, None, 9),
        TargetResult("margin", 1, PairStatus.REACHED, 2.5, None, 9),
    ]


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
        optimise(Subject(Scripted({}, [event(), event()])))


def test_every_pair_is_answered_unless_the_time_is_up():
    subject = Subject(Scripted({"finished": 1}, [event()]))
    with pytest.raises(NoVerdictError, match="expected every pair that was asked for"):
        optimise(subject, pairs=((0, 1), (0, 2)))
    assert subject.optimise("pairwise", ((0, 1), (0, 2)), 0.25, seconds=0.5, on_pair=lambda _: None) == [PAIR]


def test_a_defect_in_the_child_carries_its_traceback():
    """`--debug` prints it."""
    failure = UnexpectedError("KeyError", phase="x", child_traceback="  File 'worker.py', line 7")
    with pytest.raises(InternalError) as caught:
        Subject(Scripted(failure)).decisions(IMAGES)
    assert caught.value.__notes__ == [failure.child_traceback]


def test_protections_are_those_of_the_runner():
    subject = Subject(Scripted())
    assert subject.protections == ("no network",)
    assert subject.unprotected == ("memory limit: not on this system",)


def open_and_stop(*, sandbox: bool) -> None:
    with open_subject(ScanConfig(sandbox=sandbox)) as subject:
        assert bool(subject.protections) is sandbox
        raise RuntimeError("stop")


@pytest.mark.parametrize("sandbox", [False, True])
def test_the_process_ends_with_the_subject(monkeypatch, sandbox):
    closed: list[bool] = []
    real = Sandbox.close
    monkeypatch.setattr(Sandbox, "close", lambda self: (closed.append(True), real(self)))
    with pytest.raises(RuntimeError, match="stop"):
        open_and_stop(sandbox=sandbox)
    assert closed == [True] * sandbox
