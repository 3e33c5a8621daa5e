"""The opened model in the process that may touch it: one method a request of `protocol`.

It runs in the sandboxed child, or in this process with `--no-sandbox`, and is the only code of the scanner that
imports torch or onnxruntime. `parent` is its counterpart on the other side.
"""

from __future__ import annotations

import functools
import os
import sys
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from backscan.scanner.choices import registered
from backscan.scanner.errors import OptionError
from backscan.scanner.process import protocol
from backscan.scanner.process.decisions import Decisions
from backscan.scanner.process.known import Known
from backscan.scanner.process.protocol import Answer, Event, Message, Request
from backscan.scanner.results import GraphFinding, Pair, PairResult, Parity, SignatureRecord, TargetResult

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from backscan.converters import Artifact, CutCandidate, IntakeReport, OrtClassifier, TorchClassifier
    from backscan.converters.cuts.split import OrtCut, Split
    from backscan.converters.signature.labels import Labels
    from backscan.converters.torch_import.trainable import TrainableClassifier
    from backscan.scanner.detectors import Examination
    from backscan.scanner.repair.lesson import Lesson

T = TypeVar("T")

# Share of images that a cut model has to decide as the file does: that of the copy (docs/contract.md, Parity).
_LEAST_AGREEMENT = 0.99
# Of the time for the graph, where it is limited: for answers that depend on the call.
_SHARE_OF_COMPANY = 0.3
# Turns in which two files are timed, fewer where they would take longer than this many seconds.
_LEAST_TURNS, _MOST_TURNS, _TIMING_SECONDS = 6, 60, 10.0
# Images by whose time it is decided how many a file gets in a turn, and about how long that may take.
_FIRST_TIMED, _TURN_SECONDS = 4, 0.5


def _answers(
    kind: type[Request[Answer, Event]],
) -> Callable[[Callable[[Any, Any], Any]], Callable[[Any, Message], Any]]:
    """Decorate the method of a request: a message comes in, and messages go out."""

    def decorate(method: Callable[[Any, Any], Any]) -> Callable[[Any, Message], Any]:
        @functools.wraps(method)
        def answer(host: ModelHost, message: Message) -> Any:
            outcome = method(host, protocol.decode(kind, message))
            return _encoded(outcome) if isinstance(outcome, Generator) else {"answer": protocol.encode(outcome)}

        return answer

    return decorate


def _encoded(outcome: Generator[Any, None, Any]) -> Generator[Message, None, Message]:
    """Events and answer of a search as messages."""
    while True:
        try:
            event = next(outcome)
        except StopIteration as end:
            return {"answer": protocol.encode(end.value)}
        yield protocol.encode(event)


