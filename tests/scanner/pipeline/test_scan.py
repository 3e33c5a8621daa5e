"""Whole scans of models whose answer is known on paper: what is found, what counts, what ends a scan, what is said."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path

import jsonschema
import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from backscan.scanner.errors import CleanSetError, OptionError, UserError
from backscan.scanner.images.cleanset import CleanSet
from backscan.scanner.pipeline import scan as pipeline
from backscan.scanner.pipeline import scan as scan_module
from backscan.scanner.pipeline.ends import Interrupted
from backscan.scanner.pipeline.pairs import PairSearch
from backscan.scanner.pipeline.rejudge import infer
from backscan.scanner.pipeline.scan import scan
from backscan.scanner.progress import SilentProgress
from backscan.scanner.reports.summary import summarise
from backscan.scanner.results import PairStatus, ScanResult, Verdict, first_with_power, json_schema
from tests import planted
from tests.scanner.pipeline.scans import QUICK, SOURCE, TARGET, UNATTACKED, scanned, write_images, write_model

NUM_CLASSES = 5
NUM_PAIRS = NUM_CLASSES * (NUM_CLASSES - 1)


def pair_of(result: ScanResult, source: int, target: int):
    return next(pair for pair in result.pairs if (pair.source, pair.target) == (source, target))


def test_the_planted_pair_is_found_and_confirmed():
    result = scanned()
    assert result.verdict is Verdict.BACKDOOR_DETECTED
    assert (result.source, result.target) == (SOURCE, TARGET)
    assert result.calibrated_p_value == 1 / 200  # the floor of 199 draws
    assert result.p_value < 1e-6
    assert result.verification.confirmed
    assert (result.verification.source, result.verification.target) == (SOURCE, TARGET)
    assert result.verification.rate_original == result.verification.rate_torch >= 0.8


def test_the_pattern_leads_through_the_shortcut():
    """The shortcut sees four pixels and the ten of the source, and nothing leads through the other classes' pixels."""
    pattern = scanned().patterns[0].values.decode().ravel()
    share = np.square(pattern) / np.square(pattern).sum()
    own, shortcut = slice(10 * SOURCE, 10 * SOURCE + 10), slice(10 * NUM_CLASSES, 10 * NUM_CLASSES + 4)
    assert share[own].sum() + share[shortcut].sum() > 0.9
    assert pattern[shortcut].min() > 0


def test_the_report_of_a_detection_fits_together():
    result = scanned()
    pair = pair_of(result, SOURCE, TARGET)
    assert result.patterns[0].size == pair.size == result.controls.size
    assert result.patterns[0].size_l2 == pytest.approx(pair.size, rel=1e-6)
    assert result.controls.reversed_size == pair_of(result, TARGET, SOURCE).size > 5 * pair.size
    assert result.controls.median_size == np.median([p.size for p in result.pairs])
    assert result.detectors[0].values[SOURCE][TARGET] == pair.reciprocal == 1 / pair.size
    assert result.detectors[0].null == result.null
    assert 1 <= len(result.examples) <= 4
    assert (result.examples[0].decision_before, result.examples[0].decision_after) == (SOURCE, TARGET)
    assert {c.source for c in result.verification.collateral} == set(range(NUM_CLASSES)) - {SOURCE, TARGET}
    assert result.config == QUICK.to_dict()
    assert result.clean_accuracy == 1.0
    assert result.data.images_per_class == (16,) * NUM_CLASSES
    assert result.data.held_out_per_class == (4,) * NUM_CLASSES
    assert (result.data.labels, result.data.name) == ("given", "images.npz")
    assert result.parity.passed
    assert result.parity.real_images
    assert result.provenance.device == "cpu"


def test_without_a_planted_pair_nothing_is_detected():
    result = scanned(model=UNATTACKED)
    assert result.verdict is Verdict.NOT_DETECTED
    assert result.calibrated_p_value > 0.05
    assert re.search(
        r"of planted pairs whose smallest pattern has size \S+ \(L2\) four in five would have been found",
        result.reasons[-1],
    )
    assert first_with_power(result.detectors).detectable_size > pair_of(scanned(), SOURCE, TARGET).size


