"""One scan from file to verdict. The functions follow the steps of the method, in their order."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from backscan.scanner.config import ScanConfig
from backscan.scanner.detectors import DETECTORS, TARGET_DETECTORS, conclude, objective_of, searching
from backscan.scanner.errors import AbsentNameError, Interrupted, NoVerdictError, OptionError
from backscan.scanner.images.candidates import given_normalisation
from backscan.scanner.images.cleanset import CleanSet
from backscan.scanner.images.preprocessing import Settlement, settle_preprocessing
from backscan.scanner.inference.variants import with_reciprocals
from backscan.scanner.inference.verdict import Judgement, accused, corrected_p_value, judge, suspicions, with_findings
from backscan.scanner.pipeline import evidence
from backscan.scanner.pipeline.admission import audit, model_record, read
from backscan.scanner.pipeline.pairs import PairSearch
from backscan.scanner.pipeline.record import Draft, Settled
from backscan.scanner.pipeline.replay import decisions_with_pattern, replay
from backscan.scanner.pipeline.selection import Images, select
from backscan.scanner.process.parent import OpenedModel, Subject, open_subject
from backscan.scanner.progress import Progress, SilentProgress
from backscan.scanner.provenance import provenance
from backscan.scanner.results import (
    Inference,
    PairResult,
    ScanResult,
    TargetResult,
    Verdict,
    Verification,
)
from backscan.scanner.store.cache import renamed

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from backscan.converters import Artifact, Normalisation
    from backscan.scanner.store.cache import ScanCache
    from backscan.scanner.store.journal import Journal

_PARITY_IMAGES = 256
_NOISE_IMAGES = 32
# Classes times pixels up to which a scan without images searches margins unasked: seconds for a small model.
_MOST_VALUES_UNASKED = 500_000

_ALWAYS_OUTSIDE = "attackers who trained the model against this detector, and models that recognise a scan"
_OUTSIDE_IMAGES = (
    "patterns that replace, blend or warp the image (patches, stickers, filters): the search adds a pattern"
)
_OUTSIDE_FEATURES = (
    "patterns that warp the image or differ from image to image: what the search adds is the same for all; nor every "
    "patch, which hides what it covers and is no sum (--detector neural-cleanse searches patches as such, and informs)"
)


@dataclass(frozen=True, slots=True)
class Examined:
    """What one search under one normalisation gave."""

    judgement: Judgement
    """Verdict with reasons."""
    fields: Mapping[str, object]
    """Fields of the result."""


def scan(
    model: Path,
    clean: CleanSet | None,
    config: ScanConfig,
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
        clean: Clean images; without any, only what needs none is tested.
        config: Options.
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
    config.check()
    artifact = read(model)
    draft = Draft(
        model=model_record(artifact, class_names),
        config=config.to_dict(),
        provenance=provenance(seed=config.seed, command=command),
        progress=progress or SilentProgress(),
    )
    draft.set(significance=config.significance, bootstrap_draws=config.bootstrap_draws)
    entry = None
    try:
        with open_subject(config) as subject:
            with draft.phase("intake"):
                artifact = audit(subject, artifact, model.parent)
            draft.set(model=model_record(artifact, class_names))
            entry = cache.entry(artifact.sha256, clean.digest, config.to_dict()) if cache and clean else None
            if entry and (known := entry.find()):
                draft.progress.message(f"{artifact.name}: taken from the cache")
                return renamed(known, model=draft.fields["model"], command=command)
            judgement = examine(subject, artifact, clean, config, draft, journal=journal, resume=resume)
    except Settled as end:
        judgement = Judgement(end.verdict, end.reasons)
    except NoVerdictError as error:
        judgement = Judgement(Verdict.NO_VERDICT, (str(error),))
    except AbsentNameError as error:
        error.result = concluded(draft, Judgement(Verdict.NO_VERDICT, (str(error),)))
        raise
    except KeyboardInterrupt as error:
        tell_unsearched(draft)
        raise Interrupted(draft.result(Verdict.INCONCLUSIVE, ("the scan was interrupted",))) from error
    result = concluded(draft, judgement)
    if entry and result.verdict is not Verdict.NO_VERDICT:
        entry.keep(result)
    return result


def concluded(draft: Draft, judgement: Judgement) -> ScanResult:
    """The result of a scan that came to a judgement, with what its graph adds."""
    tell_unsearched(draft)
    judgement = with_findings(judgement, draft.fields.get("findings", ()))
    return draft.result(judgement.verdict, judgement.reasons)


def tell_unsearched(draft: Draft) -> None:
    """Say that no pair was searched, where the scan ended before that."""
    if not draft.has_searched:
        draft.leave_out("every class pair: the scan ended before the search")


def examine(
    subject: Subject,
    artifact: Artifact,
    clean: CleanSet | None,
    config: ScanConfig,
    draft: Draft,
    *,
    journal: Path | None,
    resume: bool,
) -> Judgement:
    """Open the model, settle how it reads images, then search, infer, replay and judge."""
    opened = open_model(subject, artifact, config, draft)
    if clean is None:
        draft.leave_out(_OUTSIDE_IMAGES, _ALWAYS_OUTSIDE)
        look_for_switches(subject, None, config, draft)
        examine_without_images(subject, opened, config, draft)
        raise Settled(
            Verdict.INCONCLUSIVE,
            "no images were given, so no class pair was searched: pass --data with some ordinary images of each class",
        )
    fitted = fit_images(clean, opened, draft)
    settlement = settle(subject, fitted, config, draft)
    subject.settle(settlement.normalisations[0])
    look_for_switches(subject, fitted.images, config, draft)
    if settlement.doubt:
        raise Settled(Verdict.INCONCLUSIVE, settlement.doubt)
    compare(subject, fitted.images, config, draft)
    config = cut_model(subject, fitted.images, config, draft)
    on_features = any(DETECTORS[name].acts_on_features for name in searching(config))
    draft.leave_out(_OUTSIDE_FEATURES if on_features else _OUTSIDE_IMAGES, _ALWAYS_OUTSIDE)
    with open_journal(journal, artifact, fitted, config, draft, resume=resume) as kept:
        examined = [
            examine_under(normalisation, name, subject, fitted, opened, config, draft, kept)
            for name, normalisation in zip(settlement.names, settlement.normalisations, strict=True)
        ]
    draft.set(**examined[0].fields)
    verdicts = {entry.judgement.verdict for entry in examined}
    if len(verdicts) > 1:
        return Judgement(
            Verdict.INCONCLUSIVE,
            (
                f"the verdict depends on the preprocessing, which {len(examined)} candidates explain equally well "
                f"({', '.join(settlement.names)}): pass --preprocess with the one the model was trained with",
                *(reason for entry in examined for reason in entry.judgement.reasons),
            ),
        )
    return examined[0].judgement


def examine_without_images(subject: Subject, opened: OpenedModel, config: ScanConfig, draft: Draft) -> None:
    """Run the detectors that need no images, by default the one of margins; they inform and decide nothing."""
    chosen = tuple(n for n in config.detectors if n in TARGET_DETECTORS and not TARGET_DETECTORS[n].needs_images)
    num_values = opened.num_classes * math.prod(opened.signature.input_shape)
    if not chosen and num_values > _MOST_VALUES_UNASKED:
        draft.leave_out(
            f"margins of the {opened.num_classes} classes on random images, which take long on a model of this size: "
            "--detector margin searches them"
        )
        return
    alone = replace(config, detectors=chosen or ("margin",))
    given = given_normalisation(config, opened.signature.input_shape[0])
    if given is not None:
        subject.settle(given[1])
    obstacle = _difference_on_noise(subject, opened, config, draft)
    if obstacle:
        draft.leave_out(f"margins of the classes on random images: {obstacle}")
        return
    targets = search_targets(subject, {}, opened, alone, draft)
    draft.set(config=alone.to_dict(), targets=targets, detectors=conclude((), targets, alone, opened.num_classes))


def _difference_on_noise(subject: Subject, opened: OpenedModel, config: ScanConfig, draft: Draft) -> str:
    """Why the torch copy is not the model in the file, judged on random images; empty if it is."""
    shape = (_NOISE_IMAGES, *opened.signature.input_shape)
    noise = np.random.default_rng(config.seed).random(shape, dtype=np.float32)
    with draft.phase("parity"):
        parity = subject.compare(noise, images_real=False)
    draft.set(parity=parity)
    return "" if parity.passed else parity.reason


@contextmanager
def open_journal(
    folder: Path | None, artifact: Artifact, clean: CleanSet, config: ScanConfig, draft: Draft, *, resume: bool
) -> Iterator[Journal | None]:
    """The journal of this model, these images and this configuration; None without a folder.

    Raises:
        JournalMismatchError: the folder belongs to another scan.
        OptionError: the folder holds a journal and `resume` is not set.
    """
    if folder is None:
        yield None
        return
    from backscan.scanner.store.journal import Journal

    key = {"model": artifact.sha256, "data": clean.digest, **config.pair_options}
    with Journal.open(folder, key, resume=resume) as journal:
        if resume and journal.is_new:
            draft.progress.message(f"no journal in {folder}: it begins there with this scan")
        yield journal


def open_model(subject: Subject, artifact: Artifact, config: ScanConfig, draft: Draft) -> OpenedModel:
    """Open the file and its torch copy, in the limited process.

    Raises:
        OptionError: class names were given, and not as many as the model has classes.
    """
    with draft.phase("open"):
        opened = subject.open(artifact, config)
    names = draft.fields["model"].class_names
    if names is not None and len(names) != opened.num_classes:
        raise OptionError(
            f"expected {opened.num_classes} class names, as the model has classes, found {len(names)}: "
            "give --class-names one a line, in the order of the classes"
        )
    draft.warn(*opened.warnings)
    draft.set(
        model=replace(draft.fields["model"], num_classes=opened.num_classes, signature=opened.signature),
        provenance=replace(draft.fields["provenance"], device=opened.device, protections=subject.protections),
    )
    return opened


def fit_images(clean: CleanSet, opened: OpenedModel, draft: Draft) -> CleanSet:
    """The images in the model's shape, with labels the model can have.

    Raises:
        CleanSetError: the labels or images do not fit the model.
    """
    with draft.phase("images"):
        fitted = clean.fit_to(opened.signature.input_shape)
        fitted.check_labels(opened.num_classes)
    draft.warn(*fitted.warnings)
    return fitted


def settle(subject: Subject, clean: CleanSet, config: ScanConfig, draft: Draft) -> Settlement:
    """Find how pixels become model input, by clean accuracy (CONTRACT, Images and preprocessing)."""
    with draft.phase("preprocessing"):
        settlement = settle_preprocessing(
            clean, lambda images, normalisation: subject.decisions(images, normalisation), config
        )
    draft.set(preprocessing=settlement.record, clean_accuracy=settlement.accuracy)
    draft.warn(*settlement.warnings)
    return settlement


def look_for_switches(subject: Subject, images: NDArray[np.float32] | None, config: ScanConfig, draft: Draft) -> None:
    """List what in the graph can switch the decision, and try to show that it does."""
    with draft.phase("graph"):
        draft.set(findings=subject.find_switches(images, seed=config.seed))


def examine_under(
    normalisation: Normalisation,
    label: str,
    subject: Subject,
    clean: CleanSet,
    opened: OpenedModel,
    config: ScanConfig,
    draft: Draft,
    journal: Journal | None,
) -> Examined:
    """Search, infer, replay and judge under one normalisation."""
    subject.settle(normalisation)
    images = select(subject, clean, opened, config, draft)
    pairs = with_reciprocals(
        PairSearch(subject, images.optimised(), opened, config, draft, journal, label).run(),
        inference=config.inference,
        order=config.order,
    )
    targets = search_targets(subject, images.optimised(), opened, config, draft)
    with draft.phase("inference"):
        inferences = conclude(pairs, targets, config, opened.num_classes)
    verification = verify(subject, inferences, pairs, images, opened, config, draft)
    judgement = judge(pairs, inferences, verification, significance=config.significance, published=config.published_p)
    found = describe(subject, inferences, pairs, verification, images, config)
    return Examined(judgement, {**found, "targets": targets})


def compare(subject: Subject, images: NDArray[np.float32], config: ScanConfig, draft: Draft) -> None:
    """Stop unless the torch copy decides as the original file does, on real images under the likeliest preprocessing.

    Once is enough: the copy is the same under every preprocessing, and under a wrong scale a softmax saturates, so
    that differences of its outputs no longer show the gradient.
    """
    with draft.phase("parity"):
        parity = subject.compare(_drawn(images, config), images_real=True)
    draft.set(parity=parity)
    if not parity.passed:
        raise Settled(Verdict.NO_VERDICT, f"the torch copy is not the model in the file: {parity.reason}")
    if parity.reason:
        draft.warn(parity.reason)


def cut_model(subject: Subject, images: NDArray[np.float32], config: ScanConfig, draft: Draft) -> ScanConfig:
    """Cut the model for the detectors that act on its features; they do without it if that cannot be.

    Returns:
        The configuration with the tensor at which the model is cut, None if it is not.

    Raises:
        AbsentNameError: the model has no cut at the tensor of `--cut`.
    """
    if not any(name in DETECTORS and DETECTORS[name].acts_on_features for name in config.detectors):
        return config
    with draft.phase("cut"):
        cut = subject.cut(config.cut, _drawn(images, config))
    if cut.obstacle:
        draft.leave_out(f"patterns on features inside the model: {cut.obstacle}")
    resolved = replace(config, cut=None if cut.obstacle else cut.tensor)
    draft.set(config=resolved.to_dict())
    return resolved


def search_targets(
    subject: Subject,
    images_by_class: Mapping[int, NDArray[np.float32]],
    opened: OpenedModel,
    config: ScanConfig,
    draft: Draft,
) -> tuple[TargetResult, ...]:
    """What the chosen detectors find that search once a target class; they inform, so a time limit ends no scan."""
    results: list[TargetResult] = []
    num_wanted = opened.num_classes if config.targets is None else len(set(config.targets))
    for name in config.detectors:
        if name not in TARGET_DETECTORS or (TARGET_DETECTORS[name].needs_images and len(images_by_class) < 2):
            continue
        with draft.phase("targets"):
            found = subject.search_targets(name, images_by_class, config, opened.num_classes, seconds=config.time_limit)
        if len(found) < num_wanted:
            draft.leave_out(f"{num_wanted - len(found)} target classes with detector {name}: the time was up")
        results += found
    return tuple(results)


def _drawn(images: NDArray[np.float32], config: ScanConfig) -> NDArray[np.float32]:
    """Some of the images, by the seed, on which the copy is compared with the file."""
    chosen = np.random.default_rng(config.seed).permutation(len(images))[:_PARITY_IMAGES]
    return images[np.sort(chosen)]


def verify(
    subject: Subject,
    inferences: Sequence[Inference],
    pairs: Sequence[PairResult],
    images: Images,
    opened: OpenedModel,
    config: ScanConfig,
    draft: Draft,
) -> Verification | None:
    """The suspicious patterns on the original file, until one is confirmed; without any the first replay."""
    replays: list[Verification] = []
    for suspect in suspicions(pairs, inferences, significance=config.significance, published=config.published_p):
        pair = _pair_of(suspect, pairs)
        if pair is None or pair.source not in images.held_out():
            continue
        with draft.phase("verification"):
            replays.append(
                replay(
                    subject.decisions,
                    decisions_with_pattern(subject, pair.detector),
                    pair,
                    images.optimised()[pair.source],
                    images.held_out(),
                    goal_rate=config.goal_rate,
                    provider=opened.provider,
                    seed=config.seed,
                    only_correct=objective_of(config, pair.detector).only_correct,
                )
            )
        if replays[-1].confirmed:
            return replays[-1]
    return replays[0] if replays else None


def describe(
    subject: Subject,
    inferences: Sequence[Inference],
    pairs: Sequence[PairResult],
    verification: Verification | None,
    images: Images,
    config: ScanConfig,
) -> dict[str, object]:
    """The fields of the result that show what was found."""
    suspect = accused(inferences, verification, published=config.published_p)
    pair = _pair_of(suspect, pairs)
    fields: dict[str, object] = {"detectors": tuple(inferences), "pairs": tuple(pairs), "verification": verification}
    if suspect is None or pair is None:
        return fields
    fields |= {
        "source": pair.source,
        "target": pair.target,
        "p_value": suspect.p_value,
        "calibrated_p_value": corrected_p_value(suspect, inferences, published=False),
        "null": suspect.null,
        "patterns": (evidence.found_pattern(pair, suspect),),
        "controls": evidence.controls(
            [other for other in pairs if other.detector == pair.detector], pair.source, pair.target
        ),
    }
    if config.images_in_report and pair.source in images.held_out():
        decide_with = decisions_with_pattern(subject, pair.detector)
        fields["examples"] = evidence.examples(subject.decisions, decide_with, pair, images.held_out()[pair.source])
    return fields


def _pair_of(inference: Inference | None, pairs: Sequence[PairResult]) -> PairResult | None:
    """The pair an inference points at, with its pattern; None where a search pools its sources."""
    if inference is None:
        return None
    wanted = (inference.detector, inference.source, inference.target)
    return next((pair for pair in pairs if (pair.detector, pair.source, pair.target) == wanted), None)
