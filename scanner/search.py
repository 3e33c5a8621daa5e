"""The search over all class pairs, in fixed chunks that a journal can keep."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from backscan.scanner.draft import Draft, Settled
from backscan.scanner.errors import OptionError
from backscan.scanner.results import PairResult, PairStatus, Trajectory, Verdict

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from backscan.scanner.config import ScanConfig
    from backscan.scanner.executors import OpenedModel, Subject
    from backscan.scanner.journal import Journal

Pair = tuple[int, int]

# Sources whose pairs form one chunk: enough to keep a GPU busy. The journal keeps whole chunks.
_SOURCES_PER_CHUNK = {"cpu": 1, "cuda": 16}
# Passes over the images that a pair takes, for the estimate of time only.
_TYPICAL_PASSES = 18


def search(
    subject: Subject,
    optimised: Mapping[int, NDArray[np.float32]],
    opened: OpenedModel,
    config: ScanConfig,
    draft: Draft,
    journal: Journal | None,
) -> list[PairResult]:
    """The smallest pattern of every pair (Algorithm 1), chunk by chunk, in order of detector, source and target."""
    wanted = wanted_pairs(config, opened.num_classes)
    todo = [pair for pair in wanted if pair[0] in optimised]
    results = [without_images(name, pair) for name in config.detectors for pair in wanted if pair[0] not in optimised]
    deadline = None if config.time_limit is None else time.monotonic() + config.time_limit
    with draft.phase("search"):
        for name in config.detectors:
            for chunk in _search_chunks(name, todo, subject, optimised, opened, config, draft, journal, deadline):
                results += chunk
                draft.set(pairs=_ordered(results, config))
    if len(results) < len(wanted) * len(config.detectors):
        raise Settled(
            Verdict.INCONCLUSIVE, f"the time limit of {config.time_limit:g} s ended the search: raise --time-limit"
        )
    return list(_ordered(results, config))


def _search_chunks(
    name: str,
    pairs: Sequence[Pair],
    subject: Subject,
    optimised: Mapping[int, NDArray[np.float32]],
    opened: OpenedModel,
    config: ScanConfig,
    draft: Draft,
    journal: Journal | None,
    deadline: float | None,
) -> Iterator[list[PairResult]]:
    """The chunks of one detector as they finish; those of a journal come from there. Ends early at the deadline."""
    prepared = subject.prepare(name, optimised, config)
    num_images = max(len(images) for images in optimised.values())
    draft.progress.plan(len(pairs), len(pairs) * _TYPICAL_PASSES * num_images * prepared.seconds_per_image)

    def tell(result: PairResult) -> None:
        draft.progress.pair(result, (result.steps + 1) * len(optimised[result.source]))

    for chunk in chunks(pairs, opened.device):
        done = journal.chunk(name, chunk) if journal else None
        if done is not None:
            for result in done:
                draft.progress.pair(result, 0)
            yield done
            continue
        seconds = None if deadline is None else max(0.0, deadline - time.monotonic())
        done = subject.optimise(name, chunk, prepared.step_size, seconds=seconds, on_pair=tell)
        if journal and len(done) == len(chunk):
            journal.record(name, chunk, done)
        yield done
        if len(done) < len(chunk):
            return


def _ordered(results: Sequence[PairResult], config: ScanConfig) -> tuple[PairResult, ...]:
    """By detector, source and target."""
    place = config.detectors.index
    return tuple(sorted(results, key=lambda result: (place(result.detector), result.source, result.target)))


def wanted_pairs(config: ScanConfig, num_classes: int) -> list[Pair]:
    """Pairs to search, in order.

    Raises:
        OptionError: a class that the model does not have.
    """
    named = {c for pair in config.pairs or () for c in pair} | set(config.targets or ())
    unknown = sorted(c for c in named if not 0 <= c < num_classes)
    if unknown:
        raise OptionError(
            f"expected classes 0 to {num_classes - 1} in --pairs and --targets, found {listed(unknown)}: correct them"
        )
    every = [(source, target) for source in range(num_classes) for target in range(num_classes) if source != target]
    return [
        pair
        for pair in every
        if (config.pairs is None or pair in config.pairs) and (config.targets is None or pair[1] in config.targets)
    ]


def chunks(pairs: Sequence[Pair], device: str) -> Iterator[list[Pair]]:
    """Pairs in fixed portions of whole sources."""
    sources = sorted({source for source, _ in pairs})
    size = _SOURCES_PER_CHUNK["cpu" if device == "cpu" else "cuda"]
    for start in range(0, len(sources), size):
        portion = set(sources[start : start + size])
        yield [pair for pair in pairs if pair[0] in portion]


def without_images(detector: str, pair: Pair) -> PairResult:
    """The result of a pair whose source class has too few images."""
    source, target = pair
    return PairResult(
        detector, source, target, PairStatus.NO_IMAGES, None, None, None, steps=0, trajectory=Trajectory((), ())
    )


def listed(classes: Sequence[int]) -> str:
    """`class 3`, or `classes 3, 5`."""
    return ("class " if len(classes) == 1 else "classes ") + ", ".join(str(c) for c in classes)
