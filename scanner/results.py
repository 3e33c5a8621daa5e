"""What a scan found: frozen types that are the JSON report field by field, and nothing that computes.

`ScanResult` holds everything that reports draw and that `infer`, `verify` and `render` need, so a report can be
made again from its JSON alone. Arrays (pattern, example images) are stored as base64 text with their shape.
Pixel units are [0, 1] throughout; classes are numbers from 0; None means not known or not applicable.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, field, replace
from enum import StrEnum
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, SkipValidation, TypeAdapter, ValidationError, WithJsonSchema
from pydantic.dataclasses import dataclass

from backscan.scanner.errors import ReportError

SCHEMA_VERSION = "1.0"

_STRICT = ConfigDict(extra="forbid", use_attribute_docstrings=True)


# Lives in memory and in the journal only, so the JSON schema does not know it.
PatternArray = Annotated[NDArray[np.float32] | None, SkipValidation, WithJsonSchema({})]


class Verdict(StrEnum):
    """What may be said about a model. There is no word for "unattacked": absence of detection is no proof."""

    BACKDOOR_DETECTED = "backdoor_detected"
    NOT_DETECTED = "not_detected"
    INCONCLUSIVE = "inconclusive"
    NO_VERDICT = "no_verdict"


class PairStatus(StrEnum):
    """How the search for one (source, target) pair ended."""

    REACHED = "reached"
    SIZE_LIMIT = "size_limit"
    STEP_LIMIT = "step_limit"
    ALREADY_CONFUSED = "already_confused"
    NO_IMAGES = "no_images"

    @property
    def explanation(self) -> str:
        """What happened and what to change."""
        return _EXPLANATIONS[self]

    @property
    def counts(self) -> bool:
        """Whether the pair enters the statistics (CONTRACT, Optimisation)."""
        return self not in (PairStatus.ALREADY_CONFUSED, PairStatus.NO_IMAGES)


_EXPLANATIONS = {
    PairStatus.REACHED: "the pattern sends the goal rate of source images to the target",
    PairStatus.SIZE_LIMIT: "the goal rate was not reached before the size limit; raise --max-size",
    PairStatus.STEP_LIMIT: "the goal rate was not reached before the step limit; raise --max-steps",
    PairStatus.ALREADY_CONFUSED: "the model decides for the target without any pattern; check labels and preprocessing",
    PairStatus.NO_IMAGES: "the source class has too few images; add images of that class",
}


@dataclass(frozen=True, slots=True, config=_STRICT)
class EncodedArray:
    """A float32 array in a JSON report: base64 of its little-endian bytes, row-major."""

    shape: tuple[int, ...]
    """Length of each axis."""
    data: str
    """Base64 text of the values."""

    @classmethod
    def encode(cls, array: NDArray[np.float32]) -> EncodedArray:
        """Store `array` exactly (after conversion to float32)."""
        little = np.asarray(array, dtype="<f4", order="C")
        return cls(shape=tuple(little.shape), data=base64.b64encode(little.tobytes()).decode("ascii"))

    def decode(self) -> NDArray[np.float32]:
        """The stored array, float32, read-only.

        Raises:
            ReportError: the text is not base64 or its length does not fit the shape.
        """
        try:
            array = np.frombuffer(base64.b64decode(self.data, validate=True), dtype="<f4")
            return array.reshape(self.shape)
        except ValueError as error:
            raise ReportError(
                f"expected an array of shape {list(self.shape)} in the report, found data that does not fit: "
                "make the report again with `scanner check`"
            ) from error


@dataclass(frozen=True, slots=True, config=_STRICT)
class Trajectory:
    """Size and rate after every step of the search for one pair; the first entry is size 0 and the initial rate."""

    sizes: tuple[float, ...]
    """Norm of the pattern after each step, pixel units, [T + 1]."""
    rates: tuple[float, ...]
    """Group misclassification rate after each step, [T + 1]."""


@dataclass(frozen=True, slots=True, config=ConfigDict(**_STRICT, arbitrary_types_allowed=True))
class PairResult:
    """What the search for one (source, target) pair found."""

    detector: str
    """Detector that searched."""
    source: int
    """Source class."""
    target: int
    """Target class."""
    status: PairStatus
    """How the search ended."""
    size: float | None
    """Norm of the found pattern; at a limit the largest norm tried; None if the pair does not count."""
    initial_rate: float | None
    """Share of source images decided as the target without any pattern; None without images."""
    rate: float | None
    """Share of source images decided as the target with the pattern; None without images."""
    steps: int
    """Gradient steps taken."""
    trajectory: Trajectory
    """Every step of the search, for equation (7) and the curves."""
    offset: float | None = None
    """Size offset for class confusion, equation (7); None unless the inference corrects for it."""
    reciprocal: float | None = None
    """The statistic before any normalisation: 1 / (size + offset); None if the pair does not count."""
    pattern: Annotated[NDArray[np.float32] | None, SkipValidation, WithJsonSchema({})] = field(
        default=None, compare=False, repr=False
    )
    """The found pattern [C, H, W] or in feature shape; only the detected pair's is kept in reports."""
    chosen: bool = False
    """Whether a screen chose the pair because it looked small: it is tested, but the null is not fitted to it."""

    def to_dict(self) -> dict[str, Any]:
        """Plain fields without the pattern, which travels beside them as an array."""
        document = asdict(replace(self, pattern=None))
        del document["pattern"]
        plain: dict[str, Any] = _plain(document)
        return plain

    @classmethod
    def from_dict(cls, document: Mapping[str, Any], pattern: NDArray[np.float32] | None = None) -> PairResult:
        """The result that `to_dict` wrote, with its pattern.

        Raises:
            ValueError: a field is missing, unknown or of the wrong type.
        """
        return replace(_PAIR_ADAPTER.validate_python(document), pattern=pattern)


