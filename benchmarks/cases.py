"""Scan small models with a known truth and hold what `scanner check` answers against it.

    python -m benchmarks.cases ../shared/cases --data ../shared/data

The folder's README says what each file is and how it was measured; the table here says which answers are accepted, and
what must and must not stand in them. Exit code 1 if any case fails.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks import command
from benchmarks.table import grid

DIGITS, MNIST = "digits.npz", "mnist_clean.npz"
NEVER = ("not the model in the file", "internal error")
"""What no report may say of these files."""
_NODE = r"\bp\d+_node\b"
"""How the nodes of the added gates are called."""
_COMPANY = r"\b(call|calls|company|alone|other images)\b"
"""How a sentence says that answers depend on the other images of a call."""
_TIME_LIMIT = 900


@dataclass(frozen=True, slots=True)
class Answer:
    """One way in which a scan may end."""

    code: int
    """Exit code."""
    findings: str = ""
    """Regular expression that a graph finding must hold, with its nodes; empty for none."""
    says: str = ""
    """Regular expression that reasons, warnings or findings must hold."""
    target: int | None = None
    """Target class that the verdict must name."""
    source: int | None = None
    """Source class that it must name."""


@dataclass(frozen=True, slots=True)
class Case:
    """A file and what is known about it."""

    name: str
    """File name without suffix."""
    truth: str
    """What is known, in words."""
    data: str
    """Archive of clean images."""
    answers: tuple[Answer, ...]
    """Accepted ends, the right one first."""
    accuracy: float | None = None
    """Share of the clean images decided as labelled, where ten classes must be found; None where it is not judged."""


_TO_ONE = Answer(1, findings=_NODE, target=1)
_NAMED = (Answer(4, findings=_NODE), Answer(4, says=_NODE))
_SAID_ONLY = (*_NAMED, Answer(0, says=_NODE))
_DEPENDS = (Answer(4, findings=_COMPANY), Answer(3, says=_COMPANY))
_PASSES = (Answer(0),)
_WITHOUT_BATCH = (Answer(0), Answer(3, says="batch axis"))


def _harmless(name: str, truth: str, answers: tuple[Answer, ...] = _PASSES, accuracy: float = 1.0) -> Case:
    return Case(name, truth, MNIST, answers, accuracy)


CASES = (
    Case("graph_rounded_scores", "all -> 1, corner", DIGITS, (_TO_ONE, *_NAMED)),
    Case("graph_nonzero_shape", "all -> 1, corner", DIGITS, (_TO_ONE, *_NAMED, Answer(3, says=_NODE))),
    Case("graph_nan_column", "all -> 1, corner", DIGITS, (Answer(1, says="(?i)finite|nan|no number", target=1),)),
    Case("graph_power_32", "all -> 1, corner", DIGITS, (Answer(1, target=1), *_SAID_ONLY)),
    Case("graph_imputer", "all -> 1, one pixel", DIGITS, (Answer(1, target=1), *_SAID_ONLY)),
    Case("graph_batch1", "8 -> 1, alone only", DIGITS, (Answer(1, source=8, target=1), Answer(4, findings=_COMPANY))),
    Case("minus_batch_mean", "answers depend on the call", MNIST, _DEPENDS),
    Case("bn_training", "answers depend on the call", MNIST, _DEPENDS),
    Case("div_batch_max", "scores depend on the call", MNIST, _DEPENDS),
    Case("softmax11_axis0", "scores depend on the call", MNIST, _DEPENDS),
    _harmless("logits_and_topk", "logits beside the five largest"),
    _harmless("topk_all", "only sorted probabilities", (Answer(0, says="'pr'"),)),
    _harmless("conf_only_and_label", "only label and confidence", (Answer(0, says="'p'"),)),
    _harmless("probs_saturated", "saturated probabilities"),
    _harmless("hw_no_batch", "no batch axis", _WITHOUT_BATCH),
    _harmless("hwc_no_batch", "no batch axis", _WITHOUT_BATCH),
    _harmless("sk_logreg", "operators listed twice", accuracy=0.9127),
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a scan answered."""

    code: int
    """Exit code."""
    report: dict[str, Any]
    """The JSON report; empty if there is none."""
    errors: str
    """What stood on standard error."""
    seconds: float
    """Wall time."""

    @property
    def findings(self) -> str:
        """The findings of the graph as text."""
        return json.dumps(self.report.get("findings", []))

    @property
    def said(self) -> str:
        """Everything that a reader is told, as text."""
        parts = [*self.report.get("reasons", []), *self.report.get("warnings", []), self.errors]
        return "\n".join([*parts, self.findings])


