import base64
import errno
import io
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from backscan.scanner.cli import output
from backscan.scanner.errors import OptionError, ReportError, UserError
from backscan.scanner.reports import render
from tests.scanner.reports.examples import detected, hostile, not_detected


def test_every_report_goes_to_its_file_and_the_result_to_stdout(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [tmp_path / name for name in ("a.html", "a.json", "a.sarif", "a.junit.xml", "a.md")]
    output.deliver([detected(3)], files, "terminal")
    for file in files:
        format_ = {"html": "html", "json": "json", "sarif": "sarif", "xml": "junit", "md": "markdown"}
        assert file.read_text(encoding="utf-8") == render(detected(3), format_[file.suffix[1:]])
    assert "BACKDOOR DETECTED" in capsys.readouterr().out


def test_a_report_on_stdout_stands_alone(capsys: pytest.CaptureFixture[str]) -> None:
    output.deliver([detected(3), not_detected(3)], [Path("-")], "terminal")
    assert capsys.readouterr().out == render([detected(3), not_detected(3)], "json")


def test_names_that_no_encoding_takes_are_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    strange = replace(hostile(), model=replace(hostile().model, name="\udcff\ud800.onnx"))
    output.deliver([strange], [tmp_path / "a.json", tmp_path / "a.md", tmp_path / "a.html"], "terminal")
    assert output.read_report(tmp_path / "a.json").model.name == "\udcff\ud800.onnx"
    ascii_only = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr("sys.stdout", ascii_only)
    output.print_text("cat → dog\n")
    assert ascii_only.buffer.getvalue() == b"cat ? dog\n"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("files", "format_", "pattern", "kind", "said"),
    [
        (["report.pdf"], "terminal", None, OptionError, "report.pdf"),
        ([], "html", None, OptionError, "--format to be terminal or json, found 'html': .*--report FILE.html"),
        ([], "json", "pattern.jpg", OptionError, r"\.npy or \.png"),
        (["missing/report.md"], "json", None, UserError, "no missing"),
        ([], "json", "missing/p.npy", UserError, "no missing"),
    ],
)
def test_what_cannot_be_written_is_refused_before_the_scan(
    files: list[str], format_: str, pattern: str | None, kind: type[Exception], said: str
) -> None:
    with pytest.raises(kind, match=said):
        output.check_destinations([Path(file) for file in files], format_, Path(pattern) if pattern else None)


def test_a_folder_in_the_place_of_a_report(tmp_path: Path) -> None:
    (tmp_path / "a.md").mkdir()
    with pytest.raises(UserError, match=r"to write .*a\.md"):
        output.deliver([detected(3)], [tmp_path / "a.md"], "terminal")


def test_a_full_disk_costs_one_report_and_not_the_result(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(file: Path, content: bytes) -> int:
        if file.name == "a.md":
            raise OSError(errno.ENOSPC, "No space left on device")
        with file.open("wb") as opened:
            return opened.write(content)

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(UserError, match=r"place to write .*a\.md, found: No space left"):
        output.deliver([detected(3)], [tmp_path / "a.md", tmp_path / "a.json"], "terminal")
    assert output.read_report(tmp_path / "a.json").verdict is detected(3).verdict
    assert "BACKDOOR DETECTED" in capsys.readouterr().out


class Full(io.StringIO):
    """Standard output on a full disk."""

    def flush(self) -> None:
        """Fail."""
        raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("stdout", [Full(), None])
def test_standard_output_that_takes_nothing_is_told(
    monkeypatch: pytest.MonkeyPatch, stdout: io.StringIO | None
) -> None:
    monkeypatch.setattr("sys.stdout", stdout)
    with pytest.raises(UserError, match="standard output"):
        output.print_text("text\n")
    if sys.stdout is not None:
        sys.stdout.close()  # the null device that took its place


def test_the_pattern_as_array_and_as_picture(tmp_path: Path) -> None:
    values = detected().patterns[0].values.decode()
    assert output.save_pattern(detected(), tmp_path / "p.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "p.npy", allow_pickle=False), values)
    assert output.save_pattern(detected(), tmp_path / "p.png")
    pixels = np.asarray(Image.open(tmp_path / "p.png"))
    assert pixels.shape == (32, 32, 3)
    peak = np.unravel_index(np.abs(values).argmax(), values.shape)
    assert pixels[peak[1], peak[2], peak[0]] == (255 if values[peak] > 0 else 0)
    assert set(pixels[np.abs(values).max(axis=0) == 0].ravel()) == {128}
    assert not output.save_pattern(not_detected(), tmp_path / "none.npy")
    assert not (tmp_path / "none.npy").exists()


def test_features_make_no_picture(tmp_path: Path) -> None:
    pattern = detected().patterns[0]
    features = replace(pattern, values=replace(pattern.values, shape=(3072,)))
    with pytest.raises(UserError, match=r"found shape \[3072\]: save a \.npy"):
        output.save_pattern(replace(detected(), patterns=(features,)), tmp_path / "p.png")


def test_a_report_of_several_models_is_not_the_report_of_one(tmp_path: Path) -> None:
    path = tmp_path / "several.json"
    path.write_text(render([detected(3), not_detected(3)], "json"), encoding="utf-8")
    assert len(output.read_reports(path)) == 2
    with pytest.raises(ReportError, match=r"one model in several\.json, found 2"):
        output.read_report(path)


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00"])
def test_a_report_that_cannot_be_read(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "report.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ReportError, match=r"report\.json"):
        output.read_report(path)


def test_example_images_survive_the_file(tmp_path: Path) -> None:
    output.deliver([detected()], [tmp_path / "a.json"], "json")
    example = output.read_report(tmp_path / "a.json").examples[0]
    assert Image.open(io.BytesIO(base64.b64decode(example.before_png))).size == (32, 32)
