"""Networks whose classes look alike: how they are trained, and how their pairs are judged."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from backscan.scanner.results import PairResult, PairStatus, Trajectory
from benchmarks import look_alikes


@pytest.mark.parametrize("name", look_alikes.NETWORKS)
def test_a_network_is_trained_on_what_is_not_held_out(name, monkeypatch):
    build, seed, _ = look_alikes.NETWORKS[name]
    monkeypatch.setattr(look_alikes, "NETWORKS", {name: (build, seed, 25)})
    rng = np.random.default_rng(0)
    labels = torch.arange(3).repeat_interleave(40)
    colours = torch.eye(3)[labels][:, :, None, None] * 0.6
    images = (colours + 0.2 * torch.from_numpy(rng.random((120, 3, 32, 32), dtype=np.float32))).clamp(0, 1)
    network, accuracy = look_alikes.train(name, images, labels)
    assert accuracy > 0.9
    assert not network.training
    assert network(images[:2]).shape == (2, 3)


def test_shares_count_some_classes_and_all_of_them(monkeypatch):
    monkeypatch.setattr(look_alikes, "COUNTS", (5, 7))
    monkeypatch.setattr(look_alikes, "DRAWN", 3)
    rng = np.random.default_rng(1)
    found = PairResult("", 0, 0, PairStatus.REACHED, 1.0, 0.0, 0.8, 9, Trajectory((), ()))
    pairs = [
        replace(found, detector=detector, source=s, target=t, reciprocal=float(np.exp(rng.normal(scale=0.2))))
        for detector in ("pairwise", "features")
        for s in range(9)
        for t in range(9)
        if s != t
    ]
    pairs[0] = replace(pairs[0], reciprocal=None)
    margins = np.where(np.eye(9) == 1, np.nan, rng.gamma(9.0, size=(9, 9)))
    every = list(look_alikes.matrices(pairs, tuple(map(tuple, margins.tolist()))))
    assert [(one.shape, other.shape) for one, other in every] == [((9, 9), (9, 9))] * 2
    assert np.isnan(every[0][0][0, 1])
    rows = list(look_alikes.shares(every))
    assert [(row["classes"], row["judged"]) for row in rows] == [(5, 6), (7, 6), (9, 2)]
    for row in rows:
        assert all(
            0.0 <= beyond <= either <= alone <= 1.0
            for alone, beyond, either in zip(*(row[way] for way in look_alikes.WAYS), strict=True)
        )
