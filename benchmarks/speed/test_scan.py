"""Time of the search as a ratio to the later reference in the same run, with a wide band.

    python -m pytest benchmarks/speed/test_scan.py

The classifier is so small that this watches the search's own overhead; `benchmarks.speed.report` times real networks.
"""

from __future__ import annotations

import time

import torch
from pytest_benchmark.fixture import BenchmarkFixture

from backscan.scanner.search.settings import Work
from benchmarks.speed import reference
from benchmarks.speed.subject import SearchSubject

LEAST_RATIO = 0.5
"""A fraction of what was measured on one loaded core, where the search was 2.1 times faster."""


def test_search_against_the_later_reference(benchmark: BenchmarkFixture) -> None:
    """Ninety pairs by the search and by the reference, in processor time; the sizes agree."""
    torch.set_num_threads(1)
    subject = SearchSubject.generate(num_classes=10, images_per_class=60, planted=(2, 7))
    started = time.process_time()
    descents = list(
        reference.search(subject.classifier.logits, subject.images_by_class, subject.pairs, reference.LATER)
    )
    slow = time.process_time() - started
    started = time.process_time()
    results = benchmark.pedantic(lambda: subject.search("unit", Work()), rounds=1)
    ratio = slow / (time.process_time() - started)
    benchmark.extra_info["times_faster_than_reference"] = ratio
    sizes = {(result.source, result.target): result.size for result in results}
    for descent in descents:
        refined = reference.as_result(subject.classifier.logits, subject.images_by_class[descent.pair[0]], descent)
        assert refined.size is not None
        assert abs((sizes[descent.pair] or 0.0) / refined.size - 1.0) < 0.02
    assert ratio > LEAST_RATIO
