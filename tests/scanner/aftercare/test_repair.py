"""A planted model is repaired, the file is measured, and what is not believed overwrites nothing."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from backscan.converters.intake.artifact import read_artifact, with_external
from backscan.scanner.aftercare.attempt import Attempt
from backscan.scanner.aftercare.guarding import guard_model
from backscan.scanner.aftercare.options import RepairOptions
from backscan.scanner.aftercare.repair import differs, lost, repair, still_works
from backscan.scanner.cli.aftercare import exit_code
from backscan.scanner.cli.app import main
from backscan.scanner.errors import NoVerdictError, OptionError, ReportError, UserError
from backscan.scanner.images.cleanset import CleanSet
from backscan.scanner.pipeline.provenance import provenance
from backscan.scanner.pipeline.scan import scan
from backscan.scanner.process.protocol import Difference, Repaired
from backscan.scanner.reports import render
from backscan.scanner.reports.aftercare import FORMS, form_of, guard_sheet, repair_sheet
from backscan.scanner.results import (
    EncodedArray,
    FileRecord,
    GraphFinding,
    RepairMeasures,
    RepairResult,
    ScanResult,
    Verdict,
)
from tests.planted import SHORTCUT_PIXELS, shortcut
from tests.scanner.pipeline.scans import QUICK, SOURCE, TARGET, write_images

FEW_STEPS = RepairOptions(method="unlearn", steps=60)


@pytest.fixture(scope="module")
def one_path() -> bytes:
    """The shortcut of `planted` behind one hidden layer: no side path that a scan of the graph would show."""
    tensors = {
        each.name: numpy_helper.to_array(each)
        for each in onnx.load_model_from_string(shortcut_bytes()).graph.initializer
    }
    num_classes = len(tensors["bias"])
    lifted = np.concatenate([tensors["bias"] + 30, tensors["threshold"]]).astype(np.float32)
    last = np.concatenate([np.eye(num_classes, dtype=np.float32), tensors["gate"]])
    arrays = {
        "flat": tensors["flat"],
        "first": np.concatenate([tensors["honest"], tensors["hidden"]], axis=1),
        "lifted": lifted,
        "last": last,
        "low": np.full(num_classes, -30, np.float32),
    }
    nodes = [
        helper.make_node("Reshape", ["image", "flat"], ["pixels"], name="flatten"),
        helper.make_node("Gemm", ["pixels", "first", "lifted"], ["hidden"], name="hide"),
        helper.make_node("Relu", ["hidden"], ["open"], name="relu"),
        helper.make_node("Gemm", ["open", "last", "low"], ["scores"], name="classify"),
    ]
    model = onnx.load_model_from_string(shortcut_bytes())
    graph = helper.make_graph(
        nodes,
        "planted",
        model.graph.input,
        model.graph.output,
        [numpy_helper.from_array(v, k) for k, v in arrays.items()],
    )
    made = helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    return made.SerializeToString()


def shortcut_bytes() -> bytes:
    return shortcut(source=SOURCE, target=TARGET)


@dataclass(frozen=True)
class Case:
    """A planted model on disk, its images, and its scan."""

    model: Path
    images: Path
    report: ScanResult

    @property
    def out(self) -> Path:
        """Where the repaired file goes."""
        return self.model.with_name("repaired.onnx")

    def repaired(self, options: RepairOptions = FEW_STEPS, **changed: object) -> RepairResult:
        """A repair in this process, of a report with some fields changed."""
        report = replace(self.report, **changed)
        return repair(self.model, self.images, self.out, report=report, options=options, sandbox=False)


@pytest.fixture(scope="module")
def scanned(one_path: bytes, tmp_path_factory: pytest.TempPathFactory) -> Case:
    folder = tmp_path_factory.mktemp("planted")
    model = folder / "model.onnx"
    model.write_bytes(one_path)
    images = write_images(folder, per_class=40)
    return Case(model, images, scan(model, CleanSet.load(images), QUICK))


@pytest.fixture
def case(scanned: Case, tmp_path: Path) -> Case:
    for path in (scanned.model, scanned.images):
        shutil.copy(path, tmp_path / path.name)
    return replace(scanned, model=tmp_path / "model.onnx", images=tmp_path / scanned.images.name)


@pytest.fixture
def second_scan(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is tested here is the repair, not what a scan of a toy says."""
    found = replace(case.report, verdict=Verdict.NOT_DETECTED, reasons=("nothing stands out",))
    monkeypatch.setattr("backscan.scanner.aftercare.repair.scan", lambda *_, **__: found)


