"""The kinds of findings: stable identifiers, severities and help texts for SARIF, JUnit, baselines and the guide."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from backscan.scanner.reports.basis import LEANING_BOUNDARY, LOOK_ALIKE_CLASSES, deciding, demonstrated, natural_cause
from backscan.scanner.reports.summary import summarise
from backscan.scanner.results import DEPENDS_ON_CALL, DORMANT_UNIT, GraphFinding, ScanResult, Verdict

ATLAS: Mapping[str, str] = MappingProxyType(
    {
        "AML.T0018.000": "Poison AI Model",
        "AML.T0018.001": "Modify AI Model Architecture",
        "AML.T0043.004": "Insert Backdoor Trigger",
    }
)
"""Names of the techniques of MITRE ATLAS that findings belong to."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One kind of finding."""

    id: str
    """Stable: baselines and suppressions name it."""
    name: str
    """In CamelCase, as SARIF viewers show it."""
    short: str
    """One sentence."""
    help: str
    """What it means and what to do, in Markdown."""
    level: str
    """`error`, `warning` or `note`, unless the finding itself says more."""
    severity: float
    """0 to 10, as code scanning dashboards sort."""
    techniques: tuple[str, ...] = ()
    """What an attacker does who plants this: keys of `ATLAS`."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a scan reports."""

    rule: Rule
    """Its kind."""
    level: str
    """`error`, `warning` or `note`."""
    message: str
    """One sentence; holds names from the scanned file."""
    model: str
    """Name of the scanned file."""
    source: int | None
    """Source class, if it has one."""
    target: int | None
    """Target class, if it has one."""
    nodes: tuple[str, ...] = ()
    """Nodes of the graph involved."""

    @property
    def identity(self) -> tuple[str, str, int | None, int | None]:
        """What makes it the same finding in two scans: model, rule, source and target."""
        return (self.model, self.rule.id, self.source, self.target)

    @property
    def fingerprint(self) -> str:
        """Digest of the identity, for tools that compare findings by a text."""
        return hashlib.sha256("\n".join(map(str, self.identity)).encode("utf-8", "replace")).hexdigest()


def findings_of(result: ScanResult) -> tuple[Finding, ...]:
    """Everything that a scan reports: a detection or why there is no verdict, then what the graph holds."""
    found = [_of_graph(result, each) for each in result.findings]
    rule = next((each for each in NATURAL if each.id == natural_cause(result)), _VERDICT_RULES.get(result.verdict))
    shown_by_graph_alone = demonstrated(result) is not None and not _pattern_detected(result)
    if rule is not None and not (rule is BACKDOOR and shown_by_graph_alone):
        is_pair = rule in (BACKDOOR, *NATURAL)
        verdict = Finding(
            rule=rule,
            level=rule.level,
            message=summarise(result).headline,
            model=result.model.name,
            source=result.source if is_pair else None,
            target=result.target if is_pair else None,
        )
        found.insert(0, verdict)
    return tuple(found)


def techniques_of(result: ScanResult) -> tuple[str, ...]:
    """Techniques of MITRE ATLAS that the errors of a scan belong to, with their names."""
    found = (name for finding in findings_of(result) if finding.level == "error" for name in finding.rule.techniques)
    return tuple(f"{name} ({ATLAS[name]})" for name in dict.fromkeys(found))


def rule_of_graph(name: str) -> Rule:
    """The rule of a graph finding; a name that the table lacks gets the general text."""
    return GRAPH_RULES.get(name) or _graph_rule(name, "Something in the graph can switch the decision.")


def _pattern_detected(result: ScanResult) -> bool:
    inference = deciding(result)
    return inference is not None and inference.detected


def _of_graph(result: ScanResult, finding: GraphFinding) -> Finding:
    message = f"{finding.message}. Evidence: {finding.evidence}"
    return Finding(
        rule=rule_of_graph(finding.rule),
        level="error" if finding.demonstrated else finding.severity,
        message=message,
        model=result.model.name,
        source=finding.source,
        target=finding.target,
        nodes=finding.nodes,
    )


def _graph_rule(name: str, short: str) -> Rule:
    camel = "".join(part.capitalize() for part in name.split("-"))
    text = (
        f"{short} Whoever builds this into a graph plants a backdoor without any training: images with a mark are "
        "decided otherwise. A finding is an *error* only where an image was found that takes the switch and changes "
        "the decision in onnxruntime; otherwise ask the supplier what the nodes are for."
    )
    return Rule(f"graph/{name}", f"Graph{camel}", short, text, "warning", 7.0, ("AML.T0018.001",))


