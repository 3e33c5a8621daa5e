"""The search on a CUDA device against the same on the CPU."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from backscan.converters.cuts.bfloat16 import reduce_precision
from backscan.scanner.search.settings import Work
from benchmarks.speed.subject import SearchSubject

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


def on_gpu(subject: SearchSubject) -> SearchSubject:
    images = {label: array.cuda() for label, array in subject.images_by_class.items()}
    return replace(subject, classifier=subject.classifier.cuda(), images_by_class=images)


@pytest.mark.parametrize("rule", ["unit", "plain"])
def test_sizes_are_those_of_the_cpu(rule):
    """Float32 sums in another order move a size by far less than the crossing is resolved to."""
    sizes = []
    for place in (lambda subject: subject, on_gpu):
        subject = place(SearchSubject.generate(num_classes=5, images_per_class=60, planted=(2, 3)))
        results = subject.search(rule, Work())
        sizes.append({(result.source, result.target): result.size for result in results})
    assert sizes[0].keys() == sizes[1].keys()
    for pair, size in sizes[0].items():
        assert sizes[1][pair] == pytest.approx(size, rel=5e-3)


def test_a_linear_model_needs_no_reduced_precision_there_either():
    subject = on_gpu(SearchSubject.generate(num_classes=5, images_per_class=20, planted=(2, 3)))
    assert reduce_precision(subject.classifier, subject.images_by_class[0]) is None
