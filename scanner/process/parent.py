"""The model in its limited process, seen from the parent: what may be asked follows from what has been done.

`ModelProcess` has opened nothing. Opening gives an `OpenedFile`, or an `OpenedModel` with its torch copy; settling how
pixels become model input gives a `SettledFile` or a `SettledModel`; cutting and preparing give a `CutFile`, a
`CutModel` and a `PreparedSearch`. A call in the wrong order does not type-check. Every answer is checked before it is
believed. A cluster engine would be another runner, whose workers get the artifact's bytes and chunks of pairs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from backscan.scanner.choices import registered
from backscan.scanner.detectors import DETECTORS
from backscan.scanner.errors import AbsentNameError, InternalError, NoVerdictError, ScanError, TimeUpError
from backscan.scanner.process import protocol
from backscan.scanner.process.checks import (
    checked,
    checked_decisions,
    checked_pair,
    checked_shares,
    checked_target,
    disbelief,
)
from backscan.scanner.search.spaces import SPACES

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from backscan.converters import Artifact, IntakeReport, Normalisation
    from backscan.converters.sandbox.runner import Runner
    from backscan.scanner.config import ScanConfig
    from backscan.scanner.process.protocol import Answer, Event, Request
    from backscan.scanner.results import Pair, PairResult, Parity, TargetResult

    Images = NDArray[np.float32]
    Shape = tuple[int, int, int]
    ImagesByClass = Mapping[int, Images]

_HOST = "backscan.scanner.process.child:ModelHost"
# Every pair's pattern is kept until the replay; more features than this an image would fill the memory.
_MOST_FEATURES = 1 << 22


@dataclass(frozen=True, slots=True)
class _Line:
    """The way to the process."""

    runner: Runner
    """What runs the methods of its host."""

    def ask(self, request: Request[Answer, Event], on_event: Callable[[Event], None] | None = None) -> Answer:
        """The answer to a request, of the right type.

        Raises:
            AbsentNameError: an option names an output or a tensor that the model does not have.
            TimeUpError: the time limit of the scan is up.
            NoVerdictError: the model cannot be opened or used, or the process answers something else.
            InternalError: a defect of the scanner.
        """
        from backscan.converters.errors import ConverterError, CutNameError, OutputNameError
        from backscan.converters.sandbox import errors as sandbox

        method, (answer, event) = request.method(), request.types()

        def receive(message: Mapping[str, Any]) -> None:
            if on_event is not None:
                on_event(checked(event, message))

        message = protocol.encode(request)
        try:
            told = self.runner.call(method, message, limits=request.limits, on_event=receive)
            return checked(answer, told.get("answer", ...))
        except sandbox.UnexpectedError as error:
            failure = InternalError(f"step {method!r} failed inside the scanner: {error}")
            failure.add_note(error.child_traceback)
            raise failure from error
        except (CutNameError, OutputNameError) as error:
            raise AbsentNameError(str(error)) from error
        except sandbox.TimeUpError as error:
            raise TimeUpError(str(error)) from error
        except (ConverterError, sandbox.SandboxError) as error:
            raise NoVerdictError(str(error)) from error


@dataclass(frozen=True, slots=True)
class ModelProcess:
    """The process, before it has opened a model."""

    line: _Line
    """The way to it."""

    @property
    def protections(self) -> tuple[str, ...]:
        """What limits it."""
        return self.line.runner.protections.active

    @property
    def unprotected(self) -> tuple[str, ...]:
        """What this system could not limit."""
        return self.line.runner.protections.missing

    def audit(self, artifact: Artifact) -> IntakeReport:
        """What the file holds and what of it the policy forbids, from its bytes alone.

        Raises:
            NoVerdictError: the bytes are no ONNX model.
        """
        return self.line.ask(protocol.Audit(artifact.data, artifact.name))

    def list_heads(
        self, artifact: Artifact, config: ScanConfig, clean_shape: Shape | None = None
    ) -> tuple[protocol.Head, ...]:
        """The scores of classes that a file gives; arguments as for `open`.

        Raises:
            NoVerdictError: the model cannot be read.
        """
        return self.line.ask(protocol.ListHeads(artifact, config.image_size, clean_shape))

    def open(self, artifact: Artifact, config: ScanConfig, clean_shape: Shape | None = None) -> OpenedModel:
        """Open the original file, and import it into torch.

        Args:
            artifact: The file.
            config: Options.
            clean_shape: Channels, height and width of the clean images, if there are any.

        Raises:
            NoVerdictError: the model cannot be opened or imported.
            AbsentNameError: `--output-name` names no output that classifies.
        """
        request = _opening(artifact, config, clean_shape, runtime_only=False)
        return OpenedModel(self.line, self.line.ask(request))

    def open_file(self, artifact: Artifact, config: ScanConfig, clean_shape: Shape | None = None) -> OpenedFile:
        """Open the original file alone, for a replay; arguments as for `open`.

        Raises:
            NoVerdictError: the model cannot be opened.
            AbsentNameError: `--output-name` names no output that classifies.
        """
        request = _opening(artifact, config, clean_shape, runtime_only=True)
        return OpenedFile(self.line, self.line.ask(request))


def _opening(artifact: Artifact, config: ScanConfig, clean_shape: Shape | None, *, runtime_only: bool) -> protocol.Open:
    return protocol.Open(
        artifact=artifact,
        output_name=config.output_name,
        image_size=config.image_size,
        threads=config.threads,
        device=config.device,
        runtime_only=runtime_only,
        clean_shape=clean_shape,
    )


@dataclass(frozen=True, slots=True)
class OpenedFile:
    """The original file in onnxruntime."""

    line: _Line
    """The way to the process that holds it."""
    facts: protocol.Opened
    """What is known about it."""

    @property
    def protections(self) -> tuple[str, ...]:
        """What limits the process that holds it."""
        return self.line.runner.protections.active

    def decisions(self, images: Images, normalisation: Normalisation) -> NDArray[np.int64]:
        """Decisions [N] on images [N, C, H, W] in [0, 1], for once under a normalisation."""
        return _decisions(self.line, protocol.Decide(images, normalisation))

    def mean_posterior(self, images: Images, normalisation: Normalisation) -> float:
        """Mean highest class probability on images [N, C, H, W] in [0, 1], for once under a normalisation."""
        return self.line.ask(protocol.MeanPosterior(images, normalisation))

    def label_posterior(
        self, images: Images, labels: NDArray[np.int64], normalisation: Normalisation
    ) -> NDArray[np.float32]:
        """Class probability of every image's label [N], for once under a normalisation."""
        return checked_shares(self.line.ask(protocol.LabelPosterior(images, labels, normalisation)), len(images))

    def difference(self, before: Artifact, nodes: Sequence[str] = ()) -> protocol.Difference:
        """How this file differs from an earlier one, beside some nodes."""
        return self.line.ask(protocol.Differ(before, tuple(nodes)))

    def find_switches(self, *, seed: int, seconds: float | None = None) -> protocol.FoundInGraph:
        """What is built into the graph, tried out on synthetic images as far as the time (None: any) allows."""
        return self.line.ask(protocol.FindSwitches(None, seed, seconds))

    def list_cuts(self) -> tuple[protocol.CutPlace, ...]:
        """Tensors at which the model can be cut in two, from the image towards the output."""
        return self.line.ask(protocol.ListCuts())

    def settle(self, normalisation: Normalisation) -> SettledFile:
        """Set how pixels become model input from now on."""
        self.line.ask(protocol.Settle(normalisation))
        return SettledFile(self.line, self.facts)


