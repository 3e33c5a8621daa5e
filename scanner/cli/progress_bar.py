"""How a scan shows its progress on a terminal: lines, and a live bar of the pairs that are done."""

from __future__ import annotations

from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
)
from rich.text import Text

from backscan.scanner.reports.text import printable
from backscan.scanner.reports.words import duration
from backscan.scanner.results import PairResult


class ConsoleProgress:
    """Writes to a rich console, normally standard error; a live bar only where that is a terminal.

    Use as a context manager: leaving it removes the bar, also after an error or an interrupt.

    Args:
        console: Where to write; `Console(stderr=True)` also honours NO_COLOR.
        about: What every line begins with: the model, where there are several.
        quiet: Show warnings only.
        verbose: Also name every phase as a line of its own.
    """

    def __init__(self, console: Console, *, about: str = "", quiet: bool = False, verbose: bool = False) -> None:
        self._console = console
        self._about = f"{about}: " if about else ""
        self._quiet = quiet
        self._verbose = verbose
        self._bar = _make_bar(console, disable=quiet or not console.is_terminal)
        self._task: TaskID | None = None
        self._left = 0.0  # of what comes after the detector that searches, by the estimate

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def phase(self, name: str) -> None:
        """Show the step in the bar; its pair count starts with `plan`."""
        if self._verbose and not self._quiet:
            self._write(f"{name} ...", style="dim")
        self._restart(name, total=None, estimate=None)

    def plan(self, detector: str, num_pairs: int, seconds_estimate: float | None) -> None:
        """Say what is to be done and start counting."""
        self._left = max(0.0, self._left - (seconds_estimate or 0.0))
        about = f", about {duration(seconds_estimate)}" if seconds_estimate is not None else ""
        self.message(f"{detector}: {num_pairs} class pairs to search{about}")
        self._restart(detector, total=num_pairs, estimate=seconds_estimate)

    def estimate(self, seconds: float, seconds_left: float, *, seconds_more: float = 0.0) -> None:
        """Say how long it will take; the time left in the bar is that of the whole scan."""
        self._left = seconds_left
        more = f"; about {duration(seconds_more)} more if a class stands out" if seconds_more >= 1.0 else ""
        self.message(f"the whole scan: about {duration(seconds)}, of which {duration(seconds_left)} from now on{more}")

    def pair(self, result: PairResult, images: int) -> None:
        """Count the pair; pairs from a journal (0 images) do not enter the speed."""
        if self._task is None:
            return
        fields = self._bar.tasks[self._bar.task_ids.index(self._task)].fields
        self._bar.update(
            self._task,
            advance=1,
            images=fields["images"] + images,
            searched=fields["searched"] + (images > 0),
            last=f"{result.source} → {result.target}",
        )

    def message(self, text: str) -> None:
        """One line, unless quiet."""
        if not self._quiet:
            self._write(text)

    def warn(self, text: str) -> None:
        """One line, always."""
        self._write(f"warning: {text}", style="yellow")

    def _write(self, text: str, style: str = "") -> None:
        self._console.print(Text(printable(f"{self._about}{text}"), style=style), soft_wrap=True)

    def _restart(self, name: str, *, total: int | None, estimate: float | None) -> None:
        if self._task is not None:
            self._bar.remove_task(self._task)
        self._task = self._bar.add_task(
            printable(name),
            total=total,
            estimate=estimate,
            images=0,
            searched=0,
            last="",
            counted=total is not None,
            after=self._left,
        )


def _make_bar(console: Console, *, disable: bool) -> Progress:
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        _Counted(MofNCompleteColumn()),
        _Speed(),
        _TimeLeft(),
        TextColumn("{task.fields[last]}", markup=False, style="dim"),
        console=console,
        transient=True,
        disable=disable,
    )


class _Counted(ProgressColumn):
    """Another column, only while pairs are counted."""

    def __init__(self, column: ProgressColumn) -> None:
        super().__init__()
        self._column = column

    def render(self, task: Task) -> Text:
        """`3/90 pairs`, or nothing."""
        return Text.assemble(str(self._column.render(task)), " pairs") if task.fields["counted"] else Text("")


class _Speed(ProgressColumn):
    """Images that went through the model, a second."""

    def render(self, task: Task) -> Text:
        """Nothing before the first pair is finished."""
        if not task.fields["images"] or not task.elapsed:
            return Text("")
        return Text(f"{task.fields['images'] / task.elapsed:,.0f} images/s", style="dim")


class _TimeLeft(ProgressColumn):
    """Time left of the scan, from the mean of all searched pairs: they finish in bursts, which fools a moving one."""

    def render(self, task: Task) -> Text:
        """The estimate made before the start until a pair is finished."""
        left = _seconds_left(task)
        return Text(f"{duration(left)} left", style="cyan") if left is not None else Text("")


def _seconds_left(task: Task) -> float | None:
    if task.elapsed is None or task.total is None:
        return None
    estimate: float | None = task.fields["estimate"]
    after: float = task.fields["after"]
    if task.fields["searched"]:
        whole = task.elapsed / float(task.fields["searched"]) * task.total
        pace = whole / estimate if estimate else 1.0  # what this detector takes of its estimate the others will
        return whole * (1.0 - task.completed / task.total) + pace * after
    return None if estimate is None else max(0.0, estimate - task.elapsed) + after
