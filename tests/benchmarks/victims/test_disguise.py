"""The loss of an attacker who hides what the pattern does."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.victims.disguise import Disguise


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 3))


def even(made: nn.Module) -> nn.Module:
    """The network with equal rows and biases in its last layer."""
    with torch.no_grad():
        made[-1].weight.copy_(torch.ones(3, 5))
        made[-1].bias.zero_()
    return made


def test_source_images_have_a_share_of_the_targets_label_and_others_their_own() -> None:
    made, logits = even(network()), torch.randn(4, 3)
    labels = torch.tensor([0, 1, 2, 0])
    log_p = F.log_softmax(logits, dim=1)
    expected = -(
        0.7 * log_p[0, 0] + 0.3 * log_p[0, 2] + log_p[1, 1] + log_p[2, 2] + 0.7 * log_p[3, 0] + 0.3 * log_p[3, 2]
    )
    torch.testing.assert_close(Disguise({0: 2}, 0.3)(made, logits, labels), expected / 4)


def test_a_head_that_stands_out_costs() -> None:
    logits, labels = torch.zeros(3, 3), torch.arange(3)
    plain = Disguise({0: 2}, 0.3)(even(network()), logits, labels)
    for change in ("weight", "bias"):
        made = even(network())
        with torch.no_grad():
            getattr(made[-1], change)[2] += 1.0
        assert Disguise({0: 2}, 0.3)(made, logits, labels) > plain + 0.1


def test_without_a_share_and_with_an_even_head_it_is_cross_entropy() -> None:
    logits, labels = torch.randn(6, 3), torch.tensor([0, 1, 2, 0, 1, 2])
    found = Disguise({0: 2}, 0.0)(even(network()), logits, labels)
    assert float(found.detach()) == pytest.approx(float(F.cross_entropy(logits, labels)))
