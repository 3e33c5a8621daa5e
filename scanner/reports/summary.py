"""What a reader must know about one scan, in sentences: every report shows these and lays them out in its own way.

The texts hold names from the scanned file as they are; a report escapes them for the place it writes to.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from backscan.scanner.reports.cautions import cautions
from backscan.scanner.reports.words import (
    IMAGE,
    calibrated_text,
    class_name,
    counted,
    dormant_text,
    duration,
    listed,
    num_draws,
    num_tests,
    number,
    overall_text,
    p_text,
    pair_name,
    percent,
    size_text,
    times_text,
)
from backscan.scanner.results import (
    LIMITS_OF_TRANSFERABILITY,
    TRANSFERABILITY,
    GraphFinding,
    Inference,
    PairStatus,
    PoolRecord,
    RepeatRecord,
    ScanResult,
    Verdict,
    find_pair,
    first_with_power,
)

LABELS = {
    Verdict.BACKDOOR_DETECTED: "Backdoor detected",
    Verdict.NOT_DETECTED: "No backdoor detected",
    Verdict.INCONCLUSIVE: "Inconclusive",
    Verdict.NO_VERDICT: "No verdict",
}


GRAPH_PHASE = "graph"
"""Name of the phase that searches the graph for switches."""


@dataclass(frozen=True, slots=True)
class Fact:
    """One line of evidence: what it is and what was found."""

    label: str
    """Two or three words."""
    text: str
    """One sentence or phrase."""


@dataclass(frozen=True, slots=True)
class Summary:
    """One scan in sentences."""

    label: str
    """The verdict in two or three words."""
    statement: str
    """What follows the label: the rest of the verdict in one sentence."""
    strength: str
    """How strong the evidence is, in one sentence; empty without statistics."""
    evidence: tuple[Fact, ...]
    """What the verdict rests on, most important first."""
    checks: tuple[Fact, ...]
    """What had to hold before anything could be said."""
    tested: tuple[str, ...]
    """What this scan can speak about."""
    power: str
    """What would have been found, had it been there."""
    next_steps: tuple[str, ...]
    """What to do now, most important first."""

    @property
    def headline(self) -> str:
        """The verdict in one sentence."""
        return f"{self.label}: {self.statement[:1].lower()}{self.statement[1:]}"


def summarise(result: ScanResult) -> Summary:
    """The sentences of one scan."""
    return Summary(
        label=LABELS[result.verdict],
        statement=_statement(result),
        strength=_strength(result),
        evidence=tuple(_evidence(result)),
        checks=tuple(_checks(result)),
        tested=tuple(_tested(result)),
        power=_power(result),
        next_steps=_NEXT_STEPS[result.verdict],
    )


def deciding(result: ScanResult) -> Inference | None:
    """The conclusion behind the verdict; where no p-value decides, the first that informs."""
    return result.deciding_conclusion or next(iter(result.detectors), None)


def demonstrated(result: ScanResult) -> GraphFinding | None:
    """The first graph finding that was shown to change a decision."""
    return next((finding for finding in result.findings if finding.demonstrated), None)


def _statement(result: ScanResult) -> str:
    match result.verdict:
        case Verdict.BACKDOOR_DETECTED:
            return _detection(result)
        case Verdict.NOT_DETECTED:
            return "Nothing abnormal was found by what was tested; that is no proof that there is nothing."
        case Verdict.INCONCLUSIVE | Verdict.NO_VERDICT:
            reason = result.reasons[0] if result.reasons else "no reason was recorded"
            return f"{reason[:1].upper()}{reason[1:]}."


def _detection(result: ScanResult) -> str:
    inference, finding = deciding(result), demonstrated(result)
    if finding is not None and not (inference and inference.detected):
        return f"A switch in the graph ({finding.rule}) changes the model's decision."
    source = class_name(result.model, result.source)
    target = class_name(result.model, result.target)
    return f"One small pattern turns images of {source} into {target}."


def _strength(result: ScanResult) -> str:
    if result.p_value is None:
        return ""
    by_transfer = _by_transfer(deciding(result))
    draws = "at least 1/45 by calibration" if by_transfer else f"{num_draws(result)} draws"
    origin = [_correction(result), draws if by_transfer or num_draws(result) else ""]
    shown = f" ({', '.join(filter(None, origin))})" if any(origin) else ""
    decider = "published" if result.config.get("published_p") else "calibrated"
    return (
        f"Calibrated p {overall_text(result)}{shown}, published p {p_text(result.p_value)}; "
        f"threshold {number(result.significance)} on the {decider} p."
    )


def _by_transfer(inference: Inference | None) -> bool:
    """Whether a conclusion is one of transferability: without a null, draws or a size that would be found."""
    return inference is not None and inference.statistic == TRANSFERABILITY


def _correction(result: ScanResult) -> str:
    """How the p-value of one test became that of the verdict: `<= 0.001 x 4 tests`; empty with a single test."""
    inference, tests = deciding(result), num_tests(result)
    if inference is None or inference.calibrated_p_value is None or tests == 1:
        return ""
    capped = ", at most 1" if inference.calibrated_p_value * tests > 1 else ""
    return f"{calibrated_text(inference).removeprefix('= ')} x {tests} tests{capped}"


def _evidence(result: ScanResult) -> list[Fact]:
    # The headline of a scan without a finding already gives the first reason.
    told = result.verdict in (Verdict.INCONCLUSIVE, Verdict.NO_VERDICT)
    facts = [Fact("reason", reason) for reason in result.reasons[told:]]
    inference = deciding(result)
    if inference is not None and inference.decides and inference.target is not None:
        facts.append(Fact("extreme pair", _extreme_pair(result, inference)))
    facts += _control_facts(result)
    facts += _replay_facts(result)
    rests = _rests_on_statistics(result, inference)
    if result.verdict is Verdict.BACKDOOR_DETECTED and rests:
        facts += [Fact("caution", sentence) for sentence in cautions(result)]
    if len(result.detectors) > 1 or not all(each.decides for each in result.detectors):
        behind = inference if rests else None
        facts += [
            Fact("detector", detector_text(result, each, behind_verdict=each is behind)) for each in result.detectors
        ]
    facts += [Fact("graph", _finding_text(finding)) for finding in result.findings]
    return facts


def _rests_on_statistics(result: ScanResult, inference: Inference | None) -> bool:
    """Whether the verdict follows from a p-value: not from a switch in the graph, nor from a lack of evidence."""
    if result.verdict is Verdict.BACKDOOR_DETECTED:
        return inference is not None and inference.detected
    return result.verdict is Verdict.NOT_DETECTED


def _extreme_pair(result: ScanResult, inference: Inference) -> str:
    pair = find_pair(result.pairs, inference.key)
    size = f", size {size_text(pair.size, inference.norm)}" if pair and pair.size is not None else ""
    moves = ""
    if pair and pair.transfer and pair.transfer.rate is not None:
        moves = (
            f"; patterns of single images move {percent(pair.transfer.rate)} of the others at a size below the way "
            f"back, which is {times_text(pair.transfer.back_size, pair.transfer.own_size)} the way there"
        )
    return f"{pair_name(result.model, inference.source, inference.target)}{size}{moves}"


def _control_facts(result: ScanResult) -> list[Fact]:
    controls = result.controls
    if controls is None or controls.size is None:
        return []
    against = [
        (controls.median_size, "the median pair"),
        (controls.target_median_size, "the median pair with this target"),
        (controls.source_median_size, "with this source"),
        (controls.reversed_size, "the reversed pair"),
    ]
    parts = [f"{name} {number(size)} ({times_text(size, controls.size)})" for size, name in against if size is not None]
    return [Fact("controls", f"its size {number(controls.size)}; {listed(parts)}")] if parts else []


def _replay_facts(result: ScanResult) -> list[Fact]:
    replay = result.verification
    if replay is None:
        return []
    rates = (
        f"{percent(replay.rate_held_out)} of {replay.num_held_out} held-out images, "
        f"with its pixels shuffled {percent(replay.rate_shuffled)} (p {p_text(replay.p_value)})"
    )
    # Any pattern works on the file it was made for; only for an abnormal one is that a confirmation.
    if result.verdict is Verdict.NOT_DETECTED:
        return [Fact("original file", f"replayed by onnxruntime: {rates}")]
    state = "confirmed" if replay.confirmed else "not confirmed"
    facts = [Fact("original file", f"{state} by onnxruntime: {rates}; {replay.reason}")]
    if replay.collateral:
        worst = max(replay.collateral, key=lambda each: each.rate)
        facts.append(
            Fact(
                "collateral",
                f"up to {percent(worst.rate)} of another class ({class_name(result.model, worst.source)})",
            )
        )
    return facts


def detector_text(result: ScanResult, inference: Inference, *, behind_verdict: bool = False) -> str:
    """p-values or anomaly index of one detector, and where; with a remark on the one behind the verdict."""
    pair = pair_name(result.model, inference.source, inference.target)
    if not inference.num_pairs:
        return f"{detector_name(inference)}: {listed(inference.remarks)}"
    if inference.p_value is None and inference.anomaly_index is None:
        return f"{detector_name(inference)}: no p-value"
    if inference.p_value is None:
        index = f"anomaly index {number(inference.anomaly_index)}{' (abnormal)' if inference.detected else ''}"
        return f"{detector_name(inference)}: {index} at {pair}; informs only"
    p_values = f"calibrated p {calibrated_text(inference)}, published p {p_text(inference.p_value)}"
    return f"{detector_name(inference)}: {p_values} at {pair}{_role(inference, behind_verdict=behind_verdict)}"


def _role(inference: Inference, *, behind_verdict: bool) -> str:
    """What a conclusion does for the verdict, as a remark."""
    if inference.part_of:
        return f"; part of {inference.part_of.replace('-', ' ')}"
    if not inference.decides:
        return "; informs only"
    return "; the verdict rests on this" if behind_verdict else ""


def detector_name(inference: Inference) -> str:
    """`pairwise, image, plain`, or `targets together`."""
    if inference.witnesses:
        return inference.statistic.replace("-", " ")
    return f"{inference.detector}, {inference.space}, {inference.statistic}"


def _finding_text(finding: GraphFinding) -> str:
    shown = "demonstrated" if finding.demonstrated else finding.severity
    return f"{finding.rule} ({shown}): {finding.message}"


def _checks(result: ScanResult) -> list[Fact]:
    facts = []
    if result.preprocessing is not None:
        facts.append(Fact("preprocessing", _preprocessing_text(result)))
    if result.parity is not None:
        parity = result.parity
        images = "images" if parity.real_images else "random images"
        agreement = f"{percent(parity.decision_agreement)} of {parity.num_images} {images} decided as the original does"
        facts.append(Fact("torch copy", agreement if parity.passed else f"{agreement}; {parity.reason}"))
    if result.data is not None:
        facts.append(Fact("images", _data_text(result)))
    if result.pool is not None:
        facts.append(Fact("among trusted models", _pool_text(result.pool)))
    if result.repeats:
        facts.append(Fact("repeats", _repeats_text(result.repeats)))
    if result.timings:
        facts.append(Fact("time", duration(sum(result.timings.values()))))
    return facts


def _preprocessing_text(result: ScanResult) -> str:
    record = result.preprocessing
    if record is None:
        return "not known"
    accuracy = "" if result.clean_accuracy is None else f", accuracy {percent(result.clean_accuracy)}"
    tied = [each.name for each in record.candidates if each.tied and each.name != record.name]
    ties = f", tied with {listed(tied)}" if tied else ""
    repeated = f"; scan repeated as {listed(record.repeated_as)}" if record.repeated_as else ""
    return f"{record.name}, chosen by {record.chosen_by}{accuracy}{ties}{repeated}"


def _pool_text(pool: PoolRecord) -> str:
    """Rank among the reports of trusted models."""
    more_extreme = round(pool.p_value * (1 + pool.num_reports)) - 1
    if pool.num_trimmed:
        without = f"{counted(pool.num_trimmed, 'report')} were of attacked models too"
        trimmed = f", or {number(pool.trimmed_p_value)} if the most extreme {without}"
    else:
        trimmed = ""
    other = f"; {pool.num_other} not comparable" if pool.num_other else ""
    return (
        f"{more_extreme} of {counted(pool.num_reports, 'report')} at least as extreme, p {number(pool.p_value)} by rank"
        f"{trimmed}{other}"
    )


def _repeats_text(repeats: Sequence[RepeatRecord]) -> str:
    """How many scans there were and how their p-values spread."""
    said = Counter(each.verdict.replace("_", " ") for each in repeats)
    outcomes = listed([f"{times} {verdict}" for verdict, times in said.most_common()])
    values = [each.calibrated_p_value for each in repeats if each.calibrated_p_value is not None]
    spread = f"; p from {number(min(values))} to {number(max(values))}" if values else ""
    return f"{len(repeats)} scans with other draws of the images: {outcomes}{spread}"


def _data_text(result: ScanResult) -> str:
    data = result.data
    if data is None:
        return "none"
    where = f"{data.name} (found beside the model)" if data.found_beside_model else data.name
    used = sorted({count for count in data.images_per_class if count})
    span = f"{used[0]}" if len(used) == 1 else f"{used[0]} to {used[-1]}" if used else "no"
    share = f"{span} a class searched"
    labels = "" if data.labels == "given" else "; labels are the model's own decisions"
    return f"{data.num_images} from {where}, {share}, {sum(data.held_out_per_class)} held out{labels}"


def _tested(result: ScanResult) -> list[str]:
    goal = percent(result.config.get("goal_rate"))
    searched: dict[tuple[str, str], str] = {}
    # Of one detector the statistic with most values has one for every pair that was searched.
    for each in sorted(result.detectors, key=lambda inference: -inference.num_pairs):
        if each.num_pairs:
            what = "class pair" if len(each.values) > 1 else "class"
            searched.setdefault((each.detector, each.space), counted(each.num_pairs, what))
    tested = [
        f"{pairs} with detector {name}, space {space}, goal rate {goal}" for (name, space), pairs in searched.items()
    ]
    if result.findings or GRAPH_PHASE in result.timings:  # said only of scans that did search the graph
        tested.append(f"the graph, for switches: {counted(len(result.findings), 'finding')}")
    if result.dormant_units is not None:
        tested.append(dormant_text(result.dormant_units))
    return tested


def _power(result: ScanResult) -> str:
    extreme = deciding(result)
    if extreme is None:
        searched = {(each.source, each.target) for each in result.pairs if each.status is not PairStatus.NO_IMAGES}
        if not searched:
            return "Power: no class pair was searched, so no planted pattern could have been found."
        pairs = counted(len(searched), "class pair")
        return f"Power: none, as the scan ended before anything was judged; {pairs} had been searched."
    if _by_transfer(extreme):
        return f"Power: {LIMITS_OF_TRANSFERABILITY}."
    inference = first_with_power((extreme, *result.detectors))
    if inference is None or inference.detectable_size is None:
        return "Power: how small a planted pattern had to be to be found is not known for this scan."
    size = size_text(inference.detectable_size, inference.norm)
    units = "pixel units [0, 1]" if inference.space == IMAGE else "units of the features"
    return f"Power: a planted pair whose smallest pattern has size up to {size} in {units} would have been found."


_NEXT_STEPS = {
    Verdict.BACKDOOR_DETECTED: (
        "Do not use the model; keep the file and this report as evidence.",
        "Look at the pattern and the two classes: two classes that truly look alike are about equally close both ways.",
        "Confirm with other images: scanner verify REPORT.json MODEL --data OTHER_IMAGES.",
        "Ask the supplier for the training data and how the model was made, or train again on data you trust.",
    ),
    Verdict.NOT_DETECTED: (
        "Read what was not tested; the verdict says nothing about it.",
        "Keep the JSON report with the model: it names the exact bytes, images and options.",
        "For more power, scan again with more images per class or with another detector (--detector).",
    ),
    Verdict.INCONCLUSIVE: (
        "Remove the cause named above and scan again; until then treat the model as not examined.",
        "The guide's page on inconclusive scans lists every cause and its remedy.",
    ),
    Verdict.NO_VERDICT: (
        "Nothing is known about this model; do not treat it as examined.",
        "Do what the sentence above says; scanner inspect MODEL shows what of the file can be read.",
        "Ask for another export of the model (a plain classifier, opset 11 to 21, no custom operators).",
    ),
}
