"""The search over all class pairs, in fixed chunks that a journal can keep."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from backscan.scanner.detectors import searching
from backscan.scanner.errors import OptionError
from backscan.scanner.pipeline.record import SEARCH_PHASE, Draft, Settled
from backscan.scanner.results import PairResult, PairStatus, ScreenRecord, Trajectory, Verdict
from backscan.scanner.search import screening

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from backscan.scanner.config import ScanConfig
    from backscan.scanner.process.parent import OpenedModel, Preparation, Subject
    from backscan.scanner.store.journal import Journal

Pair = tuple[int, int]

# Sources whose pairs form one chunk. Threads wait for each other at its end, so it is to be long; the journal keeps
# whole chunks, and the images of a chunk are held once more: on a CPU as many as this memory takes, but not too few.
_SOURCES_PER_CHUNK = {"cpu": 10, "cuda": 16}
_CHUNK_BYTES = 1 << 26
_FEWEST_SOURCES = 5
# A short look takes few passes (`glance`), so more sources make a chunk.
_SOURCES_PER_LOOK = 48
# Passes over the images that a pair takes, for the estimate of time only.
_TYPICAL_PASSES = 18


@dataclass(frozen=True, slots=True)
class PairSearch:
    """The smallest pattern of every pair (Algorithm 1), chunk by chunk."""

    subject: Subject
    """The opened model."""
    images_by_class: Mapping[int, NDArray[np.float32]]
    """Optimisation images [n, C, H, W] of every class that has enough."""
    opened: OpenedModel
    """What is known about the model."""
    config: ScanConfig
    """Options."""
    draft: Draft
    """Takes what is finished, and the time."""
    journal: Journal | None = None
    """Keeps finished chunks, and gives back those of an earlier run."""
    label: str = ""
    """Keeps searches under different preprocessing apart in the journal."""

    def run(self) -> tuple[PairResult, ...]:
        """Every wanted pair, in order of detector, source and target.

        Raises:
            Settled: the time limit ended the search; what is finished is in the draft.
        """
        wanted = wanted_pairs(self.config, self.opened.num_classes)
        self._leave_out_others(len(wanted))
        todo = [pair for pair in wanted if pair[0] in self.images_by_class]
        detectors = searching(self.config)
        screened = screening.is_screened(self.config, self.opened.num_classes)
        results = [
            without_images(name, pair) for name in detectors for pair in wanted if pair[0] not in self.images_by_class
        ]
        deadline = None if self.config.time_limit is None else time.monotonic() + self.config.time_limit
        planned = {name: len(todo) for name in detectors}
        with self._telling_unfinished(planned, results), self.draft.phase(SEARCH_PHASE):
            for name in detectors:
                prepared = self.subject.prepare(name, self.images_by_class, self.config, seconds=_left(deadline))
                drawn, chosen = self._screened(name, todo, deadline) if screened else (set(todo), set())
                pairs = [pair for pair in todo if pair in drawn or pair in chosen]
                planned[name] = len(pairs)
                for chunk in self._chunks(name, pairs, prepared, deadline):
                    results += [replace(r, chosen=(r.source, r.target) not in drawn) for r in chunk]
                    self.draft.set(pairs=self._ordered(results))
        if _unfinished(planned, results):
            raise self._out_of_time()
        return self._ordered(results)

    @contextmanager
    def _telling_unfinished(self, planned: Mapping[str, int], results: Sequence[PairResult]) -> Iterator[None]:
        """Tell of the pairs that were not searched when the time limit or the user ended the search."""
        try:
            yield
        finally:
            for name, missing in _unfinished(planned, results).items():
                self.draft.leave_out(
                    f"{missing} of {planned[name]} class pairs with detector {name}: the search did not finish"
                )

    def _leave_out_others(self, num_wanted: int) -> None:
        """Tell of the pairs that the user's choice leaves out."""
        num_pairs = self.opened.num_classes * (self.opened.num_classes - 1)
        if num_wanted < num_pairs:
            self.draft.leave_out(
                f"{num_pairs - num_wanted} of {num_pairs} class pairs, left out by --targets or --pairs"
            )

    def _screened(self, name: str, pairs: Sequence[Pair], deadline: float | None) -> tuple[set[Pair], set[Pair]]:
        """The pairs that are drawn, and those that a short look at all of them chooses.

        Raises:
            Settled: the time limit ended the look.
        """
        drawn = screening.draw(pairs, self.config.seed)
        if len(drawn) == len(pairs):
            return drawn, set()
        self.draft.progress.message(f"{name}: a short look at {len(pairs)} class pairs")
        sizes: dict[Pair, float] = {}
        for portion in by_sources(pairs, _SOURCES_PER_LOOK):
            found = self._looks(name, portion, deadline)
            if len(found) < len(portion):
                raise self._out_of_time()
            sizes |= zip(portion, found, strict=True)
        chosen = screening.choose(sizes, self.opened.num_classes)
        record = ScreenRecord(name, len(pairs), num_drawn=len(drawn), num_chosen=len(chosen - drawn))
        others = [each for each in self.draft.fields.get("screens", ()) if each.detector != name]
        self.draft.set(screens=(*others, record))
        self.draft.leave_out(f"with detector {name} {screening.left_out(len(pairs), drawn, chosen)}")
        unused = [statistic for statistic in self.config.statistics if statistic != screening.STATISTIC]
        if unused:
            self.draft.leave_out(
                f"statistic {', '.join(unused)}, which needs every pair (--screen off): judged by {screening.STATISTIC}"
            )
        return drawn, chosen

    def _looks(self, name: str, pairs: Sequence[Pair], deadline: float | None) -> list[float]:
        """Estimated sizes of some pairs, from the journal if it has them; none if the time was up."""
        section = self._section(f"look-{name}")
        kept = self.journal.looks(section, pairs) if self.journal else None
        if kept is not None:
            return kept
        sizes = self.subject.look(name, pairs, seconds=_left(deadline))
        if self.journal and len(sizes) == len(pairs):
            self.journal.keep_looks(section, pairs, sizes)
        return sizes

    def _out_of_time(self) -> Settled:
        """The end of a search by its time limit, to be raised."""
        return Settled(
            Verdict.INCONCLUSIVE,
            f"the time limit of {self.config.time_limit:g} s ended the search: raise --time-limit",
        )

    def _chunks(
        self, name: str, pairs: Sequence[Pair], prepared: Preparation, deadline: float | None
    ) -> Iterator[list[PairResult]]:
        """The chunks of one detector as they finish; those of the journal come from there. Ends at the deadline."""
        largest = max(self.images_by_class.values(), key=len)
        seconds_per_pair = _TYPICAL_PASSES * len(largest) * prepared.seconds_per_image
        if _left(deadline) != 0:
            self.draft.progress.plan(name, len(pairs), len(pairs) * seconds_per_pair)
        elif self.journal:  # what it has needs no time
            self.draft.progress.plan(name, len(pairs), None)
        for chunk in chunks(pairs, self.opened.device, bytes_a_source=largest.nbytes):
            done = self._recorded(name, chunk)
            if done is None:
                done = self._search(name, chunk, prepared.step_size, deadline)
            yield done
            if len(done) < len(chunk):
                return

    def _recorded(self, name: str, chunk: Sequence[Pair]) -> list[PairResult] | None:
        """The chunk as an earlier run left it in the journal, or None."""
        done = self.journal.chunk(self._section(name), chunk) if self.journal else None
        if done and not all(self.subject.could_give(name, result) for result in done):
            return None  # written by somebody else
        for result in done or ():
            self.draft.progress.pair(result, 0)
        return done

    def _search(self, name: str, chunk: Sequence[Pair], step_size: float, deadline: float | None) -> list[PairResult]:
        def take(result: PairResult) -> None:
            if self.journal:
                self.journal.add(self._section(name), chunk, result)
            self.draft.progress.pair(result, (result.steps + 1) * len(self.images_by_class[result.source]))

        done = self.subject.optimise(name, chunk, step_size, seconds=_left(deadline), on_pair=take)
        if self.journal and len(done) == len(chunk):
            self.journal.record(self._section(name), chunk, done)
        return done

    def _section(self, name: str) -> str:
        return f"{self.label}-{name}" if self.label else name

    def _ordered(self, results: Sequence[PairResult]) -> tuple[PairResult, ...]:
        """By detector, source and target."""
        place = self.config.detectors.index
        return tuple(sorted(results, key=lambda result: (place(result.detector), result.source, result.target)))


