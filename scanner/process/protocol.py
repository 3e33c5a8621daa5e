"""What the parent asks of the process that holds the model, and what it answers: every type once, for both sides.

A request is a frozen dataclass, on the wire its fields by name; so are events. The answer stands under `answer`. The
parent believes an answer only once its type and its numbers are possible; the child gets the request as it was sent.
`parent` says in which order requests make sense, `child` what each of them does.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Generic, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PlainValidator, TypeAdapter

from backscan.converters import Artifact, IntakeReport, Normalisation
from backscan.converters.sandbox.limits import IMPORT, INTAKE, SCAN, PhaseLimits
from backscan.scanner.config import ScanConfig
from backscan.scanner.results import DormantUnits, GraphFinding, Pair, PairResult, Parity, SignatureRecord, TargetResult

Message = dict[str, Any]
"""Texts, numbers, arrays and bytes by name, as they go over the wire."""

Answer = TypeVar("Answer")
Event = TypeVar("Event")
T = TypeVar("T")

_LONGEST_TEXT = 10_000
# A target class is a long search with nothing to tell before its end: a large model may take hours for the first.
_TARGETS = dataclasses.replace(SCAN, name="targets", silence_seconds=12 * 3600.0)


def _array(kind: type[np.generic]) -> Callable[[object], NDArray[Any]]:
    def check(value: object) -> NDArray[Any]:
        if not isinstance(value, np.ndarray) or not np.issubdtype(value.dtype, kind):
            raise ValueError(f"expected an array of {kind.__name__}")
        return value

    return check


Floats = Annotated[NDArray[np.float32], PlainValidator(_array(np.float32))]
Integers = Annotated[NDArray[np.int64], PlainValidator(_array(np.integer))]
Text = Annotated[str, Field(max_length=_LONGEST_TEXT)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Request(Generic[Answer, Event]):
    """Something to ask. `Answer` is what ends it, `Event` what may come before, None if nothing does."""

    __slots__ = ()
    limits: ClassVar[PhaseLimits] = SCAN
    """What the child may take for it."""

    @classmethod
    def method(cls) -> str:
        """Name of the child's method: `FindSwitches` is `find_switches`."""
        return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in cls.__name__)[1:]

    @classmethod
    def types(cls) -> tuple[type[Answer], type[Event]]:
        """Types of the answer and of the events."""
        answer, event = get_args(cls.__orig_bases__[0])  # type: ignore[attr-defined]
        return answer, event


@dataclass(frozen=True, slots=True)
class Opened:
    """What is known about a model once it is open."""

    signature: SignatureRecord
    """Input and output."""
    num_classes: int
    """Classes."""
    provider: str
    """Execution provider that onnxruntime really uses."""
    device: str
    """Where the torch copy runs."""
    has_bfloat16: bool = False
    """Whether that multiplies bfloat16."""
    warnings: tuple[str, ...] = field(default=())
    """What the import could not do exactly."""
    outputs_beside: tuple[str, ...] = field(default=())
    """Outputs that the chosen one is not computed from: its scan says nothing about them."""
    not_searched: tuple[str, ...] = field(default=())
    """What the graph makes of the scores and the search for switches leaves out, one sentence each."""
    without_gradient: str = ""
    """Why there is no torch copy although the file opens, as for trees; empty if nothing stands against one."""


@dataclass(frozen=True, slots=True)
class CutPlace:
    """A tensor at which the model can be cut in two: everything about the image passes through it."""

    name: str
    """Name of the tensor."""
    operator: str
    """Operator that computes it."""
    shape: tuple[int, ...]
    """Its shape for one image."""
    dtype: str
    """Its element type."""
    is_first_convolution: bool
    """Whether the first convolution computes it: where XMK section 5.2.3 cuts."""


@dataclass(frozen=True, slots=True)
class CutAttempt:
    """How an attempt to cut the model ended."""

    tensor: Text
    """Where it was to be cut; empty if the model has no such place."""
    shape: tuple[Annotated[int, Field(gt=0)], ...]
    """Shape of the features of one image; empty if the model cannot be cut."""
    obstacle: Text
    """Why it cannot be cut; empty if it can."""


@dataclass(frozen=True, slots=True)
class Preparation:
    """What the pilot pairs of a detector gave."""

    step_size: Positive
    """Step size for all pairs."""
    seconds_per_image: NotNegative
    """Measured time of one image through the model and back."""
    is_reduced: bool = False
    """Whether steps are taken in reduced precision."""


