"""What the scan of the demo's backdoored model costs at this commit and at the one it builds on, on the same machine.

    python -m benchmarks.base_counts [--base HEAD^]

Descents amplify how a processor rounds, so the steps on a trained model are the same only on one machine: there they
are compared exactly, and every difference is printed. Exit code 1 if a detector takes over a tenth more steps, or if a
verdict changed. A commit that means to do so says why in its message, and the next one compares with it.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path

from backscan.scanner import Verdict
from backscan.scanner.cli.demo import BACKDOORED
from benchmarks import command
from benchmarks.speed.report import scan

MOST_RISE = 1.1
"""Factor on the steps of a detector from which on a change is refused."""
_PACKAGES = ("scanner", "kernels", "converters")
_VERDICTS = (Verdict.BACKDOOR_DETECTED, Verdict.NOT_DETECTED)

Counts = Mapping[str, int | str]


def sources(commit: str, folder: Path) -> None:
    """Lay the packages of a commit out under a folder that can stand in PYTHONPATH.

    Raises:
        LookupError: there is no git, or no such commit.
    """
    if shutil.which("git") is None:
        raise LookupError("git is not installed")
    done = subprocess.run(["git", "archive", commit, "--", *_PACKAGES], capture_output=True, check=False)
    if done.returncode:
        raise LookupError(done.stderr.decode(errors="replace").strip())
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        archive.extractall(folder / "backscan", filter="data")


def count(model: Path, data: Path, packages: Path | None) -> Counts:
    """Verdict, and the steps of all pairs of each detector, of a scan with all options at their defaults.

    Args:
        model: ONNX file.
        data: Its clean images.
        packages: Folder made by `sources`; None is the installed package.

    Raises:
        RuntimeError: the scan ended without a verdict.
    """
    found = scan(model, data, ("--preprocess", "none"), packages=packages).report
    if found["verdict"] not in _VERDICTS:
        raise RuntimeError(f"expected a verdict on {model.name}, found {found['verdict']}: {found['reasons']}")
    steps: dict[str, int] = {}
    for pair in found["pairs"]:
        steps[pair["detector"]] = steps.get(pair["detector"], 0) + pair["steps"]
    return {"verdict": found["verdict"], **{f"steps of {name}": number for name, number in sorted(steps.items())}}


def differences(base: Counts, head: Counts) -> list[str]:
    """A line for everything that is not the same; detectors that only one of the two has are named, too."""
    names = [name for name in {**base, **head} if base.get(name) != head.get(name)]
    return [f"{name}: {base.get(name, 'none')} -> {head.get(name, 'none')}" for name in names]


def refused(base: Counts, head: Counts) -> list[str]:
    """What a commit may not change unnoticed."""
    return [
        name
        for name, before in base.items()
        if (isinstance(before, str) and head.get(name) != before)
        or (isinstance(before, int) and isinstance(after := head.get(name), int) and after > MOST_RISE * before)
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Scan the model at both commits and compare; nearly all of its pairs are ordinary ones."""
    parser = command.parser(__doc__)
    parser.add_argument("--base", default="HEAD^", help="commit to compare with")
    base = parser.parse_args(arguments).base
    with (
        tempfile.TemporaryDirectory() as folder,
        resources.as_file(resources.files("backscan.scanner") / "samples") as samples,
    ):
        try:
            sources(base, Path(folder))
        except LookupError as error:
            print(f"not compared: {error}")
            return 0
        before, after = (count(samples / BACKDOORED, samples / "digits_clean.npz", at) for at in (Path(folder), None))
    print(f"{BACKDOORED}: " + ("; ".join(differences(before, after)) or f"as at {base}: {dict(after)}"))
    return int(bool(refused(before, after)))
