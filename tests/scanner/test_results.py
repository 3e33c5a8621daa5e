"""Reports as data: what is written comes back, nothing that JSON lacks is written, and nothing else is believed."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator
from dataclasses import replace

import jsonschema
import numpy as np
import pytest
from pydantic import TypeAdapter

from backscan.scanner import results
from backscan.scanner.errors import ReportError
from backscan.scanner.results import (
    ComparedModel,
    ComparedPair,
    ComparedSpace,
    ComparisonOutcome,
    ComparisonResult,
    DormantUnits,
    EncodedArray,
    FileRecord,
    FragilePair,
    FragileResult,
    GuardResult,
    IndividualSize,
    IndividualStatus,
    LeftToSearch,
    Listed,
    PairResult,
    PairStatus,
    PatternsAcross,
    PoolRecord,
    RepairMeasures,
    RepairResult,
    RepeatRecord,
    ScanResult,
    ScreenResult,
    SpaceRecord,
    SupportRecord,
    TargetFigures,
    TimeRecord,
    Trajectory,
    Transfer,
    TransferStatus,
    Verdict,
    Witness,
    to_json,
)
from backscan.scanner.results.base import plain
from tests.scanner.reports import examples

TYPES = [
    kind
    for kind in vars(results).values()
    if isinstance(kind, type) and dataclasses.is_dataclass(kind) and kind.__module__.startswith(results.__name__)
]
NOT_ALWAYS = ("surplus", "repeats", "pool", "space", "time", "look_alikes")
SCHEMA = results.json_schema()
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


def written(result: ScanResult) -> dict:
    return json.loads(to_json(result.to_dict()))


def parts(value: object) -> Iterator[object]:
    """A result and every dataclass inside it."""
    if dataclasses.is_dataclass(value):
        yield value
        for entry in dataclasses.fields(value):
            yield from parts(getattr(value, entry.name))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from parts(item)


def every_part() -> dict[type, object]:
    return {type(part): part for make in examples.ALL.values() for part in parts(make())} | {
        type(part): part for part in (*parts(examples.with_findings()), *WHERE_ASKED_FOR)
    }


FILE = FileRecord("model.onnx", "0" * 64)
REPAIRED = RepairResult(
    believed=False,
    reasons=("why",),
    method="unlearn",
    before=FILE,
    provenance=examples.detected(3).provenance,
    tensors=("weight",),
    measures=RepairMeasures(200, "given", 0.9, 0.89, 0.03, 40, 1.0, 0.2, 0.1),
)
SCREENED = ScreenResult("0" * 64, 1, 2, 10, 0.4, 0.01, 2, 300, (0.001, 0.02), False, (Listed(3, "3.png", 0.7),))
LEFT = LeftToSearch("pairwise", "class pair", 58, 90)
MODEL = ComparedModel("model.onnx", "0" * 64, "not_detected", ("why",), 0.4, 0.9)
COMPARED = ComparisonResult(
    ComparisonOutcome.NEW_SHORTCUT,
    ("why",),
    before=MODEL,
    after=MODEL,
    significance=0.05,
    spaces=(ComparedSpace("pairwise", 20, 1.1, 0.2, (ComparedPair(1, 2, 1.0, 0.3, 0.3, 6.0, 0.1, 0.01, True),)),),
)
FRAGILE = FragileResult(
    model=examples.detected(3).model,
    provenance=examples.detected(3).provenance,
    reasons=("why",),
    pairs=(FragilePair(examples.detected(3).patterns[0], 0.7, 0.8, 4, 0.75, (), (0.5,)),),
    goal_rate=0.8,
    left_out=2,
    num_exported=40,
    exported_to="more",
)
WHERE_ASKED_FOR = (
    DormantUnits(dormant=3, tried=2, deciding=1, searched=1, obstacle="the time was up"),
    SupportRecord(
        side=1,
        pixels=(4,),
        content=EncodedArray.encode(np.ones((1, 1), np.float32)),
        sources=(0, 2),
        hits=(19, 0),
        counts=(20, 20),
        rate_elsewhere=0.1,
    ),
    PatternsAcross((1,), EncodedArray.encode(np.ones((2, 1, 2, 2), np.float32)), ((2, 2), (2, 2))),
    IndividualSize(IndividualStatus.FOUND, size=0.5, error=0.1, common_size=0.7, images=(0.0, 0.4, 0.5)),
    FRAGILE,
    *FRAGILE.pairs,
    REPAIRED,
    REPAIRED.measures,
    GuardResult(FILE, 1, 2, 0.01, 300, ("why",), after=FILE, threshold=0.4, alarms_on_clean=2, interval=(0.001, 0.02)),
    SCREENED,
    *SCREENED.listed,
    COMPARED,
    COMPARED.before,
    COMPARED.spaces[0],
    COMPARED.spaces[0].pairs[0],
    PoolRecord(num_reports=40, num_other=1, p_value=0.1, num_trimmed=8, trimmed_p_value=0.03),
    RepeatRecord(1, "none", "not_detected", target=3, source=None, calibrated_p_value=0.4),
    SpaceRecord("colour", "what it does", "what sizes are of", "the largest", "a card"),
    Transfer(TransferStatus.FOUND, num_images=30, rate=0.9, error=0.02, own_size=0.3, back_size=1.2),
    TimeRecord(60.0, 59.1, 90.0, ended_the_scan=True, left=(LEFT,), seconds_left=30.0),
    LEFT,
    Witness("window", "target-rate", source=1, target=2, p_value=0.01, t=4.2),
    TargetFigures(
        values=(0.1, None),
        errors=(0.2, None),
        t=(3.1, None),
        tails=(0.01, None),
        p_values=(0.1, None),
        together=(3.1,),
        together_p_values=(0.1,),
        named=(0,),
    ),
)


@pytest.mark.parametrize("name", examples.ALL)
def test_a_report_comes_back_as_it_was_written(name):
    result = examples.ALL[name]()
    assert ScanResult.from_dict(written(result)) == result


@pytest.mark.parametrize("kind", TYPES, ids=lambda kind: kind.__name__)
def test_every_type_comes_back_from_json(kind):
    part = every_part()[kind]
    if kind is PairResult:
        assert PairResult.from_dict(json.loads(json.dumps(part.to_dict()))) == part
        return
    document = json.loads(to_json(plain(dataclasses.asdict(part)))) if kind is not ScanResult else written(part)
    assert TypeAdapter(kind).validate_python(document) == part


@pytest.mark.parametrize("kind", TYPES, ids=lambda kind: kind.__name__)
def test_every_type_is_frozen_and_says_what_its_fields_are(kind):
    part = every_part()[kind]
    entry = dataclasses.fields(kind)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(part, entry, None)
    schema = TypeAdapter(kind).json_schema(mode="serialization")
    fields = schema.get("properties") or schema["$defs"][kind.__name__]["properties"]
    undescribed = [
        name for name, field in fields.items() if not (field.get("description") or "").strip() and "$ref" not in field
    ]
    assert not undescribed


@pytest.mark.parametrize("name", examples.ALL)
def test_reports_follow_the_schema(name):
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    VALIDATOR.validate(written(examples.ALL[name]()))


@pytest.mark.parametrize(
    "damage",
    [
        {"verdict": "clean"},
        {"p_value": "small"},
        {"pairs": [{"source": 0}]},
        {"verification": {"confirmed": True}},
        {"reasons": "one"},
    ],
    ids=lambda damage: next(iter(damage)),
)
def test_schema_and_reader_refuse_the_same_damage(damage):
    document = written(examples.detected(3)) | damage
    assert not VALIDATOR.is_valid(document)
    with pytest.raises(ReportError, match=f"found at {next(iter(damage))}.*make the report again"):
        ScanResult.from_dict(document)


@pytest.mark.parametrize("field", [e.name for e in dataclasses.fields(ScanResult) if e.name not in NOT_ALWAYS])
def test_every_top_level_field_of_the_contract_is_written(field):
    assert field in written(examples.detected(3))


def test_the_top_level_is_that_of_the_contract():
    contract = {
        *("schema_version", "verdict", "reasons", "source", "target", "p_value", "calibrated_p_value"),
        *("bootstrap_draws", "significance", "detectors", "pairs", "null", "patterns", "examples", "verification"),
        *("controls", "parity", "findings", "model", "data", "preprocessing", "clean_accuracy", "warnings"),
        *("not_tested", "timings", "config", "provenance"),
        "targets",  # of detectors that search once per target class
        "screens",  # of detectors that search some pairs of many
        "deciding",  # which conclusion the verdict rests on
        "finished",  # when the scan ended
        "dormant_units",  # counts of those inside the model
        "searched_file",  # where the pattern was replayed on another file
    }
    assert set(written(examples.detected(3))) == contract
    pair = written(examples.detected(3))["pairs"][0]
    assert {"source", "target", "status", "size", "offset", "reciprocal", "initial_rate", "rate", "steps"} < set(pair)
    assert set(pair["trajectory"]) == {"sizes", "rates"}
    assert "pattern" not in pair


@pytest.mark.parametrize("version", [None, "0.9", "2.0", 1.0, ["1.1"], "1", "1.-1", "1.x"])
def test_another_version_is_refused(version):
    with pytest.raises(ReportError, match=r"schema version 1, found"):
        ScanResult.from_dict(written(examples.detected(3)) | {"schema_version": version})


def test_what_a_later_version_says_is_kept_and_ignored():
    document = written(examples.detected(3)) | {"schema_version": "1.7", "colour": {"red": [1]}}
    document["pairs"][1] |= {"later_size": 0.5}
    document["provenance"] |= {"clock": None}
    document["detectors"][0]["null"] |= {"error": 0.1}
    found = ScanResult.from_dict(document)
    assert found == examples.detected(3)
    assert written(found) == document | {"schema_version": results.SCHEMA_VERSION}
    VALIDATOR.validate(document)
    fewer = written(replace(found, pairs=found.pairs[:1]))
    assert (fewer["colour"], len(fewer["pairs"])) == ({"red": [1]}, 1)


def test_the_pairs_of_a_journal_and_the_answers_of_the_process_may_say_nothing_more():
    with pytest.raises(ValueError, match="later_size"):
        PairResult.from_dict(a_pair().to_dict() | {"later_size": 0.5})


def of_0_1(**changes: object) -> dict:
    """A report of schema version 1.0, which left to the reader what is stored since."""
    document = written(examples.detected(3)) | {"schema_version": "1.0"} | changes
    del document["deciding"], document["searched_file"]
    del document["verification"]["model_sha256"], document["preprocessing"]["disagreement"]
    return document


def test_a_report_of_0_1_still_reads():
    assert ScanResult.from_dict(of_0_1()) == examples.detected(3)


def test_a_report_of_0_1_whose_conclusions_tie_rests_on_the_one_that_is_shown():
    """Published p-values have a floor, so strong ones are equal."""
    result = examples.detected(3)
    first, second = (replace(each, p_value=2.3e-308) for each in result.detectors)
    other = replace(first, detector="features", calibrated_p_value=0.001)
    tied = (other, replace(first, calibrated_p_value=0.3), replace(second, calibrated_p_value=0.002))
    document = of_0_1(
        detectors=[json.loads(to_json(plain(dataclasses.asdict(each)))) for each in tied], p_value=2.3e-308
    )
    assert ScanResult.from_dict(document).deciding == 2
    document["patterns"] = []
    assert ScanResult.from_dict(document).deciding == 0


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_an_unknown_field_that_is_no_number_is_null(number):
    document = written(examples.detected(3)) | {"colour": [number]}
    assert written(ScanResult.from_dict(document))["colour"] == [None]


def test_a_report_that_is_nested_too_deep_is_refused():
    nested: list = []
    for _ in range(900):
        nested = [nested]
    document = written(examples.detected(3))
    document["config"] |= {"deep": nested}
    with pytest.raises(ReportError, match="make the report again"):
        ScanResult.from_dict(document)


def test_a_report_of_0_1_tells_of_a_replay_on_another_file():
    told = "this is not the file of the report: all but the replay is of a, sha256 b, sha256 0123456789abcdef"
    found = ScanResult.from_dict(of_0_1(warnings=["other", told]))
    assert found.searched_file == FileRecord("a, sha256 b", "0123456789abcdef")
    assert found.verification.model_sha256 == found.model.sha256


def test_a_report_of_0_1_tells_why_no_verdict_holds_under_every_preprocessing():
    reasons = ["a switch", "the verdict depends on the preprocessing, which ...", "p = 1"]
    found = ScanResult.from_dict(of_0_1(verdict="inconclusive", reasons=reasons))
    assert found.preprocessing.disagreement == tuple(reasons[1:])


@pytest.mark.parametrize(
    "damage",
    [{"detectors": 3}, {"detectors": [3]}, {"warnings": 3}, {"reasons": None}, {"model": 1}, {"preprocessing": 1}],
    ids=str,
)
def test_damage_of_a_report_of_0_1_is_told(damage):
    document = written(examples.detected(3)) | damage | {"schema_version": "1.0"}
    with pytest.raises(ReportError, match=f"found at {next(iter(damage))}"):
        ScanResult.from_dict(document)


@pytest.mark.parametrize("place", [-1, 99])
def test_the_deciding_conclusion_is_one_of_them(place):
    with pytest.raises(ReportError, match="`deciding`"):
        ScanResult.from_dict(written(examples.detected(3)) | {"deciding": place})


@pytest.mark.parametrize("number", [math.inf, -math.inf, math.nan, np.float64("nan")])
def test_what_json_has_no_word_for_is_null(number):
    result = replace(examples.detected(3), p_value=number, timings={"search": number}, config={"max_size": [number]})
    document = written(result)
    assert document["p_value"] is None
    assert document["timings"]["search"] is None
    assert document["config"] == {"max_size": [None]}


def test_a_model_that_answers_no_numbers_leaves_a_readable_report():
    parity = replace(examples.detected(3).parity, largest_logit_gap=math.nan, largest_probability_gap=math.inf)
    document = written(replace(examples.detected(3), parity=parity))
    VALIDATOR.validate(document)
    assert ScanResult.from_dict(document).parity == replace(
        parity, largest_logit_gap=None, largest_probability_gap=None
    )


def test_numpy_scalars_are_plain_numbers():
    result = replace(examples.detected(3), p_value=np.float64(0.25), bootstrap_draws=np.int64(99))
    document = written(result)
    assert (document["p_value"], document["bootstrap_draws"]) == (0.25, 99)


ARRAYS = {
    "signs and denormals": np.array(
        [0.0, -0.0, 1e-45, -3.4e38, np.nextafter(np.float32(1), np.float32(2))], np.float32
    ),
    "image": np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32),
    "not contiguous": np.arange(24, dtype=np.float32).reshape(2, 3, 4).transpose(2, 0, 1),
    "big-endian": np.arange(6, dtype=">f4").reshape(1, 2, 3),
    "empty": np.zeros((0, 3), np.float32),
    "scalar": np.float32(2.5).reshape(()),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_come_back_bit_for_bit(name):
    array = ARRAYS[name]
    decoded = (
        TypeAdapter(EncodedArray).validate_json(json.dumps(dataclasses.asdict(EncodedArray.encode(array)))).decode()
    )
    assert decoded.shape == array.shape
    assert decoded.astype("<f4").tobytes() == np.ascontiguousarray(array, dtype="<f4").tobytes()
    assert not decoded.flags.writeable


@pytest.mark.parametrize(("shape", "data"), [((2,), "AAAA"), ((1,), "§§§§"), ((3,), "AAAAAAAAAAA="), ((1,), "AAAAA")])
def test_a_damaged_array_is_a_damaged_report(shape, data):
    with pytest.raises(ReportError, match="found data that does not fit: make the report again"):
        EncodedArray(shape, data).decode()


def a_pair(status: PairStatus = PairStatus.REACHED) -> PairResult:
    pattern = np.ones((1, 2, 2), np.float32)
    return PairResult("pairwise", 0, 1, status, 0.5, 0.1, 0.8, 1, Trajectory((0.0, 0.5), (0.1, 0.8)), pattern=pattern)


def test_a_pattern_travels_beside_its_pair():
    pair = a_pair()
    document = pair.to_dict()
    assert "pattern" not in document
    assert PairResult.from_dict(document).pattern is None
    np.testing.assert_array_equal(PairResult.from_dict(document, pair.pattern).pattern, pair.pattern)
    assert pair == replace(pair, pattern=None)


@pytest.mark.parametrize("damage", [{"status": "lost"}, {"size": "large"}, {"colour": 1}])
def test_a_pair_of_another_kind_is_refused(damage):
    with pytest.raises(ValueError, match=next(iter(damage))):
        PairResult.from_dict(a_pair().to_dict() | damage)


def test_which_statuses_count():
    """docs/contract.md, Optimisation: two limits enter with a size, two never enter."""
    assert {status for status in PairStatus if status.counts} == {
        PairStatus.REACHED,
        PairStatus.SIZE_LIMIT,
        PairStatus.STEP_LIMIT,
    }
    assert all(status.explanation for status in PairStatus)


def test_no_verdict_says_clean_or_safe():
    assert {verdict.value for verdict in Verdict} == {"backdoor_detected", "not_detected", "inconclusive", "no_verdict"}