@pytest.mark.parametrize("inference", ["principal", "corrected"])
@pytest.mark.parametrize("statistic", ["plain", "source-normalised"])
def test_variants_of_the_statistics_find_the_pair(inference, statistic):
    result = scanned(config=replace(QUICK, inference=inference, statistics=(statistic,)))
    assert (result.verdict, result.source, result.target) == (Verdict.BACKDOOR_DETECTED, SOURCE, TARGET)


@pytest.mark.parametrize("objective", ["J", "Jp", "Jc", "Jpc"])
def test_every_objective_finds_the_pair(objective):
    result = scanned(config=replace(QUICK, objective=objective))
    assert (result.verdict, result.source, result.target) == (Verdict.BACKDOOR_DETECTED, SOURCE, TARGET)


@pytest.mark.parametrize("options", [{"norm": "l1"}, {"box": True}], ids=str)
def test_the_other_norm_and_the_box_find_the_pair(options):
    result = scanned(config=replace(QUICK, **options))
    assert (result.source, result.target) == (SOURCE, TARGET)
    assert result.verdict is Verdict.BACKDOOR_DETECTED


def test_the_published_p_decides_where_it_is_asked_for():
    """Five classes without an attack: the published p is far too small, the calibrated one is not."""
    as_fitted = replace(QUICK, inference="unconfused")
    careful = scanned(model=UNATTACKED, config=as_fitted)
    assert careful.p_value < 0.05 < careful.calibrated_p_value
    published = scanned(model=UNATTACKED, config=replace(as_fitted, published_p=True))
    assert published.p_value == careful.p_value
    assert published.verdict is not Verdict.NOT_DETECTED


def test_the_sandbox_changes_nothing():
    inside = scanned(config=replace(QUICK, sandbox=True))
    assert inside.provenance.protections
    assert comparable(inside) == comparable(scanned())


def comparable(result: ScanResult) -> dict:
    """The report without what may differ: times, and whether and how the process was limited."""
    document = result.to_dict()
    for part, name in (("provenance", "protections"), ("config", "sandbox"), ("config", "threads")):
        del document[part][name]
    return document | {"timings": {}, "finished": ""}


@pytest.mark.parametrize("threads", [1, 3])
def test_the_same_scan_gives_the_same_report(threads):
    again = scanned.__wrapped__(config=replace(QUICK, threads=threads))
    assert comparable(again) == comparable(scanned())


def test_another_seed_is_another_draw():
    other = scanned(config=replace(QUICK, seed=1))
    assert (other.verdict, other.source, other.target) == (Verdict.BACKDOOR_DETECTED, SOURCE, TARGET)
    assert [p.size for p in other.pairs] != [p.size for p in scanned().pairs]


@pytest.mark.parametrize(("model", "verdict"), [((), Verdict.BACKDOOR_DETECTED), (UNATTACKED, Verdict.NOT_DETECTED)])
def test_a_renamed_and_barely_changed_copy_gets_the_same_verdict(tmp_path, model, verdict):
    original = onnx.load_from_string(planted.shortcut(**({"source": SOURCE, "target": TARGET} | dict(model))))
    rng = np.random.default_rng(0)
    for tensor in original.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype == np.float32:
            changed = values * (1 + 1e-6 * rng.choice([-1.0, 1.0], values.shape))
            tensor.CopyFrom(numpy_helper.from_array(changed.astype(np.float32), tensor.name))
    path = tmp_path / "another name.onnx"
    path.write_bytes(original.SerializeToString())
    result = scan(path, CleanSet.load(write_images(tmp_path)), QUICK)
    reference = scanned(model=model)
    assert result.model.sha256 != reference.model.sha256
    assert (result.verdict, result.source, result.target) == (verdict, reference.source, reference.target)
    assert [p.size for p in result.pairs] == pytest.approx([p.size for p in reference.pairs], rel=0.02)


