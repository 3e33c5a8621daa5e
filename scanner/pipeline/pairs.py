"""Step 10: the search over all class pairs, in fixed chunks that a journal can keep."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from backscan.converters.sandbox.clock import clock, keeping, now
from backscan.scanner.detectors import Searched, searching
from backscan.scanner.errors import OptionError, TimeUpError
from backscan.scanner.inference.statistics import OF_SOME_PAIRS
from backscan.scanner.pipeline import spending
from backscan.scanner.pipeline.estimate import Costs
from backscan.scanner.pipeline.record import SEARCH_PHASE
from backscan.scanner.results import Pair, PairResult, PairStatus, ScreenRecord, Trajectory
from backscan.scanner.search import screening

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from backscan.converters import Artifact
    from backscan.scanner.config import ScanConfig
    from backscan.scanner.images.cleanset import CleanSet
    from backscan.scanner.pipeline.record import Cutting, Run
    from backscan.scanner.process.parent import PreparedSearch, SettledModel
    from backscan.scanner.store.journal import Journal

# Sources whose pairs form one chunk. Threads wait for each other at its end, so it is to be long; the journal keeps
# whole chunks, and the images of a chunk are held once more: on a CPU as many as this memory takes, but not too few.
_SOURCES_PER_CHUNK = {"cpu": 10, "cuda": 16}
_CHUNK_BYTES = 1 << 26
_FEWEST_SOURCES = 5
_MOST_RANGES = 6
# A first estimate takes few passes (`first_order`), so more sources make a chunk.
_SOURCES_PER_ESTIMATE = 48
# Under a time limit: pairs of a chunk, into how many chunks the time is divided at least, and what share of it a first
# estimate may take. Short chunks leave little unfinished; each costs a pass of its sources' images.
_FEWEST_PAIRS, _MOST_PAIRS = 2, 64
_PORTIONS = 10
_LOOK_SHARE = 0.3
# Passes over the images that a pair takes, for the estimate of time only.
_TYPICAL_PASSES = 18


@dataclass(frozen=True, slots=True)
class Chunk:
    """What was found of some pairs."""

    results: Sequence[PairResult]
    """Results of pairs that are done."""
    is_whole: bool
    """Whether all of them are; else the clock ended it."""


@dataclass(frozen=True, slots=True)
class Screening:
    """Which pairs stand for all of them, where only some are searched."""

    drawn: set[Pair]
    """Drawn at random: the null is fitted to them. All pairs where all are searched."""
    chosen: set[Pair] = field(default_factory=set)
    """Those with the smallest estimates."""

    def of(self, pairs: Sequence[Pair]) -> list[Pair]:
        """The pairs to search, in their order."""
        return [pair for pair in pairs if pair in self.drawn or pair in self.chosen]

    def records(self, detector: str, num_pairs: int) -> tuple[ScreenRecord, ...]:
        """What reports say about it; nothing where all pairs are searched."""
        if len(self.drawn) == num_pairs:
            return ()
        return (ScreenRecord(detector, num_pairs, num_drawn=len(self.drawn), num_chosen=len(self.chosen - self.drawn)),)


@contextmanager
def open_journal(run: Run, artifact: Artifact, clean: CleanSet, cutting: Cutting) -> Iterator[Journal | None]:
    """The journal of this model, these images and this configuration; None without a folder.

    Raises:
        JournalMismatchError: the folder belongs to another scan.
        OptionError: the folder holds a journal, and the scan is not to resume it.
    """
    if run.journal is None:
        yield None
        return
    from backscan.scanner.store.journal import Journal

    key = {"model": artifact.sha256, "data": clean.digest, **run.config.pair_options, "cut": cutting.tensor}
    with Journal.open(run.journal, key, resume=run.resume) as journal:
        if run.resume and journal.is_new:
            run.record.progress.message(f"no journal in {run.journal}: it begins there with this scan")
        yield journal


@dataclass(frozen=True, slots=True)
class PairSearch:
    """Step 10: the smallest pattern of every pair (Algorithm 1), chunk by chunk."""

    run: Run
    """Options; its record takes what is finished, and the time."""
    settled: SettledModel
    """The opened model."""
    cutting: Cutting
    """Where it is cut."""
    images_by_class: Mapping[int, NDArray[np.float32]]
    """Images of the search [n, C, H, W] of every class that has enough."""
    journal: Journal | None = None
    """Keeps finished chunks, and gives back those of an earlier run."""
    label: str = ""
    """Keeps searches under different preprocessing apart in the journal."""
    costs: Costs = field(default_factory=Costs)
    """What it is estimated to take."""

    def search(self) -> Searched:
        """Every wanted pair, in order of detector, source and target; under a time limit as many as it allows.

        Those are then a random sample of all, but for pairs in work when the time was up: such as were done by then
        are those that need few steps, and take part as pairs that were chosen. The record says that the time was up.
        """
        config, num_classes, take = self.run.config, self.settled.facts.num_classes, self.run.record.take
        self._leave_out_others(num_wanted(config, num_classes))
        todo = wanted_pairs(config, num_classes, sorted(self.images_by_class))
        detectors = searching(config, self.cutting.tensor)
        is_screened = screening.is_screened(config, num_classes, statistic=OF_SOME_PAIRS)
        # Of many classes most may have no images: one sentence says so, and no million results.
        listed = not (is_screened and screening.has_many(num_classes))
        empty_classes = [c for c in range(num_classes) if c not in self.images_by_class] if listed else ()
        without = wanted_pairs(config, num_classes, empty_classes)
        empty = tuple(without_images(name, pair) for name in detectors for pair in without)
        found = Searched(config.detectors, num_classes, self.cutting.tensor, self._ordered(empty))
        planned = {name: len(todo) for name in detectors}
        with self._telling_unfinished(planned, lambda: found.pairs), self.run.record.phase(SEARCH_PHASE):
            for name in detectors:
                with self._share(name) as deadline:
                    prepared = self.settled.prepare(
                        name, self.images_by_class, config, cut=self.cutting.cut, seconds=_left(deadline)
                    )
                    self.run.record.is_reduced |= prepared.preparation.is_reduced
                    screened = self._screened(prepared, todo, deadline) if is_screened else Screening(set(todo))
                    pairs = screened.of(todo)
                    planned[name] = len(pairs)
                    found = replace(found, screens=(*found.screens, *screened.records(name, len(todo))))
                    for chunk in self._chunks(prepared, pairs, deadline):
                        marked = self._marked(chunk, screened)
                        found = take(replace(found, pairs=self._ordered((*found.pairs, *marked))))
        if missing := _unfinished(planned, found.pairs):
            self.run.record.out_of_time = True
            screens = [screen for screen in found.screens if screen.detector not in missing]
            samples = [self._sample(name, found, planned[name], len(todo)) for name in missing]
            found = replace(
                found, screens=tuple(sorted((*screens, *samples), key=lambda each: detectors.index(each.detector)))
            )
        return take(found)

    @contextmanager
    def _share(self, name: str) -> Iterator[float | None]:
        """The time at which a detector is to be done; its part of the search ends there, whatever it is doing.

        A process that does not end by itself is ended, and with it all searches after this one.
        """
        seconds = spending.for_search()
        deadline = None if seconds is None else now() + seconds * self.costs.shares.get(name, 1.0)
        try:
            with keeping(spending.ending(clock())):
                yield deadline
        except TimeUpError:
            self.run.record.out_of_time = True

    def _marked(self, chunk: Chunk, screened: Screening) -> Iterator[PairResult]:
        """The results of a chunk with whether they were chosen; those of one that the clock ended were, by its end."""
        for result in chunk.results:
            drawn = chunk.is_whole and (result.source, result.target) in screened.drawn
            yield replace(result, chosen=not drawn)

    def _sample(self, name: str, found: Searched, num_planned: int, num_pairs: int) -> ScreenRecord:
        """What the pairs that were searched stand for where the clock ended the search: without a look, themselves."""
        own = [pair for pair in found.pairs if pair.detector == name and pair.status is not PairStatus.NO_IMAGES]
        num_chosen = sum(pair.chosen for pair in own)
        stood_for = num_pairs if num_planned < num_pairs else len(own)
        return ScreenRecord(name, stood_for, num_drawn=len(own) - num_chosen, num_chosen=num_chosen)

    @contextmanager
    def _telling_unfinished(
        self, planned: Mapping[str, int], found: Callable[[], Sequence[PairResult]]
    ) -> Iterator[None]:
        """Tell of the pairs that were not searched when the time limit or the user ended the search."""
        try:
            yield
        finally:
            for name, missing in _unfinished(planned, found()).items():
                seconds = missing * self.costs.a_pair.get(name, 0.0)
                self.run.record.leave(name, "class pair", missing, planned=planned[name], seconds=seconds)
                self.run.record.leave_out(
                    f"{missing} of {planned[name]} class pairs with detector {name}: the search did not finish, so a "
                    "backdoor between their classes may not have been noticed"
                )

    def _leave_out_others(self, num_wanted: int) -> None:
        """Tell of the pairs that the user's choice leaves out."""
        num_classes = self.settled.facts.num_classes
        num_pairs = num_classes * (num_classes - 1)
        if num_wanted < num_pairs:
            self.run.record.leave_out(
                f"{num_pairs - num_wanted} of {num_pairs} class pairs, left out by --targets or --pairs"
            )

    def _screened(self, prepared: PreparedSearch, pairs: Sequence[Pair], deadline: float | None) -> Screening:
        """The pairs that are drawn, and those that a first estimate of all of them chooses.

        All pairs, in their random order, where the clock leaves no time for an estimate of all.
        """
        name, record = prepared.detector, self.run.record
        drawn = screening.draw(pairs, self.run.config.seed)
        if len(drawn) == len(pairs):
            return Screening(drawn)
        left = _left(deadline)
        if left is not None and self.costs.look > _LOOK_SHARE * left:
            record.leave_out(f"estimates of all {len(pairs)} class pairs with detector {name}: the time is too short")
            return Screening(set(pairs))
        record.progress.message(f"{name}: estimating the sizes of {len(pairs)} class pairs")
        sizes: dict[Pair, float] = {}
        for portion in by_sources(pairs, _SOURCES_PER_ESTIMATE):
            found = self._estimates(prepared, portion, deadline)
            if len(found) < len(portion):
                return Screening(set(pairs))
            sizes |= zip(portion, found, strict=True)
        chosen = screening.choose(sizes, self.settled.facts.num_classes)
        record.leave_out(f"with detector {name} {screening.left_out(len(pairs), drawn, chosen)}")
        unused = [statistic for statistic in self.run.config.statistics if statistic != OF_SOME_PAIRS]
        if unused:
            record.leave_out(
                f"statistic {', '.join(unused)}, which needs every pair (--screen off): judged by {OF_SOME_PAIRS}"
            )
        return Screening(drawn, chosen)

    def _estimates(self, prepared: PreparedSearch, pairs: Sequence[Pair], deadline: float | None) -> list[float]:
        """Estimated sizes of some pairs, from the journal if it has them; none if the time was up."""
        section = self._section(f"look-{prepared.detector}")
        kept = self.journal.estimates(section, pairs) if self.journal else None
        if kept is not None:
            return kept
        sizes = prepared.estimate(pairs, seconds=_left(deadline))
        if self.journal and len(sizes) == len(pairs):
            self.journal.keep_estimates(section, pairs, sizes)
        return sizes

    def _chunks(self, prepared: PreparedSearch, pairs: Sequence[Pair], deadline: float | None) -> Iterator[Chunk]:
        """The chunks of one detector as they finish; those of the journal come from there. Ends at the deadline."""
        name, progress = prepared.detector, self.run.record.progress
        if _left(deadline) != 0:
            progress.plan(name, len(pairs), self._seconds_planned(prepared, len(pairs)))
        elif self.journal:  # what it has needs no time
            progress.plan(name, len(pairs), None)
        for chunk in self._portions(prepared, pairs, deadline):
            known = self._recorded(prepared, chunk)
            missing = [pair for pair in chunk if pair not in known]
            done = self._optimised(prepared, missing, deadline) if missing else []
            yield Chunk([*known.values(), *done], is_whole=len(done) == len(missing))
            if len(done) < len(missing):
                return

    def _seconds_planned(self, prepared: PreparedSearch, num_pairs: int) -> float:
        """About how long some pairs take."""
        if prepared.detector in self.costs.a_pair:
            return num_pairs * self.costs.a_pair[prepared.detector]
        largest = max(map(len, self.images_by_class.values()))
        return num_pairs * _TYPICAL_PASSES * largest * prepared.preparation.seconds_per_image

    def _portions(
        self, prepared: PreparedSearch, pairs: Sequence[Pair], deadline: float | None
    ) -> Iterator[Sequence[Pair]]:
        """Chunks of whole sources; under a time limit short ones of pairs in an order by the seed."""
        left = _left(deadline)
        if left is None:
            largest = max(self.images_by_class.values(), key=len)
            yield from chunks(pairs, self.settled.facts.device, bytes_a_source=largest.nbytes)
            return
        order = screening.shuffled(pairs, self.run.config.seed)
        each = self._seconds_planned(prepared, 1)
        size = _FEWEST_PAIRS if each <= 0.0 else int(left / _PORTIONS / each)
        size = min(_MOST_PAIRS, max(_FEWEST_PAIRS, size))
        yield from (order[start : start + size] for start in range(0, len(order), size))

    def _recorded(self, prepared: PreparedSearch, chunk: Sequence[Pair]) -> dict[Pair, PairResult]:
        """The chunk as an earlier run left it in the journal; under a time limit those of its pairs that it holds.

        Without a limit a chunk is taken whole or not at all, as the results of a scan follow from its chunks.
        """
        if self.journal is None:
            return {}
        section = self._section(prepared.detector)
        if clock().is_limited:
            kept = self.journal.finished(section)
        else:
            kept = dict(zip(chunk, self.journal.chunk(section, chunk) or (), strict=False))
        done = {pair: kept[pair] for pair in chunk if pair in kept}
        if not all(prepared.could_give(result) for result in done.values()):
            return {}  # written by somebody else
        for result in done.values():
            self.run.record.progress.pair(result, 0)
        return done

    def _optimised(self, prepared: PreparedSearch, chunk: Sequence[Pair], deadline: float | None) -> list[PairResult]:
        """The chunk searched now, kept pair by pair; what was done when the process was ended stays as well."""
        section, done = self._section(prepared.detector), list[PairResult]()

        def take(result: PairResult) -> None:
            done.append(result)
            if self.journal:
                self.journal.add(section, chunk, result)
            self.run.record.progress.pair(result, (result.steps + 1) * len(self.images_by_class[result.source]))

        try:
            prepared.optimise(chunk, seconds=_left(deadline), on_pair=take)
        except TimeUpError:
            self.run.record.out_of_time = True
        if self.journal and len(done) == len(chunk):
            self.journal.record(section, chunk, done)
        return done

    def _section(self, name: str) -> str:
        return f"{self.label}-{name}" if self.label else name

    def _ordered(self, results: Sequence[PairResult]) -> tuple[PairResult, ...]:
        """By detector, source and target."""
        place = self.run.config.detectors.index
        return tuple(sorted(results, key=lambda result: (place(result.detector), result.source, result.target)))