@dataclass(frozen=True, slots=True)
class Speed:
    """What a pass of images through the model costs, all threads at work."""

    forward: Positive
    """Seconds an image forward."""
    gradient: Positive
    """Seconds an image forward and back."""
    held_bytes: Annotated[int, Field(ge=0)]
    """Memory that an image holds between the two."""


@dataclass(frozen=True, slots=True)
class FoundInGraph:
    """What is built into the graph."""

    findings: tuple[GraphFinding, ...]
    """What depends on the rest of a call, switches, and units that stand still until a pattern wakes them."""
    dormant: DormantUnits
    """How many units stand still, and were tried."""


@dataclass(frozen=True, slots=True)
class Audit(Request[IntakeReport, None]):
    """Look at the bytes before any library loads them."""

    limits = INTAKE
    data: bytes
    """The file."""
    name: str = ""
    """Its name, for messages."""


@dataclass(frozen=True, slots=True)
class Extend(Request[None, None]):
    """Import what the program registered beside the tables, before any model is there."""

    limits = IMPORT
    entries: tuple[tuple[str, str], ...]
    """Table and import path of each."""
    folders: tuple[str, ...] = ()
    """Folders where they are found, beside the module path of the process."""


@dataclass(frozen=True, slots=True)
class Open(Request[Opened, None]):
    """Open the original file in onnxruntime, and import it into torch unless `runtime_only`."""

    limits = IMPORT
    artifact: Artifact
    """The file with its external data."""
    output_name: str | None
    """Output to scan; None is found."""
    image_size: tuple[int, int] | None
    """Height and width for models that leave them free."""
    threads: int | None
    """Processor threads of onnxruntime; None is all."""
    device: str
    """`auto`, `cpu` or `cuda`."""
    runtime_only: bool
    """Whether the original file alone is opened, for a replay."""
    clean_shape: tuple[int, int, int] | None = None
    """Channels, height and width of the clean images, for models that take them as a row of numbers."""


@dataclass(frozen=True, slots=True)
class Head:
    """Scores of classes that a file gives."""

    name: str
    """Output, or value inside, that holds them."""
    num_classes: int
    """Classes."""


@dataclass(frozen=True, slots=True)
class ListHeads(Request[tuple[Head, ...], None]):
    """List the scores of classes that a file gives, for scans of each."""

    limits = IMPORT
    artifact: Artifact
    """The file with its external data."""
    image_size: tuple[int, int] | None
    """Height and width for models that leave them free."""
    clean_shape: tuple[int, int, int] | None = None
    """Channels, height and width of the clean images."""


@dataclass(frozen=True, slots=True)
class Settle(Request[None, None]):
    """Set how pixels become model input from now on."""

    limits = IMPORT
    normalisation: Normalisation
    """That way."""


@dataclass(frozen=True, slots=True)
class Decide(Request[Integers, None]):
    """Decide with the original file: classes [N]."""

    images: Floats
    """Images [N, C, H, W] in [0, 1]."""
    normalisation: Normalisation | None = None
    """How pixels become model input for once; None is the settled way."""
    addition: Floats | None = None
    """Pattern added where the model was cut, in the shape of the features there."""
    alone: bool = False
    """Whether every image is a call of its own, as models are deployed."""


@dataclass(frozen=True, slots=True)
class MeanPosterior(Request[Share, None]):
    """Ask how sure the original file is: the mean over images of the highest class probability."""

    images: Floats
    """Images [N, C, H, W] in [0, 1], N at least 1."""
    normalisation: Normalisation
    """How pixels become model input for once."""


@dataclass(frozen=True, slots=True)
class LabelPosterior(Request[Floats, None]):
    """Ask for the class probability that the original file gives the label of every image: [N]."""

    images: Floats
    """Images [N, C, H, W] in [0, 1]."""
    labels: Integers
    """Their labels [N], each a class of the model."""
    normalisation: Normalisation
    """How pixels become model input for once."""


@dataclass(frozen=True, slots=True)
class SeveralLabels(Request[Share, None]):
    """On which share of images [N, C, H, W] two or more sigmoids are above one half; 0 where scores are no sigmoids."""

    images: Floats
    """The images."""