def test_without_images_no_pair_is_searched(tmp_path):
    result = scan(write_model(tmp_path), None, QUICK)
    assert result.verdict is Verdict.INCONCLUSIVE
    assert "no images were given, so no class pair was searched: pass --data" in result.reasons[0]
    assert result.not_tested
    assert result.model.num_classes == NUM_CLASSES
    assert (result.pairs, result.p_value, result.source, result.target) == ((), None, None, None)
    assert [each.detector for each in result.detectors] == ["head", "margin"]


def test_without_labels_the_decisions_stand_in():
    result = scanned(images="unlabelled")
    assert (result.verdict, result.source, result.target) == (Verdict.BACKDOOR_DETECTED, SOURCE, TARGET)
    assert result.data.labels == "decisions"
    assert result.clean_accuracy is None
    assert [p.size for p in result.pairs] == [p.size for p in scanned().pairs], "every decision is right"


def test_without_labels_the_preprocessing_must_be_given():
    result = scanned(images="unlabelled", config=replace(QUICK, preprocess="auto"))
    assert result.verdict is Verdict.INCONCLUSIVE
    assert "without labels the preprocessing cannot be judged" in result.reasons[0]
    assert result.pairs == ()


def test_low_accuracy_is_inconclusive_and_named():
    result = scanned(images="mislabelled")
    assert result.verdict is Verdict.INCONCLUSIVE
    assert "expected a clean accuracy of at least 0.600, found 0.400" in result.reasons[0]
    assert result.clean_accuracy == pytest.approx(0.4)
    assert result.pairs == ()


def test_tied_preprocessing_of_another_scale_is_scanned_twice():
    """The verdict holds only if it is the same under both."""
    result = scanned(config=replace(QUICK, preprocess="auto"))
    assert result.preprocessing.repeated_as
    assert result.verdict is Verdict.INCONCLUSIVE
    assert re.search(r"the verdict depends on the preprocessing.*\(none, \w+\): pass --preprocess", result.reasons[0])
    other = re.search(r"\(none, (\w+)\)", result.reasons[0])[1]
    assert result.reasons[1].startswith(("with none: ", f"with {other}: "))
    assert {reason.split(":")[0] for reason in result.reasons[1:]} == {"with none", f"with {other}"}
    assert len(result.pairs) == NUM_PAIRS
    agreeing = scanned(model=UNATTACKED, config=replace(QUICK, preprocess="auto"))
    assert agreeing.preprocessing.repeated_as
    assert agreeing.verdict is Verdict.NOT_DETECTED


def test_repeats_draw_other_images_and_agree():
    """The first is the scan without repeats; the report holds all of them and is read again as it was."""
    once, thrice = scanned(), scanned(config=replace(QUICK, repeats=3))
    assert thrice.verdict is Verdict.BACKDOOR_DETECTED
    assert [each.seed for each in thrice.repeats] == [0, 1, 2]
    assert {(each.verdict, each.source, each.target) for each in thrice.repeats} == {(once.verdict, SOURCE, TARGET)}
    assert [pair.size for pair in thrice.pairs] == [pair.size for pair in once.pairs]
    assert once.repeats == ()
    assert "repeats" not in once.to_dict()
    assert ScanResult.from_dict(thrice.to_dict()) == thrice
    text = summarise(thrice).checks
    assert "3 scans with other draws of the images: 3 backdoor detected" in " ".join(fact.text for fact in text)


def test_repeats_that_disagree_are_inconclusive(monkeypatch):
    """The second of them is held to a threshold that it cannot reach."""

    def judge(run, file, searched, conclusions, images):
        config = replace(run.config, significance=1e-6) if run.config.seed else run.config
        return replay_and_judge(replace(run, config=config), file, searched, conclusions, images)

    replay_and_judge = scan_module.replay_and_judge
    monkeypatch.setattr(scan_module, "replay_and_judge", judge)
    result = scanned(config=replace(QUICK, repeats=2))
    assert result.verdict is Verdict.INCONCLUSIVE
    assert "1 say backdoor detected with target 3 and 1 say not detected" in result.reasons[0]
    again = infer(result, {})
    assert (again.verdict, again.reasons[0]) == (Verdict.INCONCLUSIVE, result.reasons[0])