@pytest.mark.usefixtures("second_scan")
def test_a_detection_is_unlearned_and_the_file_is_written(case: Case) -> None:
    assert case.report.verdict is Verdict.BACKDOOR_DETECTED
    before = case.model.read_bytes()
    result = case.repaired()
    measured = result.measures
    assert measured is not None
    assert result.believed, result.reasons
    assert (result.source, result.target) == (SOURCE, TARGET)
    assert measured.success_before is not None
    assert measured.success_after is not None
    assert measured.success_before > 0.7
    assert measured.success_after <= 0.2
    assert measured.accuracy_after > measured.accuracy_before - 0.02
    assert result.verdict_after != "backdoor_detected"
    assert case.model.read_bytes() == before
    onnx.checker.check_model(onnx.load(case.out))
    assert result.after is not None
    assert result.after.sha256 == hashlib.sha256(case.out.read_bytes()).hexdigest() != result.before.sha256
    assert result.tensors
    assert set(result.tensors) <= {"first", "lifted", "last", "low"}
    assert sorted(path.name for path in case.out.parent.iterdir()) == ["images.npz", "model.onnx", "repaired.onnx"]


@pytest.mark.usefixtures("second_scan")
def test_plain_fine_tuning_is_not_believed_and_overwrites_nothing(case: Case) -> None:
    case.out.write_bytes(b"an earlier repair")
    result = case.repaired(RepairOptions(method="fine-tune", steps=5))
    assert not result.believed
    assert "the pattern still sends" in result.reasons[0]
    assert case.out.read_bytes() == b"an earlier repair"
    assert result.written_to == "repaired.attempt/repaired.onnx"
    assert (case.out.parent / result.written_to).is_file()
    sheet = repair_sheet(result)
    for form in FORMS.values():
        assert result.before.sha256 in form(sheet)
        assert "believed" in form(sheet)
    assert json.loads(FORMS[".json"](sheet))["measures"]["num_carriers"] == 8


@pytest.mark.usefixtures("second_scan")
def test_minimax_leaves_the_pattern_without_effect(case: Case) -> None:
    result = case.repaired(RepairOptions(method="minimax", steps=60))
    assert result.believed, result.reasons
    assert result.measures is not None
    assert result.measures.success_before is not None
    assert result.measures.success_before > 0.8
    assert result.measures.success_after == 0.0
    assert result.measures.accuracy_after > 0.95


@pytest.mark.usefixtures("second_scan")
def test_a_blind_repair_measures_no_pattern(case: Case) -> None:
    result = case.repaired(RepairOptions(method="unlearn", steps=10), patterns=(), verdict=Verdict.INCONCLUSIVE)
    assert result.detector is None
    assert result.measures is not None
    assert result.measures.success_after is None
    assert result.measures.accuracy_after > 0.98


@pytest.mark.usefixtures("second_scan")
def test_a_switch_in_the_graph_is_cut_out(case: Case) -> None:
    model = onnx.load_model_from_string(shortcut_bytes())
    threshold = next(each for each in model.graph.initializer if each.name == "threshold")
    lower = numpy_helper.to_array(threshold) - np.float32(0.3)  # so that no clean image opens it
    threshold.CopyFrom(numpy_helper.from_array(lower, "threshold"))
    case.model.write_bytes(model.SerializeToString())
    digest = hashlib.sha256(case.model.read_bytes()).hexdigest()
    switch = GraphFinding("shifted-by-side-path", "error", "a switch", ("add", "gate"), "seen", demonstrated=True)
    result = case.repaired(RepairOptions(), model=replace(case.report.model, sha256=digest), findings=(switch,))
    assert result.method == "cut-gate"
    assert result.believed, result.reasons
    assert result.nodes == ("add",)
    assert result.tensors == ()
    assert result.measures is not None
    assert result.measures.changed == 0.0


