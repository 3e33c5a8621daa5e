"""Steps 1 and 2, the file under examination: read once, admitted after the audit of its bytes; and its images."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from backscan.scanner.errors import CleanSetError, NoVerdictError, OptionError, UserError

if TYPE_CHECKING:
    from backscan.converters import Artifact, IntakeReport
    from backscan.scanner.images.cleanset import CleanSet
    from backscan.scanner.pipeline.record import Run
    from backscan.scanner.process.parent import ModelProcess


def refuse_other_kinds(model: object, config: object) -> None:
    """Refuse what is no path and no configuration, as programs may pass anything.

    Raises:
        UserError: the model is no path.
        OptionError: the options are no `ScanConfig`.
    """
    from backscan.scanner.config import ScanConfig

    if not isinstance(model, str | os.PathLike):
        raise UserError(f"expected the path of an ONNX file, found {type(model).__name__}: write the model to a file")
    if not isinstance(config, ScanConfig):
        found = type(config).__name__
        raise OptionError(f"expected the options as a ScanConfig, found {found}: pass ScanConfig(seed=1, ...)")


def read(model: Path) -> Artifact:
    """Step 1: the bytes of the file, read once; external data comes after the audit.

    Raises:
        UserError: the path is missing, a folder, or cannot be read.
        NoVerdictError: the file is larger than the policy allows.
    """
    from backscan.converters import LimitExceededError, Policy, UnreadableFileError, read_artifact

    if model.is_dir():
        from backscan.converters.intake.folders import other_models

        models = sorted(model.glob("*.onnx"))
        found = f"{models[0].name}: name it" if models else other_models(model).removeprefix("found ")
        raise UserError(f"expected one .onnx file, the path is the folder {model}, and in it was {found}")
    try:
        return read_artifact(model, max_bytes=Policy().max_file_bytes)
    except UnreadableFileError as error:
        raise UserError(str(error)) from error
    except LimitExceededError as error:
        raise NoVerdictError(str(error)) from error


def audit(run: Run, artifact: Artifact, folder: Path) -> Artifact:
    """Step 2: the artifact with its external data, once the policy allows what the bytes hold.

    Raises:
        NoVerdictError: the file is empty, the policy forbids something, or external data is missing or outside the
            model's folder.
    """
    with run.record.phase("intake"):
        admitted = admitted_by(run.process, artifact, folder)
    run.record.artifact = admitted
    return admitted


def admitted_by(process: ModelProcess, artifact: Artifact, folder: Path) -> Artifact:
    """The artifact with its external data, if its bytes are allowed.

    Raises:
        NoVerdictError: as `audit`.
    """
    if not artifact.data:  # which ONNX reads as a model without anything
        raise NoVerdictError("expected an ONNX model, found an empty file: get it again")
    return admit(artifact, process.audit(artifact), folder)


def admit(artifact: Artifact, report: IntakeReport, folder: Path) -> Artifact:
    """The artifact with its external data, if the report about its bytes allows it.

    Raises:
        NoVerdictError: the report names a violation, or external data is missing or outside the model's folder.
    """
    from backscan.converters import ConverterError, Policy, enforce, read_external, with_external

    try:
        enforce(report)
        external = read_external(folder, report.external_locations, Policy())
    except ConverterError as error:
        raise NoVerdictError(str(error)) from error
    return with_external(artifact, external) if external else artifact


def as_clean_set(clean: CleanSet | Path | str, class_names: Sequence[str] | None, *, sandbox: bool) -> CleanSet:
    """Clean images, loaded where only their place is given.

    Args:
        clean: The images, or their archive or folder.
        class_names: Names of the classes in their order, which number folders that are called so.
        sandbox: Decode in a limited child process.

    Raises:
        CleanSetError: they cannot be read, or are no such thing.
    """
    from backscan.scanner.images.cleanset import CleanSet

    if isinstance(clean, CleanSet):
        return clean
    if not isinstance(clean, str | os.PathLike):
        raise CleanSetError(
            f"expected clean images as a CleanSet or the path of an archive or folder, found {type(clean).__name__}: "
            "CleanSet.from_arrays and CleanSet.from_dataset take arrays and data sets"
        )
    return CleanSet.load(Path(clean), class_names=class_names, sandbox=sandbox)