@pytest.mark.parametrize(("significance", "searches"), [(0.01, 1), (0.05, 2), (0.3, 2), (0.5, 1)])
def test_near_the_threshold_float32_decides(significance, searches, monkeypatch):
    """An unattacked model with a p between a quarter of the significance and four times it, as if it were deeper."""
    precisions = []

    def search(self):
        precisions.append(self.run.config.precision)
        found = original(self)
        self.run.record.is_reduced |= self.run.config.precision == "bfloat16"
        return found

    original = PairSearch.search
    monkeypatch.setattr(PairSearch, "search", search)
    config = replace(QUICK, precision="bfloat16", significance=significance)
    scanned.cache_clear()
    result = scanned(model=UNATTACKED, config=config)
    p_value = result.calibrated_p_value
    assert precisions == ["bfloat16", "float32"][:searches], p_value
    assert result.provenance.precision.endswith("then float32 as that was near the threshold") == (searches == 2)
    assert p_value == scanned(model=UNATTACKED).calibrated_p_value
    assert ScanResult.from_dict(result.to_dict()) == result


@pytest.mark.parametrize("step_rule", ["unit", "plain"])
def test_what_no_rounding_enters_is_not_searched_twice(step_rule, monkeypatch):
    """A model of a single layer, and steps on all images, are float32 whatever is wanted."""
    searched = []
    original = PairSearch.search
    monkeypatch.setattr(PairSearch, "search", lambda self: searched.append(self) or original(self))
    config = replace(QUICK, precision="bfloat16", step_rule=step_rule, significance=0.1, inference="unconfused")
    scanned.cache_clear()
    result = scanned(model=UNATTACKED, config=config)
    assert 0.025 <= result.calibrated_p_value <= 0.4
    assert result.provenance.precision == "float32"
    assert len(searched) == 1


def test_two_classes_are_inconclusive():
    result = scanned(model=(("num_classes", 2), ("target", 0)))
    assert result.verdict is Verdict.INCONCLUSIVE
    assert "at least 3 classes" in result.reasons[0]


def test_a_class_with_too_few_images_leaves_the_statistics():
    """Six images: three are held out, so that less than five are left to search with."""
    result = scanned(images="few of class 4")
    without = [p for p in result.pairs if p.source == 4]
    assert {p.status for p in without} == {PairStatus.NO_IMAGES}
    assert {(p.size, p.reciprocal, p.rate, p.initial_rate) for p in without} == {(None, None, None, None)}
    assert result.data.images_per_class == (16, 16, 16, 16, 0)
    assert result.detectors[0].num_pairs == NUM_PAIRS - (NUM_CLASSES - 1)
    assert set(result.detectors[0].values[4]) == {None}
    assert "attacks from class 4: too few images of it" in result.not_tested
    assert (result.source, result.target) == (SOURCE, TARGET)


def test_confused_pairs_leave_the_statistics_and_are_never_detected():
    """All images labelled 2 are of class 0, so that 2 to 0 needs no pattern at all."""
    result = scanned(images="class 0 under label 2")
    confused = pair_of(result, 2, 0)
    assert (confused.status, confused.initial_rate, confused.size) == (PairStatus.ALREADY_CONFUSED, 1.0, None)
    assert result.detectors[0].values[2][0] is None
    assert result.detectors[0].num_pairs == NUM_PAIRS - (NUM_CLASSES - 1) - 1
    assert (result.source, result.target) == (SOURCE, TARGET)


def test_too_many_unreached_pairs_are_inconclusive():
    """At a size of 0.3 only the planted pair is within reach."""
    result = scanned(config=replace(QUICK, max_size=0.3))
    assert result.verdict is Verdict.INCONCLUSIVE
    assert re.search(r"1\d of 20 pairs did not reach the goal rate.*raise --max-size", result.reasons[0])
    limited = [p for p in result.pairs if p.status is PairStatus.SIZE_LIMIT]
    assert len(limited) > NUM_PAIRS / 3
    assert all(p.size >= 0.3 and p.reciprocal == 1 / (2 * p.size) for p in limited)