@pytest.mark.usefixtures("second_scan")
@pytest.mark.parametrize("known", [True, False])
def test_bounds_on_channels_add_nodes_and_nothing_else(case: Case, known: bool) -> None:
    options = RepairOptions(method="bound-activations", steps=120)
    result = case.repaired(options) if known else case.repaired(options, patterns=(), verdict=Verdict.INCONCLUSIVE)
    assert result.believed, result.reasons
    assert result.tensors == ()
    assert result.nodes == ("open.bound", "open.bounded")
    assert result.measures is not None
    assert result.measures.accuracy_after > result.measures.accuracy_before - 0.02
    if known:
        assert result.measures.success_before is not None
        assert result.measures.success_before > 0.8
        assert result.measures.success_after == 0.0
    before, after = (onnxruntime.InferenceSession(file) for file in (case.model, case.out))
    for part in ("get_inputs", "get_outputs"):
        told = [[(each.name, each.shape, each.type) for each in getattr(s, part)()] for s in (before, after)]
        assert told[0] == told[1]
    onnx.checker.check_model(onnx.load(case.out), full_check=True)
    assert "open.bounded" in FORMS[".md"](repair_sheet(result))


def with_class_numbers(case: Case) -> ScanResult:
    """Let the file give the number of the class alone, by a node without a name; gives the report of it."""
    model = onnx.load(case.model)
    model.graph.node.append(helper.make_node("ArgMax", ["scores"], ["class"], axis=1, keepdims=0))
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info("class", onnx.TensorProto.INT64, ["N"]))
    case.model.write_bytes(model.SerializeToString())
    digest = hashlib.sha256(case.model.read_bytes()).hexdigest()
    return replace(case.report, model=replace(case.report.model, sha256=digest))


@pytest.mark.usefixtures("second_scan")
@pytest.mark.parametrize("method", ["unlearn", "bound-activations"])
def test_a_file_of_class_numbers_is_repaired_as_it_is(case: Case, method: str) -> None:
    report = with_class_numbers(case)
    result = case.repaired(RepairOptions(method=method, steps=60), model=report.model)
    assert not any("differs in more" in reason for reason in result.reasons)
    assert result.tensors or result.nodes
    before, after = onnx.load(case.model), onnx.load(case.out.parent / result.written_to)
    assert after.graph.output == before.graph.output
    assert [node.name for node in after.graph.node if node.name not in result.nodes] == [
        node.name for node in before.graph.node
    ]
    onnx.checker.check_model(after, full_check=True)


@pytest.mark.parametrize("enforce", [None, "without", "reject"])
def test_a_file_of_class_numbers_is_guarded_as_it_is(case: Case, enforce: str | None) -> None:
    report = with_pattern(with_class_numbers(case), 8)
    if enforce == "reject":
        with pytest.raises(NoVerdictError, match="expected scores among the outputs to reject by, found 'scores'"):
            guard_model(case.model, case.images, case.out, report, rate=0.1, sandbox=False, enforce=enforce)
        assert not case.out.exists()
        return
    result = guard_model(case.model, case.images, case.out, report, rate=0.1, sandbox=False, enforce=enforce)
    assert result.caught == 1.0
    guarded = onnx.load(case.out)
    assert [value.name for value in guarded.graph.output] == ["class", "pattern_score"]
    assert [node.name for node in guarded.graph.node if node.op_type == "ArgMax"] == [""]
    onnx.checker.check_model(guarded, full_check=True)


def test_a_file_too_old_for_bounds_is_refused_in_one_sentence(case: Case) -> None:
    model = onnx.load(case.model)
    model.opset_import[0].version = 7
    case.model.write_bytes(model.SerializeToString())
    digest = hashlib.sha256(case.model.read_bytes()).hexdigest()
    with pytest.raises(NoVerdictError, match=r"expected opset 8 or later for bounds on channels, found 7: export"):
        case.repaired(
            RepairOptions(method="bound-activations", steps=1), model=replace(case.report.model, sha256=digest)
        )


def test_a_cut_gate_changes_only_what_it_lists(case: Case) -> None:
    answer = Repaired(b"", {}, tensors=(), nodes=("add",))
    attempt = Attempt(read_artifact(case.model, max_bytes=1 << 20), answer)
    assert differs(Difference((), elsewhere=False), attempt) == []
    for other in (Difference((), elsewhere=True), Difference(("matrix",), elsewhere=False)):
        assert differs(other, attempt) == ["the repaired file differs in more than what the repair names"]


