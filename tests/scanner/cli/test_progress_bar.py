import io

from rich.console import Console

from backscan.scanner.cli.progress_bar import ConsoleProgress
from backscan.scanner.progress import Progress, SilentProgress
from backscan.scanner.results import PairResult, PairStatus, Trajectory
from benchmarks.large.__main__ import told_estimate


def console(*, terminal: bool) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=120, color_system=None)


def written(target: Console) -> str:
    assert isinstance(target.file, io.StringIO)
    return target.file.getvalue()


def pair(source: int, target: int) -> PairResult:
    return PairResult("pairwise", source, target, PairStatus.REACHED, 1.0, 0.0, 0.8, 10, Trajectory((0.0,), (0.0,)))


def run(progress: Progress) -> None:
    progress.phase("import")
    progress.message("images found beside the model")
    progress.warn("node \x1b[31mred[/] is odd")
    progress.plan("features", 2, 200.0)
    progress.pair(pair(0, 1), 100)
    progress.pair(pair(1, 0), 0)


def test_without_a_terminal_there_are_lines_but_no_bar() -> None:
    target = console(terminal=False)
    with ConsoleProgress(target) as progress:
        run(progress)
    assert written(target).splitlines() == [
        "images found beside the model",
        "warning: node \\x1b[31mred[/] is odd",
        "features: 2 class pairs to search, about 3 min 20 s",
    ]


def test_the_estimate_says_what_comes_on_top_if_a_class_stands_out() -> None:
    target = console(terminal=False)
    with ConsoleProgress(target) as progress:
        progress.estimate(308.0, 240.0)
        progress.estimate(308.0, 240.0, seconds_more=460.0)
    usual, many = written(target).splitlines()
    assert usual == "the whole scan: about 5 min 08 s, of which 4 min 00 s from now on"
    assert many == f"{usual}; about 7 min 40 s more if a class stands out"
    assert told_estimate(usual, more=True) == told_estimate(many) == 308.0
    assert told_estimate(many, more=True) == 768.0


def test_quiet_keeps_warnings_only() -> None:
    target = console(terminal=False)
    with ConsoleProgress(target, quiet=True) as progress:
        run(progress)
    assert written(target).splitlines() == ["warning: node \\x1b[31mred[/] is odd"]


def test_of_several_models_every_line_names_its_own() -> None:
    target = console(terminal=False)
    progress = ConsoleProgress(target, about="models/a.onnx")
    progress.warn("few images")
    progress.plan("pairwise", 90, None)
    told = "models/a.onnx: warning: few images\nmodels/a.onnx: pairwise: 90 class pairs to search\n"
    assert written(target) == told


def test_verbose_names_phases() -> None:
    target = console(terminal=False)
    with ConsoleProgress(target, verbose=True) as progress:
        run(progress)
    assert written(target).startswith("import ...\n")


def test_a_terminal_shows_pairs_speed_and_time_left() -> None:
    target = console(terminal=True)
    with ConsoleProgress(target) as progress:
        progress.plan("features", 4, 200.0)
        progress.pair(pair(0, 1), 100)
        progress._bar.refresh()
    shown = written(target)
    assert "features" in shown
    assert "1/4 pairs" in shown
    assert "images/s" in shown
    assert "left" in shown
    assert "0 → 1" in shown


def test_pairs_from_a_journal_do_not_enter_the_speed() -> None:
    target = console(terminal=True)
    with ConsoleProgress(target) as progress:
        progress.plan("features", 4, 200.0)
        progress.pair(pair(0, 1), 0)
        progress._bar.refresh()
    assert "images/s" not in written(target)
    assert "3 min 20 s left" in written(target)


def test_silence_accepts_everything() -> None:
    run(SilentProgress())
