"""Several scans of one model: one verdict where they agree, none where they do not."""

import pytest

from backscan.scanner.inference.repeats import agreed, disagreement
from backscan.scanner.inference.verdict import Judgement
from backscan.scanner.results import RepeatRecord, Verdict

DETECTED, NOT_DETECTED = Verdict.BACKDOOR_DETECTED, Verdict.NOT_DETECTED


def record(verdict: Verdict, target: int = 3, *, source: int = 1, p_value: float = 0.01) -> RepeatRecord:
    return RepeatRecord(0, "none", verdict.value, target, source, p_value)


@pytest.mark.parametrize(
    "repeats",
    [
        [record(DETECTED), record(DETECTED, source=2), record(DETECTED, p_value=0.04)],
        [record(NOT_DETECTED), record(NOT_DETECTED, 5)],
        [record(DETECTED)],
        [],
    ],
    ids=["same target", "no detection has no target", "one", "none"],
)
def test_scans_that_agree_leave_the_first_judgement(repeats):
    judgements = [Judgement(Verdict(each.verdict), (f"reason {place}",)) for place, each in enumerate(repeats)]
    assert disagreement(repeats) == ""
    if judgements:
        assert agreed(judgements[0], repeats) is judgements[0]


@pytest.mark.parametrize(
    ("repeats", "said"),
    [
        (
            [record(DETECTED), record(NOT_DETECTED), record(DETECTED)],
            "of 3 scans with other draws of the images 2 say backdoor detected with target 3 and 1 say not detected",
        ),
        (
            [record(DETECTED, 3), record(DETECTED, 0)],
            "1 say backdoor detected with target 3 and 1 say backdoor detected with target 0",
        ),
        ([record(NOT_DETECTED), record(Verdict.INCONCLUSIVE)], "1 say not detected and 1 say inconclusive"),
    ],
    ids=["verdict", "target", "doubt"],
)
def test_scans_that_differ_are_inconclusive_and_say_in_what(repeats, said):
    judgement = agreed(Judgement(Verdict(repeats[0].verdict), ("its own reason",)), repeats)
    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert said in judgement.reasons[0]
    assert judgement.reasons[1:] == ("its own reason",)


def test_a_pair_of_look_alikes_is_not_accepted_by_several_scans():
    """Another inconclusive scan may be about another pair, or have another reason."""
    near = Judgement(Verdict.INCONCLUSIVE, ("near",), look_alikes=True)
    assert agreed(near, []) is near
    assert agreed(near, [record(Verdict.INCONCLUSIVE)]) is near
    both = agreed(near, [record(Verdict.INCONCLUSIVE), record(Verdict.INCONCLUSIVE, 5)])
    assert (both.verdict, both.reasons, both.look_alikes) == (Verdict.INCONCLUSIVE, ("near",), False)