def _left(deadline: float | None) -> float | None:
    """Seconds to a time on the monotonic clock; None if there is no limit."""
    return None if deadline is None else max(0.0, deadline - now())


def _unfinished(planned: Mapping[str, int], results: Sequence[PairResult]) -> dict[str, int]:
    """How many pairs each detector has yet to search, of those that have any."""
    done = Counter(result.detector for result in results if result.status is not PairStatus.NO_IMAGES)
    return {name: count - done[name] for name, count in planned.items() if count > done[name]}


def refuse_absent(config: ScanConfig, num_classes: int) -> None:
    """Refuse options that name classes or pairs that there are not.

    Raises:
        OptionError: a class that the model does not have, or no pair that both options want.
    """
    named = {c for pair in config.pairs or () for c in pair} | set(config.targets or ())
    unknown = sorted(c for c in named if not 0 <= c < num_classes)
    if unknown:
        raise OptionError(
            f"expected classes 0 to {num_classes - 1} in --pairs and --targets, found {named_classes(unknown)}: "
            "correct them"
        )
    if num_classes > 1 and not num_wanted(config, num_classes):
        raise OptionError("expected a pair with a target of --targets in --pairs, found none: pass one of the two")


def num_wanted(config: ScanConfig, num_classes: int) -> int:
    """How many pairs are to be searched, whether or not their sources have images."""
    if config.pairs is not None:
        return len(wanted_pairs(config, num_classes, sorted({source for source, _ in config.pairs})))
    return (num_classes if config.targets is None else len(set(config.targets))) * (num_classes - 1)


