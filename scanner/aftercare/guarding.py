"""A file that says of every image how strongly it carries a recovered pattern, and what that costs and catches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from backscan.scanner.aftercare.attempt import Attempt, check_external, check_places, keep, written
from backscan.scanner.aftercare.guard import Guard, threshold_for
from backscan.scanner.aftercare.strength import Strength, made_for, of_pixels
from backscan.scanner.aftercare.subject import check_digest, opened_for, places_of
from backscan.scanner.errors import NoVerdictError, OptionError
from backscan.scanner.pipeline.admission import as_clean_set, read
from backscan.scanner.pipeline.reopening import Given, reopened
from backscan.scanner.process.parent import ModelProcess
from backscan.scanner.process.protocol import AddScore
from backscan.scanner.results import FileRecord, GuardResult, ScanResult

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from backscan.converters import Artifact
    from backscan.scanner.aftercare.guard import Pixels, Threshold
    from backscan.scanner.aftercare.subject import Subject
    from backscan.scanner.images.cleanset import CleanSet
    from backscan.scanner.process.parent import SettledFile
    from backscan.scanner.process.protocol import Timed

OUTPUT = "pattern_score"
"""Name of the output."""
_TIMED = 128
"""Most held-out images that are timed."""
_REJECT, _WITHOUT = "reject", "without"
ENFORCE: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        _REJECT: ("it decides them as a class more, the last",),
        _WITHOUT: ("it decides them as the image without the pattern",),
    }
)
"""What a file can do with suspicious images, and how that is told."""
_LARGEST_GAP = 1e-3
"""Largest difference of a score in the file from the guard's own."""
MARGIN = 1e-4
"""By how much the threshold is above the score that sets it, so that rounding does not make that image alarm: a hundred
times what a file with 32-bit numbers was seen to round by."""


def guard_model(
    model: Path | str,
    clean: CleanSet | Path | str,
    out: Path | str,
    report: ScanResult,
    *,
    rate: float = 0.01,
    sandbox: bool = True,
    enforce: str | None = None,
) -> GuardResult:
    """Write the model with one more output, `pattern_score` in [0, 1] for every image.

    It is the larger of two scores: of the pixels, as `Guard` gives it, and of what the model's last layer reads. Where
    the file shall take the pattern off, only pixels count, as the model cannot be asked before that.

    Args:
        model: The ONNX file of the report; it is never written to.
        clean: Clean images, or the archive or folder to load them from.
        out: Where the file goes.
        report: A report with a recovered pattern on images.
        rate: False-alarm rate on clean images that the threshold is set for.
        sandbox: Whether models are opened in a limited child process.
        enforce: What the file does with images above the threshold, by name in `ENFORCE`; None only tells the score.

    Returns:
        Threshold, false alarms, what is caught, and the cost; nothing is written where no threshold reaches the rate.

    Raises:
        UserError: paths, images, options or a report that cannot be used.
        NoVerdictError: the file cannot have the output.
    """
    model, out = Path(model), Path(out)
    check_places(model, out)
    if not 0 < rate < 1:
        raise OptionError(f"expected --false-alarms between 0 and 1, found {rate:g}")
    if enforce not in (None, *ENFORCE):
        raise OptionError(f"expected --enforce to be one of {', '.join(ENFORCE)}, found {enforce!r}")
    check_external(model, out, sandbox=sandbox)
    found = Guard(report).planted.found  # refuses a report without a pattern before anything is opened
    clean = as_clean_set(clean, report.model.class_names, sandbox=sandbox)
    if report.model.signature is not None:  # the new output must not be taken for that of the classes
        report = replace(report, config={**report.config, "output_name": report.model.signature.output_name})
    with opened_for(report, read(model), model.parent, clean, sandbox=sandbox) as subject:
        check_digest(report, subject)
        making = subject.clean.images[places_of(subject.images.drawn.optimise)]
        trial = _Trial.of(subject, Guard(report, making), with_features=enforce != _WITHOUT)
        threshold = threshold_for(trial.scores, rate, margin=MARGIN)
        before = FileRecord(model.name, subject.artifact.sha256)
        told = GuardResult(before, found.source, found.target, rate, len(trial.ordinary), (), enforce=enforce)
        told = replace(told, tensor=trial.tensor or None)
        if threshold is None:
            return replace(told, reasons=("no threshold reaches the rate: the pattern is too much like clean images",))
        beside = f"{out.name}.data" if subject.artifact.external else ""
        pixels, inside = trial.strength.pixels, trial.strength.features
        request = AddScore(pixels.weights, pixels.offset, OUTPUT, beside)
        if inside is not None:
            request = replace(
                request,
                tensor=trial.tensor,
                feature_weights=inside.weights,
                feature_offset=inside.offset,
                feature_centre=inside.centre,
            )
        if enforce is not None:
            kept, added = _reaction(enforce, trial.guard, making)
            request = replace(request, threshold=threshold.value, kept=kept, added=added)
        attempt = Attempt(subject.artifact, subject.settled.add_score(request))
    with written(attempt, out) as place:
        given = Given(read(place), place.parent, clean)
        with reopened(report, given, ModelProcess.open_file, sandbox=sandbox) as guarded:
            told = trial.measured(told, guarded.settled, threshold)
            after = FileRecord(out.name, guarded.artifact.sha256)
        keep(place, out, believed=True)
    reasons = (f"the file has the output {OUTPUT}; images above {threshold.value:.6g} are suspicious",)
    return replace(told, reasons=(*reasons, *ENFORCE.get(enforce or "", ())), after=after)