class ModelHost:
    """Holds one model: the original file in onnxruntime, and its differentiable copy in torch."""

    def __init__(self) -> None:
        self._runtime: OrtClassifier | None = None
        self._copy: TorchClassifier | None = None
        self._file: Artifact | None = None
        self._artifact: Artifact | None = None
        self._threads: int | None = None
        self._labels: Labels | None = None
        self._split: Split | None = None
        self._cut: OrtCut | None = None
        self._examination: Examination | None = None
        self._known: Known | None = None
        self._deadline = float("inf")

    @_answers(protocol.Extend)
    def extend(self, request: protocol.Extend) -> None:
        """Import what was registered; statistics are of no use here, so they are only known by name."""
        known = {os.path.abspath(entry) for entry in sys.path}
        sys.path += [folder for folder in request.folders if folder not in known]  # last: it takes no library's place
        for table, path in request.entries:
            registered.register(table, path)
            if table != "STATISTICS":
                registered.load(path)

    @_answers(protocol.Audit)
    def audit(self, request: protocol.Audit) -> IntakeReport:
        """Look at the bytes before any library loads them."""
        from backscan.converters import audit

        return audit(request.data, name=request.name)

    @_answers(protocol.Open)
    def open(self, request: protocol.Open) -> protocol.Opened:
        """Open the original file in onnxruntime, and import it into torch unless `runtime_only`."""
        from backscan.converters import import_model, open_runtime, read_signature, readable
        from backscan.converters.errors import NotDifferentiableError
        from backscan.converters.signature.heads import outputs_beside
        from backscan.converters.signature.labels import read_labels

        artifact, self._threads = request.artifact, request.threads
        signature = read_signature(
            artifact,
            output_name=request.output_name,
            image_size=request.image_size,
            clean_shape=request.clean_shape,
        )
        self._file, self._artifact = artifact, readable(artifact, signature)
        artifact = self._artifact
        self._runtime = open_runtime(artifact, signature, threads=request.threads)
        self._labels = read_labels(artifact, signature)
        device, in_bfloat16, warnings, without_gradient = "cpu", False, signature.notes, ""
        if not request.runtime_only:
            device, torch_device = _prepare_torch(request.device)
            in_bfloat16 = _has_bfloat16(torch_device)
            try:
                self._copy = import_model(artifact, signature, device=torch_device)
                warnings += tuple(self._copy.notes)
            except NotDifferentiableError as error:  # the file can be asked all the same
                without_gradient = str(error)
        return protocol.Opened(
            signature=_as_record(SignatureRecord, signature),
            num_classes=signature.num_classes,
            provider=self._runtime.providers[0],
            device=device,
            has_bfloat16=in_bfloat16,
            warnings=warnings,
            outputs_beside=outputs_beside(artifact, signature),
            not_searched=self._labels.notes,
            without_gradient=without_gradient,
        )

    @_answers(protocol.ListHeads)
    def list_heads(self, request: protocol.ListHeads) -> tuple[protocol.Head, ...]:
        """What in the file is scores of classes."""
        from backscan.converters.signature.heads import class_heads

        found = class_heads(request.artifact, image_size=request.image_size, clean_shape=request.clean_shape)
        return tuple(protocol.Head(name, num_classes) for name, num_classes in found)

    @_answers(protocol.Settle)
    def settle(self, request: protocol.Settle) -> None:
        """Set how pixels become model input from now on."""
        normalisation = request.normalisation
        self._runtime = self.runtime.with_normalisation(normalisation)
        if self._copy is not None:
            self._copy = self._copy.with_normalisation(normalisation)
        if self._split is not None:
            self._split = self._split.with_normalisation(normalisation)
        if self._cut is not None:
            self._cut = self._cut.with_normalisation(normalisation)

    @_answers(protocol.Decide)
    def decide(self, request: protocol.Decide) -> NDArray[np.int64]:
        """Decisions of the original file."""
        runtime = self.runtime
        if request.addition is not None:
            runtime = self._adding(request.addition)
        if request.normalisation is not None:
            runtime = runtime.with_normalisation(request.normalisation)
        return runtime.decisions_alone(request.images) if request.alone else runtime.decisions(request.images)

    @_answers(protocol.MeanPosterior)
    def mean_posterior(self, request: protocol.MeanPosterior) -> float:
        """How sure the original file is; 0 where its scores are no numbers."""
        posterior = self.runtime.with_normalisation(request.normalisation).posterior(request.images)
        sureness = float(np.nan_to_num(posterior.max(axis=1), nan=0.0).mean())
        return min(1.0, max(0.0, sureness))

    @_answers(protocol.LabelPosterior)
    def label_posterior(self, request: protocol.LabelPosterior) -> NDArray[np.float32]:
        """Probability of every image's label; 0 where the scores are no numbers."""
        posterior = self.runtime.with_normalisation(request.normalisation).posterior(request.images)
        own = np.take_along_axis(posterior, np.asarray(request.labels)[:, None], axis=1)[:, 0]
        return np.clip(np.nan_to_num(own, nan=0.0), 0.0, 1.0).astype(np.float32)

    @_answers(protocol.SeveralLabels)
    def several_labels(self, request: protocol.SeveralLabels) -> float:
        """How often several labels hold at once."""
        signature = self.runtime.signature
        if signature.output_kind != "sigmoids" or signature.num_scores < 2 or not len(request.images):
            return 0.0
        return float(((self.runtime.scores(request.images) > 0.5).sum(axis=1) > 1).mean())

    @_answers(protocol.FindSwitches)
    def find_switches(self, request: protocol.FindSwitches) -> protocol.FoundInGraph:
        """What depends on the rest of a call, then what in the graph turns decisions (`scanner/switches`)."""
        from backscan.converters.switches.probe import GraphProbe
        from backscan.scanner.switches import dormant as units
        from backscan.scanner.switches.company import find_dependence
        from backscan.scanner.switches.findings import SECONDS, try_switches

        runtime = self.runtime
        self._allow(request.seconds)
        asking = self._at_most(float("inf"), share=_SHARE_OF_COMPANY)
        dependence = find_dependence(self.artifact, runtime, request.images, seed=request.seed, seconds=asking)
        if dependence and runtime.signature.batch is None:  # one image a call is what is deployed
            runtime = runtime.one_image_a_call(self.artifact)
        probe = GraphProbe(self.artifact, runtime.signature, runtime.normalisation)
        options: Any = {"decisions": runtime.decisions, "seed": request.seed}
        switches = try_switches(probe, request.images, **options, seconds=self._at_most(SECONDS, share=0.5))
        most = units.SECONDS if request.images is not None and len(request.images) else units.SECONDS_ALONE
        dormant, woken = units.find_dormant_units(probe, request.images, **options, seconds=self._at_most(most))
        others = self._of_other_heads(request, switches) if self._at_most(1.0) else ()
        return protocol.FoundInGraph((*dependence, *switches, *woken, *others), dormant)

    @_answers(protocol.CallAlone)
    def call_alone(self, _: protocol.CallAlone) -> None:
        """Call the file with one image at a time from now on, and import its copy as it is then."""
        from backscan.converters import import_model

        self._runtime = runtime = self.runtime.one_image_a_call(self.artifact)
        if self._copy is not None:
            copy = import_model(self.artifact, runtime.signature, device=self._copy.device)
            self._copy = copy.with_normalisation(runtime.normalisation)

    @_answers(protocol.ListCuts)
    def list_cuts(self, _: protocol.ListCuts) -> tuple[protocol.CutPlace, ...]:
        """Tensors at which the model can be cut in two (`converters/cuts`)."""
        from backscan.converters import cut_candidates

        found = cut_candidates(self.artifact, self.runtime.signature)
        return tuple(_as_record(protocol.CutPlace, cut) for cut in found)

    @_answers(protocol.Cut)
    def cut(self, request: protocol.Cut) -> protocol.CutAttempt:
        """Cut the original file at a tensor, and the copy too if there are images; or say why that cannot be.

        Raises:
            CutNameError: no cut is at the tensor that was asked for.
        """
        from backscan.converters.errors import ConverterError, CutNameError

        tensor = request.tensor or ""
        try:
            tensor = tensor or self._first_convolution()
            cut = self._open_cut(tensor, runtime_only=request.images is None)
        except CutNameError:
            raise
        except ConverterError as error:
            return protocol.CutAttempt(tensor, (), str(error))
        obstacle = ""
        if self._split is not None and request.images is not None:
            obstacle = _disagreement(self._split, self.runtime, request.images)
        return protocol.CutAttempt(tensor, tuple(cut.shape), obstacle)

    @_answers(protocol.Compare)
    def compare(self, request: protocol.Compare) -> Parity:
        """Parity of the copy with the original file on some images."""
        from backscan.converters import compare

        report = compare(self.copy, self.runtime, request.images, real_images=request.real_images)
        parity = _as_record(Parity, report)
        return replace(parity, reason=report.reason or report.gradient_warning or "")

    @_answers(protocol.MeasureSpeed)
    def measure_speed(self, request: protocol.MeasureSpeed) -> protocol.Speed:
        """Time some passes of the copy, in the precision that steps take."""
        from backscan.scanner.process.passes import measure_speed

        return measure_speed(self.copy, request.images, request.threads)

    @_answers(protocol.Prepare)
    def prepare(self, request: protocol.Prepare) -> protocol.Preparation:
        """Take the source images and find the step size of a detector, as well as the time allows."""
        from backscan.scanner.detectors import DETECTORS

        started = time.monotonic()
        self._allow(request.seconds)
        self._examination = self._examine(request)
        pilot = DETECTORS[request.detector].find_step_size(self._examination)
        taken = time.monotonic() - started
        return protocol.Preparation(pilot.step_size, taken / max(1, pilot.num_images), pilot.is_reduced)

    @_answers(protocol.Estimate)
    def estimate(self, request: protocol.Estimate) -> list[float]:
        """Estimate the sizes of some pairs to first order; none if the time was up."""
        from backscan.scanner.detectors import DETECTORS

        self._allow(request.seconds)
        return DETECTORS[request.detector].estimate(self.examination, request.pairs)

    @_answers(protocol.Optimise)
    def optimise(self, request: protocol.Optimise) -> Generator[PairResult, None, int]:
        """Search some pairs; the answer says whether the time was enough."""
        from backscan.scanner.detectors import DETECTORS

        self._allow(request.seconds)
        detector = DETECTORS[request.detector]
        return (yield from _counted(detector.optimise(self.examination, request.pairs, request.step_size)))

    @_answers(protocol.SearchTargets)
    def search_targets(self, request: protocol.SearchTargets) -> Generator[TargetResult, None, int]:
        """Search every target class; the answer says whether the time was enough."""
        from backscan.scanner.detectors import searching_targets

        self._allow(request.seconds)
        detector = searching_targets(request.detector)
        if detector is None:
            raise RuntimeError("expected a detector of target classes")
        return (yield from _counted(detector.search(self._examine(request))))

    @_answers(protocol.Repair)
    def repair(self, request: protocol.Repair) -> protocol.Repaired:
        """Change the model's weights, bound what it computes, or hold a switch in its graph, and give the file."""
        from backscan.converters.switches.removal import without_gates
        from backscan.converters.torch_import.stored import with_locations
        from backscan.scanner.repair import METHODS
        from backscan.scanner.repair.mending import Patient, mended

        runtime, tensors = self.runtime, tuple[str, ...]()
        if request.gates and not METHODS[request.way].function:
            cut = without_gates(self.file, runtime.signature, runtime.normalisation, request.gates, request.images)
            file, nodes = cut.artifact, cut.nodes
        else:
            patient = Patient(self.file, runtime.signature, runtime.normalisation, self.copy.device)
            made = mended(request.way, patient, request.images, lambda copy: _lesson(request, copy))
            file, tensors, nodes = made.artifact, made.tensors, made.nodes
        file = with_locations(file, request.beside) if request.beside else file
        return protocol.Repaired(file.data, dict(file.external), tensors, nodes)

    @_answers(protocol.AddScore)
    def add_score(self, request: protocol.AddScore) -> protocol.Repaired:
        """Give the file one more output, and let it act on that."""
        from backscan.converters.signature.enforced import Reaction, with_reaction
        from backscan.converters.signature.linear_output import OfValue, with_linear_output
        from backscan.converters.torch_import.stored import with_locations

        runtime, function = self.runtime, (request.weights, request.offset)
        beside = None
        if request.feature_weights is not None:
            beside = OfValue(request.tensor, request.feature_weights, request.feature_offset, request.feature_centre)
        reading = runtime.signature, runtime.normalisation
        file = with_linear_output(self.file, *reading, function, request.output, beside=beside)
        if request.threshold is not None:
            reaction = Reaction(request.output, request.threshold, request.kept, request.added)
            file = with_reaction(file, *reading, reaction)
        file = with_locations(file, request.beside) if request.beside else file
        return protocol.Repaired(file.data, dict(file.external), (), (request.output,))

    @_answers(protocol.ReadFeatures)
    def read_features(self, request: protocol.ReadFeatures) -> protocol.Features:
        """Read what the last layer is given."""
        from backscan.converters.cuts.features import read_features

        return protocol.Features(*read_features(self.artifact, self.runtime, request.images, threads=self._threads))

    @_answers(protocol.ReadScore)
    def read_score(self, request: protocol.ReadScore) -> NDArray[np.float32]:
        """Read the output."""
        return self.runtime.read(request.images, request.output).astype(np.float32)

    @_answers(protocol.TimeInTurns)
    def time_in_turns(self, request: protocol.TimeInTurns) -> protocol.Timed:
        """Time an earlier file and the opened one, each first every second time."""
        from backscan.converters import open_runtime

        earlier = open_runtime(request.before, self.runtime.signature, threads=self._threads)
        files = [(earlier.with_normalisation(self.runtime.normalisation), None), (self.runtime, request.output)]
        few = request.images[:_FIRST_TIMED]
        for runtime, output in files:  # the first call of a session sets its memory up
            runtime.read(few, output)
        started = time.perf_counter()
        self.runtime.read(few, request.output)
        each = (time.perf_counter() - started) / len(few)
        images = request.images[: max(len(few), int(_TURN_SECONDS / max(each, 1e-9)))]
        times: tuple[list[float], list[float]] = ([], [])
        end = time.perf_counter() + _TIMING_SECONDS
        while len(times[0]) < _LEAST_TURNS or (len(times[0]) < _MOST_TURNS and time.perf_counter() < end):
            first = len(times[0]) % 2
            for place in (first, 1 - first):
                runtime, output = files[place]
                started = time.perf_counter()
                runtime.read(images, output)
                times[place].append(time.perf_counter() - started)
        return protocol.Timed(tuple(times[0]), tuple(times[1]), len(images))

    @_answers(protocol.Differ)
    def differ(self, request: protocol.Differ) -> protocol.Difference:
        """Say in which stored tensors the opened file differs from another."""
        from backscan.converters.torch_import.stored import differences

        tensors, elsewhere = differences(request.before, self.file, but=request.nodes)
        return protocol.Difference(tensors, elsewhere)

    def _of_other_heads(self, request: protocol.FindSwitches, known: Sequence[GraphFinding]) -> Iterator[GraphFinding]:
        """Switches on the way to outputs beside the chosen one alone: other scores, and class numbers."""
        from backscan.converters.switches.probe import GraphProbe
        from backscan.scanner.switches.findings import SECONDS, try_switches

        told = {finding.nodes for finding in known}
        for name, artifact, runtime in self._heads_beside():
            probe = GraphProbe(artifact, runtime.signature, runtime.normalisation)
            seconds = self._at_most(SECONDS)
            for finding in try_switches(
                probe, request.images, decisions=runtime.decisions, seed=request.seed, seconds=seconds
            ):
                if finding.nodes not in told:
                    told.add(finding.nodes)
                    yield _towards(name, finding, self.runtime.signature.num_classes)

    def _heads_beside(self) -> Iterator[tuple[str, Artifact, OrtClassifier]]:
        """Name, file and session of every output beside the chosen one that says of which class an image is."""
        from backscan.converters import open_runtime
        from backscan.converters.signature.heads import other_heads

        for head in other_heads(self.artifact, self.runtime.signature):
            yield head.output_name, self.artifact, self.runtime.with_signature(head)
        for label in self._labels.heads if self._labels else ():
            runtime = open_runtime(label.artifact, label.signature, threads=self._threads)
            yield label.name, label.artifact, runtime.with_normalisation(self.runtime.normalisation)

    def _allow(self, seconds: float | None) -> None:
        """Set the time that a search may take from now on."""
        self._deadline = float("inf") if seconds is None else time.monotonic() + seconds

    def _at_most(self, seconds: float, *, share: float = 1.0) -> float:
        """Some seconds, or a share of the time that is allowed where that is less."""
        return min(seconds, share * max(0.0, self._deadline - time.monotonic()))

    @property
    def examination(self) -> Examination:
        """What detectors work on."""
        if self._examination is None:
            raise RuntimeError("expected `prepare` before this step")
        return self._examination

    @property
    def runtime(self) -> OrtClassifier:
        """The original file in onnxruntime."""
        if self._runtime is None:
            raise RuntimeError("expected `open` before any other step")
        return self._runtime

    @property
    def file(self) -> Artifact:
        """The file as it was sent: what is changed and written."""
        if self._file is None:
            raise RuntimeError("expected `open` before any other step")
        return self._file

    @property
    def artifact(self) -> Artifact:
        """The copy of it through which it is called and read: with its scores among its outputs, and a batch axis."""
        if self._artifact is None:
            raise RuntimeError("expected `open` before any other step")
        return self._artifact

    @property
    def copy(self) -> TorchClassifier:
        """The differentiable copy."""
        if self._copy is None:
            raise RuntimeError("expected `open` without `runtime_only` before this step")
        return self._copy

    def _first_convolution(self) -> str:
        """The tensor at which XMK section 5.2.3 cuts.

        Raises:
            ConverterError: the model has no convolution, or something of the image goes around it.
        """
        from backscan.converters import ConverterError, cut_candidates

        for cut in cut_candidates(self.artifact, self.runtime.signature):
            if cut.is_first_convolution:
                return cut.name
        raise ConverterError(
            "expected a first convolution that all of the image passes through, found none: choose one of the tensors "
            "that `scanner inspect MODEL --tensors` lists with --cut"
        )

    def _open_cut(self, tensor: str, *, runtime_only: bool) -> CutCandidate:
        """The model cut at a tensor, under the normalisation that is settled."""
        from backscan.converters.cuts.split import open_cut, split

        signature, normalisation = self.runtime.signature, self.runtime.normalisation
        if runtime_only:
            self._cut = open_cut(self.artifact, signature, tensor, normalisation=normalisation, threads=self._threads)
            return self._cut.cut
        self._split = split(
            self.artifact,
            signature,
            tensor,
            normalisation=normalisation,
            device=self.copy.device,
            threads=self._threads,
        )
        self._cut = self._split.original
        return self._cut.cut

    def _adding(self, pattern: NDArray[np.float32]) -> OrtClassifier:
        """The original file with a pattern added at the cut."""
        if self._cut is None:
            raise RuntimeError("expected `cut` before decisions with an addition")
        return self._cut.adding(pattern[None])

    def _examine(self, request: protocol.Prepare | protocol.SearchTargets) -> Examination:
        import torch

        from backscan.scanner.detectors import Examination

        device = next(self.copy.buffers()).device
        images = {
            label: torch.from_numpy(np.ascontiguousarray(array)).to(device)
            for label, array in request.images_by_class.items()
        }
        precision = request.config.precision
        if self._known is None or not self._known.is_of(self.copy, self._split, images, precision):
            decisions = Decisions(self.copy, images)
            if self._deadline == float("inf"):  # else classes that the time does not reach cost nothing
                decisions.find_all(self._threads)
            self._known = Known.of(self.copy, self._split, images, decisions, precision)
        known = self._known
        return Examination(
            classifier=self.copy,
            images_by_class=known.images,  # those of an earlier detector, where they are the same
            decisions_by_class=known.decisions,
            margins_by_class=known.decisions.margins,
            num_classes=self.copy.signature.num_classes,
            config=request.config,
            stopped=lambda: time.monotonic() > self._deadline,
            cut=self._split,
            reduced=known.reduced,
            reduced_cut=known.reduced_cut,
            images_at_once=known.images_at_once,
            patterns=_patterns_of(request, device),
        )