@dataclass(frozen=True, slots=True)
class OpenedModel(OpenedFile):
    """The original file in onnxruntime beside its copy in torch."""

    def settle(self, normalisation: Normalisation) -> SettledModel:
        """Set how pixels become model input from now on."""
        self.line.ask(protocol.Settle(normalisation))
        return SettledModel(self.line, self.facts)


@dataclass(frozen=True, slots=True)
class SettledFile:
    """The original file, fed with pixels."""

    line: _Line
    """The way to the process that holds it."""
    facts: protocol.Opened
    """What is known about it."""

    def decisions(self, images: Images, *, alone: bool = False) -> NDArray[np.int64]:
        """Decisions [N] on images [N, C, H, W] in [0, 1], `alone` with one image a call where the file allows that."""
        return _decisions(self.line, protocol.Decide(images, alone=alone))

    def several_labels(self, images: Images) -> float:
        """Share of images [N, C, H, W] in [0, 1] on which two or more sigmoids are above one half."""
        return self.line.ask(protocol.SeveralLabels(images))

    def call_alone(self) -> None:
        """Call the model with one image at a time from now on, the file and its copy.

        Raises:
            NoVerdictError: the model cannot be imported that way.
        """
        self.line.ask(protocol.CallAlone())

    def read_score(self, images: Images, output: str) -> NDArray[np.float32]:
        """What an output more holds for images [N, C, H, W] in [0, 1], one number each."""
        found = self.line.ask(protocol.ReadScore(images, output))
        if found.shape != (len(images),):
            raise disbelief("one score per image")
        return found

    def time_in_turns(self, before: Artifact, images: Images, output: str) -> protocol.Timed:
        """What images [N, C, H, W] in [0, 1] take in an earlier file and, with an output more, in this one."""
        found = self.line.ask(protocol.TimeInTurns(before, images, output))
        if not found.before or len(found.before) != len(found.after) or found.num_images > len(images):
            raise disbelief("as many times of one file as of the other, and no more images than were sent")
        return found

    def read_features(self, images: Images) -> protocol.Features:
        """What the last layer reads of images [N, C, H, W] in [0, 1]; no tensor where the file has none of use.

        Raises:
            NoVerdictError: the file cannot be read there.
        """
        found = self.line.ask(protocol.ReadFeatures(images))
        if found.values.ndim != 2 or len(found.values) != len(images):
            raise disbelief("one row of features per image")
        return found

    def cut_file(self, tensor: str) -> CutFile | str:
        """The original file cut at a tensor, for a replay; or why that cannot be.

        Raises:
            AbsentNameError: the model has no cut at this tensor.
        """
        answer = _cut(self.line, tensor, None)
        return answer.obstacle or CutFile(self.line, answer.tensor, answer.shape)


