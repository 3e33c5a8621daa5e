"""Reports of other versions: what they do not say is added once, what they say beyond this version is kept."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from backscan.scanner.errors import ReportError

SCHEMA_VERSION = "1.1"
_MAJOR = SCHEMA_VERSION.split(".")[0]

# Sentences from which alone reports of version 1.0 tell what later ones store.
_REPLAYED_ELSEWHERE = re.compile(
    r"this is not the file of the report: all but the replay is of (?P<name>.*), sha256 (?P<sha256>[0-9a-f]+)",
    re.DOTALL,
)
_DISAGREES = "the verdict depends on the preprocessing"
_TOP = ("source", "target", "p_value")


def upgraded(document: Mapping[str, Any]) -> dict[str, Any]:
    """A report of any version that still reads, with what this version stores.

    Raises:
        ReportError: another schema version.
    """
    version = document.get("schema_version")
    if not isinstance(version, str) or not re.fullmatch(rf"{_MAJOR}\.[0-9]+", version):
        raise ReportError(
            f"expected a report of schema version {_MAJOR}, found {version!r}: "
            "make the report again with this version of `scanner check`"
        )
    fields = dict(document)
    if version == "1.0":
        fields |= _stored_since_1_1(document)
    return fields | {"schema_version": SCHEMA_VERSION}


def _stored_since_1_1(document: Mapping[str, Any]) -> dict[str, Any]:
    """What version 1.1 stores and 1.0 leaves to be worked out; values of a wrong type are left to the validation."""
    added: dict[str, Any] = {"deciding": _deciding(document)}
    verification, model = document.get("verification"), document.get("model")
    if isinstance(verification, dict) and isinstance(model, dict):
        added["verification"] = verification | {"model_sha256": model.get("sha256")}
    for match in map(_REPLAYED_ELSEWHERE.fullmatch, _texts(document.get("warnings"))):
        if match:
            added["searched_file"] = match.groupdict()
    reasons, preprocessing = list(_texts(document.get("reasons"))), document.get("preprocessing")
    starts = [place for place, reason in enumerate(reasons) if reason.startswith(_DISAGREES)]
    if starts and isinstance(preprocessing, dict):
        added["preprocessing"] = preprocessing | {"disagreement": reasons[starts[0] :]}
    return added


def _deciding(document: Mapping[str, Any]) -> int | None:
    """Place of the conclusion whose pair stands at the top: of its pattern, else the smallest p-value that decides."""
    entries, config = document.get("detectors"), document.get("config")
    if document.get("p_value") is None or not isinstance(entries, list | tuple):
        return None
    published = isinstance(config, dict) and config.get("published_p")
    patterns = document.get("patterns")
    known = patterns if isinstance(patterns, list | tuple) else ()
    shown = [pattern.get("detector") for pattern in known if isinstance(pattern, dict)]
    deciding = {
        place: (entry.get("detector") not in shown, entry["p_value" if published else "calibrated_p_value"])
        for place, entry in enumerate(entries)
        if isinstance(entry, dict)
        and entry.get("decides", True)
        and [entry.get(name) for name in _TOP] == [document.get(name) for name in _TOP]
        and isinstance(entry.get("p_value" if published else "calibrated_p_value"), int | float)
    }
    return min(deciding, key=lambda place: deciding[place], default=None)


def _texts(value: object) -> Iterable[str]:
    return (text for text in value if isinstance(text, str)) if isinstance(value, list | tuple) else ()


def surplus(document: Any, known: Any) -> Any:
    """What a document says beyond what was read of it, in the document's own structure; None where nothing.

    Args:
        document: JSON values as they were read.
        known: The same after reading and writing.
    """
    if isinstance(document, dict) and isinstance(known, dict):
        extra = {
            name: value if name not in known else surplus(value, known[name])
            for name, value in document.items()
            if name not in known or isinstance(value, dict | list)
        }
        return {name: value for name, value in extra.items() if value is not None or name not in known} or None
    if isinstance(document, list) and isinstance(known, list) and len(document) == len(known):
        extras = [surplus(*both) for both in zip(document, known, strict=True)]
        return extras if any(extra is not None for extra in extras) else None
    return None


def with_surplus(document: Any, extra: Any) -> Any:
    """A document with what `surplus` found; a list that has another length by now goes without."""
    if isinstance(document, dict) and isinstance(extra, dict):
        return document | {name: with_surplus(document.get(name), value) for name, value in extra.items()}
    if isinstance(document, list) and isinstance(extra, list):
        if len(document) != len(extra):
            return document
        return [with_surplus(*both) for both in zip(document, extra, strict=True)]
    return document if extra is None else extra
