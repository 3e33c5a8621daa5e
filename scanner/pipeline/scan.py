"""One scan from file to verdict: twelve steps in the order of the method, each from frozen values to one.

XMK Figure 2 is steps 9 to 11, with the file and its images made ready before and the original file asked at the end.
A gate gives a `Stop` in place of its value where nothing more can be said; `Record.take` keeps the values.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from backscan.converters.sandbox.clock import clock, keeping, sparing, time_limit
from backscan.scanner.config import SO_MANY_CLASSES, ScanConfig
from backscan.scanner.detectors import DETECTORS, RATE_DETECTORS, Searched, searching
from backscan.scanner.errors import AbsentNameError, NoVerdictError, TimeUpError
from backscan.scanner.inference.correction import NEAR, corrected_by_null
from backscan.scanner.inference.misread import misread_note
from backscan.scanner.inference.repeats import agreed as repeats_agreed
from backscan.scanner.inference.verdict import Judgement
from backscan.scanner.pipeline import spending
from backscan.scanner.pipeline.admission import as_clean_set, audit, read, refuse_other_kinds
from backscan.scanner.pipeline.conclusion import infer_from, replay_and_judge
from backscan.scanner.pipeline.costs import estimate_search
from backscan.scanner.pipeline.ends import Interrupted, NameNotInModelError
from backscan.scanner.pipeline.pairs import PairSearch, open_journal, refuse_absent
from backscan.scanner.pipeline.preparation import (
    call_alone,
    compare,
    cut_model,
    find_switches,
    fit_images,
    open_model,
    settle,
    several_labels,
)
from backscan.scanner.pipeline.provenance import provenance
from backscan.scanner.pipeline.record import Concluded, Cutting, Images, Record, Repeats, Run, Stop, Stopped
from backscan.scanner.pipeline.replay import OriginalFile
from backscan.scanner.pipeline.selection import split_images
from backscan.scanner.pipeline.spending import limited
from backscan.scanner.pipeline.targets import judge_without_images, lightened, search_targets
from backscan.scanner.process.parent import OpenedModel, SettledModel, open_process
from backscan.scanner.progress import Progress, SilentProgress
from backscan.scanner.results import TRANSFERABILITY, RepeatRecord, ScanResult, Verdict
from backscan.scanner.search.spaces import in_words
from backscan.scanner.store.cache import renamed

if TYPE_CHECKING:
    from backscan.converters import Artifact
    from backscan.scanner.images.cleanset import CleanSet
    from backscan.scanner.images.preprocessing import Settlement
    from backscan.scanner.store.cache import ScanCache
    from backscan.scanner.store.journal import Journal

_ALWAYS_OUTSIDE = "attackers who trained the model against this detector, and models that recognise a scan"
_OUTSIDE_IMAGES = (
    "patterns that replace, blend or warp the image (patches, stickers, filters): the search adds a pattern"
)
_OUTSIDE_CONTENT = "patterns that {blend}warp the image, and those that replace {window}, or {pixels}"
_OUTSIDE_MASKS = "patterns that {blend}warp the image, differ from image to image, or hide much of it"
_OUTSIDE_REACH = (
    "class pairs by themselves: of so many classes each is tested as a target of all others together, so that "
    "an attack from one class alone may be missed, and so may patterns that are added, blended or warp the image; "
    "--screen on looks at every pair"
)
_OUTSIDE_FEATURES = (
    "patterns that warp the image or differ from image to image: what the search adds is the same for all; nor every "
    "patch, which hides what it covers and is no sum (--detector neural-cleanse searches patches as such, and informs)"
)

_OUTSIDE_SPACE = "patterns of another kind than that of --space {space.name}, by which {space.about}"


@dataclass(frozen=True, slots=True)
class Judged:
    """What steps 9 to 12 gave under one preprocessing."""

    searched: Searched
    """The pairs and targets."""
    concluded: Concluded
    """What follows from them."""
    judgement: Judgement
    """The verdict."""
    repeats: tuple[RepeatRecord, ...] = ()
    """What each of several scans said."""

    def p_value(self, *, published: bool) -> float | None:
        """The p-value that the verdict rests on, or what would have been it; of look-alikes that by the fitted null."""
        conclusion = self.concluded.conclusion
        if conclusion is None:
            return None
        return corrected_by_null(conclusion, self.concluded.detectors, published=published)

    def repeat(self, seed: int, preprocessing: str) -> RepeatRecord:
        """What is recorded of it, as one of several scans."""
        source, target = self.judgement.classes(self.concluded.conclusion)
        return RepeatRecord(
            seed, preprocessing, self.judgement.verdict.value, target, source, self.concluded.calibrated_p_value
        )


def scan(
    model: Path | str,
    clean: CleanSet | Path | str | None = None,
    config: ScanConfig | None = None,
    *,
    class_names: Sequence[str] | None = None,
    progress: Progress | None = None,
    journal: Path | None = None,
    resume: bool = False,
    cache: ScanCache | None = None,
    command: str = "",
) -> ScanResult:
    """Say whether the classifier in an ONNX file was backdoored.

    Args:
        model: The ONNX file.
        clean: Clean images, or the archive or folder to load them from; without any, only what needs none is tested.
        config: Options; None are the defaults.
        class_names: Names of the classes, for reports.
        progress: Observer.
        journal: Folder where finished pairs are kept.
        resume: Continue the scan whose journal that is.
        cache: Where results of the same scan are found again and kept.
        command: Command that repeats the scan, for reports.

    Returns:
        The result. A model that cannot be scanned gives the verdict `no_verdict`, never an exception.

    Raises:
        UserError: options, paths, images or labels that cannot be used as they are.
        AbsentNameError: an option names what the model does not have; carries what that leaves of it.
        Interrupted: Ctrl-C; carries what is finished.
    """
    config = ScanConfig() if config is None else config
    refuse_other_kinds(model, config)
    config.check()
    with time_limit(config.time_limit), keeping(spending.reporting(clock())):
        spending.make_ready()
        model = Path(model)
        artifact = read(model)  # step 1
        origin = provenance(seed=config.seed, command=command)
        record = Record(artifact, class_names, config, origin, progress or SilentProgress())
        entry = None
        try:
            clean = None if clean is None else as_clean_set(clean, class_names, sandbox=config.sandbox)
            with open_process(sandbox=config.sandbox) as process:
                run = Run(config, record, process, journal, resume)
                artifact = audit(run, artifact, model.parent)
                entry = cache.entry(artifact.sha256, clean.digest, config.to_dict()) if cache and clean else None
                if entry and (known := entry.find()):
                    record.progress.message(f"{artifact.name}: taken from the cache")
                    return renamed(known, name=artifact.name, class_names=class_names, command=command)
                judgement = judge_model(run, artifact, clean)
        except Stopped as end:
            judgement = end.stop
        except NoVerdictError as error:
            record.out_of_time |= isinstance(error, TimeUpError)
            judgement = Judgement(Verdict.NO_VERDICT, (str(error),))
        except AbsentNameError as error:
            left = record.result(Judgement(Verdict.NO_VERDICT, (str(error),)))
            raise NameNotInModelError(str(error), left) from error
        except KeyboardInterrupt as error:
            interrupted = Judgement(Verdict.INCONCLUSIVE, ("the scan was interrupted",))
            raise Interrupted(record.result(interrupted, interrupted=True)) from error
        result = record.result(judgement)
        if entry and not record.out_of_time:  # more time gives another result
            entry.keep(result)
        return result


def judge_model(run: Run, artifact: Artifact, clean: CleanSet | None) -> Judgement:
    """Steps 3 to 12: open the model, settle how it reads images, then search, infer, replay and judge."""
    take = run.record.take
    opened = take(open_model(run, artifact, clean))
    if clean is None:
        run.record.leave_out(_OUTSIDE_IMAGES, _ALWAYS_OUTSIDE)
        return judge_without_images(run, opened)
    run = run.for_classes(opened.facts.num_classes, math.prod(opened.facts.signature.input_shape))
    fitted = fit_images(run, clean, opened)
    settlement = take(settle(run, opened, fitted))
    settled = opened.settle(settlement.normalisations[0])
    take(find_switches(run, settled, fitted))
    labels = several_labels(run, settled, fitted, settlement.accuracy)
    obstacles = tuple(filter(None, (opened.facts.without_gradient, labels, settlement.doubt)))
    if obstacles:
        return Stop(Verdict.INCONCLUSIVE, obstacles)
    take(call_alone(run, settled, fitted))
    take(compare(run, settled, fitted))
    cutting = take(cut_model(run, settled, fitted))
    run.record.leave_out(_outside(run.config, cutting), _ALWAYS_OUTSIDE)
    with open_journal(run, artifact, fitted, cutting) as journal:
        judged = list(judge_each(run, settlement, opened, fitted, cutting, journal))
    take(judged[0].searched)
    take(judged[0].concluded)
    take(Repeats(judged[0].repeats))
    judgement = agreed(run, settlement, [each.judgement for each in judged])
    time = run.record.time()
    if time is not None and time.ended_the_scan:
        return limited(judgement, judged[0].concluded.detectors, time)
    return judgement


def judge_each(
    run: Run,
    settlement: Settlement,
    opened: OpenedModel,
    clean: CleanSet,
    cutting: Cutting,
    journal: Journal | None,
) -> Iterator[Judged]:
    """Steps 9 to 12 under each preprocessing that explains the images equally well; a time limit is shared by them."""
    readings = list(zip(settlement.names, settlement.normalisations, strict=True))
    for number, (name, normalisation) in enumerate(readings):
        others = (len(readings) - number - 1) * run.config.repeats
        try:
            settled = opened.settle(normalisation)
        except TimeUpError:
            run.record.out_of_time = True
            run.record.leave_out(f"the search under preprocessing {name}: the time was up")
            return
        if number:
            run.record.progress.message(f"again, with preprocessing {name}, which explains the images as well:")
        yield judge_repeatedly(run, name, settled, clean, cutting, journal, others=others)


def _outside(config: ScanConfig, cutting: Cutting) -> str:
    """Patterns that the chosen detectors do not search."""
    if config.detectors == SO_MANY_CLASSES:
        return _OUTSIDE_REACH
    if (space := in_words(config.space)) is not None:
        return _OUTSIDE_SPACE.format(space=space)
    if any(name in RATE_DETECTORS for name in config.detectors):
        return _outside_content(config.detectors)
    on_features = any(DETECTORS[name].acts_on_features for name in searching(config, cutting.tensor))
    return _OUTSIDE_FEATURES if on_features else _OUTSIDE_IMAGES


def _outside_content(detectors: Sequence[str]) -> str:
    """The same where what takes the place of the image is searched."""
    has_window, has_pixels = bool({"window", "large-window", "reach"} & set(detectors)), "scattered" in detectors
    blend = "" if "blend" in detectors else "blend or "
    if "mask" in detectors:
        return _OUTSIDE_MASKS.format(blend=blend)
    return _OUTSIDE_CONTENT.format(
        blend=blend,
        window="more of it than a window of a quarter of its side" if has_window else "a part of it at one place",
        pixels="more than a sixteenth of its pixels far apart" if has_pixels else "pixels far apart",
    )


def judge_repeatedly(
    run: Run,
    name: str,
    settled: SettledModel,
    clean: CleanSet,
    cutting: Cutting,
    journal: Journal | None,
    *,
    others: int,
) -> Judged:
    """Steps 9 to 12 as often as `--repeats` says, with other images and other random numbers; the first is reported.

    A time limit is shared with so many other searches that are still to come.
    """
    judged, repeats = list[Judged](), list[RepeatRecord]()
    for number in range(run.config.repeats):
        config, searches = replace(run.config, seed=run.config.seed + number), others + run.config.repeats - number
        own, again = replace(run, config=config), f"{name} repeat {number}" if number else name
        if number:
            run.record.progress.message(f"again, with other images (--repeats), {number + 1} of {run.config.repeats}:")
        with sparing(spending.for_others(searches)):
            judged.append(judge_under(own, again, settled, clean, cutting, journal, searches=searches))
        repeats.append(judged[-1].repeat(config.seed, name))
        if run.record.out_of_time:
            if missing := run.config.repeats - number - 1:
                run.record.leave_out(f"{missing} of {run.config.repeats} repeats: the time was up")
            break
    judgement = repeats_agreed(judged[0].judgement, repeats)
    return replace(judged[0], judgement=judgement, repeats=tuple(repeats) if len(repeats) > 1 else ())


def judge_under(
    run: Run,
    name: str,
    settled: SettledModel,
    clean: CleanSet,
    cutting: Cutting,
    journal: Journal | None,
    *,
    searches: int = 1,
) -> Judged:
    """Steps 9 to 12 under one of the preprocessings that explain the images equally well; so many are still to come."""
    images = run.record.take(split_images(run, settled, clean))
    refuse_absent(run.config, settled.facts.num_classes)  # before it is timed
    costs = estimate_search(run, settled, cutting, images, searches=searches)
    search = PairSearch(run, settled, cutting, images.search(), journal, name, costs)
    pairs = search.search()
    if misread := misread_note(pairs.pairs, settled.facts.num_classes):
        run.record.warn(misread)
    targets = search_targets(run, settled, pairs.detectors, images.search(), costs, pairs.pairs)
    judged = judge_searched(run, settled, cutting, images, replace(pairs, targets=targets))
    if not depends_on_precision(run, judged):
        return judged
    run.record.decided_in_float32 = True
    run.record.progress.message("again in float32, as the result is near the threshold:")
    exact = replace(run, config=replace(run.config, precision="float32"))
    pairs = replace(search, run=exact, label=f"{name} float32").search()
    return judge_searched(exact, settled, cutting, images, replace(pairs, targets=targets))


def judge_searched(run: Run, settled: SettledModel, cutting: Cutting, images: Images, searched: Searched) -> Judged:
    """Steps 11 and 12 with the pairs and targets of one search."""
    with run.record.phase("inference"):
        searched, conclusions = infer_from(searched, run.config)
    file = OriginalFile(settled, cutting.cut, run.record.artifact.sha256, run.config.space)
    concluded, judgement = replay_and_judge(run, file, searched, conclusions, images)
    shown = {pattern.target for pattern in concluded.patterns}
    return Judged(replace(searched, targets=lightened(searched.targets, shown)), concluded, judgement)


def depends_on_precision(run: Run, judged: Judged) -> bool:
    """Whether pairs were searched in bfloat16 with a result so near the threshold that the rounding may decide."""
    if not run.record.is_reduced or run.record.out_of_time or not any(pair.steps for pair in judged.searched.pairs):
        return False
    conclusion = judged.concluded.conclusion
    if conclusion is None or conclusion.statistic == TRANSFERABILITY:  # which no step of a pair enters
        return False
    p_value, significance = judged.p_value(published=run.config.published_p), run.config.significance
    return p_value is not None and significance / NEAR <= p_value <= NEAR * significance


def agreed(run: Run, settlement: Settlement, judgements: Sequence[Judgement]) -> Judgement:
    """The judgement under every preprocessing; inconclusive where they differ."""
    if len({judgement.verdict for judgement in judgements}) == 1:
        # Under another preprocessing it may be another pair that looks alike.
        return replace(judgements[0], look_alikes=judgements[0].look_alikes and len(judgements) == 1)
    disagreement = (
        f"the verdict depends on the preprocessing, which {len(judgements)} candidates explain equally well "
        f"({', '.join(settlement.names)}): pass --preprocess with the one the model was trained with",
        *(
            f"with {name}: {reason}"
            for name, judgement in zip(settlement.names, judgements, strict=False)  # the time may end before the last
            for reason in judgement.reasons
        ),
    )
    run.record.take(replace(settlement, record=replace(settlement.record, disagreement=disagreement)))
    return Judgement(Verdict.INCONCLUSIVE, disagreement)
