"""Steps 3 to 8: the file is opened, its images are made ready, and the searched copy is the model in the file."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from backscan.converters.sandbox.clock import clock, now
from backscan.scanner.detectors import DETECTORS
from backscan.scanner.errors import NoVerdictError, OptionError
from backscan.scanner.images.candidates import candidate, given_normalisation
from backscan.scanner.images.doubtful import GOOD_ACCURACY
from backscan.scanner.images.preprocessing import Settlement, settle_preprocessing
from backscan.scanner.images.stratified import stratified
from backscan.scanner.inference.verdict import dependence_reason
from backscan.scanner.pipeline import spending
from backscan.scanner.pipeline.record import Cutting, GraphFindings, Stop
from backscan.scanner.results import Verdict

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from backscan.converters import Artifact
    from backscan.scanner.images.cleanset import CleanSet
    from backscan.scanner.pipeline.record import Run
    from backscan.scanner.process.parent import OpenedModel, SettledModel
    from backscan.scanner.process.protocol import FoundInGraph
    from backscan.scanner.results import Parity

_PARITY_IMAGES = 256
# Under a time limit: images by which the file is timed, readings that are tried as a rule and their share of the time,
# with the fewest images that say something; likewise of the comparison, where an image passes file and copy.
_TIMED_IMAGES = 2
_READINGS, _READINGS_GIVEN, _JUDGED_SHARE, _FEWEST_JUDGED = 6, 2, 0.15, 24
_PASSES_OF_PARITY, _FEWEST_COMPARED = 4, 16
_MOST_NAMED = 8
_MANY_LABELS = 0.2
"""Share of images with several sigmoids above one half from which these are labels of their own."""
_LEAST_AGREEMENT = 0.9
"""Share of images that are to be decided alone as in company, if one image a call is to be searched."""
_UNLIKE = "nothing was searched, as alone and in company the model decides only"


def open_model(run: Run, artifact: Artifact, clean: CleanSet | None) -> OpenedModel:
    """Step 3: the file and its torch copy, opened in the limited process.

    The shape of the images tells what a row of as many numbers shows.

    Raises:
        OptionError: class names were given, and not as many as the model has classes.
    """
    with run.record.phase("open"):
        opened = run.process.open(artifact, run.config, None if clean is None else clean.shape)
    names, num_classes = run.record.class_names, opened.facts.num_classes
    if names and len(names) != num_classes:
        raise OptionError(
            f"expected {num_classes} class names, as the model has classes, found {len(names)}: "
            "give --class-names one per line, in the order of the classes"
        )
    run.record.warn(*opened.facts.warnings)
    _leave_out_other_outputs(run, opened)
    return opened


def _leave_out_other_outputs(run: Run, opened: OpenedModel) -> None:
    """Name the outputs that this scan says nothing about."""
    beside, chosen = opened.facts.outputs_beside, opened.facts.signature.output_name
    if beside:
        more = ", ..." if len(beside) > _MOST_NAMED else ""
        named = ", ".join(ascii(name[:80]) for name in beside[:_MOST_NAMED]) + more
        run.record.leave_out(
            f"other outputs ({named}): only {chosen[:80]!a} was scanned; those of them that give scores or class "
            "numbers were searched for switches in the graph alone (--output-name scans another, or all)"
        )
    run.record.leave_out(*opened.facts.not_searched)


def fit_images(run: Run, clean: CleanSet, opened: OpenedModel) -> CleanSet:
    """Step 4: the images in the model's shape, with labels the model can have.

    Raises:
        CleanSetError: the labels or images do not fit the model.
    """
    with run.record.phase("images"):
        fitted = clean.fit_to(opened.facts.signature.input_shape)
        fitted.check_labels(opened.facts.num_classes)
    run.record.warn(*fitted.warnings)
    return fitted


def settle(run: Run, opened: OpenedModel, clean: CleanSet) -> Settlement:
    """Step 5: how pixels become model input, by clean accuracy (docs/contract.md, Images and preprocessing)."""
    judged = _in_time(run, opened, clean)
    with run.record.phase("preprocessing"):
        flat = "H" not in opened.facts.signature.layout
        settlement = settle_preprocessing(
            judged,
            opened.decisions,
            run.config,
            confidence=opened.mean_posterior,
            posterior=opened.label_posterior,
            flat=flat,
        )
    run.record.warn(*settlement.warnings)
    return settlement


def several_labels(run: Run, settled: SettledModel, clean: CleanSet, accuracy: float | None) -> str:
    """Step 5, for sigmoids: why a search for one class among K would misread the model; empty if it would not.

    Where the largest is nearly always the label, the model chooses one class, whatever else it is sure of: a warning.
    """
    signature = settled.facts.signature
    if signature.output_kind != "sigmoids":
        return ""
    share = settled.several_labels(_drawn(run, clean))
    if share < _MANY_LABELS:
        return ""
    name = signature.output_name[:80]
    found = (
        f"on {share:.0%} of the images two or more of the {settled.facts.num_classes} sigmoids of output {name!a} are "
        "above one half"
    )
    apart = f"scan a label at a time as two classes, with --output-name '{ascii(name)[1:-1]}[0]' and so on"
    if accuracy is not None and accuracy >= GOOD_ACCURACY:
        run.record.warn(
            f"{found}; the largest is the label of {accuracy:.0%}, so it is taken for the decision: if several may "
            f"hold at once, {apart}"
        )
        return ""
    return (
        f"{found}, so it gives several labels at once and no choice among classes: {apart}, and images with 1 in `y` "
        "(or in the folder 1) where the label holds and 0 elsewhere"
    )


def find_switches(run: Run, settled: SettledModel, clean: CleanSet) -> GraphFindings:
    """Step 6: what in the graph can switch the decision, and whether it does."""
    with run.record.phase("graph"):
        seconds = clock().seconds(spending.GRAPH_SHARE)
        images = clean.images if seconds is None else _drawn(run, clean)
        return graph_findings(run, settled.find_switches(images, seed=run.config.seed, seconds=seconds))


def graph_findings(run: Run, found: FoundInGraph) -> GraphFindings:
    """What was found in the graph; what was left untried of it is named."""
    units = found.dormant
    untried, unsearched = units.dormant - units.tried, units.deciding - units.searched
    if units.obstacle:
        run.record.leave_out(f"{f'{untried} of {units.dormant} ' if untried else ''}dormant units: {units.obstacle}")
    if unsearched > 0:
        run.record.leave_out(
            f"patterns that wake {unsearched} of the {units.deciding} dormant units that decide when they are moved: "
            "those were searched that decide the soonest"
        )
    return GraphFindings(found.findings, units)


def call_alone(run: Run, settled: SettledModel, clean: CleanSet) -> Stop | None:
    """Step 6, where answers depend on the call: go on with one image a call, as models are deployed, if that works."""
    graph = run.record.get(GraphFindings)
    reason = dependence_reason(graph.findings if graph else ())
    if not reason:
        return None
    with run.record.phase("graph"):
        images = _drawn(run, clean)
        agreement = float((settled.decisions(images, alone=True) == settled.decisions(images)).mean())
        if agreement < _LEAST_AGREEMENT:
            return Stop(Verdict.INCONCLUSIVE, (reason, f"{_UNLIKE} {agreement:.0%} of the images alike"))
        if settled.facts.signature.batch is not None:
            return None
        try:
            settled.call_alone()
        except NoVerdictError as error:
            return Stop(Verdict.INCONCLUSIVE, (reason, str(error)))
    run.record.leave_out("calls of several images: the answers depend on the call, and one image a call was searched")
    return None


def compare(run: Run, settled: SettledModel, clean: CleanSet) -> Parity | Stop:
    """Step 7: whether the torch copy decides as the file does, on real images, under the likeliest preprocessing.

    Once is enough: the copy is the same under every preprocessing, and under a wrong scale a softmax saturates, so
    that differences of its outputs no longer show the gradient.
    """
    with run.record.phase("parity"):
        parity = run.record.take(settled.compare(_drawn(run, clean), real_images=True))
    graph = run.record.get(GraphFindings)
    dependence = dependence_reason(graph.findings if graph else ())
    if not parity.passed and dependence:  # no fault of the import
        return Stop(Verdict.INCONCLUSIVE, (dependence,))
    if not parity.passed:
        return Stop(Verdict.NO_VERDICT, (parity.reason,))
    if parity.reason:
        run.record.warn(parity.reason)
    return parity


def cut_model(run: Run, settled: SettledModel, clean: CleanSet) -> Cutting:
    """Step 8: the model cut for the detectors that act on its features; they do without it if that cannot be.

    Raises:
        AbsentNameError: the model has no cut at the tensor of `--cut`.
    """
    if not any(name in DETECTORS and DETECTORS[name].acts_on_features for name in run.config.detectors):
        return Cutting(None)
    with run.record.phase("cut"):
        cut = settled.cut(run.config.cut, _drawn(run, clean))
    if isinstance(cut, str):
        run.record.leave_out(f"patterns on features inside the model: {cut}")
        return Cutting(None)
    return Cutting(cut)


def _in_time(run: Run, opened: OpenedModel, clean: CleanSet) -> CleanSet:
    """The images by which preprocessing is judged: all, or as many as a time limit allows; how fast the file is."""
    if not clock().is_limited:
        return clean
    few = clean.images[:_TIMED_IMAGES]
    opened.decisions(few[:1], candidate("none"))  # the first call makes ready
    started = now()
    opened.decisions(few, candidate("none"))
    run.record.seconds_per_image = (now() - started) / len(few)
    readings = _READINGS if given_normalisation(run.config, clean.images.shape[1]) is None else _READINGS_GIVEN
    most = spending.most_images(
        len(clean.images), readings * run.record.seconds_per_image, fewest=_FEWEST_JUDGED, share=_JUDGED_SHARE
    )
    if most == len(clean.images) or clean.labels is None:
        return clean
    run.record.leave_out(
        f"{len(clean.images) - most} images when preprocessing was judged by accuracy: no time for all"
    )
    chosen = stratified(clean.labels, most, run.config.seed)
    return replace(clean, images=clean.images[chosen], labels=clean.labels[chosen], originals=None)


def _drawn(run: Run, clean: CleanSet) -> NDArray[np.float32]:
    """Some of the images, by the seed, on which the copy is compared with the file."""
    images = clean.images
    most = spending.most_images(
        _PARITY_IMAGES, _PASSES_OF_PARITY * run.record.seconds_per_image, fewest=_FEWEST_COMPARED
    )
    chosen = np.random.default_rng(run.config.seed).permutation(len(images))[:most]
    return images[np.sort(chosen)]