@pytest.mark.parametrize(("fell", "num_failures"), [(0.0, 0), (0.01, 0), (0.03, 1)])
def test_accuracy_decides(fell: float, num_failures: int) -> None:
    measures = RepairMeasures(200, "given", 0.9, 0.9 - fell, fell)
    assert len(lost(measures, 0.02)) == num_failures


@pytest.mark.parametrize(("after", "without", "num_failures"), [(0.1, 0.0, 0), (0.2, 0.0, 1), (0.2, 0.25, 0)])
def test_success_is_held_against_chance_and_against_images_without_it(
    after: float, without: float, num_failures: int
) -> None:
    measures = RepairMeasures(200, "given", 0.9, 0.9, 0.0, 40, 1.0, after, without)
    assert len(still_works(measures, 10)) == num_failures


def test_what_cannot_be_done_is_refused_before_any_work(case: Case) -> None:
    with pytest.raises(UserError, match="another file than the model"):
        repair(case.model, case.images, case.model, report=case.report, sandbox=False)
    with pytest.raises(UserError, match=r"end in \.onnx"):
        repair(case.model, case.images, case.model.with_name("repaired.bin"), report=case.report, sandbox=False)
    with pytest.raises(OptionError, match="demonstrated switch"):
        case.repaired(RepairOptions(method="cut-gate"), findings=())
    with pytest.raises(OptionError, match="expected --method to be one of"):
        RepairOptions(method="magic")
    with pytest.raises(ReportError, match="with digest 0000"):
        case.repaired(model=replace(case.report.model, sha256="0" * 64))
    with pytest.raises(NoVerdictError, match="expected convolutions whose channels can be pruned"):
        case.repaired(RepairOptions(method="prune"))


def some_images(case: Case, keep: Callable[[np.ndarray], np.ndarray]) -> Case:
    """The case with those images alone whose places are chosen by their labels."""
    held = dict(np.load(case.images))
    chosen = keep(held["y"])
    np.savez(case.images, **{name: array[chosen] for name, array in held.items()})
    return case


def test_images_that_cannot_carry_the_pattern_believe_no_repair(case: Case) -> None:
    some_images(case, lambda labels: np.flatnonzero(labels != SOURCE))
    with pytest.raises(OptionError, match=f"expected images of class {SOURCE}, which the pattern"):
        case.repaired()
    assert not case.out.exists()


def test_too_few_images_are_one_sentence(case: Case) -> None:
    some_images(case, lambda labels: np.concatenate([np.flatnonzero(labels == each)[:5] for each in np.unique(labels)]))
    with pytest.raises(OptionError, match="expected at least 8 images of a class"):
        case.repaired()
    with pytest.raises(OptionError, match="expected at least 8 images of a class"):
        guard_model(case.model, case.images, case.out, case.report, sandbox=False)


@pytest.mark.parametrize("amiss", ["itself", "not finite", "a mask of shape"])
def test_patterns_that_no_image_could_carry_are_refused(case: Case, amiss: str) -> None:
    (found, *_) = case.report.patterns
    values = found.values.decode()
    changed = {
        "itself": replace(found, target=found.source),
        "not finite": replace(found, values=EncodedArray.encode(np.full_like(values, np.nan))),
        "a mask of shape": replace(found, mask=EncodedArray.encode(np.ones((3, 3), np.float32))),
    }[amiss]
    with pytest.raises(ReportError, match=amiss):
        case.repaired(patterns=(changed,))
    with pytest.raises(ReportError, match=amiss):
        guard_model(case.model, case.images, case.out, replace(case.report, patterns=(changed,)), sandbox=False)


@pytest.mark.parametrize("external", [False, True])
def test_a_guarded_file_scores_images_and_decides_as_before(case: Case, external: bool) -> None:
    report = with_pattern(case.report, 8)
    if external:
        folder = case.model.parent
        onnx.save(onnx.load(case.model), case.model, save_as_external_data=True, location="w.bin", size_threshold=64)
        artifact = read_artifact(case.model, max_bytes=1 << 20)
        artifact = with_external(artifact, {"w.bin": (folder / "w.bin").read_bytes()})
        report = replace(report, model=replace(report.model, sha256=artifact.sha256))
    result = guard_model(case.model, case.images, case.out, report, rate=0.1, sandbox=False)
    assert result.threshold is not None
    assert result.alarms_on_clean is not None
    assert result.alarms_on_clean <= 4
    assert result.num_planted == 8
    assert result.caught == 1.0
    assert result.microseconds_without
    session = onnxruntime.InferenceSession(case.out)
    assert [each.name for each in session.get_outputs()] == ["scores", "pattern_score"]
    assert (case.out.parent / "repaired.onnx.data").is_file() == external
    sheet = guard_sheet(result)
    assert all("0 of 40" in form(sheet) or "of 40" in form(sheet) for form in (FORMS[".md"], FORMS[".html"]))


