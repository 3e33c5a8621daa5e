"""Where the model is opened and pairs run: a sandboxed child process, or this process for debugging.

`Subject` is the model under examination seen from the parent: typed methods over the messages of `worker.Worker`,
every answer checked before it is believed. A cluster engine would be another `Subject`, whose workers receive the
artifact's bytes, the configuration and chunks of pairs, and return `PairResult`s.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from backscan.converters.sandbox.limits import IMPORT, INTAKE, SCAN
from backscan.scanner.detectors import DETECTORS
from backscan.scanner.errors import AbsentNameError, InternalError, NoVerdictError, ScanError
from backscan.scanner.process.checks import (
    checked,
    checked_decisions,
    checked_pair,
    checked_sizes,
    checked_target,
    disbelief,
)
from backscan.scanner.results import GraphFinding, Parity, SignatureRecord

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from backscan.converters import Artifact, IntakeReport, Normalisation
    from backscan.converters.sandbox.limits import PhaseLimits
    from backscan.converters.sandbox.sandbox import Runner
    from backscan.scanner.config import ScanConfig
    from backscan.scanner.results import PairResult, TargetResult

_WORKER = "backscan.scanner.process.child:Worker"
# A target class is a long search with nothing to tell before its end: a large model may take hours for the first.
_TARGETS = replace(SCAN, name="targets", silence_seconds=12 * 3600.0)
_LONGEST_TEXT = 10_000
# Every pair's pattern is kept until the replay; more features than this an image would fill the memory.
_MOST_FEATURES = 1 << 22


@dataclass(frozen=True, slots=True)
class OpenedModel:
    """What is known about a model once it is open."""

    signature: SignatureRecord
    """Input and output."""
    num_classes: int
    """Classes."""
    provider: str
    """Execution provider that onnxruntime really uses."""
    device: str
    """Where the torch copy runs."""
    warnings: tuple[str, ...] = field(default=())
    """What the import could not do exactly."""


@dataclass(frozen=True, slots=True)
class Cut:
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
class CutModel:
    """How an attempt to cut the model ended."""

    tensor: Annotated[str, Field(max_length=_LONGEST_TEXT)]
    """Where it was to be cut; empty if the model has no such place."""
    shape: tuple[Annotated[int, Field(gt=0)], ...]
    """Shape of the features of one image; empty if the model cannot be cut."""
    obstacle: Annotated[str, Field(max_length=_LONGEST_TEXT)]
    """Why it cannot be cut; empty if it can."""


@dataclass(frozen=True, slots=True)
class Preparation:
    """What the pilot pairs of a detector gave."""

    step_size: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    """Step size for all pairs."""
    seconds_per_image: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    """Measured time of one image through the model and back."""


class Subject:
    """The model under examination.

    Args:
        runner: What runs the worker's methods.
    """

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._pattern_shape: tuple[int, ...] = ()
        self._cut_shape: tuple[int, ...] = ()

    @property
    def protections(self) -> tuple[str, ...]:
        """What limits the process that holds the model."""
        return self._runner.protections.active

    @property
    def unprotected(self) -> tuple[str, ...]:
        """What this system could not limit."""
        return self._runner.protections.missing

    def audit(self, artifact: Artifact) -> IntakeReport:
        """What the file holds and what of it the policy forbids, from its bytes alone.

        Raises:
            NoVerdictError: the bytes are no ONNX model.
        """
        from backscan.converters import IntakeReport

        answer = self._call("audit", {"data": artifact.data}, INTAKE)
        try:
            return IntakeReport.from_dict(answer)
        except (TypeError, KeyError) as error:
            raise disbelief("an intake report") from error

    def open(self, artifact: Artifact, config: ScanConfig, *, runtime_only: bool = False) -> OpenedModel:
        """Open the original file, and import it into torch unless `runtime_only`.

        Raises:
            NoVerdictError: the model cannot be opened or imported.
            AbsentNameError: `--output-name` names no output that classifies.
        """
        answer = self._call(
            "open",
            {
                "artifact": {
                    "name": artifact.name,
                    "data": artifact.data,
                    "external": dict(artifact.external),
                    "sha256": artifact.sha256,
                },
                "output_name": config.output_name,
                "image_size": list(config.image_size) if config.image_size else None,
                "threads": config.threads,
                "device": config.device,
                "runtime_only": runtime_only,
            },
            IMPORT,
        )
        return checked(OpenedModel, answer)

    def settle(self, normalisation: Normalisation) -> None:
        """Set how pixels become model input from now on."""
        self._call("settle", {"normalisation": asdict(normalisation)}, IMPORT)

    def decisions(
        self,
        images: NDArray[np.float32],
        normalisation: Normalisation | None = None,
        *,
        addition: NDArray[np.float32] | None = None,
    ) -> NDArray[np.int64]:
        """Decisions of the original file.

        Args:
            images: [N, C, H, W] in [0, 1].
            normalisation: How pixels become model input; None is the settled way.
            addition: Pattern added where the model was `cut`, in the shape of the features there.

        Returns:
            int64 [N].
        """
        message: dict[str, Any] = {"images": images}
        if normalisation is not None:
            message["normalisation"] = asdict(normalisation)
        if addition is not None:
            message["addition"] = addition
        return checked_decisions(self._call("decide", message, SCAN), len(images))

    def find_switches(self, images: NDArray[np.float32] | None, *, seed: int) -> tuple[GraphFinding, ...]:
        """Switches built into the graph; images [N, C, H, W] in [0, 1], or None for synthetic ones."""
        answer = self._call("find_switches", {"images": images, "seed": seed}, SCAN)
        return checked(tuple[GraphFinding, ...], answer.get("findings"))

    def list_cuts(self) -> tuple[Cut, ...]:
        """Tensors at which the model can be cut in two, from the image towards the output."""
        return checked(tuple[Cut, ...], self._call("list_cuts", {}, IMPORT).get("cuts"))

    def cut(self, tensor: str | None, images: NDArray[np.float32] | None) -> CutModel:
        """Cut the model at a tensor, for detectors that add patterns there.

        Args:
            tensor: A name of `list_cuts`; None is the output of the first convolution.
            images: Images [N, C, H, W] in [0, 1] on which the cut model has to decide as the file does; None cuts the
                original file only, for a replay.

        Returns:
            The cut, or why there is none.

        Raises:
            AbsentNameError: the model has no cut at this tensor.
        """
        message = {"tensor": tensor, "images": images, "runtime_only": images is None}
        answer = checked(CutModel, self._call("cut", message, IMPORT))
        if not answer.obstacle and (not answer.shape or tensor not in (None, answer.tensor)):
            raise disbelief("the tensor that was asked for and its shape")
        if math.prod(answer.shape) > _MOST_FEATURES:
            return replace(
                answer, obstacle=f"an image has {math.prod(answer.shape)} features there, more than {_MOST_FEATURES}"
            )
        self._cut_shape = answer.shape
        return answer

    def compare(self, images: NDArray[np.float32], *, images_real: bool) -> Parity:
        """Parity of the torch copy with the original file."""
        return checked(Parity, self._call("compare", {"images": images, "images_real": images_real}, IMPORT))

    def prepare(
        self,
        detector: str,
        images_by_class: Mapping[int, NDArray[np.float32]],
        config: ScanConfig,
        *,
        seconds: float | None = None,
    ) -> Preparation:
        """Hand over the source images and find the detector's step size, as well as the time (None: any) allows."""
        message = {
            "detector": detector,
            "images_by_class": {str(label): images for label, images in images_by_class.items()},
            "config": config.to_dict(),
            "seconds": seconds,
        }
        image_shape = next(iter(images_by_class.values())).shape[1:]
        self._pattern_shape = self._cut_shape if DETECTORS[detector].acts_on_features else image_shape
        return checked(Preparation, self._call("prepare", message, SCAN))

    def could_give(self, detector: str, result: PairResult) -> bool:
        """Whether a result can be one of the detector that was prepared: it names it, and its pattern fits."""
        fits = result.pattern is None or result.pattern.shape == self._pattern_shape
        return fits and result.detector == detector

    def look(self, detector: str, pairs: Sequence[tuple[int, int]], *, seconds: float | None) -> list[float]:
        """Sizes of some pairs as a short look estimates them, in their order; none if the time was up."""
        message = {"detector": detector, "pairs": [list(pair) for pair in pairs], "seconds": seconds}
        sizes = checked_sizes(self._call("look", message, SCAN), len(pairs))
        if len(sizes) < len(pairs) and seconds is None:
            raise disbelief("every pair that was asked for")
        return sizes

    def optimise(
        self,
        detector: str,
        pairs: Sequence[tuple[int, int]],
        step_size: float,
        *,
        seconds: float | None,
        on_pair: Callable[[PairResult], None],
    ) -> list[PairResult]:
        """Search a chunk of pairs; those that the time (None: no limit) did not allow are missing."""
        results: list[PairResult] = []
        missing = {(detector, *pair) for pair in pairs}

        def receive(event: Mapping[str, Any]) -> None:
            result = checked_pair(event, self._pattern_shape)
            if (result.detector, result.source, result.target) not in missing:
                raise disbelief("a pair that was asked for, once")
            missing.remove((result.detector, result.source, result.target))
            results.append(result)
            on_pair(result)

        message = {
            "detector": detector,
            "pairs": [list(pair) for pair in pairs],
            "step_size": step_size,
            "seconds": seconds,
        }
        self._call("optimise", message, SCAN, on_event=receive)
        if missing and seconds is None:
            raise disbelief("every pair that was asked for")
        return results

    def search_targets(
        self,
        detector: str,
        images_by_class: Mapping[int, NDArray[np.float32]],
        config: ScanConfig,
        num_classes: int,
        *,
        seconds: float | None,
    ) -> list[TargetResult]:
        """Search every wanted target class, in order; those that the time (None: no limit) did not allow miss."""
        results: dict[int, TargetResult] = {}

        def receive(event: Mapping[str, Any]) -> None:
            result = checked_target(event, num_classes)
            if result.detector != detector or result.target in results:
                raise disbelief("a target class that was asked for, once")
            results[result.target] = result

        message = {
            "detector": detector,
            "images_by_class": {str(label): images for label, images in images_by_class.items()},
            "config": config.to_dict(),
            "seconds": seconds,
        }
        self._call("search_targets", message, _TARGETS, on_event=receive)
        return [results[target] for target in sorted(results)]

    def _call(
        self,
        method: str,
        message: dict[str, Any],
        limits: PhaseLimits,
        on_event: Callable[[Mapping[str, Any]], None] | None = None,
    ) -> Mapping[str, Any]:
        from backscan.converters.errors import ConverterError, CutNameError, OutputNameError
        from backscan.converters.sandbox.errors import SandboxError, UnexpectedError

        try:
            return self._runner.call(method, message, limits=limits, on_event=on_event)
        except UnexpectedError as error:
            failure = InternalError(f"step {method!r} failed inside the scanner: {error}")
            failure.add_note(error.child_traceback)
            raise failure from error
        except (CutNameError, OutputNameError) as error:
            raise AbsentNameError(str(error)) from error
        except (ConverterError, SandboxError) as error:
            raise NoVerdictError(str(error)) from error


@contextmanager
def open_subject(config: ScanConfig) -> Iterator[Subject]:
    """A subject in a sandboxed child process, or in this one with `sandbox=False`."""
    from backscan.converters.errors import ConverterError
    from backscan.converters.sandbox.sandbox import InProcess, Sandbox

    if config.sandbox:
        # One thread an operator: the search runs pairs beside each other instead.
        runner: Runner = Sandbox(_WORKER, threads=1, errors=(ConverterError, ScanError))
    else:
        runner = InProcess(_WORKER)
    try:
        yield Subject(runner)
    finally:
        runner.close()