def _patterns_of(request: protocol.Prepare | protocol.SearchTargets, device: Any) -> dict[Pair, Tensor]:
    """The patterns that came with a request."""
    import torch

    if not isinstance(request, protocol.SearchTargets) or request.patterns is None:
        return {}
    patterns = torch.from_numpy(np.ascontiguousarray(request.patterns)).to(device)
    return dict(zip(request.pairs, patterns, strict=True))


def _lesson(request: protocol.Repair, copy: TrainableClassifier) -> Lesson:
    """What a repair learns from."""
    import torch

    from backscan.scanner.repair.lesson import Lesson, Pattern

    images, labels, values, mask = (
        None if array is None else torch.from_numpy(np.array(array)).to(copy.classifier.device)
        for array in (request.images, request.labels, request.pattern, request.mask)
    )
    assert images is not None  # noqa: S101 - requests always have them
    assert labels is not None  # noqa: S101
    pattern = None if values is None else Pattern(values, mask)
    return Lesson(copy, images, labels, pattern, request.target, steps=request.steps, seed=request.seed)


def _towards(name: str, finding: GraphFinding, num_classes: int) -> GraphFinding:
    """A finding about another output; a number that the output shows may be none of the classes."""
    source, target = (c if c is not None and c < num_classes else None for c in (finding.source, finding.target))
    message = f"towards output {name[:80]!a}: {finding.message}"
    return replace(finding, message=message, source=source, target=target)


