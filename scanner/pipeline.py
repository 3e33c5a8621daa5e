"""One scan from file to verdict. The functions follow the steps of the method, in their order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from backscan.scanner import evidence
from backscan.scanner.cache import renamed
from backscan.scanner.cleanset import CleanSet
from backscan.scanner.config import ScanConfig
from backscan.scanner.detectors import DETECTORS
from backscan.scanner.draft import Draft, Settled
from backscan.scanner.errors import Interrupted, NoVerdictError, OptionError
from backscan.scanner.executors import OpenedModel, Subject, open_subject
from backscan.scanner.inference import with_reciprocals
from backscan.scanner.judgement import Judgement, combined_p_value, judge, most_extreme, with_findings
from backscan.scanner.model_file import audit, model_record, read
from backscan.scanner.objectives import OBJECTIVES
from backscan.scanner.preprocessing import Settlement, settle_preprocessing
from backscan.scanner.progress import Progress, SilentProgress
from backscan.scanner.provenance import provenance
from backscan.scanner.results import (
    Inference,
    PairResult,
    ScanResult,
    Verdict,
    Verification,
)
from backscan.scanner.search import PairSearch
from backscan.scanner.selection import Images, select
from backscan.scanner.verification import replay

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from backscan.converters import Artifact, Normalisation
    from backscan.scanner.cache import ScanCache
    from backscan.scanner.journal import Journal

_PARITY_IMAGES = 256

_ALWAYS_OUTSIDE = (
    "patterns that replace, blend or warp the image (patches, stickers, filters): the search adds a pattern",
    "attackers who trained the model against this detector, and models that recognise a scan",
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
    except KeyboardInterrupt as error:
        raise Interrupted(draft.result(Verdict.INCONCLUSIVE, ("the scan was interrupted",))) from error
    judgement = with_findings(judgement, draft.fields.get("findings", ()))
    result = draft.result(judgement.verdict, judgement.reasons)
    if entry and result.verdict is not Verdict.NO_VERDICT:
        entry.keep(result)
    return result


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
    draft.leave_out(*_ALWAYS_OUTSIDE)
    if clean is None:
        look_for_switches(subject, None, config, draft)
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
    with open_journal(journal, artifact, fitted, config, resume=resume) as kept:
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


@contextmanager
def open_journal(
    folder: Path | None, artifact: Artifact, clean: CleanSet, config: ScanConfig, *, resume: bool
) -> Iterator[Journal | None]:
    """The journal of this model, these images and this configuration; None without a folder.

    Raises:
        JournalMismatchError: the folder belongs to another scan.
        OptionError: the folder holds a journal and `resume` is not set.
    """
    if folder is None:
        yield None
        return
    from backscan.scanner.journal import Journal

    key = {"model": artifact.sha256, "data": clean.digest, "configuration": config.pair_digest}
    with Journal.open(folder, key, resume=resume) as journal:
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
    with draft.phase("inference"):
        inferences = tuple(
            conclusion
            for name in config.detectors
            for conclusion in DETECTORS[name].infer(
                [p for p in pairs if p.detector == name], config, opened.num_classes
            )
        )
    extreme = most_extreme(inferences, published=config.published_p)
    verification = verify(subject, extreme, pairs, images, opened, config, draft)
    judgement = judge(pairs, inferences, verification, significance=config.significance, published=config.published_p)
    return Examined(judgement, describe(subject, extreme, inferences, pairs, verification, images, config))


def compare(subject: Subject, images: NDArray[np.float32], config: ScanConfig, draft: Draft) -> None:
    """Stop unless the torch copy decides as the original file does, on real images under the likeliest preprocessing.

    Once is enough: the copy is the same under every preprocessing, and under a wrong scale a softmax saturates, so
    that differences of its outputs no longer show the gradient.
    """
    chosen = np.random.default_rng(config.seed).permutation(len(images))[:_PARITY_IMAGES]
    with draft.phase("parity"):
        parity = subject.compare(images[np.sort(chosen)], images_real=True)
    draft.set(parity=parity)
    if not parity.passed:
        raise Settled(Verdict.NO_VERDICT, f"the torch copy is not the model in the file: {parity.reason}")
    if parity.reason:
        draft.warn(parity.reason)


def verify(
    subject: Subject,
    extreme: Inference | None,
    pairs: Sequence[PairResult],
    images: Images,
    opened: OpenedModel,
    config: ScanConfig,
    draft: Draft,
) -> Verification | None:
    """The most extreme pair's pattern on the original file."""
    pair = _pair_of(extreme, pairs)
    if pair is None or pair.source not in images.held_out():
        return None
    with draft.phase("verification"):
        return replay(
            subject.decisions,
            pair,
            images.optimised()[pair.source],
            images.held_out(),
            goal_rate=config.goal_rate,
            provider=opened.provider,
            seed=config.seed,
            only_correct=OBJECTIVES[config.objective].only_correct,
        )


def describe(
    subject: Subject,
    extreme: Inference | None,
    inferences: Sequence[Inference],
    pairs: Sequence[PairResult],
    verification: Verification | None,
    images: Images,
    config: ScanConfig,
) -> dict[str, object]:
    """The fields of the result that show what was found."""
    pair = _pair_of(extreme, pairs)
    fields: dict[str, object] = {
        "detectors": tuple(inferences),
        "pairs": tuple(pairs),
        "verification": verification,
        "calibrated_p_value": combined_p_value(inferences, published=False),
    }
    if extreme is None or pair is None:
        return fields
    fields |= {
        "source": pair.source,
        "target": pair.target,
        "p_value": extreme.p_value,
        "null": extreme.null,
        "patterns": (evidence.found_pattern(pair, extreme),),
        "controls": evidence.controls(
            [other for other in pairs if other.detector == pair.detector], pair.source, pair.target
        ),
    }
    if config.images_in_report and pair.source in images.held_out():
        fields["examples"] = evidence.examples(subject.decisions, pair, images.held_out()[pair.source])
    return fields


def _pair_of(inference: Inference | None, pairs: Sequence[PairResult]) -> PairResult | None:
    """The pair an inference points at, with its pattern; None where a search pools its sources."""
    if inference is None:
        return None
    wanted = (inference.detector, inference.source, inference.target)
    return next((pair for pair in pairs if (pair.detector, pair.source, pair.target) == wanted), None)