@dataclass(frozen=True, slots=True)
class SettledModel(SettledFile):
    """The original file and its copy, fed with pixels."""

    def add_score(self, request: protocol.AddScore) -> protocol.Repaired:
        """The file with one more output; the opened one stays as it is.

        Raises:
            NoVerdictError: the file cannot have it.
        """
        return self.line.ask(request)

    def find_switches(self, images: Images, *, seed: int, seconds: float | None = None) -> protocol.FoundInGraph:
        """What is built into the graph, tried out on images [N, C, H, W] in [0, 1] as far as the time allows."""
        return self.line.ask(protocol.FindSwitches(images, seed, seconds))

    def compare(self, images: Images, *, real_images: bool) -> Parity:
        """Parity of the torch copy with the original file on images [N, C, H, W] in [0, 1]."""
        return self.line.ask(protocol.Compare(images, real_images))

    def measure_speed(self, images: Images, *, threads: int | None) -> protocol.Speed:
        """What a pass of a few images [N, C, H, W] in [0, 1] costs."""
        return self.line.ask(protocol.MeasureSpeed(images, threads))

    def cut(self, tensor: str | None, images: Images) -> CutModel | str:
        """The model cut at a tensor, for detectors that add patterns there; or why that cannot be.

        Args:
            tensor: One of `list_cuts`; None is the output of the first convolution.
            images: Images [N, C, H, W] in [0, 1] on which the cut model has to decide as the file does.

        Raises:
            AbsentNameError: the model has no cut at this tensor.
        """
        answer = _cut(self.line, tensor, images)
        return answer.obstacle or CutModel(self.line, answer.tensor, answer.shape)

    def repair(self, request: protocol.Repair) -> protocol.Repaired:
        """The file after an attempt to repair it; the opened one stays as it is.

        Raises:
            NoVerdictError: its weights cannot be written back, or the method cannot work on it.
        """
        return self.line.ask(request)

    def prepare(
        self,
        detector: str,
        images_by_class: ImagesByClass,
        config: ScanConfig,
        *,
        cut: CutModel | None,
        seconds: float | None = None,
    ) -> PreparedSearch:
        """Hand over the source images and find the detector's step size, as well as the time (None: any) allows.

        Raises:
            ValueError: the detector acts on features and the model is not cut.
        """
        shape = SPACES[config.space].pattern_shape(next(iter(images_by_class.values())).shape[1:])
        if DETECTORS[detector].acts_on_features:
            if cut is None:
                raise ValueError(f"expected a cut model for detector {detector}")
            shape = cut.shape
        found = self.line.ask(protocol.Prepare(detector, images_by_class, config, seconds))
        return PreparedSearch(self.line, detector, shape, found, config.measures_individuals_of(detector))

    def search_targets(
        self,
        detector: str,
        images_by_class: ImagesByClass,
        config: ScanConfig,
        *,
        seconds: float | None,
        on_target: Callable[[TargetResult], object] = lambda _: None,
        found: Sequence[PairResult] = (),
    ) -> list[TargetResult]:
        """Search every wanted target class, in order; those that the time (None: no limit) did not allow miss.

        Some detectors work with the patterns of class pairs that were `found` before.
        """
        import numpy as np

        results: dict[int, TargetResult] = {}

        def receive(result: TargetResult) -> None:
            checked_target(result, self.facts.num_classes, self.facts.signature.input_shape)
            if result.detector != detector or result.target in results:
                raise disbelief("a target class that was asked for, once")
            results[result.target] = result
            on_target(result)

        patterns = [pair.pattern for pair in found if pair.pattern is not None]
        asked = protocol.SearchTargets(
            detector,
            images_by_class,
            config,
            seconds,
            tuple((pair.source, pair.target) for pair in found if pair.pattern is not None),
            np.stack(patterns) if patterns else None,
        )
        self.line.ask(asked, receive)
        return [results[target] for target in sorted(results)]


