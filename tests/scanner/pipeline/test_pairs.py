"""The search over all pairs, with a model that answers at once: which pairs, in which chunks, until when."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from backscan.converters.sandbox import clock as clock_module
from backscan.converters.sandbox.clock import time_limit
from backscan.scanner.config import ScanConfig
from backscan.scanner.errors import OptionError, TimeUpError
from backscan.scanner.inference.verdict import Judgement
from backscan.scanner.pipeline import pairs as search_module
from backscan.scanner.pipeline.estimate import Costs
from backscan.scanner.pipeline.pairs import PairSearch, chunks, named_classes, num_wanted, refuse_absent, wanted_pairs
from backscan.scanner.pipeline.record import Cutting, Record, Run
from backscan.scanner.process.protocol import Preparation
from backscan.scanner.progress import SilentProgress
from backscan.scanner.results import PairResult, PairStatus, ScreenRecord, Trajectory, Verdict
from backscan.scanner.search import screening
from backscan.scanner.store.journal import Journal
from tests.scanner.reports import examples

NUM_CLASSES = 4
KEY = {"model": "m", "data": "d", "configuration": "c"}


@pytest.fixture(autouse=True)
def _portions(monkeypatch):
    """One source a chunk on a CPU, so that a few classes make several chunks."""
    monkeypatch.setattr(search_module, "_SOURCES_PER_CHUNK", {"cpu": 1, "cuda": 16})


class FakeNow:
    """A clock that stands until it is moved."""

    at = 0.0

    def pass_(self, seconds: float) -> None:
        """Let time pass."""
        self.at += seconds


@pytest.fixture
def fake_now(monkeypatch):
    made = FakeNow()
    monkeypatch.setattr(clock_module, "now", lambda: made.at)
    monkeypatch.setattr(search_module, "now", lambda: made.at)
    return made


def test_every_ordered_pair_is_wanted():
    found = wanted_pairs(ScanConfig(), NUM_CLASSES)
    assert found == sorted({(s, t) for s in range(4) for t in range(4)} - {(c, c) for c in range(4)})


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"targets": (2,)}, [(0, 2), (1, 2), (3, 2)]),
        ({"targets": (3, 0, 3)}, [(0, 3), (1, 0), (1, 3), (2, 0), (2, 3), (3, 0)]),
        ({"pairs": ((3, 1), (0, 2))}, [(0, 2), (3, 1)]),
        ({"pairs": ((3, 1), (0, 2)), "targets": (2,)}, [(0, 2)]),
    ],
)
def test_targets_and_pairs_limit_the_search(options, expected):
    config = ScanConfig(**options)
    assert wanted_pairs(config, NUM_CLASSES) == expected
    assert num_wanted(config, NUM_CLASSES) == len(expected)
    assert wanted_pairs(config, NUM_CLASSES, [1, 3]) == [pair for pair in expected if pair[0] in (1, 3)]


@pytest.mark.parametrize(
    ("options", "unknown"),
    [({"targets": (4,)}, "class 4"), ({"pairs": ((0, 5), (4, 1))}, "classes 4, 5"), ({"targets": (-1,)}, "class -1")],
)
def test_a_class_that_the_model_lacks_is_named(options, unknown):
    with pytest.raises(OptionError, match=f"expected classes 0 to 3 in --pairs and --targets, found {unknown}:"):
        refuse_absent(ScanConfig(**options), NUM_CLASSES)


def test_pairs_and_targets_without_a_common_pair_are_refused():
    with pytest.raises(OptionError, match="expected a pair with a target of --targets in --pairs, found none"):
        refuse_absent(ScanConfig(pairs=((0, 1),), targets=(2,)), NUM_CLASSES)


@pytest.mark.parametrize(
    ("device", "bytes_a_source", "sources"),
    [("cpu", 1000, 10), ("cpu", 8 << 20, 8), ("cpu", 1 << 30, 5), ("NVIDIA H200", 1 << 30, 16)],
)
def test_chunks_hold_whole_sources_and_every_pair_once(monkeypatch, device, bytes_a_source, sources):
    monkeypatch.undo()  # the length that chunks really have
    pairs = wanted_pairs(ScanConfig(), 40)
    portions = list(chunks(pairs, device, bytes_a_source=bytes_a_source))
    assert [pair for portion in portions for pair in portion] == pairs
    assert {len({source for source, _ in portion}) for portion in portions[:-1]} == {sources}


class Model:
    """An opened model, and a search of it, whose pairs all reach the goal at the size 1 + source + target / 10.

    Args:
        allowed: Pairs that the time is enough for, in all.
        after: Called after the pilot and after every chunk.
        ends: Whether its process is ended when it was not enough.
        interrupted: Whether the user ends it then.
    """

    facts = SimpleNamespace(num_classes=NUM_CLASSES, device="cpu")

    def __init__(
        self,
        allowed: int = 1000,
        *,
        after: Callable[[], object] = lambda: None,
        ends: bool = False,
        interrupted: bool = False,
    ) -> None:
        self.preparation = Preparation(step_size=0.25, seconds_per_image=0.5)
        self.allowed = allowed
        self.after, self.ends, self.interrupted = after, ends, interrupted
        self.asked: list[list[tuple[int, int]]] = []
        self.seconds: list[float | None] = []

    def prepare(self, detector: str, *_: object, cut: object, seconds: float | None) -> Model:
        """The pilot."""
        assert cut is None
        self.detector = detector
        self.seconds.append(seconds)
        self.after()
        return self

    def could_give(self, result: PairResult) -> bool:
        """Whether a result from a journal is believed."""
        return result.detector == self.detector

    def optimise(
        self, pairs: Sequence[tuple[int, int]], *, seconds: float | None, on_pair: Callable[[PairResult], None]
    ) -> list[PairResult]:
        """Results in another order than asked, as lanes finish."""
        self.asked.append(list(pairs))
        self.seconds.append(seconds)
        done = [result_of(self.detector, *pair) for pair in reversed(pairs)][: self.allowed]
        self.allowed -= len(done)
        for result in done:
            on_pair(result)
        self.after()
        if len(done) < len(pairs) and self.interrupted:
            raise KeyboardInterrupt
        if len(done) < len(pairs) and self.ends:
            raise TimeUpError("late")
        return done


def result_of(detector: str, source: int, target: int) -> PairResult:
    size, pattern = 1 + source + target / 10, np.full((1, 2, 2), source, np.float32)
    steps = Trajectory((0.0, size), (0.0, 0.8))
    return PairResult(detector, source, target, PairStatus.REACHED, size, 0.0, 0.8, 3, steps, pattern=pattern)


class Observer(SilentProgress):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.plans: list[tuple[str, int, float | None]] = []
        self.pairs: list[tuple[int, int, int]] = []

    def plan(self, detector: str, num_pairs: int, seconds_estimate: float | None) -> None:
        """What is to be done."""
        self.plans.append((detector, num_pairs, seconds_estimate))

    def pair(self, result: PairResult, images: int) -> None:
        """One is finished."""
        self.pairs.append((result.source, result.target, images))


def a_search(
    model: Model, *, classes: Sequence[int] = range(NUM_CLASSES), journal=None, label="", **options
) -> PairSearch:
    config = ScanConfig(**{"detectors": ("pairwise",), **options})
    artifact = SimpleNamespace(name="m.onnx", sha256="m", data=b"", external={})
    record = Record(artifact, None, config, examples.no_verdict().provenance, Observer())
    images = {source: np.zeros((source + 5, 1, 2, 2), np.float32) for source in classes}
    return PairSearch(Run(config, record, None), model, Cutting(None), images, journal, label)


def left_out(search: PairSearch) -> tuple[str, ...]:
    return search.run.record.result(Judgement(Verdict.INCONCLUSIVE, ())).not_tested


def test_every_pair_comes_back_in_order():
    model = Model()
    found = a_search(model).search().pairs
    assert [(r.source, r.target) for r in found] == wanted_pairs(ScanConfig(), NUM_CLASSES)
    assert [len(portion) for portion in model.asked] == [3, 3, 3, 3]
    assert model.seconds == [None] * (1 + 4)  # the pilot, four chunks


def test_sources_without_images_get_a_status_and_no_search():
    model = Model()
    found = a_search(model, classes=(0, 1, 3)).search().pairs
    assert [(r.source, r.target) for r in found] == wanted_pairs(ScanConfig(), NUM_CLASSES)
    without = [r for r in found if r.status is PairStatus.NO_IMAGES]
    assert [(r.source, r.size, r.rate, r.initial_rate, r.steps, r.pattern) for r in without] == [
        (2, None, None, None, 0, None)
    ] * 3
    assert not {source for portion in model.asked for source, _ in portion} & {2}


def test_the_observer_gets_an_estimate_and_every_pair_with_its_images():
    search = a_search(Model())
    search.search()
    observer = search.run.record.progress
    # 18 passes per pair over at most 8 images at half a second.
    assert observer.plans == [("pairwise", 12, 12 * 18 * 8 * 0.5)]
    assert sorted(observer.pairs) == [(s, t, (3 + 1) * (s + 5)) for s, t in wanted_pairs(ScanConfig(), NUM_CLASSES)]


@pytest.mark.parametrize("allowed", [0, 4, 5])
def test_the_time_limit_keeps_what_is_finished_as_a_sample(allowed):
    search = a_search(Model(allowed))
    with time_limit(100.0):
        found = search.search()
    assert search.run.record.out_of_time
    assert len(found.pairs) == allowed
    # Chunks of two: a pair of a chunk that was not finished is no random one.
    assert sum(pair.chosen for pair in found.pairs) == allowed % 2
    assert found.screens == (
        ScreenRecord("pairwise", allowed, num_drawn=allowed - allowed % 2, num_chosen=allowed % 2),
    )
    [text] = left_out(search)
    left = f"{12 - allowed} of 12 class pairs with detector pairwise: the search did not finish"
    assert text == f"{left}, so a backdoor between their classes may not have been noticed"


def test_what_a_clock_leaves_is_drawn_by_the_seed():
    found = {}
    for seed in (0, 0, 1):
        model = Model(6)
        with time_limit(100.0):
            a_search(model, seed=seed).search()
        asked = [pair for portion in model.asked for pair in portion]
        assert sorted(asked[:6]) != wanted_pairs(ScanConfig(), NUM_CLASSES)[:6]
        assert found.setdefault(seed, asked) == asked
    assert found[0] != found[1]


def test_time_that_is_enough_leaves_a_scan_of_all_pairs():
    search = a_search(Model(12))
    with time_limit(100.0):
        found = search.search()
    assert len(found.pairs) == 12
    assert not search.run.record.out_of_time
    assert found.screens == ()
    assert not any(pair.chosen for pair in found.pairs)


def test_no_time_is_estimated_once_it_is_up(fake_now):
    search = a_search(Model(0))
    with time_limit(10.0):
        fake_now.at = 9.0
        search.search()
    assert search.run.record.progress.plans == []


def test_pilots_and_chunks_share_one_time_limit(fake_now):
    model = Model(after=lambda: fake_now.pass_(10.0))
    with time_limit(100.0):
        a_search(model).search()
    # 15 of the 100 are kept for what comes afterwards; the pilot takes 10, and so does every chunk.
    assert model.seconds == [85.0, 75.0, 65.0, 55.0, 45.0, 35.0, 25.0]


@pytest.mark.usefixtures("fake_now")
def test_detectors_share_the_time_by_what_they_cost():
    model = Model(0)
    costs = Costs({"pairwise": 30.0, "features": 10.0})
    with time_limit(100.0):
        search = a_search(model, detectors=("pairwise", "features"))
        replace(search, cutting=Cutting(None), costs=costs).search()
    assert model.seconds[0] == pytest.approx(85.0 * 0.75)


def test_a_process_that_is_ended_leaves_what_it_told():
    search = a_search(Model(5, ends=True))
    with time_limit(100.0):
        found = search.search()
    assert len(found.pairs) == 5
    assert search.run.record.out_of_time


def test_what_is_left_out_by_choice_is_told():
    search = a_search(Model(), targets=(2,))
    search.search()
    [text] = left_out(search)
    assert text == "9 of 12 class pairs, left out by --targets or --pairs"
    complete = a_search(Model())
    complete.search()
    assert left_out(complete) == ()


def test_a_journal_gives_back_whole_chunks_and_takes_new_ones(tmp_path: Path):
    with Journal.open(tmp_path / "j", KEY, resume=False) as journal, pytest.raises(KeyboardInterrupt):
        a_search(Model(allowed=5, interrupted=True), journal=journal).search()
    model = Model()
    with Journal.open(tmp_path / "j", KEY, resume=True) as journal:
        search = a_search(model, journal=journal)
        resumed = search.search().pairs
    # Five pairs are one whole chunk of three and two of another, which is searched again.
    assert [portion[0][0] for portion in model.asked] == [1, 2, 3]
    assert resumed == a_search(Model()).search().pairs
    assert [r.pattern.tolist() for r in resumed] == [r.pattern.tolist() for r in a_search(Model()).search().pairs]
    assert [images for source, _, images in search.run.record.progress.pairs if source == 0] == [0, 0, 0]


def test_a_limited_search_goes_on_where_its_journal_ends(tmp_path: Path):
    models = [Model(allowed=5), Model()]
    for model, resume in zip(models, (False, True), strict=True):
        with Journal.open(tmp_path / "j", KEY, resume=resume) as journal, time_limit(100.0):
            found = a_search(model, journal=journal).search()
    order = screening.shuffled(wanted_pairs(ScanConfig(), NUM_CLASSES), 0)
    # Two whole chunks of two and one of a third, which is searched again.
    assert [pair for portion in models[1].asked for pair in portion] == order[4:]
    assert sorted((pair.source, pair.target) for pair in found.pairs) == sorted(order)


def test_searches_under_other_preprocessing_do_not_share_a_chunk(tmp_path: Path):
    models = [Model(), Model(), Model()]
    with Journal.open(tmp_path / "j", KEY, resume=False) as journal:
        for model, label in zip(models, ("none", "imagenet", "none"), strict=True):
            a_search(model, journal=journal, label=label).search()
    assert [len(model.asked) for model in models] == [4, 4, 0]


@pytest.mark.parametrize(
    ("classes", "text"),
    [
        ([3], "class 3"),
        ([3, 5, 9], "classes 3, 5, 9"),
        (list(range(20, 1000)), "980 classes (20 to 999)"),
        ([0, 1, 2, 5, 7, 8, 9], "7 classes (0 to 2, 5, 7 to 9)"),
        (list(range(0, 200, 2)), "100 classes (0, 2, 4, 6, 8, 10 and so on)"),
    ],
)
def test_classes_in_a_sentence(classes, text):
    assert named_classes(classes) == text
