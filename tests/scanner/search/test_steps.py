"""Step rules by their definition; the search for the step length on pairs whose number of steps is known."""

from __future__ import annotations

import math

import pytest
import torch

from backscan.scanner.search.steps import STEP_RULES, StepRule, find_step_size, plain_step, unit_step

UNIT = STEP_RULES["unit"]


def directions() -> torch.Tensor:
    return torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(0))


def test_unit_steps_have_length_one_and_keep_the_direction():
    direction = directions()
    step = unit_step(direction, torch.zeros(4))
    for before, after in zip(direction, step, strict=True):
        assert after.norm().item() == pytest.approx(1.0, rel=1e-6)
        cosine = torch.nn.functional.cosine_similarity(before.flatten(), after.flatten(), dim=0)
        assert cosine.item() == pytest.approx(1.0, rel=1e-6)


@pytest.mark.parametrize("scale", [1e-25, 1e25])
def test_unit_steps_do_not_depend_on_the_scale_of_the_gradient(scale):
    """Squares of 1e-25 and 1e25 leave float32."""
    torch.testing.assert_close(unit_step(directions() * scale, torch.zeros(4)), unit_step(directions(), torch.zeros(4)))


def test_no_gradient_gives_no_step():
    assert unit_step(torch.zeros(2, 1, 3, 3), torch.zeros(2)).eq(0).all()


def test_plain_steps_restore_the_factor_that_was_taken_out():
    direction = directions()
    step = plain_step(direction, torch.tensor([0.0, math.log(2.0), -3.0, -1000.0]))
    for index, factor in enumerate((1.0, 2.0, math.exp(-3.0), 0.0)):
        torch.testing.assert_close(step[index], direction[index] * factor)


@pytest.mark.parametrize("distance", [1e-3, 0.4, 30.0])
@pytest.mark.parametrize("rule", sorted(STEP_RULES))
def test_the_median_pair_arrives_in_the_wanted_number_of_steps(rule, distance):
    """A pair at some distance needs distance / step steps, up to its limit; sizes span four orders of magnitude."""
    wanted, trials = STEP_RULES[rule], []

    def steps_needed(size: float) -> list[int]:
        trials.append(size)
        return [min(math.ceil(share * distance / size), 4 * wanted.most) for share in (0.5, 0.9, 1.0, 1.1, 7.0)]

    size = find_step_size(wanted, steps_needed, start=0.05)
    assert wanted.fewest <= sorted(steps_needed(size))[2] <= wanted.most
    assert len(trials) <= 9


def test_the_first_size_that_fits_is_taken():
    assert find_step_size(UNIT, lambda _: [10, 20, 15], start=0.3) == 0.3


def test_without_a_fit_the_nearest_is_taken():
    """Pairs that jump from 3 to 200 steps: 3 is 5 times too few, 200 is 14 times too many."""
    size = find_step_size(UNIT, lambda size: [3 if size > 0.1 else 200], start=1.0)
    assert size > 0.1


@pytest.mark.parametrize(("trials", "expected"), [([[]], 0.3), ([[1000], [2], []], 8 * 0.3)])
def test_the_nearest_so_far_is_taken_when_the_time_is_up(trials, expected):
    left = iter(trials)
    assert find_step_size(StepRule(unit_step, 10, 20), lambda _: next(left), start=0.3) == pytest.approx(expected)


def test_the_search_for_a_length_ends():
    asked = []
    find_step_size(StepRule(unit_step, 10, 20), lambda size: asked.append(size) or [80], start=1.0)
    assert len(asked) == 12