def _left(deadline: float | None) -> float | None:
    """Seconds to a time on the monotonic clock; None if there is no limit."""
    return None if deadline is None else max(0.0, deadline - time.monotonic())


def _unfinished(planned: Mapping[str, int], results: Sequence[PairResult]) -> dict[str, int]:
    """How many pairs each detector has yet to search, of those that have any."""
    done = Counter(result.detector for result in results if result.status is not PairStatus.NO_IMAGES)
    return {name: count - done[name] for name, count in planned.items() if count > done[name]}


def wanted_pairs(config: ScanConfig, num_classes: int) -> list[Pair]:
    """Pairs to search, in order.

    Raises:
        OptionError: a class that the model does not have, or no pair that both options want.
    """
    named = {c for pair in config.pairs or () for c in pair} | set(config.targets or ())
    unknown = sorted(c for c in named if not 0 <= c < num_classes)
    if unknown:
        raise OptionError(
            f"expected classes 0 to {num_classes - 1} in --pairs and --targets, found {listed(unknown)}: correct them"
        )
    every = [(source, target) for source in range(num_classes) for target in range(num_classes) if source != target]
    wanted = [
        pair
        for pair in every
        if (config.pairs is None or pair in config.pairs) and (config.targets is None or pair[1] in config.targets)
    ]
    if every and not wanted:
        raise OptionError("expected a pair with a target of --targets in --pairs, found none: pass one of the two")
    return wanted


def chunks(pairs: Sequence[Pair], device: str, *, bytes_a_source: int) -> Iterator[list[Pair]]:
    """Pairs in the portions in which a device searches them.

    Args:
        pairs: Source by source.
        device: `cpu`, or the name of a GPU.
        bytes_a_source: Memory of the images of a source.
    """
    if device != "cpu":
        return by_sources(pairs, _SOURCES_PER_CHUNK["cuda"])
    fitting = max(_FEWEST_SOURCES, _CHUNK_BYTES // bytes_a_source)
    return by_sources(pairs, min(_SOURCES_PER_CHUNK["cpu"], fitting))


def by_sources(pairs: Sequence[Pair], num_sources: int) -> Iterator[list[Pair]]:
    """Pairs in fixed portions of whole sources."""
    by_source: dict[int, list[Pair]] = {}
    for pair in pairs:
        by_source.setdefault(pair[0], []).append(pair)
    sources = sorted(by_source)
    for start in range(0, len(sources), num_sources):
        yield [pair for source in sources[start : start + num_sources] for pair in by_source[source]]


def without_images(detector: str, pair: Pair) -> PairResult:
    """The result of a pair whose source class has too few images."""
    source, target = pair
    return PairResult(
        detector, source, target, PairStatus.NO_IMAGES, None, None, None, steps=0, trajectory=Trajectory((), ())
    )


def listed(classes: Sequence[int]) -> str:
    """`class 3`, or `classes 3, 5`."""
    return ("class " if len(classes) == 1 else "classes ") + ", ".join(str(c) for c in classes)