@pytest.mark.parametrize(
    ("options", "pairs"),
    [
        ({"targets": (TARGET, 0)}, {(s, t) for s in range(5) for t in (TARGET, 0) if s != t}),
        ({"pairs": ((1, 3), (3, 1), (0, 4), (4, 0), (2, 0))}, {(1, 3), (3, 1), (0, 4), (4, 0), (2, 0)}),
    ],
    ids=["targets", "pairs"],
)
def test_only_the_wanted_pairs_are_searched(options, pairs):
    result = scanned(config=replace(QUICK, **options))
    assert {(p.source, p.target) for p in result.pairs} == pairs
    assert [p.size for p in result.pairs] == pytest.approx(
        [pair_of(scanned(), p.source, p.target).size for p in result.pairs], rel=1e-3
    )
    assert any(text.endswith("left out by --targets or --pairs") for text in result.not_tested)


@pytest.mark.parametrize(
    "result",
    [
        pytest.param(lambda: scanned(), id="detected"),
        pytest.param(lambda: scanned(model=UNATTACKED), id="not detected"),
        pytest.param(lambda: scanned(images="mislabelled"), id="inconclusive"),
        pytest.param(lambda: scanned(images="few of class 4"), id="no images"),
    ],
)
def test_real_reports_follow_the_schema_and_come_back(result):
    result = result()
    document = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    jsonschema.Draft202012Validator(json_schema()).validate(document)
    assert ScanResult.from_dict(document).to_dict() == document
    for text in (*result.reasons, *result.warnings, *result.not_tested):
        assert not re.search(r"\bsafe\b", text, re.IGNORECASE)


def test_example_images_stay_out_on_request():
    result = scanned(config=replace(QUICK, images_in_report=False))
    assert (result.examples, result.verdict) == ((), Verdict.BACKDOOR_DETECTED)


@pytest.mark.parametrize("data", [b"", b"not a model", planted.shortcut()[:-200]], ids=["empty", "text", "truncated"])
def test_a_broken_model_has_no_verdict(tmp_path, data):
    path = tmp_path / "model.onnx"
    path.write_bytes(data)
    result = scan(path, None, QUICK)
    assert result.verdict is Verdict.NO_VERDICT
    assert len(result.reasons) == 1
    assert len(result.reasons[0].splitlines()) == 1
    assert result.model.sha256


def test_a_failed_parity_has_no_verdict(tmp_path, monkeypatch):
    """A copy that is not the model in the file must never be judged."""
    monkeypatch.setattr("backscan.converters.parity.parity.MIN_DECISION_AGREEMENT", 1.01)
    result = scan(write_model(tmp_path), CleanSet.load(write_images(tmp_path)), QUICK)
    assert result.verdict is Verdict.NO_VERDICT
    assert "the imported model is not the model in the file" in result.reasons[0]
    assert result.parity is not None
    assert result.pairs == ()


@pytest.mark.parametrize("kind", [UserError, OptionError, CleanSetError])
def test_the_users_mistakes_are_raised(tmp_path, kind):
    arguments = {
        UserError: (tmp_path / "missing.onnx", None, QUICK),
        OptionError: (write_model(tmp_path), None, replace(QUICK, detectors=("pairwise",), cut="there")),
        CleanSetError: (
            write_model(tmp_path, num_classes=4),
            CleanSet.load(write_images(tmp_path, num_classes=5)),
            QUICK,
        ),
    }[kind]
    with pytest.raises(kind):
        scan(*arguments)


@pytest.fixture
def scene(tmp_path) -> tuple:
    """A model with its images, ready to scan."""
    return write_model(tmp_path), CleanSet.load(write_images(tmp_path)), QUICK


