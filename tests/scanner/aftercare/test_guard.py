"""A guard answers to its pattern, not to clean images or to other noise of the same size."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from backscan.kernels.embedding import add
from backscan.scanner.aftercare.guard import Guard, threshold_for
from backscan.scanner.aftercare.screening import screen_images
from backscan.scanner.aftercare.subject import places_of
from backscan.scanner.cli.app import main
from backscan.scanner.errors import OptionError, ReportError
from backscan.scanner.images.cleanset import CleanSet
from backscan.scanner.pipeline.provenance import provenance
from backscan.scanner.reports import render
from backscan.scanner.results import EncodedArray, FoundPattern, ModelRecord, ScanResult, Verdict

SHAPE = (3, 16, 16)


def natural(count: int, seed: int = 0) -> np.ndarray:
    """Smooth images as photographs are: most of their power is in few frequencies."""
    rng = np.random.default_rng(seed)
    rows, columns = np.fft.fftfreq(16)[:, None], np.fft.fftfreq(16)
    falling = 1 / np.maximum(np.hypot(rows, columns), 1 / 16) ** 1.5
    waves = np.fft.ifft2(np.fft.fft2(rng.normal(size=(count, *SHAPE))) * falling).real
    return np.clip(0.5 + 0.2 * waves / waves.std(), 0, 1).astype(np.float32)


def chessboard(size: float = 1.0) -> np.ndarray:
    board = (np.indices(SHAPE[1:]).sum(axis=0) % 2 - 0.5) * np.ones(SHAPE)
    return (size * board / np.linalg.norm(board)).astype(np.float32)


def report_of(pattern: np.ndarray, mask: np.ndarray | None = None, **changed: object) -> ScanResult:
    found = FoundPattern(
        detector="window" if mask is not None else "pairwise",
        source=1,
        target=3,
        space="image",
        size=1.0,
        size_l1=1.0,
        size_l2=1.0,
        largest_change=1.0,
        values=EncodedArray.encode(pattern),
        mask=None if mask is None else EncodedArray.encode(mask),
    )
    made = ScanResult(
        verdict=Verdict.BACKDOOR_DETECTED,
        reasons=("a pattern",),
        model=ModelRecord("m.onnx", "0" * 64, 1, num_classes=5),
        config={},
        provenance=provenance(seed=0, command=""),
        patterns=(found,),
    )
    return replace(made, **changed)


def patch_report() -> ScanResult:
    mask = np.zeros(SHAPE[1:], np.float32)
    mask[2:5, 2:5] = 1
    return report_of((np.random.default_rng(5).random(SHAPE) * mask).astype(np.float32), mask)


def caught(guard: Guard, images: np.ndarray, threshold: float) -> float:
    return float((guard.pattern_score(images) > threshold).mean())


@pytest.mark.parametrize("with_clean", [True, False])
def test_images_with_the_pattern_are_caught_and_others_are_not(with_clean: bool) -> None:
    guard = Guard(report_of(chessboard()), natural(200) if with_clean else None)
    found = threshold_for(guard.pattern_score(natural(1000, 1)), 0.01)
    assert found is not None
    fresh = natural(500, 2)
    noise = np.random.default_rng(3).normal(size=SHAPE)
    noise = (noise / np.linalg.norm(noise)).astype(np.float32)
    assert caught(guard, add(fresh, chessboard()), found.value) > 0.95
    assert caught(guard, fresh, found.value) < 0.04
    assert caught(guard, add(fresh, noise), found.value) < 0.06


@pytest.mark.parametrize("with_clean", [True, False])
def test_noise_of_its_norm_is_not_taken_for_a_patch(with_clean: bool) -> None:
    guard = Guard(patch_report(), natural(200) if with_clean else None)
    found = threshold_for(guard.pattern_score(natural(1000, 1)), 0.01)
    assert found is not None
    fresh = natural(500, 2)
    norm = np.linalg.norm((guard.planted.embed(fresh) - fresh).reshape(500, -1), axis=1).mean()
    noise = np.random.default_rng(3).normal(size=fresh.shape)
    noise *= norm / np.linalg.norm(noise.reshape(500, -1), axis=1)[:, None, None, None]
    # A filter that takes clean images for all there is calls a tenth of these suspicious.
    assert caught(guard, (fresh + noise).astype(np.float32), found.value) < 0.07
    assert caught(guard, guard.planted.embed(fresh), found.value) == 1.0


def test_what_takes_the_place_of_the_image_is_caught() -> None:
    report = patch_report()
    guard = Guard(report, natural(200))
    fresh = natural(300, 1)
    found = threshold_for(guard.pattern_score(fresh[:200]), 0.02)
    assert found is not None
    assert caught(guard, guard.planted.embed(fresh[200:]), found.value) > 0.95


def test_scores_are_shares_of_the_pattern() -> None:
    images = natural(200)
    guard = Guard(report_of(chessboard()), images)
    plain, whole = guard.pattern_score(images), guard.pattern_score(add(images, chessboard()))
    assert plain.dtype == np.float32
    assert (plain >= 0).all()
    assert (whole <= 1).all()
    assert plain.mean() < 0.3 < 0.7 < whole.mean()


def test_a_threshold_tells_how_sure_it_is() -> None:
    scores = np.linspace(0, 0.9, 100)
    found = threshold_for(scores, 0.05)
    assert found is not None
    assert found.alarms == 4  # the fifth highest of 100 is exceeded by 5 of 101
    assert not found.extrapolated
    assert found.interval[0] < 0.05 < found.interval[1]
    few = threshold_for(scores, 0.001)
    assert few is not None
    assert (few.alarms, few.extrapolated) == (0, True)
    assert threshold_for(np.ones(10), 0.1) is None
    raised = threshold_for(scores, 0.05, margin=1e-3)
    assert raised is not None
    assert (raised.value, raised.alarms) == (found.value + 1e-3, 4)
    assert threshold_for(np.full(10, 0.9995), 0.1, margin=1e-3) is None
    with pytest.raises(OptionError, match="expected clean images"):
        threshold_for(np.empty(0), 0.1)


@pytest.mark.parametrize(
    ("count", "rate", "rank"),
    [(99, 0.01, 1), (98, 0.01, 1), (199, 0.01, 2), (198, 0.01, 1), (99, 0.29, 29), (4, 0.5, 2)],
)
def test_a_new_image_exceeds_a_threshold_as_often_as_asked_and_no_lower_one_would_do(
    count: int, rate: float, rank: int
) -> None:
    scores = np.random.default_rng(0).permutation(count + 1) / (count + 2)
    exceeded = 0
    for place in range(count + 1):  # each image in turn is the new one: all are as likely
        others = np.delete(scores, place)
        found = threshold_for(others, rate)
        assert found is not None
        assert found.value == np.sort(others)[-rank]
        exceeded += scores[place] > found.value
    assert exceeded == rank
    enough = rank / (count + 1) <= rate + 1e-12
    assert enough == (count != 98)  # 98 are too few for one in a hundred
    assert enough or found.extrapolated
    assert (rank + 1) / (count + 1) > rate


@pytest.mark.parametrize(
    ("report", "message"),
    [
        (report_of(chessboard(), patterns=()), "with a recovered pattern for a guard"),
        (report_of(np.zeros(SHAPE, np.float32)), "not empty"),
        (
            report_of(chessboard(), patterns=(replace(report_of(chessboard()).patterns[0], detector="features"),)),
            "expected a pattern on images for a guard",
        ),
    ],
)
def test_reports_without_a_pattern_on_images_are_refused(report: ScanResult, message: str) -> None:
    with pytest.raises(ReportError, match=message):
        Guard(report)


def test_images_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match="expected images"):
        Guard(report_of(chessboard())).pattern_score(np.zeros((2, 3, 8, 8), np.float32))


def as_set(images: np.ndarray) -> CleanSet:
    return CleanSet.from_arrays(np.moveaxis(images, 1, -1))


def test_with_labels_the_threshold_is_that_of_the_guard() -> None:
    report, labels = report_of(chessboard()), np.arange(400) % 5
    clean = CleanSet.from_arrays(np.moveaxis(natural(400), 1, -1), labels)
    drawn = clean.draw(labels, images_per_class=50, seed=0, num_classes=5)
    guard = Guard(report, clean.images[places_of(drawn.optimise)])
    expected = threshold_for(guard.pattern_score(clean.images[places_of(drawn.held_out)]), 0.05)
    halves = threshold_for(Guard(report, clean.images[::2]).pattern_score(clean.images[1::2]), 0.05)
    assert expected is not None
    assert halves is not None
    assert halves.value != expected.value
    found = screen_images(as_set(natural(3, 7)), replace(report, config={"images_per_class": 50}), clean, rate=0.05)
    assert found.threshold == expected.value


def test_the_images_that_carry_it_are_listed_strongest_first() -> None:
    mixed = natural(40, 7)
    mixed[[3, 11]] = add(mixed[[3, 11]], chessboard(1.5))
    result = screen_images(as_set(mixed), report_of(chessboard()), as_set(natural(400)), rate=0.005)
    assert {each.place for each in result.listed} == {3, 11}
    scores = [each.score for each in result.listed]
    assert scores == sorted(scores, reverse=True)
    assert result.listed[0].name == f"image {result.listed[0].place}"
    assert result.num_clean == 200
    assert result.extrapolated
    with pytest.raises(OptionError, match="--false-alarms"):
        screen_images(as_set(mixed), report_of(chessboard()), as_set(natural(10)), rate=1.0)


@pytest.mark.parametrize(("size", "code"), [(2.0, 4), (0.0, 0)])
def test_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], size: float, code: int
) -> None:
    from PIL import Image

    folder = tmp_path / "incoming"
    folder.mkdir()
    images = natural(6, 9)
    images[2:3] = add(images[2:3], chessboard(size))
    for place, image in enumerate(images):
        Image.fromarray((np.moveaxis(image, 0, -1) * 255).round().astype(np.uint8)).save(folder / f"p{place}.png")
    np.savez(tmp_path / "clean.npz", x=np.moveaxis(natural(400), 1, -1))
    (tmp_path / "scan.json").write_text(render(report_of(chessboard(1.5)), "json"))
    arguments = [str(folder), "--report", str(tmp_path / "scan.json"), "--data", str(tmp_path / "clean.npz")]
    options = ["--false-alarms", "0.005", "--no-sandbox", "--write", str(tmp_path / "out.html")]
    monkeypatch.setattr("sys.argv", ["scanner", "--quiet", "screen-images", *arguments, *options])
    with pytest.raises(SystemExit) as end:
        main()
    shown = capsys.readouterr()
    assert end.value.code == code, shown
    assert ("p2.png" in shown.out) == bool(code)
    assert ("p2.png" in (tmp_path / "out.html").read_text()) == bool(code)


@pytest.mark.parametrize("taken", ["scan.onnx", "clean.onnx"])
def test_no_command_writes_over_what_it_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], taken: str
) -> None:
    (tmp_path / "scan.onnx").write_text(render(report_of(chessboard(1.5)), "json"))
    with (tmp_path / "clean.onnx").open("wb") as file:
        np.savez(file, x=np.moveaxis(natural(40), 1, -1))
    (tmp_path / "model.onnx").write_bytes(b"model")
    before = (tmp_path / taken).read_bytes()
    read = ["--report", str(tmp_path / "scan.onnx"), "--data", str(tmp_path / "clean.onnx")]
    for name in ("guard", "repair"):
        arguments = [name, str(tmp_path / "model.onnx"), *read, "--out", str(tmp_path / taken)]
        monkeypatch.setattr("sys.argv", ["scanner", "--quiet", *arguments])
        with pytest.raises(SystemExit) as end:
            main()
        assert end.value.code == 2
        assert f"expected a place of its own for what is written, found {taken}" in capsys.readouterr().err
    assert (tmp_path / taken).read_bytes() == before