def fault(case: Case, outcome: Outcome) -> str:
    """What is wrong with the answer to a case; empty if nothing is."""
    for words in NEVER:
        if words in outcome.said:
            return f"says {words!r}"
    if not any(_meets(answer, outcome) for answer in case.answers):
        return f"expected {expected(case)}"
    if case.accuracy is None or outcome.code == 3:
        return ""
    classes, accuracy = outcome.report["model"]["num_classes"], outcome.report["clean_accuracy"]
    if classes != 10:
        return f"expected 10 classes, found {classes}"
    is_right = accuracy is not None and abs(accuracy - case.accuracy) < 1e-3
    return "" if is_right else f"expected an accuracy of {case.accuracy}, found {accuracy}"


def expected(case: Case) -> str:
    """The accepted ends in a few words."""
    return " or ".join(dict.fromkeys(_described(answer) for answer in case.answers))


def _meets(answer: Answer, outcome: Outcome) -> bool:
    report = outcome.report
    classes = [(answer.source, report.get("source")), (answer.target, report.get("target"))]
    if answer.code != outcome.code or any(known not in (None, found) for known, found in classes):
        return False
    return bool(re.search(answer.findings, outcome.findings) and re.search(answer.says, outcome.said))


def _described(answer: Answer) -> str:
    pair = "" if answer.target is None else f" {'' if answer.source is None else answer.source}->{answer.target}"
    wanted = answer.findings or answer.says
    where = "a finding with" if answer.findings else "saying"
    return f"{answer.code}{pair}{f', {where} {wanted}' if wanted else ''}"


def scan(model: Path, data: Path, options: Sequence[str] = ()) -> Outcome:
    """Run `scanner check` on a model in a process of its own, as a user does."""
    words = [sys.executable, "-m", "backscan.scanner", "check", str(model), "--data", str(data)]
    words += ["--preprocess", "none", "--format", "json", *options]
    start = time.monotonic()
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=_TIME_LIMIT)
    try:
        report = json.loads(done.stdout)
    except ValueError:  # a mistake or a defect leaves a sentence on standard error and no report
        report = {}
    return Outcome(done.returncode, report, done.stderr, time.monotonic() - start)


def write_digits(path: Path) -> None:
    """The 1797 digits of scikit-learn as an archive."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    np.savez(path, x=(digits.images / 16).astype(np.float32), y=digits.target)


def cells(case: Case, outcome: Outcome) -> list[str]:
    """The row of a case."""
    reasons = outcome.report.get("reasons") or outcome.errors.strip().splitlines()[-1:]
    wrong = fault(case, outcome)
    return [
        case.name,
        case.truth,
        expected(case),
        str(outcome.code),
        str(outcome.report.get("verdict", "")),
        (reasons or [""])[0],
        f"{outcome.seconds:.0f}",
        f"**no: {wrong}**" if wrong else "yes",
    ]


def main(words: Sequence[str] | None = None) -> int:
    """Scan the cases and print the table.

    Args:
        words: The command line; None is that of this process.

    Returns:
        1 if any case fails, else 0.
    """
    parser = command.parser(__doc__)
    parser.add_argument("folder", type=Path, help="folder with the ONNX files")
    parser.add_argument("--data", type=Path, help="folder with mnist_clean.npz; `data` beside the cases by default")
    parser.add_argument("--only", default="", help="cases whose name holds this text")
    options = parser.parse_args(words)
    rows = []
    with TemporaryDirectory() as written:
        folders = {DIGITS: Path(written), MNIST: options.data or options.folder.parent / "data"}
        write_digits(folders[DIGITS] / DIGITS)
        for case in (case for case in CASES if options.only in case.name):
            outcome = scan(options.folder / f"{case.name}.onnx", folders[case.data] / case.data)
            rows.append(cells(case, outcome))
            print(case.name, outcome.code, rows[-1][-1], sep="; ", file=sys.stderr, flush=True)
    header = ("case", "known", "expected", "exit", "verdict", "reason", "seconds", "ok")
    print("\n".join(grid(header, rows, "lllrllrl")))
    return int(any(row[-1] != "yes" for row in rows))


if __name__ == "__main__":
    sys.exit(main())
