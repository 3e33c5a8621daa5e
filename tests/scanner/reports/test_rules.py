import re

import pytest

from backscan.converters.switches.flow import Switch
from backscan.scanner.reports.rules import GRAPH_RULES, RULES, findings_of, rule_of_graph
from backscan.scanner.results import DEPENDS_ON_CALL, DORMANT_UNIT
from backscan.scanner.switches import findings
from tests.scanner.reports.examples import ALL, detected, hostile, inconclusive, no_verdict, not_detected, with_findings


def ids(result: object) -> list[str]:
    return [finding.rule.id for finding in findings_of(result)]  # type: ignore[arg-type]


def test_identifiers_are_unique_and_keep_their_form() -> None:
    names = [rule.id for rule in RULES]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"(graph/)?[a-z]+(-[a-z]+)*", name) for name in names)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_every_rule_helps(rule: object) -> None:
    assert rule.short.endswith(".")  # type: ignore[attr-defined]
    assert len(rule.help) > len(rule.short)  # type: ignore[attr-defined]


def test_what_each_verdict_reports() -> None:
    assert ids(detected()) == ["backdoor-detected"]
    assert ids(not_detected()) == []
    assert ids(inconclusive()) == ["inconclusive"]
    assert ids(no_verdict()) == ["no-verdict"]


def test_a_switch_found_alone_is_no_pattern() -> None:
    assert ids(with_findings()) == ["graph/selected-by-predicate", "graph/joined-by-side-path"]
    assert [finding.level for finding in findings_of(with_findings())] == ["error", "warning"]


def test_a_pattern_beside_a_warning_is_both() -> None:
    assert ids(hostile()) == ["backdoor-detected", "graph/selected-by-predicate"]


def test_every_name_that_the_graph_search_gives_has_its_own_help() -> None:
    names = {
        findings._rule(Switch("gate", "join", operator, hard, ()))
        for operator in (*findings._RULES, "Concat")
        for hard in (False, True)
    }
    assert names | {DEPENDS_ON_CALL, DORMANT_UNIT} == set(GRAPH_RULES)


def test_an_unknown_graph_rule_still_has_help() -> None:
    rule = rule_of_graph("brand-new")
    assert (rule.id, rule.name) == ("graph/brand-new", "GraphBrandNew")
    assert rule.help


def test_identity_is_model_rule_source_and_target() -> None:
    (finding,) = findings_of(detected())
    assert finding.identity == ("resnet20.onnx", "backdoor-detected", 1, 9)
    assert finding.fingerprint == findings_of(detected())[0].fingerprint
    fingerprints = [finding.fingerprint for make in ALL.values() for finding in findings_of(make())]
    identities = [finding.identity for make in ALL.values() for finding in findings_of(make())]
    assert len(set(fingerprints)) == len(set(identities)) > 5
