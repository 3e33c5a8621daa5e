"""Scan the ONNX models that a change touches: the step of `action.yml` that decides what is scanned.

It runs on any runner with nothing but Python and git, and takes its inputs from the environment. Where it cannot say
which models changed it fails, and the last step of the action fails where it left no exit code.
"""

from __future__ import annotations

import mmap
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

USAGE = 2
SUFFIXES = ("html", "json", "sarif", "junit.xml", "md")
MODELS = ":(icase)*.onnx"
LFS_POINTER = b"version https://git-lfs"


def main() -> None:
    """Choose the models, scan them, tell the later steps."""
    try:
        models = named_models() or changed_models()
        code = scan(models) if models else nothing_to_scan()
    except LookupError as error:
        print(f"::error::{error}")
        code = USAGE
    tell("GITHUB_OUTPUT", f"exit-code={code}\n")


def named_models() -> list[str]:
    """The models of the input, one a line."""
    return [line for line in os.environ["MODELS"].splitlines() if line.strip()]


def changed_models() -> list[str]:
    """The `.onnx` files that differ from the base, and those whose weights do that lie beside them.

    Returns:
        Their paths; where there is no base to compare with, all that git keeps.

    Raises:
        LookupError: git cannot tell.
    """
    base = os.environ.get("BASE", "")
    kept = git("ls-files", "-z", "--", MODELS)
    if not is_known(base):
        print(f"the base {base or 'of the change'} is not here, so all {len(kept)} models that git keeps are scanned")
        return kept or none_kept()
    # What was deleted cannot be scanned; what was renamed comes under its new name.
    names = ("diff", "-z", "--no-ext-diff", "--no-renames", "--name-only")
    models = git(*names, "--diff-filter=d", base, "HEAD", "--", MODELS)
    others = sorted({*git(*names, base, "HEAD")} - set(models))
    heavier = [model for model in kept if model not in models and has_weights_among(model, others)]
    said = f", {len(heavier)} of them as weights beside them changed" if heavier else ""
    print(f"compared with {base}: {len(models + heavier)} models to scan{said}")
    removed = any(name.lower().endswith(".onnx") for name in others)
    return models + heavier or ([] if kept or removed else none_kept())


def has_weights_among(model: str, changed: Sequence[str]) -> bool:
    """Whether a model may keep weights in a file that changed: one beneath its folder that it names."""
    folder = PurePosixPath(model).parent
    beneath = [
        PurePosixPath(name).relative_to(folder) for name in changed if PurePosixPath(name).is_relative_to(folder)
    ]
    if not beneath:
        return False
    try:
        with Path(model).open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            if content[: len(LFS_POINTER)] == LFS_POINTER:  # the names are not here, so those alone that exporters give
                return any(str(name).startswith(PurePosixPath(model).name) for name in beneath)
            return any(content.find(os.fsencode(str(name))) >= 0 for name in beneath)
    except (OSError, ValueError):  # not here, or empty: the scanner says so
        return True


def none_kept() -> list[str]:
    """What an action does that guards nothing.

    Raises:
        LookupError: unless that was said to be right.
    """
    if os.environ.get("WITHOUT_MODELS") == "pass":
        return []
    raise LookupError(
        "expected .onnx files that git keeps, found none, so nothing would ever be scanned: name the models that the "
        "job makes or downloads in `models`, or say `without-models: pass`"
    )


def nothing_to_scan() -> int:
    """Say that a pass is none of any model."""
    said = "backscan scanned no model: the change touches none"
    print(f"::notice::{said}")
    tell("GITHUB_STEP_SUMMARY", f"{said}.\n")
    return 0


def is_known(base: str) -> bool:
    """Whether the commit is in the checkout: not for a new branch, nor in a shallow clone."""
    git("rev-parse", "--verify", "HEAD")
    try:
        git("cat-file", "-e", f"{base}^{{commit}}")
    except LookupError:
        return False
    return bool(base)


def git(*arguments: str) -> list[str]:
    """The names that git prints, each ended by a zero byte.

    Raises:
        LookupError: no git, no checkout, or one that git does not trust.
    """
    try:
        done = subprocess.run(["git", *arguments], check=True, capture_output=True)  # noqa: S603, S607 - no shell
    except OSError as error:
        raise LookupError(f"expected git, found none ({error}): install it, or name the models in `models`") from error
    except subprocess.CalledProcessError as error:
        said = " ".join(error.stderr.decode(errors="replace").split())
        raise LookupError(
            f"expected a git checkout that this user may read, found: {said}: run actions/checkout before (in a "
            'container also `git config --global --add safe.directory "$GITHUB_WORKSPACE"`), or name the models '
            "in `models`"
        ) from error
    return [name for name in done.stdout.decode("utf-8", "surrogateescape").split("\0") if name]


def scan(models: list[str]) -> int:
    """Scan the models, and copy the report into the job's summary.

    Returns:
        The exit code of `scanner check`.
    """
    reports = Path(os.environ["REPORTS"])
    reports.mkdir(parents=True, exist_ok=True)
    written = [f"--report={reports / f'backscan.{suffix}'}" for suffix in SUFFIXES]
    given = [f"--{name}={os.environ[name.upper()]}" for name in ("data", "baseline") if os.environ[name.upper()]]
    command = [scanner(), "check", f"--fail-on={os.environ['FAIL_ON']}", *written, *given]
    code = subprocess.run([*command, *shlex.split(os.environ["OPTIONS"]), "--", *models], check=False).returncode  # noqa: S603
    summary = reports / "backscan.md"
    if summary.exists():
        tell("GITHUB_STEP_SUMMARY", summary.read_text(encoding="utf-8"))
    if any(reports.iterdir()):
        tell("GITHUB_OUTPUT", "reports=true\n")
    if (reports / "backscan.sarif").exists():
        tell("GITHUB_OUTPUT", "sarif=true\n")
    return code


def scanner() -> str:
    """The command that the step before installed."""
    folder = Path(os.environ["RUNNER_TEMP"]) / "backscan"
    return str(folder / ("Scripts/scanner.exe" if sys.platform == "win32" else "bin/scanner"))


def tell(name: str, text: str) -> None:
    """Append to one of the runner's files."""
    with Path(os.environ[name]).open("a", encoding="utf-8") as file:
        file.write(text)


if __name__ == "__main__":
    main()