@dataclass(frozen=True, slots=True, config=_STRICT)
class ScreenRecord:
    """Which pairs of a model with many classes one detector searched."""

    detector: str
    """Detector that searched."""
    num_pairs: int
    """Pairs that had a short look, or were drawn: all whose source has images."""
    num_drawn: int
    """Pairs drawn at random and searched: the null is fitted to them."""
    num_chosen: int
    """Further pairs that looked smallest and were searched."""


@dataclass(frozen=True, slots=True, config=_STRICT)
class TargetResult:
    """What a search for one target class found that pools all other classes, or needs no images at all."""

    detector: str
    """Detector that searched."""
    target: int
    """Target class."""
    status: PairStatus
    """How the search ended."""
    value: float | None
    """Norm of the smallest mask, or the largest margin; None if there is none to compare."""
    rate: float | None
    """Share of the images of all other classes decided as the target; None without images."""
    steps: int
    """Gradient steps taken."""

    def to_dict(self) -> dict[str, Any]:
        """Plain fields."""
        plain: dict[str, Any] = _plain(asdict(self))
        return plain


@dataclass(frozen=True, slots=True, config=_STRICT)
class Curve:
    """A sampled function, for plots."""

    x: tuple[float, ...]
    """Abscissae, increasing."""
    y: tuple[float, ...]
    """Ordinates."""


@dataclass(frozen=True, slots=True, config=_STRICT)
class NullFit:
    """A null distribution fitted to the smallest reciprocals, conditional on lying below the cutoff."""

    family: str
    """Name in the table of null families."""
    parameters: dict[str, float]
    """Fitted parameters by name."""
    cutoff: float | None
    """Smallest excluded statistic, the right truncation point; None when nothing is excluded (naive)."""
    largest: float
    """Largest statistic of all pairs."""
    sample_size: int
    """Number of statistics the null was fitted to."""
    status: str
    """`reached`, `boundary` (the likelihood grows to the edge of the family) or `failed`."""
    density: Curve | None = None
    """Probability density over the range of the statistics, for the histogram."""