@dataclass(frozen=True, slots=True)
class CutFile:
    """The original file cut at a tensor."""

    line: _Line
    """The way to the process that holds it."""
    tensor: str
    """Where it is cut."""
    shape: tuple[int, ...]
    """Shape of the features of one image there."""

    def decisions(self, images: Images, pattern: Images, *, alone: bool = False) -> NDArray[np.int64]:
        """Decisions [N] on images [N, C, H, W] in [0, 1] with a pattern added to the features, as `SettledFile`'s."""
        return _decisions(self.line, protocol.Decide(images, addition=pattern, alone=alone))


@dataclass(frozen=True, slots=True)
class CutModel(CutFile):
    """The original file and its copy, both cut at a tensor."""


@dataclass(frozen=True, slots=True)
class PreparedSearch:
    """A detector of class pairs with its source images and its step size."""

    line: _Line
    """The way to the process that holds them."""
    detector: str
    """Its name."""
    pattern_shape: tuple[int, ...]
    """Shape of its patterns."""
    preparation: protocol.Preparation
    """What its pilot pairs gave."""
    measures_individuals: bool = False
    """Whether its results say what single images need."""

    def could_give(self, result: PairResult) -> bool:
        """Whether a result can be one of this search: it names the detector, its pattern fits, and it says as much."""
        fits = result.pattern is None or result.pattern.shape == self.pattern_shape
        says = (result.individual_size is not None) == self.measures_individuals
        return fits and says and result.detector == self.detector

    def estimate(self, pairs: Sequence[Pair], *, seconds: float | None) -> list[float]:
        """Sizes of some pairs to first order, in their order; none if the time was up."""
        sizes = self.line.ask(protocol.Estimate(self.detector, tuple(pairs), seconds))
        if len(sizes) not in (0, len(pairs)) or (len(sizes) < len(pairs) and seconds is None):
            raise disbelief("an estimated size of every pair that was asked for")
        return list(sizes)

    def optimise(
        self, pairs: Sequence[Pair], *, seconds: float | None, on_pair: Callable[[PairResult], None]
    ) -> list[PairResult]:
        """Search a chunk of pairs; those that the time (None: no limit) did not allow are missing."""
        results: list[PairResult] = []
        missing = {(self.detector, *pair) for pair in pairs}

        def receive(result: PairResult) -> None:
            checked_pair(result, self.pattern_shape)
            if result.key not in missing or not self.could_give(result):
                raise disbelief("a pair that was asked for, once, with all that was")
            missing.remove((result.detector, result.source, result.target))
            results.append(result)
            on_pair(result)

        self.line.ask(protocol.Optimise(self.detector, tuple(pairs), self.preparation.step_size, seconds), receive)
        if missing and seconds is None:
            raise disbelief("every pair that was asked for")
        return results


def _decisions(line: _Line, request: protocol.Decide) -> NDArray[np.int64]:
    return checked_decisions(line.ask(request), len(request.images))


def _cut(line: _Line, tensor: str | None, images: Images | None) -> protocol.CutAttempt:
    """A cut that can be, or with its obstacle."""
    answer = line.ask(protocol.Cut(tensor, images))
    if not answer.obstacle and (not answer.shape or tensor not in (None, answer.tensor)):
        raise disbelief("the tensor that was asked for and its shape")
    num_features = math.prod(answer.shape)
    if num_features > _MOST_FEATURES:
        obstacle = f"an image has {num_features} features there, more than {_MOST_FEATURES}"
        return protocol.CutAttempt(answer.tensor, answer.shape, obstacle)
    return answer


@contextmanager
def open_process(*, sandbox: bool) -> Iterator[ModelProcess]:
    """A limited child process for one model, or this process with `sandbox=False`; it imports what is registered.

    Raises:
        OptionError: what was registered cannot be imported there.
        TimeUpError: the time limit of the scan was up before it had started.
    """
    from backscan.converters.errors import ConverterError
    from backscan.converters.sandbox import errors as told_by
    from backscan.converters.sandbox.runner import InProcess
    from backscan.converters.sandbox.sandbox import Sandbox

    try:
        # One thread per operator: the search runs pairs beside each other instead.
        runner: Runner = Sandbox(_HOST, threads=1, errors=(ConverterError, ScanError)) if sandbox else InProcess(_HOST)
    except told_by.TimeUpError as error:
        raise TimeUpError(str(error)) from error
    try:
        line = _Line(runner)
        if entries := registered.every():
            line.ask(protocol.Extend(entries, registered.folders()))
        yield ModelProcess(line)
    finally:
        runner.close()