def _counted(results: Iterator[T]) -> Generator[T, None, int]:
    """The results of a search, and how many they were."""
    finished = 0
    for result in results:
        finished += 1
        yield result
    return finished


def _as_record(kind: type[T], thing: object) -> T:
    """What a record keeps of a thing: the attributes that have the names of its fields."""
    return kind(**{entry.name: getattr(thing, entry.name) for entry in fields(kind)})  # type: ignore[arg-type]


def _disagreement(parts: Split, runtime: OrtClassifier, images: NDArray[np.float32]) -> str:
    """Why the parts of a cut model are not the model in the file; empty if they decide as it does."""
    import torch

    device = parts.front.inputs.factor.device
    with torch.no_grad():
        features = parts.front(torch.from_numpy(np.ascontiguousarray(images)).to(device))
        of_parts = parts.back(features).argmax(dim=1).cpu().numpy()
    nothing = np.zeros((1, *parts.shape), np.float32)
    of_file = runtime.decisions(images)
    agreement = min(
        float((other == of_file).mean()) for other in (of_parts, parts.original.adding(nothing).decisions(images))
    )
    if agreement >= _LEAST_AGREEMENT:
        return ""
    return f"the model cut at '{parts.cut}' decides as the file on {agreement:.1%} of {len(images)} images only"


def _has_bfloat16(device: str) -> bool:
    """Whether a processor or GPU multiplies bfloat16, by torch's name of it."""
    import torch

    from backscan.converters.cuts.bfloat16 import has_bfloat16

    return has_bfloat16(torch.device(device))


def _prepare_torch(wanted: str) -> tuple[str, str]:
    """Name for reports and torch's name of the device to use; on a CPU operators keep to one thread.

    Raises:
        OptionError: a GPU is wanted and there is none.
    """
    import torch

    if wanted == "cpu" or (wanted == "auto" and not torch.cuda.is_available()):
        torch.set_num_threads(1)
        return "cpu", "cpu"
    if not torch.cuda.is_available():
        raise OptionError("expected a CUDA device for --device cuda, found none that torch can use: use --device auto")
    return torch.cuda.get_device_name(), "cuda"