@dataclass(frozen=True, slots=True, config=_STRICT)
class Inference:
    """What one detector concludes from all pairs."""

    detector: str
    """Name in the table of detectors."""
    space: str
    """Where the pattern acts: `image` or the name of a tensor."""
    norm: str
    """Norm of the sizes."""
    statistic: str
    """Name in the table of statistics."""
    inference: str
    """Name in the table of inferences."""
    num_pairs: int
    """Pairs that count: the exponent of equation (4)."""
    values: tuple[tuple[float | None, ...], ...]
    """The statistic of every pair [K, K] (None where a pair does not count), or [1, K] anomaly indices."""
    null: NullFit | None
    """Fitted null; None for detectors without one."""
    source: int | None
    """Source class of the most extreme pair; None when the search pools all other classes."""
    target: int | None
    """Target class of the most extreme pair."""
    p_value: float | None
    """Order-statistic p-value of the most extreme pair, equation (4)."""
    calibrated_p_value: float | None
    """The same, calibrated by a parametric bootstrap of the whole procedure."""
    bootstrap_draws: int
    """Draws of that bootstrap; 0 if none were made."""
    detected: bool
    """Whether the deciding p-value lies below the significance."""
    decides: bool = True
    """Whether this detector's p enters the verdict; those without a p only inform."""
    anomaly_index: float | None = None
    """Median-absolute-deviation index of detectors that use one."""
    detectable_size: float | None = None
    """Largest size at which a planted pair would have been detected; None if unknown."""
    remarks: tuple[str, ...] = ()
    """What a reader should know about this inference."""


def first_with_power(inferences: Iterable[Inference]) -> Inference | None:
    """The first that decides and knows the size of a pair that it would have detected; None if none does."""
    return next((entry for entry in inferences if entry.decides and entry.detectable_size is not None), None)


@dataclass(frozen=True, slots=True, config=_STRICT)
class FoundPattern:
    """The recovered pattern of a detected pair."""

    detector: str
    """Detector that found it."""
    source: int
    """Source class."""
    target: int
    """Target class."""
    space: str
    """`image`, or the tensor it is added to."""
    size: float
    """Norm that the detector uses."""
    size_l1: float
    """L1 norm."""
    size_l2: float
    """L2 norm."""
    largest_change: float
    """Largest absolute value of any element."""
    values: EncodedArray
    """The pattern, [C, H, W] or in the shape of the features."""


@dataclass(frozen=True, slots=True, config=_STRICT)
class Example:
    """One held-out source image before and after the pattern, as the original artifact decides."""

    label: int
    """Class of the image."""
    decision_before: int
    """Decision without the pattern."""
    decision_after: int
    """Decision with the pattern."""
    before_png: str
    """The image as base64 PNG."""
    after_png: str
    """The image with the pattern, clipped, as base64 PNG; empty where the pattern acts on features inside the model."""


@dataclass(frozen=True, slots=True, config=_STRICT)
class CollateralDamage:
    """What the pattern does to images of another class."""

    source: int
    """Class of the images."""
    rate: float
    """Share of them decided as the target with the pattern."""
    initial_rate: float
    """The same without the pattern."""
    num_images: int
    """Images counted."""


@dataclass(frozen=True, slots=True, config=_STRICT)
class Verification:
    """Replay of the found pattern on the original file with onnxruntime."""

    provider: str
    """Execution provider that onnxruntime really used."""
    source: int
    """Source class of the replayed pattern."""
    target: int
    """Target class of the replayed pattern."""
    rate_torch: float
    """Rate on the optimisation images that the torch copy gave."""
    rate_original: float
    """Rate on the same images that the original file gives."""
    num_images: int
    """Optimisation images of the source class."""
    rate_held_out: float
    """Rate on held-out images."""
    num_held_out: int
    """Held-out images of the source class."""
    rate_shuffled: float
    """Rate on held-out images of the pattern with its pixels shuffled (same norm)."""
    num_shuffled: int
    """Image decisions behind `rate_shuffled` (several shuffles of the same images)."""
    p_value: float
    """One-sided Fisher test: held-out rate above the shuffled one."""
    confirmed: bool
    """Whether the contract's three conditions hold."""
    reason: str
    """The conditions that failed, or why it is confirmed."""
    collateral: tuple[CollateralDamage, ...] = ()
    """Rates of the other source classes."""
    detector: str = "pairwise"
    """Detector whose pattern was replayed."""