def _reaction(enforce: str, guard: Guard, clean: Pixels) -> tuple[Pixels | None, Pixels | None]:
    """What is kept of the pixels of a suspicious image, and what is added; nothing where a class rejects it."""
    if enforce == _REJECT:
        return None, None
    values, mask = guard.planted.found.values.decode(), guard.planted.found.mask
    if mask is None:
        return np.ones_like(values), -values
    hidden = np.broadcast_to(mask.decode(), values.shape).astype(np.float32)
    return 1 - hidden, hidden * clean.mean(axis=0)  # what it hid is not known


@dataclass(frozen=True, slots=True)
class _Trial:
    """Images that made no filter, and what the file before decides on them."""

    artifact: Artifact
    """The file before."""
    guard: Guard
    """The filter of pixels."""
    strength: Strength
    """What scores them."""
    tensor: str
    """Value of the model that it looks at beside the pixels; empty for none."""
    ordinary: Pixels
    """Held-out images."""
    scores: NDArray[np.float32]
    """Their scores."""
    decisions: NDArray[np.int64]
    """Decisions on them."""
    carriers: Pixels
    """Those of the sources, with the pattern."""
    moved: NDArray[np.int64]
    """Decisions on these."""

    @classmethod
    def of(cls, subject: Subject, guard: Guard, *, with_features: bool) -> _Trial:
        """The held-out images of a file, and what scores them."""
        places = places_of(subject.images.drawn.held_out)
        ordinary, labels = subject.clean.images[places], subject.labels[places]
        carriers = guard.planted.embed(ordinary[np.isin(labels, guard.planted.sources)])
        moved = subject.decide(carriers) if len(carriers) else np.empty(0, np.int64)
        making = places_of(subject.images.drawn.optimise)
        clean = subject.clean.images[making], subject.labels[making]
        strength, tensor = made_for(subject.settled, guard, *clean) if with_features else (of_pixels(guard), "")
        features = (
            subject.settled.read_features(ordinary).values if tensor else np.empty((len(ordinary), 0), np.float32)
        )
        scores = strength.of(ordinary, features)
        decisions = subject.decide(ordinary)
        return cls(subject.artifact, guard, strength, tensor, ordinary, scores, decisions, carriers, moved)

    def measured(self, told: GuardResult, settled: SettledFile, threshold: Threshold) -> GuardResult:
        """The result with what the written file does.

        Raises:
            NoVerdictError: it scores otherwise than the guard, or decides otherwise on images that it leaves alone.
        """
        scored = settled.read_score(self.ordinary, OUTPUT)
        threshold = replace(threshold, alarms=int((scored > threshold.value).sum()))
        alone = scored <= threshold.value if told.enforce else np.ones(len(self.ordinary), np.bool_)
        if not np.array_equal(settled.decisions(self.ordinary)[alone], self.decisions[alone]):
            raise NoVerdictError("expected the same decisions with the output as without, found others: do not use it")
        _check(self.scores, scored)
        count = len(self.carriers)
        more, without = _costs(settled.time_in_turns(self.artifact, self.ordinary[:_TIMED], OUTPUT))
        planted = settled.read_score(self.carriers, OUTPUT) if count else self.carriers[:0]
        after = settled.decisions(self.carriers) if count else self.moved
        shown = told.enforce is not None and count
        return replace(
            told,
            threshold=threshold.value,
            alarms_on_clean=threshold.alarms,
            interval=threshold.interval,
            extrapolated=threshold.extrapolated,
            num_planted=count,
            caught=float((planted > threshold.value).mean()) if count else None,
            success_before=float((self.moved == told.target).mean()) if shown else None,
            success_after=float((after == told.target).mean()) if shown else None,
            microseconds=more,
            microseconds_without=without,
        )


def _costs(timed: Timed) -> tuple[float | None, float]:
    """Microseconds an image that the file takes longer than the one before, and what that one takes.

    The first is the median of the turns; None where its 95 % interval (by order statistics, which asks nothing of how
    timings are distributed) does not lie above zero.
    """
    each = 1e6 / timed.num_images
    more = np.sort(np.subtract(timed.after, timed.before)) * each
    lowest = more[max(0, int(len(more) / 2 - 0.98 * len(more) ** 0.5))]
    return float(np.median(more)) if lowest > 0 else None, float(np.median(timed.before)) * each


def _check(own: Pixels, scores: Pixels) -> None:
    """Refuse a file whose scores are not those that set the threshold.

    Raises:
        NoVerdictError: they differ.
    """
    gap = float(np.abs(own - scores).max())
    if not gap <= _LARGEST_GAP:
        raise NoVerdictError(f"expected the guard's own scores from the file, found some that differ by {gap:.2g}")