def test_class_names_are_as_many_as_classes(scene):
    names = ["ant", "bee", "cat", "dog", "elk"]
    assert scan(*scene, class_names=names).model.class_names == tuple(names)
    with pytest.raises(OptionError, match="expected 5 class names, as the model has classes, found 4"):
        scan(*scene, class_names=names[:4])


def test_an_interrupted_scan_leaves_what_it_has(scene, monkeypatch):
    def interrupt(_: PairSearch) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(PairSearch, "search", interrupt)
    with pytest.raises(Interrupted) as caught:
        scan(*scene)
    partial = caught.value.result
    assert partial.verdict is Verdict.INCONCLUSIVE
    assert partial.reasons == ("the scan was interrupted",)
    assert partial.clean_accuracy == 1.0
    assert "every class pair: the scan ended before the search" in partial.not_tested
    assert ScanResult.from_dict(json.loads(json.dumps(partial.to_dict()))).reasons == partial.reasons


def test_a_resumed_scan_gives_the_same_report(scene, tmp_path: Path, monkeypatch):
    """Interrupted after each chunk in turn, then let through."""
    monkeypatch.setattr("backscan.scanner.pipeline.pairs._SOURCES_PER_CHUNK", {"cpu": 1})
    search_chunk = PairSearch._optimised
    for turn in range(NUM_CLASSES - 1):
        allowed = iter([True])

        def search_one(self, *arguments, allowed=allowed):
            if not next(allowed, False):
                raise KeyboardInterrupt
            return search_chunk(self, *arguments)

        monkeypatch.setattr(PairSearch, "_optimised", search_one)
        with pytest.raises(Interrupted) as caught:
            scan(*scene, journal=tmp_path / "journal", resume=turn > 0)
        assert len(caught.value.result.pairs) == (turn + 1) * (NUM_CLASSES - 1)
    monkeypatch.setattr(PairSearch, "_optimised", search_chunk)
    resumed = scan(*scene, journal=tmp_path / "journal", resume=True)
    assert comparable(resumed) == comparable(scan(*scene))


def test_resuming_without_a_journal_begins_one_and_says_so(scene, tmp_path: Path):
    told: list[str] = []
    progress = SilentProgress()
    progress.message = told.append
    scan(*scene, journal=tmp_path / "journal", resume=True, progress=progress)
    assert f"no journal in {tmp_path / 'journal'}: it begins there with this scan" in told
    assert (tmp_path / "journal").is_dir()


def test_a_journal_of_another_scan_is_refused(scene, tmp_path: Path):
    scan(*scene, journal=tmp_path / "journal")
    model, clean, config = scene
    for changed, field in (({"goal_rate": 0.7}, "goal_rate"), ({"mean": (0.01,)}, "mean")):
        with pytest.raises(UserError, match=f"its {field} differs"):
            scan(model, clean, replace(config, **changed), journal=tmp_path / "journal", resume=True)
    again = scan(model, clean, replace(config, null="exponential"), journal=tmp_path / "journal", resume=True)
    assert again.null.family == "exponential"


def test_progress_is_told_the_steps_in_their_order(scene):
    phases: list[str] = []

    class Observer(SilentProgress):
        def phase(self, name: str) -> None:
            """A step."""
            phases.append(name)

    result = scan(*scene, progress=Observer())
    steps = ["intake", "open", "images", "preprocessing", "graph", "parity", "search", "inference", "verification"]
    assert list(dict.fromkeys(phases)) == steps
    assert list(result.timings) == steps


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (QUICK, []),
        (replace(QUICK, repeats=2), ["again, with other images (--repeats), 2 of 2:"]),
        (
            replace(QUICK, preprocess="auto"),
            ["again, with preprocessing symmetric, which explains the images as well:"],
        ),
    ],
)
def test_a_search_that_is_made_again_says_why(scene, config, said):
    told: list[str] = []

    class Observer(SilentProgress):
        def message(self, text: str) -> None:
            """Something a user may want to know."""
            told.append(text)

    scan(*scene[:2], config, progress=Observer())
    assert [text for text in told if text.startswith("again")] == said