@dataclass(frozen=True, slots=True, config=_STRICT)
class Controls:
    """Comparisons a reader needs to judge a detected or most extreme pair."""

    source: int | None = None
    """Source class of the most extreme pair."""
    target: int | None = None
    """Target class of the most extreme pair."""
    size: float | None = None
    """Its size."""
    reversed_size: float | None = None
    """Size of the reversed pair (target to source): natural similarity is about symmetric, a backdoor is not."""
    median_size: float | None = None
    """Median size of all pairs that count."""
    target_median_size: float | None = None
    """Median size of all pairs with this target."""
    source_median_size: float | None = None
    """Median size of the other pairs with this source: some classes are near all others."""


@dataclass(frozen=True, slots=True, config=_STRICT)
class Parity:
    """Does the torch copy decide as the original file does."""

    decision_agreement: float
    """Share of images with the same decision."""
    largest_probability_gap: float | None
    """Largest difference of any posterior; None where one is no number."""
    largest_logit_gap: float | None
    """Largest relative difference of log-posteriors or logits; None where one is no number."""
    gradient_error: float | None
    """Median relative error of the torch gradient against central differences of onnxruntime."""
    num_images: int
    """Images compared."""
    real_images: bool
    """False when random images in bounds stood in for real ones."""
    passed: bool
    """Whether the contract's thresholds hold."""
    reason: str
    """What failed, or an empty text."""


@dataclass(frozen=True, slots=True, config=_STRICT)
class GraphFinding:
    """Something built into the graph that can switch or mask the decision."""

    rule: str
    """Stable identifier of the rule."""
    severity: str
    """`note`, `warning` or `error` (demonstrated)."""
    message: str
    """One sentence."""
    nodes: tuple[str, ...]
    """Names of the nodes involved."""
    evidence: str
    """What was seen in the graph, or what the demonstration did."""
    demonstrated: bool = False
    """Whether an input was found that takes the branch and changes the decision in onnxruntime."""
    source: int | None = None
    """Decision without the switch, if demonstrated."""
    target: int | None = None
    """Decision with the switch, if demonstrated."""


@dataclass(frozen=True, slots=True, config=_STRICT)
class SignatureRecord:
    """What the model takes and gives."""

    input_name: str
    """Name of the image input."""
    input_shape: tuple[int, int, int]
    """Channels, height, width."""
    layout: str
    """`NCHW` or `NHWC`."""
    dtype: str
    """Element type of the input."""
    batch: int | None
    """Fixed batch size; None if free."""
    output_name: str
    """Name of the classifier's output."""
    output_kind: str
    """`logits`, `probabilities` or `log_probabilities`."""
    opset: int
    """Version of the default operator set."""
    producer: str
    """Exporter named in the file."""
    other_outputs: tuple[str, ...] = ()
    """Outputs that were not used."""


@dataclass(frozen=True, slots=True, config=_STRICT)
class ModelRecord:
    """The scanned file."""

    name: str
    """File name, without its folder."""
    sha256: str
    """Digest of the bytes that were scanned."""
    num_bytes: int
    """Size of the file, with external data."""
    num_classes: int | None = None
    """Classes; None if the model could not be opened."""
    class_names: tuple[str, ...] | None = None
    """Names of the classes, if the user gave them."""
    signature: SignatureRecord | None = None
    """Input and output; None if the model could not be opened."""


