"""What a reader must know about one scan, in sentences: every report shows these and lays them out in its own way.

The texts hold names from the scanned file as they are; a report escapes them for the place it writes to.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from backscan.scanner.reports.basis import (
    LEANING_BOUNDARY,
    LOOK_ALIKE_CLASSES,
    by_transfer,
    deciding,
    demonstrated,
    natural_cause,
    rests_on_statistics,
)
from backscan.scanner.reports.cautions import cautions
from backscan.scanner.reports.extent import route_sentence
from backscan.scanner.reports.sizes import INSIDE, largest_size, place_of, size_in_words
from backscan.scanner.reports.strength import p_value_text, strength_text
from backscan.scanner.reports.words import (
    calibrated_text,
    class_name,
    counted,
    dormant_text,
    duration,
    listed,
    moment,
    number,
    p_text,
    pair_name,
    percent,
    times_text,
)
from backscan.scanner.results import (
    LIMITS_OF_TRANSFERABILITY,
    POWER_OF_TRANSFERABILITY,
    GraphFinding,
    Inference,
    PairStatus,
    PoolRecord,
    RepeatRecord,
    ScanResult,
    TimeRecord,
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
FEATURES = "features"
"""Detector of patterns inside the model."""


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
    """How often as much would be seen without a backdoor, in one sentence; empty where nothing was judged."""
    evidence: tuple[Fact, ...]
    """What the verdict rests on, most important first."""
    detectors: tuple[Fact, ...]
    """What each detector and statistic says; empty where the evidence says it all."""
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
        strength=strength_text(result),
        evidence=tuple(_evidence(result)),
        detectors=tuple(_detector_facts(result)),
        checks=tuple(_checks(result)),
        tested=tuple(_tested(result)),
        power=_power(result),
        next_steps=_next_steps(result),
    )


def _statement(result: ScanResult) -> str:
    match result.verdict:
        case Verdict.BACKDOOR_DETECTED:
            return _detection(result)
        case Verdict.NOT_DETECTED:
            return "Nothing abnormal was found by what was tested; that is no proof that there is nothing."
        case Verdict.INCONCLUSIVE | Verdict.NO_VERDICT:
            reason = result.reasons[0] if result.reasons else "no reason was recorded"
            return f"{reason[:1].upper()}{reason[1:]}."


def why(result: ScanResult) -> str:
    """The reason in one sentence, for a list of several models."""
    if result.verdict is Verdict.BACKDOOR_DETECTED or not result.reasons:
        return _statement(result)
    return f"{result.reasons[0][:1].upper()}{result.reasons[0][1:]}."


def _detection(result: ScanResult) -> str:
    finding = demonstrated(result)
    if finding is not None and not rests_on_statistics(result):
        return f"A switch in the graph ({finding.rule}) changes the model's decision."
    return route_sentence(result)


def _evidence(result: ScanResult) -> list[Fact]:
    # The headline of a scan without a finding already gives the first reason.
    told = result.verdict in (Verdict.INCONCLUSIVE, Verdict.NO_VERDICT)
    facts = [Fact("reason", reason) for reason in result.reasons[told:]]
    if p_values := p_value_text(result):
        facts.append(Fact("p-value", p_values))
    inference = deciding(result)
    if inference is not None and inference.decides and inference.target is not None:
        facts.append(Fact("extreme pair", _extreme_pair(result, inference)))
    facts += _control_facts(result)
    facts += _replay_facts(result)
    if result.verdict is Verdict.BACKDOOR_DETECTED and rests_on_statistics(result):
        facts += [Fact("caution", sentence) for sentence in cautions(result)]
    facts += [Fact("graph", _finding_text(finding)) for finding in result.findings]
    return facts


def _detector_facts(result: ScanResult) -> list[Fact]:
    if len(result.detectors) == 1 and result.detectors[0].decides:
        return []
    behind = deciding(result) if rests_on_statistics(result) else None
    return [Fact("detector", detector_text(result, each, behind_verdict=each is behind)) for each in result.detectors]


def _extreme_pair(result: ScanResult, inference: Inference) -> str:
    pair = find_pair(result.pairs, inference.key)
    size = f", size {size_in_words(result, inference, pair.size)}" if pair and pair.size is not None else ""
    moves = ""
    if pair and pair.transfer and pair.transfer.rate is not None:
        moves = (
            f"; patterns of single images move {percent(pair.transfer.rate)} of the others at a size below the way "
            f"back, which is {times_text(pair.transfer.back_size, pair.transfer.own_size)} the way there"
        )
        back = find_pair(result.pairs, (pair.detector, pair.target, pair.source))
        if back and back.size and pair.size:
            moves += f"; the common pattern back is {times_text(back.size, pair.size)} as large"
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
    if result.verdict is Verdict.NOT_DETECTED or (replay.confirmed and not _is_abnormal(result)):
        return [Fact("original file", f"replayed by onnxruntime: {rates}")]
    state = "confirmed" if replay.confirmed else "not confirmed"
    facts = [Fact("original file", f"{state} by onnxruntime: {rates}; {replay.reason}")]
    if replay.collateral:
        worst = max(replay.collateral, key=lambda each: each.rate)
        most = f"up to {percent(worst.rate)} of another class ({class_name(result.model, worst.source)})"
        facts.append(Fact("collateral", most if worst.rate else "no image of another class"))
    return facts


def _is_abnormal(result: ScanResult) -> bool:
    """Whether the pattern that was replayed is one that some conclusion calls abnormal."""
    return any(each.detected and each.target == result.target for each in result.detectors)


def detector_text(result: ScanResult, inference: Inference, *, behind_verdict: bool = False) -> str:
    """p-values or anomaly index of one detector, and where; with a remark on the one behind the verdict."""
    pair = pair_name(result.model, inference.source, inference.target)
    if not inference.num_pairs:
        return f"{detector_name(inference)}: {listed(inference.remarks)}"
    if inference.p_value is None and inference.anomaly_index is None:
        return f"{detector_name(inference)}: no p-value"
    if inference.inference == "mad":
        index = f"anomaly index {number(inference.anomaly_index)}{' (abnormal)' if inference.detected else ''}"
        told = "" if inference.p_value is None else f", calibrated p {calibrated_text(inference)}"
        return f"{detector_name(inference)}: {index}{told} at {pair}; informs only"
    p_values = f"calibrated p {calibrated_text(inference)}, published p {p_text(inference.p_value)}"
    if inference.fitted_p_value is not None:
        p_values += f" beside look-alikes, {p_text(inference.fitted_p_value)} by the fitted null alone"
    return f"{detector_name(inference)}: {p_values} at {pair}{_role(inference, behind_verdict=behind_verdict)}"


def _role(inference: Inference, *, behind_verdict: bool) -> str:
    """What a conclusion does for the verdict, as a remark."""
    if inference.part_of:
        return f"; part of {inference.part_of.replace('-', ' ')}"
    if not inference.decides:
        return "; informs only"
    return "; the verdict rests on this" if behind_verdict else ""


def detector_name(inference: Inference) -> str:
    """`pairwise, plain`, or `targets together`; the tensor of a pattern inside the model is a detail."""
    if inference.witnesses:
        return inference.statistic.replace("-", " ")
    return f"{inference.detector}, {inference.statistic}"


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
    if result.space is not None:
        facts.append(Fact("space", f"{result.space.name}: {result.space.about}; sizes are of {result.space.unit}"))
    if inside := sorted({each.space for each in result.detectors if each.detector == FEATURES and each.num_pairs}):
        facts.append(Fact("features", f"patterns {INSIDE} are added to {listed(inside)} (--cut)"))
    if result.timings:
        facts.append(Fact("wall time", _time_text(result)))
    return facts


def _time_text(result: ScanResult) -> str:
    """How long it took, of how much it was given, and when it ended."""
    ended = f", until {moment(result).replace('T', ' ')} UTC" if moment(result) else ""
    if result.time is None:
        return f"{duration(sum(result.timings.values()))}{ended}"
    return f"{duration(result.time.taken)} of {duration(result.time.limit)} (--time-limit), start counted{ended}"


def _next_steps(result: ScanResult) -> tuple[str, ...]:
    """What to do now; more time first, where there was too little and nothing was found."""
    natural = natural_cause(result)
    steps = _NEXT_STEPS[result.verdict] if natural is None else _AFTER_NATURAL[natural]
    if result.time is None or not result.time.ended_the_scan or result.verdict is Verdict.BACKDOOR_DETECTED:
        return steps
    return (
        f"Scan again with more time: {_more_time(result.time)}; until then treat the model as not examined.",
        "With --journal DIR a scan keeps what it has searched, and with --resume the next one goes on from there.",
        "Or search less, and say so: --budget quick takes fewer images, --targets some classes only.",
    )


def _more_time(time: TimeRecord) -> str:
    """`--time-limit 60, or without a limit`: half as much again as is known to be needed."""
    needed = max(time.estimate or 0.0, time.limit + (time.seconds_left or 0.0))
    wanted = max(2.0 * time.limit, 1.5 * needed)
    return f"--time-limit {math.ceil(wanted / 10) * 10}, or without a limit"


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
    span = f"{used[0]}" if len(used) == 1 else f"{used[0]} to {used[-1]}" if used else ""
    share = f"{span} a class searched" if span else "too few of every class to search"
    labels = "" if data.labels == "given" else "; labels are the model's own decisions"
    return f"{data.num_images} from {where}, {share}, {sum(data.held_out_per_class)} held out{labels}"


def _tested(result: ScanResult) -> list[str]:
    searched: dict[str, str] = {}
    # Of one detector the statistic with most values has one for every pair that was searched.
    for each in sorted(result.detectors, key=lambda inference: -inference.num_pairs):
        if each.num_pairs and not each.witnesses:
            searched.setdefault(each.detector, _searched_text(result, each))
    tested = list(searched.values())
    if result.findings or GRAPH_PHASE in result.timings:  # said only of scans that did search the graph
        tested.append(f"the graph, for switches: {counted(len(result.findings), 'finding')}")
    if result.dormant_units is not None:
        tested.append(dormant_text(result.dormant_units))
    return tested


def _searched_text(result: ScanResult, inference: Inference) -> str:
    """What one detector searched: how many pairs or classes, where, and up to what size."""
    counting = counted(inference.num_pairs, "class pair" if len(inference.values) > 1 else "class")
    place = place_of(result, inference.space) if inference.detector == FEATURES or result.space else ""
    where = f"with detector {inference.detector}{f', {place}' if place else ''}"
    if not any(pair.detector == inference.detector for pair in result.pairs):
        return f"{counting} {where}"
    if by_transfer(inference):
        size = largest_size(result, inference)
        return f"{counting} {where}: patterns of single images and ways back, sizes up to {size}"
    goal = percent(result.config.get("goal_rate"))
    return f"{counting} {where}: goal rate {goal}, sizes up to {largest_size(result, inference)}"


def _power(result: ScanResult) -> str:
    extreme = deciding(result)
    if extreme is None:
        searched = {(each.source, each.target) for each in result.pairs if each.status is not PairStatus.NO_IMAGES}
        if not searched:
            return "Power: no class pair was searched, so no planted pattern could have been found."
        pairs = counted(len(searched), "class pair")
        return f"Power: none, as the scan ended before anything was judged; {pairs} had been searched."
    if by_transfer(extreme):
        return f"Power: {LIMITS_OF_TRANSFERABILITY}. Tried: {POWER_OF_TRANSFERABILITY}."
    inference = first_with_power((extreme, *result.detectors))
    if inference is None or inference.detectable_size is None:
        return "Power: how small a planted pattern had to be to be found is not known for this scan."
    size = size_in_words(result, inference, inference.detectable_size)
    where = f" {place}" if (place := place_of(result, inference.space)) else ""
    among = " among those that were searched" if result.time and result.time.ended_the_scan else ""
    planted = f"of planted pairs{among} whose smallest pattern{where} has size {size}"
    return f"Power: {planted}, four in five would have been found."


_WITH_OTHERS = "Compare with models of the same classes that you trust: --reference-reports DIR."
_AFTER_NATURAL = {
    LOOK_ALIKE_CLASSES: (
        "Look at examples of the two classes and at the pattern: if they look alike, that explains this pair and no "
        "other.",
        "If they do not, or you cannot tell, treat the model as attacked.",
        _WITH_OTHERS,
    ),
    LEANING_BOUNDARY: (
        "Look at the pattern: a patch, a few pixels or a texture that no image of these classes has, as an attacker "
        "would plant, speaks for an attack.",
        "If one class is all that the other is not, a shorter way to it is natural; if you cannot tell, treat the "
        "model as attacked.",
        "In a pipeline --baseline REPORT.json accepts this pair once you have looked, and nothing else.",
        _WITH_OTHERS,
    ),
}

_NEXT_STEPS = {
    Verdict.BACKDOOR_DETECTED: (
        "Do not use the model; keep the file and this report as evidence.",
        "Look at the pattern and the two classes: two classes that truly look alike are about equally close both ways.",
        "Confirm with other images: scanner verify REPORT.json MODEL --data OTHER_IMAGES.",
        "Ask the supplier for the training data and how the model was made, or train again on data you trust.",
        "Where only the file is at hand, scanner repair makes a copy that forgets the pattern, and measures that.",
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
