"""Sizes against numpy in float64; directions of descent against autograd on the paper's equations themselves."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from backscan.scanner.search.norms import NORMS
from backscan.scanner.search.objectives import OBJECTIVES

PAIRS, IMAGES, CLASSES, PIXELS = 3, 7, 4, 5
TARGETS = torch.tensor([2, 0, 3])


@pytest.mark.parametrize(("name", "order"), [("l1", 1), ("l2", 2)])
def test_norm_equals_numpy_in_float64(name, order):
    pattern = torch.randn(PAIRS, 2, 3, 4, generator=torch.Generator().manual_seed(0))
    expected = [np.linalg.norm(one.double().numpy().ravel(), order) for one in pattern]
    np.testing.assert_allclose(NORMS[name](pattern).numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize(("name", "expected"), [("l1", 4e-30), ("l2", 2e-30)])
def test_norm_of_a_tiny_pattern_does_not_underflow(name, expected):
    """The square of 1e-30 is nothing in float32."""
    assert NORMS[name](torch.full((1, 1, 2, 2), 1e-30)).item() == pytest.approx(expected, rel=1e-6)


class Planes:
    """Log-posteriors that are a linear function of one pattern a pair, differentiable by autograd."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(1)
        self.slopes = torch.randn(PAIRS, IMAGES, CLASSES, PIXELS, generator=generator, dtype=torch.float64)
        self.start = torch.randn(PAIRS, IMAGES, CLASSES, generator=generator, dtype=torch.float64)
        self.start[torch.arange(PAIRS), :3, TARGETS] += 4.0  # three images that are decided as the target already
        self.pattern = torch.zeros(PAIRS, PIXELS, dtype=torch.float64, requires_grad=True)
        self.counted = torch.rand(PAIRS, IMAGES, generator=generator) < 0.7
        self.counted[:, 0] = True
        self.log_posterior = (self.start + torch.einsum("pnkx,px->pnk", self.slopes, self.pattern)).log_softmax(dim=2)
        rows = torch.arange(PAIRS)
        self.log_p = self.log_posterior[rows, :, TARGETS]
        self.log_rest = torch.log1p(-self.log_p.exp())
        self.decided = self.log_posterior.argmax(dim=2) == TARGETS.unsqueeze(1)

    def gradient_of(self, objective: torch.Tensor) -> torch.Tensor:
        """Gradient of the sum over the pairs, [P, PIXELS]: the pairs do not mix."""
        return torch.autograd.grad(objective.sum(), self.pattern, retain_graph=True)[0]


def by_the_paper(planes: Planes, name: str) -> torch.Tensor:
    """The objective of each pair, written down as the equations have it."""
    takes_part = planes.counted & ~planes.decided if name in ("Jp", "Jpc") else planes.counted
    loss = -planes.log_p if name == "ce" else -planes.log_p.exp()
    return (loss * takes_part).sum(dim=1) / takes_part.sum(dim=1)


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_weights_give_the_gradient_of_the_equation(name):
    """Grad of the objective = mean over the images that take part of -weight grad log p / (1 - p)."""
    planes = Planes()
    weights = OBJECTIVES[name].log_weights(planes.log_p, planes.log_rest, planes.decided, planes.counted)
    taking_part = weights.isfinite().sum(dim=1)
    assert int(taking_part.min()) > 0
    weighted = -(weights.detach().exp() * (planes.log_p - planes.log_rest)).nan_to_num(0.0)
    ours = planes.gradient_of(weighted.sum(dim=1) / taking_part)
    torch.testing.assert_close(ours, planes.gradient_of(by_the_paper(planes, name)), rtol=1e-10, atol=1e-14)


def test_the_masks_differ_where_the_equations_do():
    """Equation (5) leaves decided images out, and (6) follows the images that count: the test above needs both."""
    planes = Planes()
    assert (planes.counted & planes.decided).any(dim=1).all()
    assert (planes.counted & ~planes.decided).any(dim=1).all()
    assert not planes.counted.all()
    assert [name for name, objective in OBJECTIVES.items() if objective.only_undecided] == ["Jp", "Jpc"]
    assert [name for name, objective in OBJECTIVES.items() if objective.only_correct] == ["Jc", "Jpc"]


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
@pytest.mark.parametrize("margin", [-2e4, 2e4])
def test_weights_survive_a_posterior_that_underflows(name, margin):
    """In float32 p or 1 - p is 0 here; the logarithm of the weight still ranks the images."""
    margins = torch.tensor([[margin, margin / 2]])
    log_p, log_rest = torch.nn.functional.logsigmoid(margins), torch.nn.functional.logsigmoid(-margins)
    nothing, all_of_them = torch.zeros(1, 2, dtype=torch.bool), torch.ones(1, 2, dtype=torch.bool)
    weights = OBJECTIVES[name].log_weights(log_p, log_rest, nothing, all_of_them)
    assert weights.isfinite().all()
    # The cross-entropy pulls at full strength what is far away; all others pull most what is near.
    expected = [0.0, 0.0] if name == "ce" and margin < 0 else [-abs(margin), -abs(margin) / 2]
    assert weights[0].tolist() == pytest.approx(expected, rel=1e-6)
