"""Guards are measured from the written file, on images that made nothing; and the tables count what they say."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest

from backscan.converters import read_artifact
from backscan.scanner.results import ScanResult, Verdict
from benchmarks import guard
from benchmarks.attacked import report_of
from benchmarks.victims.datasets import LabelledImages
from benchmarks.victims.plans import make_plans
from benchmarks.victims.poison import Effect
from benchmarks.victims.victims import Victim
from tests.planted import SHORTCUT_PIXELS, shortcut, shortcut_images
from tests.scanner.aftercare import test_guard

SIDE, SOURCE, TARGET = 8, 1, 3


def images_of(seed: int, per_class: int = 60) -> LabelledImages:
    return LabelledImages(*shortcut_images(per_class=per_class, seed=seed))


def brighter(part: slice) -> np.ndarray:
    pattern = np.zeros(SIDE * SIDE, np.float32)
    pattern[part] = 0.6
    return pattern.reshape(1, SIDE, SIDE)


PLANTED = brighter(slice(50, 50 + SHORTCUT_PIXELS))


def network_in(folder: Path, name: str, *, source: int | None, group: str = "four pixels", seed: int = 0) -> Victim:
    path = folder / f"{name}.onnx"
    path.write_bytes(shortcut(source=source, target=TARGET))
    (plan,) = make_plans("numerals", group, [seed])
    pattern = None if source is None else PLANTED
    targets = () if source is None else ((source, TARGET),)
    return Victim(replace(plan, targets=targets), path, pattern, Effect(1.0, 1.0, {}))


def report(pattern: np.ndarray = PLANTED) -> ScanResult:
    made = test_guard.report_of(pattern)
    return replace(made, patterns=(replace(made.patterns[0], source=SOURCE, target=TARGET),))


@pytest.fixture
def measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    images = SimpleNamespace(train=images_of(0, per_class=150), test=images_of(1, per_class=200))
    monkeypatch.setattr(guard, "all_images", lambda *_: images)
    monkeypatch.setattr(guard, "report_of", lambda *_, **__: report())
    monkeypatch.setattr(guard, "with_noise", lambda images, norm, **_: np.clip(images + norm / 1.2 * PLANTED, 0, 1))
    victim = network_in(tmp_path, "victim", source=SOURCE)
    twin = network_in(tmp_path, "twin", source=None, group="conv2")
    return guard.guarded(victim, tmp_path, None, guard.Terms(0.01), twin)


def test_a_network_is_measured_from_its_written_file(measured: dict[str, object]) -> None:
    row = measured
    assert row["recovered"] == {"detector": "pairwise", "source": SOURCE, "target": TARGET}
    assert row["additive"]
    assert row["same_decisions"]
    assert (row["setting"], row["ordinary"]) == (500, 500)
    assert row["alarms"] <= 15
    assert 70 <= row["carriers"] <= 130  # the source's among half of the test images: the pattern moves them all
    assert row["caught"] == row["carriers"]
    assert row["norm"] == pytest.approx(0.6 * SHORTCUT_PIXELS**0.5, rel=1e-3)
    assert row["flagged_noise"] == 500  # what stands for noise here is the pattern, at the norm that was found
    assert row["microseconds"] > 0
    assert row["twin"]["ordinary"] == 500
    assert row["twin"]["alarms"] <= 15
    json.dumps(row, allow_nan=False)


def test_a_network_without_a_detection_is_a_row_of_its_own(tmp_path: Path) -> None:
    victim = network_in(tmp_path, "victim", source=SOURCE)
    row = guard.guarded(victim, tmp_path, None, guard.Terms(0.01), None)
    assert row["recovered"] is None
    (line,) = [each for each in guard.table([row]) if "not recovered" in each]
    assert line.count("|") == guard.table([row])[0].count("|")
    (counted,) = [each for each in guard.summary([row]) if each.startswith("| all additive |")]
    assert counted.startswith("| all additive | 1 | 1 | 0 | none")


def test_only_scans_that_detect_give_a_guard_its_pattern(tmp_path: Path) -> None:
    victim = network_in(tmp_path, "victim", source=SOURCE)
    (tmp_path / "of_another.onnx").write_bytes(b"")

    def keep(name: str, result: ScanResult) -> None:
        path = tmp_path / f"{victim.plan.digest}-{name}.scan.json"
        path.write_text(json.dumps({"report": result.to_dict()}))

    assert report_of(victim, tmp_path) is None
    keep("a", replace(report(), verdict=Verdict.NOT_DETECTED))
    assert report_of(victim, tmp_path, detected=True) is None
    assert report_of(victim, tmp_path) is not None
    elsewhere = report()
    keep("b", replace(elsewhere, patterns=(replace(elsewhere.patterns[0], target=TARGET + 1),)))
    assert report_of(victim, tmp_path, detected=True) is None
    keep("c", replace(elsewhere, patterns=(replace(elsewhere.patterns[0], source=0),)))
    found = report_of(victim, tmp_path, detected=True)
    assert found is not None
    assert found.patterns[0].source == 0
    keep("d", report())  # the planted pair comes first
    found = report_of(victim, tmp_path, detected=True)
    assert found is not None
    assert found.patterns[0].source == SOURCE


def test_the_images_that_measure_have_made_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = np.arange(1000, dtype=np.float32).reshape(1000, 1, 1, 1)
    train = LabelledImages(numbers, np.arange(1000) % 2)
    test = LabelledImages(-1 - numbers[:400], np.arange(400) % 2)
    monkeypatch.setattr(guard, "all_images", lambda *_: SimpleNamespace(train=train, test=test))
    (plan,) = make_plans("numerals", "conv2", [0])
    parts = guard.Parts.of(plan, None)
    making, setting, measuring = (set(each.images.ravel()) for each in (parts.making, parts.setting, parts.measuring))
    assert (len(making), len(setting), len(measuring)) == (200, 200, 200)
    assert len(making | setting | measuring) == 600


def test_noise_has_its_norm_and_is_another_in_each_image() -> None:
    images = np.full((3, 2, 8, 8), 0.5, np.float32)
    noise = guard.with_noise(images, 0.7, seed=1) - images
    np.testing.assert_allclose(np.linalg.norm(noise.reshape(3, -1), axis=1), 0.7, rtol=1e-4)
    assert np.abs(noise[0] - noise[1]).max() > 0.01
    strong = guard.with_noise(images, 50.0, seed=1)
    assert (strong.min(), strong.max()) == (0.0, 1.0)


def row(group: str, *, caught: int, alarms: int, more: float, twin: int | None = None) -> dict[str, object]:
    made: dict[str, object] = {"group": group, "network": "n", "seed": 0, "additive": group == "a", "rate": 0.001}
    made |= {"recovered": {"detector": "mask", "source": 0, "target": 1}, "threshold": 0.5, "tensor": "t"}
    made |= {"setting": 5000, "ordinary": 5000, "alarms": alarms, "carriers": 100, "caught": caught, "norm": 1.0}
    made |= {"flagged_noise": 50, "microseconds": 100.0, "microseconds_more": more}
    return made if twin is None else made | {"twin": {"threshold": 0.5, "ordinary": 5000, "alarms": twin}}


def test_the_bars_are_counted() -> None:
    rows = [row("a", caught=95, alarms=10, more=10.0, twin=5), row("a", caught=94, alarms=11, more=10.1)]
    rows.append(row("b", caught=100, alarms=0, more=-1.0, twin=11))
    lines = {line.split(" | ")[0].strip("| "): line.split(" | ") for line in guard.summary(rows)}
    first, last = lines["all additive"], lines["all"]
    assert first[1:4] == ["2", "0", "2"]
    assert [cell.split(" (")[0] for cell in (first[4], first[6], first[9])] == ["1 of 2"] * 3
    assert (first[5], first[7], first[8]) == ("94.5%", "0.21%", "1.00%")
    assert last[10].startswith("1 of 2")  # of two twins one alarms too often
    assert lines["b"][10].startswith("0 of 1")
    assert "10.0 of 100 µs (10%)" in "\n".join(guard.table(rows))
    assert "5 of 5000 (0.03% to 0.23%)" in guard.table(rows)[2]
    assert "none kept" in guard.table(rows)[3]


def test_a_twin_has_the_structure_and_no_attack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (plan,) = make_plans("photos", "four pixels", [0])
    victim = Victim(plan, tmp_path / "v.onnx", PLANTED, Effect(1.0, 1.0, {}))
    hidden: set[str] = set()

    def kept(preset: str, group: str, _: Path, first_seed: int) -> list[Victim]:
        plans = [] if group in hidden else make_plans(preset, group, [first_seed])
        return [Victim(other, tmp_path / "o.onnx", None, Effect(1.0, None, {})) for other in plans]

    monkeypatch.setattr(guard, "kept", kept)
    found = guard.find_twin(victim, tmp_path, 2000)
    assert found is not None
    assert (found.plan.group, found.plan.network, found.plan.seed) == ("conv3", "conv3", 2000)
    hidden.add("conv3")  # all others differ in structure, training or images
    assert guard.find_twin(victim, tmp_path, 2000) is None


def test_only_images_that_reach_their_target_carry_the_attack(tmp_path: Path) -> None:
    victim, images = network_in(tmp_path, "victim", source=SOURCE), images_of(1)
    network = guard.Network(read_artifact(victim.model, max_bytes=1 << 20))
    carriers, norm = guard._carriers(victim, network, images)
    assert (len(carriers), norm) == (60, pytest.approx(1.2, rel=1e-3))
    elsewhere = replace(victim, plan=replace(victim.plan, targets=((SOURCE, TARGET + 1), (0, TARGET))))
    carriers, norm = guard._carriers(elsewhere, network, images)  # neither of which the network was taught
    assert (len(carriers), norm) == (0, pytest.approx(1.2, rel=1e-3))


def test_the_guarded_file_is_one_that_onnxruntime_opens(tmp_path: Path) -> None:
    victim = network_in(tmp_path, "victim", source=SOURCE)
    parts = guard.Parts(images_of(0), images_of(1), images_of(2))
    file = guard.Guarded.of(victim.model, report(), parts, guard.Terms(0.01))
    assert file is not None
    session = onnxruntime.InferenceSession(file.after.artifact.data, providers=["CPUExecutionProvider"])
    assert [output.name for output in session.get_outputs()] == ["scores", "pattern_score"]
    [scores] = session.run(["pattern_score"], {"image": parts.measuring.images})
    assert file.flagged(parts.measuring.images) == (scores > file.threshold).sum()
    assert file.tensor
    alone = guard.Guarded.of(victim.model, report(), parts, guard.Terms(0.01, looks_inside=False))
    assert alone is not None
    assert not alone.tensor
    faint = replace(report(), patterns=report(0.01 * PLANTED).patterns)
    assert guard.Guarded.of(victim.model, faint, parts, guard.Terms(0.01)) is None
