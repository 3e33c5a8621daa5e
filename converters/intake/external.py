"""Read the files beside a model that hold its large tensors: plain files beneath its folder, nothing else.

The path is walked one folder at a time and every step refuses links, so that what was checked is what is opened.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from backscan.converters.errors import ArtifactError, LimitExceededError, PolicyError
from backscan.converters.intake.pointers import ADVICE, is_pointer
from backscan.converters.intake.policy import Policy
from backscan.converters.intake.stored_tensors import is_beneath
from backscan.converters.intake.violations import shown

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # a named pipe would block the open


def read_external(folder: Path, locations: Mapping[str, int], policy: Policy) -> dict[str, bytes]:
    """Read the external data of a model.

    Args:
        folder: The model's folder.
        locations: Files relative to it -> bytes each must have, as `IntakeReport.external_locations`.
        policy: Gives the largest size of all together.

    Returns:
        Location -> bytes.

    Raises:
        PolicyError: a location is no regular file beneath the folder, reached without any link.
        LimitExceededError: the files are larger than allowed.
        ArtifactError: a file is missing, unreadable or too short.
    """
    found: dict[str, bytes] = {}
    left = policy.max_external_bytes
    for location, needed in sorted(locations.items()):
        found[location] = _read(folder, location, needed, left, policy.max_external_bytes)
        left -= len(found[location])
    return found


def _read(folder: Path, location: str, needed: int, left: int, limit: int) -> bytes:
    if not is_beneath(location):
        _refuse(location, "is not a plain relative path beneath the model's folder")
    with ExitStack() as opened:
        descriptor = _open(folder, location, opened)
        size = _check_kind(descriptor, location)
        if size > left:
            raise LimitExceededError(
                f"expected at most {limit} bytes of external data, found {limit - left + size} with {shown(location)}: "
                "raise `max_external_bytes` of the policy if you trust it",
                rule="max_external_bytes",
                limit=limit,
                actual=limit - left + size,
            )
        with os.fdopen(os.dup(descriptor), "rb") as file:
            data = file.read(min(size, left) + 1)  # one more than it had: a file that grows is refused
    if len(data) < needed and is_pointer(data):
        raise ArtifactError(f"expected at least {needed} bytes in {shown(location)}, {ADVICE}")
    if not needed <= len(data) <= left:
        raise ArtifactError(
            f"expected at least {needed} bytes in {shown(location)}, found {len(data)}: copy the whole file beside the "
            "model"
        )
    return data


def _open(folder: Path, location: str, opened: ExitStack) -> int:
    """Open the file step by step from the folder; all descriptors are closed with `opened`."""
    *folders, name = (part for part in location.split("/") if part != ".")
    try:
        descriptor = os.open(folder, _FOLDER)
        opened.callback(os.close, descriptor)
        for step, flags in [(part, _FOLDER | os.O_NOFOLLOW) for part in folders] + [(name, _FILE)]:
            descriptor = os.open(step, flags, dir_fd=descriptor)
            opened.callback(os.close, descriptor)
    except FileNotFoundError as error:
        raise ArtifactError(
            f"the model needs the file {shown(location)}, which is not there: put it beside the model, as the exporter "
            "wrote it"
        ) from error
    except OSError as error:
        # A link gives "too many links" here, a link or a file in place of a folder "not a folder".
        _refuse(location, f"cannot be opened without following links ({error.strerror})", error)
    return descriptor


def _check_kind(descriptor: int, location: str) -> int:
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        _refuse(location, "is no regular file")
    if status.st_nlink != 1:
        _refuse(location, f"has {status.st_nlink} names (hard links), so that it may be any file of this machine")
    return status.st_size


def _refuse(location: str, why: str, cause: OSError | None = None) -> None:
    raise PolicyError(
        f"the model needs the file {shown(location)}, which {why}: put a plain copy of the file beside the model",
        rule="external-path",
    ) from cause