@pytest.mark.parametrize("enforce", ["reject", "without"])
def test_a_guard_that_acts_takes_the_pattern_its_effect(case: Case, enforce: str) -> None:
    report = with_pattern(case.report, 8)
    result = guard_model(case.model, case.images, case.out, report, rate=0.1, sandbox=False, enforce=enforce)
    assert result.threshold is not None
    assert (result.success_before, result.caught) == (1.0, 1.0)
    assert result.success_after == 0.0
    before, after = (onnxruntime.InferenceSession(file) for file in (case.model, case.out))
    images = np.moveaxis(np.load(case.images)["x"], -1, 1)
    decided = [each.run(["scores"], {"image": images})[0].argmax(axis=1) for each in (before, after)]
    assert (decided[0] != decided[1]).mean() < 0.15
    assert "enforced" in FORMS[".txt"](guard_sheet(result))
    with pytest.raises(OptionError, match="--enforce to be one of reject, without"):
        guard_model(case.model, case.images, case.out, report, enforce="magic")


def halves_of_the_shortcut() -> list[np.ndarray]:
    """Two patterns that open the same hidden unit as much by different pixels."""
    side = 8
    found = []
    for part in (slice(50, 50 + SHORTCUT_PIXELS // 2), slice(50 + SHORTCUT_PIXELS // 2, 50 + SHORTCUT_PIXELS)):
        pattern = np.zeros(side * side, np.float32)
        pattern[part] = 0.6
        found.append(pattern.reshape(1, side, side))
    return found


@pytest.mark.parametrize("enforce", [None, "reject", "without"])
def test_a_pattern_that_the_model_takes_for_the_recovered_one_is_caught(case: Case, enforce: str | None) -> None:
    recovered, planted = halves_of_the_shortcut()
    (found,) = case.report.patterns
    report = replace(case.report, patterns=(replace(found, values=EncodedArray.encode(recovered)),))
    result = guard_model(case.model, case.images, case.out, report, rate=0.1, sandbox=False, enforce=enforce)
    assert result.threshold is not None
    archive = np.load(case.images)
    sources = np.moveaxis(archive["x"][archive["y"] == SOURCE], -1, 1)
    session = onnxruntime.InferenceSession(case.out)
    [scores] = session.run(["pattern_score"], {"image": np.clip(sources + planted, 0, 1)})
    caught = float((scores > result.threshold).mean())
    if enforce == "without":  # the model cannot be asked what it sees before its input is chosen
        assert result.tensor is None
        assert caught < 0.5
    else:
        assert result.tensor == "open"
        assert caught >= 0.95
    assert f"the pixels{', and open' if result.tensor else ''}" in FORMS[".txt"](guard_sheet(result))


def with_pattern(report: ScanResult, factor: float) -> ScanResult:
    (found,) = report.patterns
    values = EncodedArray.encode(factor * found.values.decode())
    return replace(report, patterns=(replace(found, values=values),))


def test_nothing_is_written_where_clean_images_score_as_high(case: Case) -> None:
    result = guard_model(case.model, case.images, case.out, with_pattern(case.report, 0.1), rate=0.1, sandbox=False)
    assert result.threshold is None
    assert "no threshold reaches the rate" in result.reasons[0]
    assert not case.out.exists()
    told = FORMS[".txt"](guard_sheet(result))
    assert "threshold    n/a, set for" in told
    assert not any(name in told for name in ("alarms on clean", "caught", "cost", "None"))


def test_a_guard_needs_a_pattern(case: Case) -> None:
    with pytest.raises(ReportError, match="recovered pattern for a guard"):
        guard_model(case.model, case.images, case.out, replace(case.report, patterns=()), sandbox=False)


def test_a_report_of_classes_that_the_model_lacks_is_refused(case: Case) -> None:
    (found,) = case.report.patterns
    forged = replace(case.report, patterns=(replace(found, target=99),))
    with pytest.raises(ReportError, match="expected a pattern between classes 0 to"):
        guard_model(case.model, case.images, case.out, forged, rate=0.1, sandbox=False)
    assert not case.out.exists()


def told(*, believed: bool, before: str, after: str | None) -> RepairResult:
    file = FileRecord("m.onnx", "0" * 64)
    return RepairResult(
        believed=believed,
        reasons=("a reason",),
        method="unlearn",
        before=file,
        provenance=provenance(seed=0, command=""),
        after=FileRecord("repaired.onnx", "1" * 64),
        verdict_before=before,
        verdict_after=after,
    )


@pytest.mark.parametrize(
    ("believed", "before", "after", "loop", "alone"),
    [
        (False, "not_detected", None, 0, 4),
        (True, "backdoor_detected", "not_detected", 0, 0),
        (True, "backdoor_detected", "inconclusive", 4, 0),
        (False, "backdoor_detected", "backdoor_detected", 1, 4),
        (False, "backdoor_detected", "not_detected", 4, 4),
        (False, "inconclusive", None, 4, 4),
        (False, "no_verdict", None, 4, 4),
    ],
)
def test_exit_codes(believed: bool, before: str, after: str | None, loop: int, alone: int) -> None:
    result = told(believed=believed, before=before, after=after)
    assert exit_code(result, loop=True) == loop
    assert exit_code(result, loop=False) == alone


@pytest.mark.parametrize(("believed", "names"), [(True, ["m.onnx", "repaired.onnx"]), (False, ["m.onnx"])])
def test_the_attestation_names_both_digests(believed: bool, names: list[str]) -> None:
    result = told(believed=believed, before="backdoor_detected", after="not_detected")
    statement = json.loads(form_of(Path("x.intoto.json"))(repair_sheet(result)))
    assert [subject["name"] for subject in statement["subject"]] == names
    assert statement["predicate"]["result"] == ("PASSED" if believed else "WARNED")
    with pytest.raises(OptionError, match="--write to end in"):
        form_of(Path("x.pdf"))


def test_a_check_repairs_nothing_that_is_not_detected(case: Case) -> None:
    report = replace(case.report, verdict=Verdict.NOT_DETECTED)
    result = repair(case.model, case.images, case.out, report=report, sandbox=False, only_detected=True)
    assert result.method == "none"
    assert not case.out.exists()
    assert exit_code(result, loop=True) == 0


def test_hostile_names_are_no_markup() -> None:
    result = RepairResult(
        believed=False,
        reasons=("<script>alert(1)</script>",),
        method="unlearn",
        before=FileRecord("<b>\x1b[31m", "0" * 64),
        provenance=provenance(seed=0, command=""),
        tensors=("</li><img src=x>",),
    )
    page = FORMS[".html"](repair_sheet(result))
    assert "<script>alert" not in page
    assert "<img" not in page
    assert "\x1b" not in "".join(form(repair_sheet(result)) for form in FORMS.values())


@pytest.mark.usefixtures("second_scan")
def test_the_command_in_the_sandbox_with_external_data(
    case: Case, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file beside keeps its bytes; the repaired model has one with a name of its own."""
    folder = case.model.parent
    onnx.save(onnx.load(case.model), case.model, save_as_external_data=True, location="weights.bin", size_threshold=64)
    artifact = with_external(
        read_artifact(case.model, max_bytes=1 << 20), {"weights.bin": (folder / "weights.bin").read_bytes()}
    )
    report = replace(case.report, model=replace(case.report.model, sha256=artifact.sha256))
    (folder / "scan.json").write_text(render(report, "json"))
    arguments = [str(case.model), "--data", str(case.images), "--report", str(folder / "scan.json")]
    arguments += ["--out", str(case.out), "--steps", "60", "--write", str(folder / "repair.md")]
    monkeypatch.setattr("sys.argv", ["scanner", "--quiet", "repair", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    shown = capsys.readouterr()
    assert end.value.code == 0, shown
    assert (folder / "weights.bin").read_bytes() == artifact.external["weights.bin"]
    assert (folder / "repaired.onnx.data").is_file()
    onnx.checker.check_model(str(case.out))
    written = (folder / "repair.md").read_text()
    assert "repaired and believed" in written
    assert "| method | minimax |" in written  # the default
    assert "repaired and believed" in shown.out
