"""What a pass costs, how many images memory takes at once, and decisions that are found when they are asked for."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from backscan.converters import artifact_from_bytes, import_model, read_signature
from backscan.scanner.process import passes
from backscan.scanner.process.decisions import Decisions
from backscan.scanner.process.passes import images_at_once, measure_speed
from tests import planted


@pytest.fixture(scope="module")
def copy():
    artifact = artifact_from_bytes("model.onnx", planted.shortcut())
    return import_model(artifact, read_signature(artifact))


@pytest.fixture(scope="module")
def images():
    return torch.from_numpy(planted.shortcut_images()[0]).float()


def test_a_pass_takes_time_and_memory(copy, images):
    speed = measure_speed(copy, images[:3].numpy(), 2)
    assert 0.0 < speed.forward < 1.0
    assert 0.0 < speed.gradient < 1.0
    assert speed.held_bytes > 0


def test_memory_takes_so_many_images_at_once(copy, images, monkeypatch):
    assert images_at_once(copy, images[:1]) is None  # small images are no matter
    held = passes._held_bytes(copy, images[:1])
    monkeypatch.setattr(passes, "_PASS_BYTES", 3 * held + held // 2)
    assert images_at_once(copy, images[:1]) == 3
    monkeypatch.setattr(passes, "_PASS_BYTES", held // 2)
    assert images_at_once(copy, images[:1]) == 1


def test_decisions_are_found_once_and_for_the_classes_that_are_asked_for(copy, images, monkeypatch):
    asked: list[int] = []
    ask = Decisions._ask

    def counted(self: Decisions, label: int) -> tuple[torch.Tensor, torch.Tensor]:
        asked.append(len(self._images[label]))
        return ask(self, label)

    monkeypatch.setattr(Decisions, "_ask", counted)
    found = Decisions(copy, {3: images[:4], 7: images[4:9]})
    assert (len(found), list(found)) == (2, [3, 7])
    assert asked == []
    with torch.no_grad():
        expected = copy.log_posterior(images[4:9]).argmax(dim=1)
    assert torch.equal(found[7], expected)
    assert torch.equal(found[7], expected)
    assert asked == [5]
    found.find_all(2)
    assert asked == [5, 4]


def test_margins_are_medians_over_the_images_that_are_decided_as_their_class(copy, images):
    with torch.no_grad():
        log_p = copy.log_posterior(images).double().numpy()
    label = int(np.bincount(log_p.argmax(axis=1)).argmax())
    own = log_p[log_p.argmax(axis=1) == label]
    assert len(own) >= 3
    found = Decisions(copy, {label: images, 99: images[:2]})
    lead = np.sort(own[:, [label]] - own, axis=0)[(len(own) - 1) // 2]  # of an even number the lower of two
    np.testing.assert_allclose(found.margins[label].numpy(), lead, rtol=1e-4, atol=1e-5)
    assert found.margins[99].isnan().all(), "no image is decided as that class"
    assert list(found.margins) == [label, 99]