@dataclass(frozen=True, slots=True, config=_STRICT)
class DataRecord:
    """The images used."""

    name: str
    """File or folder name, without the path before it."""
    digest: str
    """Digest of images and labels."""
    num_images: int
    """Images in total."""
    labels: str
    """Where labels come from: `given`, or `decisions` (the model's own, XMK note 7)."""
    images_per_class: tuple[int, ...]
    """Images a class used to optimise."""
    held_out_per_class: tuple[int, ...]
    """Images a class kept for verification."""
    found_beside_model: bool = False
    """True when no --data was given and the images lay beside the model."""


@dataclass(frozen=True, slots=True, config=_STRICT)
class PreprocessingCandidate:
    """One way to turn pixels into model input, and how well the model does with it."""

    name: str
    """Name in the table of candidates."""
    accuracy: float
    """Share of correct decisions of the original file."""
    num_images: int
    """Images judged."""
    p_value: float
    """Paired (McNemar) test against the best candidate; 1 for the best itself."""
    tied: bool
    """Not worse than the best."""


@dataclass(frozen=True, slots=True, config=_STRICT)
class PreprocessingRecord:
    """How pixels in [0, 1] become the model's input: (low + (high - low) pixel - mean) / std."""

    name: str
    """Name of the candidate, or `given`."""
    low: float
    """Value of a black pixel before mean and std."""
    high: float
    """Value of a white pixel before mean and std."""
    mean: tuple[float, ...]
    """Mean, one or one a channel."""
    std: tuple[float, ...]
    """Standard deviation, one or one a channel."""
    channel_order: str
    """`rgb` or `bgr`."""
    chosen_by: str
    """`accuracy`, `tie` (order of plausibility among tied candidates), `option` or `unsettled`."""
    candidates: tuple[PreprocessingCandidate, ...] = ()
    """All candidates that were judged."""
    repeated_as: tuple[str, ...] = ()
    """Tied candidates of another scale under which the scan was repeated."""


@dataclass(frozen=True, slots=True, config=_STRICT)
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


@dataclass(frozen=True, slots=True, config=_STRICT)
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
    """Source class of the detected pair, else of the most extreme one."""
    target: int | None = None
    """Target class of the detected pair, else of the most extreme one."""
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
    """Every target class of the detectors that search once a class, in order of detector and target."""
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
    """Seconds a phase; the only part that differs between equal scans."""

    def to_dict(self) -> dict[str, Any]:
        """The JSON report: plain types only, infinities and NaN as null, patterns of single pairs left out."""
        document = asdict(replace(self, pairs=()))
        document["pairs"] = [pair.to_dict() for pair in self.pairs]
        plain: dict[str, Any] = _plain(document)
        return plain

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> ScanResult:
        """The result that `to_dict` wrote.

        Raises:
            ReportError: another schema version, or a field that is missing, unknown or of the wrong type.
        """
        version = document.get("schema_version")
        if version != SCHEMA_VERSION:
            raise ReportError(
                f"expected a report of schema version {SCHEMA_VERSION}, found {version!r}: "
                "make the report again with this version of `scanner check`"
            )
        try:
            return _ADAPTER.validate_python(document)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"])
            raise ReportError(
                f"expected a report written by `scanner check`, found at {place}: {first['msg']}; make the report again"
            ) from error


_ADAPTER = TypeAdapter(ScanResult)
_PAIR_ADAPTER = TypeAdapter(PairResult)


def json_schema() -> dict[str, Any]:
    """The JSON schema of one report."""
    schema = _ADAPTER.json_schema(mode="serialization")
    pair = schema["$defs"]["PairResult"]  # reports leave single patterns out, see `to_dict`
    del pair["properties"]["pattern"]
    return schema


def to_json(document: object) -> str:
    """Text of a JSON document: two spaces, keys in the order of the types, no NaN or Infinity."""
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    """`value` with tuples as lists, enums as their text, numpy scalars as Python ones, non-finite numbers as None."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, StrEnum):
        return value.value
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
