"""One scan of one model: what `scan` returns, and the top level of the JSON report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, field, replace
from enum import StrEnum
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import SkipValidation, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from backscan.scanner.errors import ReportError
from backscan.scanner.results.base import STRICT, plain
from backscan.scanner.results.data import DataRecord, PreprocessingRecord
from backscan.scanner.results.evidence import (
    Controls,
    DormantUnits,
    Example,
    FoundPattern,
    GraphFinding,
    Verification,
)
from backscan.scanner.results.inference import Inference, NullFit
from backscan.scanner.results.model import FileRecord, ModelRecord, Parity
from backscan.scanner.results.older import SCHEMA_VERSION, surplus, upgraded, with_surplus
from backscan.scanner.results.pairs import PairResult, ScreenRecord, TargetResult
from backscan.scanner.results.pool import PoolRecord
from backscan.scanner.results.repeats import RepeatRecord
from backscan.scanner.results.spaces import SpaceRecord
from backscan.scanner.results.spent import TimeRecord

# Fields that most reports have no use for.
_ONLY_WHERE_KNOWN = (
    ("targets", "support"),
    ("targets", "score_on_noise"),
    ("targets", "nearness"),
    ("targets", "across"),
    ("patterns", "mask"),
    ("patterns", "picture"),
    ("pairs", "transfer"),
    ("pairs", "clean_margin"),
)


class Verdict(StrEnum):
    """What may be said about a model. There is no word for "unattacked": absence of detection is no proof."""

    BACKDOOR_DETECTED = "backdoor_detected"
    NOT_DETECTED = "not_detected"
    INCONCLUSIVE = "inconclusive"
    NO_VERDICT = "no_verdict"


@dataclass(frozen=True, slots=True, config=STRICT)
class Provenance:
    """Enough to repeat the scan."""

    version: str
    """Version of backscan."""
    libraries: dict[str, str]
    """Versions of the libraries that matter."""
    python: str
    """Version of Python."""
    platform: str
    """Operating system and machine."""
    device: str
    """`cpu`, or the name of the GPU."""
    seed: int
    """Seed of every random choice."""
    command: str
    """Command that repeats the scan."""
    protections: tuple[str, ...] = ()
    """What limited the process that opened the model."""
    precision: str = ""
    """What steps computed in where the model allows it: `float32`, `bfloat16`, or `float32 rounded to bfloat16`; empty
    where no model was opened, and in older reports."""
    extensions: tuple[str, ...] = ()
    """What the program registered beside the tables, with its import path; left out of reports where there is none."""


@dataclass(frozen=True, slots=True, config=STRICT)
class ScanResult:
    """One scan of one model. The fields are the top level of the JSON report."""

    verdict: Verdict
    """What may be said about the model."""
    reasons: tuple[str, ...]
    """Why this verdict, most important first; each one sentence."""
    model: ModelRecord
    """The scanned file."""
    config: dict[str, Any]
    """Options of the scan, by name."""
    provenance: Provenance
    """Enough to repeat the scan."""
    schema_version: str = SCHEMA_VERSION
    """Version of this layout."""
    source: int | None = None
    """Source class of the detected pair or demonstrated switch, else of the most extreme pair."""
    target: int | None = None
    """Target class of the detected pair or demonstrated switch, else of the most extreme pair."""
    p_value: float | None = None
    """Published p-value of the most extreme pair, equation (4)."""
    calibrated_p_value: float | None = None
    """Calibrated p-value of the most extreme pair, corrected for the number of detectors that decide."""
    bootstrap_draws: int = 0
    """Draws behind the calibrated p-value."""
    significance: float = 0.05
    """Threshold on the deciding p-value."""
    detectors: tuple[Inference, ...] = ()
    """What each detector and statistic concluded."""
    pairs: tuple[PairResult, ...] = ()
    """Every pair, in order of detector, source, target."""
    screens: tuple[ScreenRecord, ...] = ()
    """Which pairs were searched, by each detector that did not search all; empty where all were."""
    targets: tuple[TargetResult, ...] = ()
    """Every target class of the detectors that search once per class, in order of detector and target."""
    null: NullFit | None = None
    """Null of the deciding detector."""
    patterns: tuple[FoundPattern, ...] = ()
    """Recovered patterns of the detected pair (or of the most extreme one when nothing was detected)."""
    examples: tuple[Example, ...] = ()
    """At most four held-out images before and after."""
    verification: Verification | None = None
    """Replay on the original file."""
    controls: Controls | None = None
    """Comparisons for the most extreme pair."""
    parity: Parity | None = None
    """Torch copy against the original file."""
    findings: tuple[GraphFinding, ...] = ()
    """Findings in the graph."""
    dormant_units: DormantUnits | None = None
    """Units that stand still on the images, and what was tried of them; None where the graph was not searched."""
    data: DataRecord | None = None
    """The images used."""
    preprocessing: PreprocessingRecord | None = None
    """How pixels became model input."""
    clean_accuracy: float | None = None
    """Accuracy of the original file on the labelled images; None without labels."""
    warnings: tuple[str, ...] = ()
    """What weakens the evidence."""
    not_tested: tuple[str, ...] = ()
    """What this scan cannot speak about."""
    timings: dict[str, float] = field(default_factory=dict)
    """Seconds a phase; with `finished` the only part that differs between equal scans."""
    finished: str = field(default="", compare=False)
    """When the scan ended, `2026-11-29T12:50:00Z` in UTC; empty in reports of earlier versions."""

    deciding: int | None = None
    """Place in `detectors` of the conclusion that the verdict rests on; None where none has a p-value that decides."""
    repeats: tuple[RepeatRecord, ...] = ()
    """What each scan of `--repeats` said, this one first; left out of reports where there was only one."""
    pool: PoolRecord | None = None
    """Where it stands among reports of `--reference-reports`; left out of reports where there were none."""
    space: SpaceRecord | None = None
    """How patterns change images where they are not added (`--space`); left out of reports where they are."""
    time: TimeRecord | None = None
    """How a scan under `--time-limit` spent its time; left out of reports of scans without one."""
    look_alikes: bool = False
    """Whether the scan is inconclusive for one reason alone: one pair, which the original file confirms, is abnormally
    near, and may be without an attack, as other pairs come nearly as near or, of few classes, the boundary between the
    two may lean; left out of reports of other scans."""
    searched_file: FileRecord | None = None
    """File whose pairs these are, where `model` is another one on which their pattern was replayed (`verify`)."""
    surplus: Annotated[dict[str, Any], SkipValidation] = field(default_factory=dict, compare=False, repr=False)
    """What a report of a later version says beyond these fields: kept when it is written again, and ignored."""

    @property
    def deciding_conclusion(self) -> Inference | None:
        """The conclusion that the verdict rests on."""
        return None if self.deciding is None else self.detectors[self.deciding]

    @property
    def pattern(self) -> NDArray[np.float32] | None:
        """The recovered pattern, [C, H, W] in [0, 1] pixel units or in the shape of the features; None without one."""
        return self.patterns[0].values.decode() if self.patterns else None

    def to_frame(self) -> Any:
        """The pairs as a table of pandas, a row each.

        Raises:
            ImportError: pandas is not installed.
        """
        from backscan.scanner.results.notebook import pairs_frame

        return pairs_frame(self.pairs)

    def __repr__(self) -> str:
        return f"<ScanResult {self._one_line}>"

    @property
    def _one_line(self) -> str:
        from backscan.scanner.results.notebook import one_line

        classes = (self.source, self.target)
        return one_line(self.model.name, self.verdict.value, classes, self.calibrated_p_value)

    def _repr_html_(self) -> str:
        """What notebooks show: verdict, reasons, an image before and after."""
        from backscan.scanner.results.notebook import to_html

        return to_html(self._one_line, self.reasons, next(iter(self.examples), None))

    def to_dict(self) -> dict[str, Any]:
        """The JSON report: plain types only, infinities and NaN as null, patterns of single pairs left out."""
        fields = asdict(replace(self, pairs=(), surplus={}))
        del fields["surplus"]
        for name in ("repeats", "pool", "space", "time", "look_alikes"):
            if not fields[name]:
                del fields[name]
        for name in ("precision", "extensions"):
            if not fields["provenance"][name]:
                del fields["provenance"][name]
        fields["pairs"] = [pair.to_dict() for pair in self.pairs]
        for part, name in _ONLY_WHERE_KNOWN:
            fields[part] = _without_unknown(fields[part], name)
        for entry in fields["targets"]:
            if "support" in entry:
                for name in ("opacity", "opacities"):
                    [entry["support"]] = _without_unknown([entry["support"]], name)
        if fields["preprocessing"]:
            candidates = _without_unknown(fields["preprocessing"]["candidates"], "surprise")
            fields["preprocessing"]["candidates"] = candidates
        document: dict[str, Any] = with_surplus(plain(fields), self.surplus or None)
        return document

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> ScanResult:
        """The result that `to_dict` wrote, in this version or an earlier one; fields of later ones are kept aside.

        Raises:
            ReportError: another schema version, or a field that is missing or of the wrong type.
        """
        fields = upgraded(document)
        try:
            result = _ADAPTER.validate_python(fields, extra="ignore")
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"])
            raise ReportError(
                f"expected a report written by `scanner check`, found at {place}: {first['msg']}; make the report again"
            ) from error
        if result.deciding is not None and not 0 <= result.deciding < len(result.detectors):
            raise ReportError("expected `deciding` to be a place in `detectors`, found another: make the report again")
        try:
            return replace(result, surplus=plain(surplus(fields, result.to_dict()) or {}))
        except RecursionError as error:
            raise ReportError("expected a report, found one nested too deep: make the report again") from error


def _without_unknown(parts: Sequence[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    """Parts of a report without a field where it is None."""
    return [{key: value for key, value in part.items() if key != name or value is not None} for part in parts]


_ADAPTER = TypeAdapter(ScanResult)


def json_schema() -> dict[str, Any]:
    """The JSON schema of one report; one of a later version may say more, so no object is closed."""
    schema = _ADAPTER.json_schema(mode="serialization")
    del schema["$defs"]["PairResult"]["properties"]["pattern"]  # reports leave single patterns out, see `to_dict`
    del schema["properties"]["surplus"]
    for part in (schema, *schema["$defs"].values()):
        part.pop("additionalProperties", None)
    return schema