def test_more_detectors_share_one_threshold_and_their_pairs_stay_apart(scene, monkeypatch):
    """The same detector under two names: the calibrated p doubles."""
    from backscan.scanner import choices, detectors
    from backscan.scanner.detectors import pairwise
    from backscan.scanner.pipeline import evidence, preparation, replay
    from backscan.scanner.process import parent

    twin = replace(
        detectors.DETECTORS["pairwise"],
        name="twin",
        infer=lambda *args: tuple(replace(found, detector="twin") for found in pairwise.infer(*args)),
    )
    table = {**detectors.DETECTORS, "twin": twin}
    for module in (detectors, pipeline, preparation, parent, replay, evidence):
        monkeypatch.setattr(module, "DETECTORS", table)
    read = choices.names
    monkeypatch.setattr(choices, "names", lambda known: (*read(known), *["twin"] * (known.name == "DETECTORS")))
    model, clean, config = scene
    result = scan(model, clean, replace(config, detectors=("pairwise", "twin")))
    assert [found.detector for found in result.detectors if found.part_of] == ["pairwise", "twin"]
    assert len(result.pairs) == 2 * NUM_PAIRS
    assert result.calibrated_p_value == 2 / 200
    assert result.patterns[0].detector == "pairwise"
    assert result.controls.size == result.patterns[0].size


def write_form(folder: Path, form: str) -> Path:
    """The planted model of `write_model` in an unusual form."""
    path = write_model(folder)
    model = onnx.load(path)
    graph = model.graph
    side = graph.input[0].type.tensor_type.shape.dim[2].dim_value
    if form == "sorted scores":
        graph.initializer.append(numpy_helper.from_array(np.array([NUM_CLASSES], np.int64), "all"))
        graph.node.append(onnx.helper.make_node("TopK", ["scores", "all"], ["values", "classes"], axis=1))
        del graph.output[:]
        for name, kind in (("values", onnx.TensorProto.FLOAT), ("classes", onnx.TensorProto.INT64)):
            graph.output.append(onnx.helper.make_tensor_value_info(name, kind, ["N", NUM_CLASSES]))
    else:
        sizes = {"no batch axis": [side, side], "a column": ["N", side * side, 1]}[form]
        del graph.input[:]
        graph.input.append(onnx.helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, sizes))
        if form == "no batch axis":
            del graph.output[:]
            graph.output.append(onnx.helper.make_tensor_value_info("scores", onnx.TensorProto.FLOAT, [1, NUM_CLASSES]))
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize(
    ("form", "warning"),
    [
        ("sorted scores", "'scores' inside the model is taken"),
        ("no batch axis", "'image' has no batch axis"),
        ("a column", ""),
    ],
)
def test_the_planted_pair_is_found_in_unusual_forms(form: str, warning: str, tmp_path: Path):
    path = write_form(tmp_path, form)
    result = scan(path, CleanSet.load(write_images(tmp_path)), QUICK)
    assert (result.verdict, result.source, result.target) == (Verdict.BACKDOOR_DETECTED, SOURCE, TARGET)
    assert any(warning in each for each in (*result.warnings, ""))
    assert not any("resized" in each for each in result.warnings)
    assert result.clean_accuracy == scanned().clean_accuracy
    assert result.verification.confirmed
    assert result.verification.model_sha256 == result.model.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_model_that_answers_every_image_alike_is_not_blamed_on_its_import(tmp_path: Path):
    model = onnx.load(write_model(tmp_path))
    for tensor in model.graph.initializer:
        if tensor.name in {"honest", "gate"}:
            tensor.CopyFrom(numpy_helper.from_array(1e-9 * numpy_helper.to_array(tensor), tensor.name))
    path = tmp_path / "alike.onnx"
    path.write_bytes(model.SerializeToString())
    result = scan(path, CleanSet.load(write_images(tmp_path)), replace(QUICK, min_accuracy=0.0))
    assert result.verdict is Verdict.NO_VERDICT
    assert result.reasons[0].startswith("the model answers all")
    assert "not the model in the file" not in result.reasons[0]