def wanted_pairs(config: ScanConfig, num_classes: int, sources: Sequence[int] | None = None) -> list[Pair]:
    """Pairs to search, in order; of some sources alone, where a thousand classes would be a million pairs."""
    targets = range(num_classes) if config.targets is None else sorted(set(config.targets))
    pairs = None if config.pairs is None else set(config.pairs)
    return [
        (source, target)
        for source in (range(num_classes) if sources is None else sources)
        for target in targets
        if source != target and (pairs is None or (source, target) in pairs)
    ]


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


def named_classes(classes: Sequence[int]) -> str:
    """`class 3`, `classes 3, 5`, or of many their number and ranges: `980 classes (20 to 999)`."""
    if len(classes) == 1:
        return f"class {classes[0]}"
    ranges = [f"{first}" if first == last else f"{first} to {last}" for first, last in _ranges(classes)]
    more = " and so on" if len(ranges) > _MOST_RANGES else ""
    if len(classes) <= _MOST_RANGES:
        return f"classes {', '.join(map(str, sorted(classes)))}"
    return f"{len(classes)} classes ({', '.join(ranges[:_MOST_RANGES])}{more})"


def _ranges(numbers: Sequence[int]) -> list[tuple[int, int]]:
    """First and last of every run of numbers."""
    found: list[tuple[int, int]] = []
    for number in sorted(set(numbers)):
        if found and found[-1][1] == number - 1:
            found[-1] = found[-1][0], number
        else:
            found.append((number, number))
    return found