BACKDOOR = Rule(
    id="backdoor-detected",
    name="BackdoorDetected",
    short="One small common pattern turns images of a class into another class.",
    help=(
        "A pattern far smaller than for any other pair of classes sends most images of the *source* class to the "
        "*target* class, and the original file confirms it. Two classes that truly look alike are about equally close "
        "both ways; compare the size of the reversed pair. Do not use the model; ask for the training data, or train "
        "again on data you trust."
    ),
    level="error",
    severity=9.0,
    techniques=("AML.T0018.000", "AML.T0043.004"),
)
INCONCLUSIVE = Rule(
    id="inconclusive",
    name="ScanInconclusive",
    short="The scan could not decide.",
    help="Nothing may be concluded about the model. The message names the cause and its remedy; scan again.",
    level="warning",
    severity=4.0,
)
LOOK_ALIKES = Rule(
    id=LOOK_ALIKE_CLASSES,
    name="LookAlikeClasses",
    short="A class pair is abnormally near, and other pairs come nearly as near without an attack.",
    help=(
        "By the null fitted to the pairs the *source* class is abnormally near the *target* class. Other pairs come "
        "nearly as near, as pairs of classes that look alike do without an attack, so the scan is *inconclusive*. Look "
        "at images of the two classes and at the pattern: if they look alike, that explains this pair and no other, "
        "and a baseline that holds this finding accepts it. If they do not, treat the model as attacked."
    ),
    level="warning",
    severity=6.0,
)
LEANING = Rule(
    id=LEANING_BOUNDARY,
    name="LeaningBoundary",
    short="Of two to four classes one is far nearer to another than that one to it, with or without an attack.",
    help=(
        "A small pattern leads from the *source* class to the *target* class, the original file confirms it, and the "
        "way back is far longer. A planted shortcut makes that, and so does nature where the boundary lies near one "
        "class, or one of two classes is all that the other is not: the scan is *inconclusive*. Look at the pattern: "
        "if nothing in it is what an attacker would plant, a baseline that holds this finding accepts the pair. If "
        "something is, or you cannot tell, treat the model as attacked."
    ),
    level="warning",
    severity=6.0,
)
NO_VERDICT = Rule(
    id="no-verdict",
    name="ModelNotScanned",
    short="The model could not be scanned.",
    help="Nothing is known about the model. `scanner inspect MODEL` shows what the file holds and what was refused.",
    level="warning",
    severity=5.0,
)
_VERDICT_RULES: Mapping[Verdict, Rule] = MappingProxyType(
    {
        Verdict.BACKDOOR_DETECTED: BACKDOOR,
        Verdict.INCONCLUSIVE: INCONCLUSIVE,
        Verdict.NO_VERDICT: NO_VERDICT,
    }
)
_CALL_RULE = Rule(
    id=f"graph/{DEPENDS_ON_CALL}",
    name="GraphDependsOnCall",
    short="The answer about an image depends on the other images of the call.",
    help=(
        "Scores of one image alone and in a call with others differ by more than rounding, or a node that counts the "
        "images of a call acts on the scores. Statistics over a call do that (batch normalisation left in training "
        "mode, a mean or a softmax over the axis of images), and so does a graph that behaves when it is tested in "
        "large calls and not when it is deployed with one image a call. No search speaks for all calls, so a scan "
        "that detects nothing is *inconclusive*. Export the model in inference mode, or ask the supplier why it looks "
        "at the call."
    ),
    level="warning",
    severity=6.0,
)
_UNIT_RULE = Rule(
    id=f"graph/{DORMANT_UNIT}",
    name="GraphDormantUnit",
    short="A unit that stands still on all ordinary images decides once a pattern wakes it.",
    help=(
        "Something inside the model, such as a filter with a bias that no ordinary image passes, holds the same on all "
        "ordinary images. One pattern wakes it and sends images of three or more classes to one class in onnxruntime; "
        "with the unit held at what it ordinarily is, the same images keep their decisions. Ordinary networks have "
        "dead units, but no small pattern that works through them alone. Do not use the model; ask the supplier what "
        "the node is for."
    ),
    level="error",
    severity=8.0,
    techniques=("AML.T0018.000",),
)
# How `graph_findings` names what it finds: what the gate does, and what it is.
_ACTS = {
    "selected": "selects between two results",
    "branched": "decides which branch of the graph runs",
    "masked": "is multiplied with part of the decision",
    "shifted": "is added to part of the decision or subtracted from it",
    "joined": "joins the way to the output",
}
_GATES = {
    "predicate": "A comparison, sign or rounding of a few values computed from the image",
    "side-path": "A narrow side path that lies dormant on ordinary images",
}
GRAPH_RULES: Mapping[str, Rule] = MappingProxyType(
    {
        f"{act}-by-{gate}": _graph_rule(f"{act}-by-{gate}", f"{is_what} {does_what}.")
        for act, does_what in _ACTS.items()
        for gate, is_what in _GATES.items()
    }
    | {DEPENDS_ON_CALL: _CALL_RULE, DORMANT_UNIT: _UNIT_RULE}
)
NATURAL = (LOOK_ALIKES, LEANING)
"""Findings about a pair that is as near without an attack, for all that can be told."""
RULES: tuple[Rule, ...] = (BACKDOOR, *NATURAL, INCONCLUSIVE, NO_VERDICT, *GRAPH_RULES.values())