@dataclass(frozen=True, slots=True)
class FindSwitches(Request[FoundInGraph, None]):
    """Find the switches built into the graph and the units that stand still, and what they do."""

    images: Floats | None
    """Images [N, C, H, W] in [0, 1]; None is synthetic ones."""
    seed: int
    """Seed of the search for inputs that turn them."""
    seconds: float | None = None
    """Time it may take; None is what each search takes at most."""


@dataclass(frozen=True, slots=True)
class CallAlone(Request[None, None]):
    """Call the model with one image at a time from now on: the file, and the copy, which is imported anew."""

    limits = IMPORT


@dataclass(frozen=True, slots=True)
class ListCuts(Request[tuple[CutPlace, ...], None]):
    """List the tensors at which the model can be cut in two, from the image towards the output."""

    limits = IMPORT


@dataclass(frozen=True, slots=True)
class Cut(Request[CutAttempt, None]):
    """Cut the original file at a tensor, and the copy too where there are images to compare the two on."""

    limits = IMPORT
    tensor: str | None
    """One of `ListCuts`; None is the output of the first convolution."""
    images: Floats | None
    """Images [N, C, H, W] in [0, 1] on which the cut model has to decide as the file does; None cuts the file alone."""


@dataclass(frozen=True, slots=True)
class Compare(Request[Parity, None]):
    """Compare the torch copy with the original file."""

    limits = IMPORT
    images: Floats
    """Images [N, C, H, W] in [0, 1]."""
    real_images: bool
    """False where random images stand in for real ones."""


@dataclass(frozen=True, slots=True)
class MeasureSpeed(Request[Speed, None]):
    """Time some passes of the copy."""

    images: Floats
    """Images [N, C, H, W] in [0, 1], a few."""
    threads: int | None
    """Passes beside each other; None is one for each processor."""


@dataclass(frozen=True, slots=True)
class Prepare(Request[Preparation, None]):
    """Take the source images and find the step size of a detector of class pairs."""

    detector: str
    """Name in the table of detectors."""
    images_by_class: Mapping[int, Floats]
    """Class -> images [n, C, H, W] in [0, 1]."""
    config: ScanConfig
    """Options of the scan."""
    seconds: float | None = None
    """Time it may take; None is any."""


@dataclass(frozen=True, slots=True)
class Estimate(Request[tuple[NotNegative, ...], None]):
    """Estimate the sizes of some pairs to first order, in their order; none if the time was up."""

    detector: str
    """The one that was prepared."""
    pairs: tuple[Pair, ...]
    """Source and target classes."""
    seconds: float | None
    """Time it may take; None is any."""


@dataclass(frozen=True, slots=True)
class Optimise(Request[int, PairResult]):
    """Search some pairs; every finished one is an event, with its pattern. The answer is how many there were."""

    detector: str
    """The one that was prepared."""
    pairs: tuple[Pair, ...]
    """Source and target classes."""
    step_size: float
    """From the preparation."""
    seconds: float | None
    """Time it may take; None is any."""


@dataclass(frozen=True, slots=True)
class SearchTargets(Request[int, TargetResult]):
    """Search every wanted target class; every finished one is an event. The answer is how many there were."""

    limits = _TARGETS
    detector: str
    """Name in the table of detectors of target classes."""
    images_by_class: Mapping[int, Floats]
    """Class -> images [n, C, H, W] in [0, 1]; none for detectors that need none."""
    config: ScanConfig
    """Options of the scan."""
    seconds: float | None
    """Time it may take; None is any."""
    pairs: tuple[Pair, ...] = ()
    """Class pairs whose patterns the detector works with."""
    patterns: Floats | None = None
    """Those patterns, [P, C, H, W]; None without pairs."""


@dataclass(frozen=True, slots=True)
class Repaired:
    """A file after an attempt to repair it."""

    data: bytes
    """Its bytes."""
    external: Mapping[str, bytes]
    """Bytes of its external data by location."""
    tensors: tuple[Text, ...]
    """Stored tensors that differ."""
    nodes: tuple[Text, ...] = field(default=())
    """Nodes that were changed, added or removed."""


