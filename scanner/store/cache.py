"""Results of scans that were made before, in the user's cache folder.

A result is found again only for the same model bytes, images, options and versions. Verdicts that depend on the
moment (a time limit, a failure to open) are never kept.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from backscan.scanner.errors import ReportError
from backscan.scanner.results import SCHEMA_VERSION, ScanResult, Verdict, to_json
from backscan.scanner.store.files import read_text
from backscan.scanner.store.reports import parse

_KEPT = (Verdict.BACKDOOR_DETECTED, Verdict.NOT_DETECTED)


def default_folder() -> Path:
    """Where the user's caches are: XDG_CACHE_HOME and its like on other systems."""
    import platformdirs

    return platformdirs.user_cache_path("backscan", appauthor=False) / "results"


@dataclass(frozen=True, slots=True)
class ScanCache:
    """A folder of JSON reports, one a file, named by the digest of what the result depends on."""

    folder: Path
    """Where the reports are; made when the first is kept."""
    versions: Mapping[str, str]
    """Version of the tool and of the libraries that a result may depend on."""
    max_entries: int = 500
    """Results that are kept; the oldest beyond them are forgotten."""

    def entry(self, model_sha256: str, data_digest: str, config: Mapping[str, object]) -> Entry:
        """The place of the result of one scan."""
        depends = [SCHEMA_VERSION, dict(self.versions), model_sha256, data_digest, dict(config)]
        digest = hashlib.sha256(json.dumps(depends, sort_keys=True, default=str).encode()).hexdigest()
        return Entry(self.folder / f"{digest}.json", self.max_entries)


@dataclass(frozen=True, slots=True)
class Entry:
    """The place of one result."""

    path: Path
    """Its file, which need not exist."""
    max_entries: int
    """Results that its folder keeps."""

    def find(self) -> ScanResult | None:
        """The kept result; None if there is none or it cannot be read."""
        try:
            (result,) = parse(read_text(self.path))
        except (OSError, ReportError, ValueError):
            return None
        return result

    def keep(self, result: ScanResult) -> None:
        """Store a result that the same scan would give again; a full or read-only disk is no error."""
        if result.verdict not in _KEPT:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            _write(self.path, to_json(result.to_dict()))
            _prune(self.path.parent, self.max_entries)
        except OSError:
            return


def renamed(result: ScanResult, *, name: str, class_names: Sequence[str] | None, command: str) -> ScanResult:
    """A kept result under the names and the command of this run; nothing that was found depends on them."""
    return replace(
        result,
        model=replace(result.model, name=name, class_names=tuple(class_names) if class_names else None),
        provenance=replace(result.provenance, command=command),
    )


def _prune(folder: Path, max_entries: int) -> None:
    """Forget the oldest entries beyond the limit."""
    entries = sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime)
    for path in entries[:-max_entries]:
        path.unlink(missing_ok=True)


def _write(path: Path, text: str) -> None:
    """All or nothing: another process may read or write the same entry."""
    handle, scratch = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".tmp")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(scratch).replace(path)
    except OSError:
        Path(scratch).unlink(missing_ok=True)
        raise