@dataclass(frozen=True, slots=True)
class Repair(Request[Repaired, None]):
    """Change the opened model so that a pattern has no effect; nothing is written anywhere."""

    limits = _TARGETS
    way: str
    """Name in the table of methods."""
    images: Floats
    """Clean images [N, C, H, W] in [0, 1]."""
    labels: Integers
    """Their classes [N]."""
    pattern: Floats | None
    """What is added to images, or stands in them, [C, H, W]; None is searched while learning."""
    mask: Floats | None
    """1 where it takes the place of the image, [H, W]; None where it is added."""
    target: int | None
    """Class that the pattern leads to; None where that is unknown."""
    steps: int
    """Steps of a training."""
    seed: int
    """Decides batches and variants."""
    gates: tuple[str, ...] = ()
    """Nodes of switches in the graph, for the method that cuts them out."""
    beside: str = ""
    """Name that external data shall have; empty keeps its names."""


@dataclass(frozen=True, slots=True)
class AddScore(Request[Repaired, None]):
    """Give the opened file one more output in [0, 1], linear in the pixels or in features; nothing is written."""

    limits = IMPORT
    weights: Floats
    """Weights [C, H, W] on pixels in [0, 1]."""
    offset: float
    """What is added to their product with an image."""
    output: str
    """Name of the output."""
    beside: str = ""
    """Name that external data shall have; empty keeps its names."""
    threshold: float | None = None
    """Score above which the file acts; None only tells the score."""
    kept: Floats | None = None
    """Share of each pixel that is kept then, [C, H, W]; None for a class more that rejects the image."""
    added: Floats | None = None
    """What is added to it then, [C, H, W]."""
    tensor: str = ""
    """Value of the model that a second function is of, the larger of the two being the output; empty for none."""
    feature_weights: Floats | None = None
    """Its weights, [F]."""
    feature_offset: float = 0.0
    """What is added to their product."""
    feature_centre: Floats | None = None
    """What is taken off the value before that, [F]; None is nothing."""


@dataclass(frozen=True, slots=True)
class Features:
    """What the last layer reads of some images."""

    tensor: Text
    """Name of the value; empty if the model has none."""
    values: Floats
    """A row an image, [N, F]."""


@dataclass(frozen=True, slots=True)
class ReadFeatures(Request[Features, None]):
    """Read what the last layer is given, in onnxruntime."""

    images: Floats
    """Images [N, C, H, W] in [0, 1]."""


@dataclass(frozen=True, slots=True)
class ReadScore(Request[Floats, None]):
    """Read an output beside that of the classes, in onnxruntime: one number an image, [N]."""

    images: Floats
    """Images [N, C, H, W] in [0, 1]."""
    output: str
    """Name of the output."""


@dataclass(frozen=True, slots=True)
class Timed:
    """What two files take for the same images, turn by turn."""

    before: tuple[NotNegative, ...]
    """Seconds of the earlier file."""
    after: tuple[NotNegative, ...]
    """Seconds of the opened one."""
    num_images: Annotated[int, Field(ge=1)]
    """Images of a turn, the first of those that were sent."""


@dataclass(frozen=True, slots=True)
class TimeInTurns(Request[Timed, None]):
    """Time an earlier file and the opened one in turns, so that whatever slows the machine slows both."""

    before: Artifact
    """The earlier file, with the same input and output of the classes."""
    images: Floats
    """Images [N, C, H, W] in [0, 1], N at least 1."""
    output: str
    """Output that the opened file gives beside that of the classes."""


@dataclass(frozen=True, slots=True)
class Difference:
    """How two files differ."""

    tensors: tuple[Text, ...]
    """Stored tensors with other numbers."""
    elsewhere: bool
    """Whether anything else differs."""


@dataclass(frozen=True, slots=True)
class Differ(Request[Difference, None]):
    """Compare the opened file with an earlier one."""

    limits = IMPORT
    before: Artifact
    """The earlier file."""
    nodes: tuple[str, ...] = ()
    """Nodes that may differ."""


def encode(value: Any) -> Any:
    """A request, answer or event as a message; a number that is none (infinite, NaN) becomes None."""
    if dataclasses.is_dataclass(value):
        return {entry.name: encode(getattr(value, entry.name)) for entry in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(name): encode(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [encode(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def decode(kind: type[T], message: object) -> T:
    """What `encode` made a message of.

    Raises:
        pydantic.ValidationError: a field is missing, unknown or of the wrong type.
    """
    if kind not in _ADAPTERS:
        _ADAPTERS[kind] = TypeAdapter(kind)
    found: T = _ADAPTERS[kind].validate_python(message, extra="forbid")
    return found


_ADAPTERS: dict[type, TypeAdapter[Any]] = {}
