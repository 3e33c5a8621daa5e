"""How pixels become model input: the candidates of `candidates.py`, judged by clean accuracy.

CONTRACT, Images and preprocessing.

Scanned under the wrong normalisation, an unattacked model may look attacked, so nothing is searched before this is
settled. Accuracies of candidates are compared image by image (McNemar's exact test); those that are not worse than
the best are tied. Of tied ones those are out by which the model is plainly surer than it was taught (`likelihood`), and
a tie that remains goes to the order of the table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from backscan.scanner.images.candidates import (
    CANDIDATES,
    by_pixels,
    candidate,
    fitting_candidates,
    given_normalisation,
    scale_differs,
)
from backscan.scanner.images.doubtful import GOOD_ACCURACY, MOST_OVERCONFIDENCE, is_better, search_scale
from backscan.scanner.images.label_order import order_note
from backscan.scanner.images.likelihood import surprise, too_sure
from backscan.scanner.images.stratified import stratified
from backscan.scanner.results import PreprocessingCandidate, PreprocessingRecord

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from backscan.converters import Normalisation
    from backscan.scanner.config import ScanConfig
    from backscan.scanner.images.cleanset import CleanSet

    Decide = Callable[[NDArray[np.float32], Normalisation], NDArray[np.int64]]
    Confidence = Callable[[NDArray[np.float32], Normalisation], float]
    Posterior = Callable[[NDArray[np.float32], NDArray[np.int64], Normalisation], NDArray[np.float32]]

__all__ = ["CANDIDATES", "Settlement", "settle_preprocessing"]

# Rounds of judging: how many images, and the p-value at which a candidate is out. Early rounds only save time, so
# they drop what is plainly worse; the last one takes all images.
_ROUNDS = ((100, 0.001), (500, 0.01), (None, 0.05))
_CLEARLY_MORE = 0.15
"""By this much another order of the labels must explain more images than they do as they are."""
_COLOURS = 3
_BY_PIXELS = (
    "the model takes images as rows of numbers: the colours are read pixel after pixel, as that explains more images "
    "than channel after channel"
)
_CONFIDENCE_IMAGES = 256
_SEARCHED_IMAGES, _COMPARED_IMAGES = 50, 1000
SEARCHED = "searched"
"""Name of a scale and offset that no candidate has, found by accuracy."""


@dataclass(frozen=True, slots=True)
class Settlement:
    """How pixels become model input, and how sure that is."""

    record: PreprocessingRecord
    """What reports say about it."""
    accuracy: float | None
    """Share of all labelled images decided as labelled; None without labels."""
    warnings: tuple[str, ...]
    """Ties, named, and other doubts that end no scan."""
    doubt: str | None
    """Why no scan under this preprocessing means anything; None if there is no doubt."""
    normalisations: tuple[Normalisation, ...]
    """The chosen one, and a tied one of another scale under which the scan is repeated."""
    names: tuple[str, ...]
    """Their names."""


def settle_preprocessing(
    clean: CleanSet,
    decide: Decide,
    config: ScanConfig,
    *,
    confidence: Confidence | None = None,
    posterior: Posterior | None = None,
    flat: bool = False,
) -> Settlement:
    """Choose a normalisation: the one that was given, else the best of the table by clean accuracy.

    Args:
        clean: Images in the model's shape, with labels if there are any.
        decide: The original file's decisions [N] on images [N, C, H, W] in [0, 1] under a normalisation.
        config: `preprocess`, `mean`, `std`, `range`, `channel_order`, `min_accuracy` and `seed` are read.
        confidence: The original file's mean highest posterior on such images; None if it is not known.
        posterior: The original file's posterior of the labels of such images; None if it is not known.
        flat: Whether the model takes images as rows of numbers; where the colours are then judged by accuracy too.

    Returns:
        The choice, with a warning where the model is far surer than it is right; with `doubt` when the accuracy stays
        low, or when there are no labels and nothing was given.

    Raises:
        OptionError: the given normalisation does not fit the number of channels.
    """
    given = given_normalisation(config, clean.images.shape[1])
    judge = _Judge(clean, decide, config, confidence, posterior, flat and clean.images.shape[1] == _COLOURS)
    if given is not None:
        return judge.with_warning(_with_order_note(judge.taken(*given), clean, decide, [given[1]]))
    if clean.labels is None:
        return Settlement(
            record=_record("none", candidate("none"), "unsettled"),
            accuracy=None,
            warnings=(),
            doubt="without labels the preprocessing cannot be judged by accuracy: pass --preprocess or labelled images",
            normalisations=(candidate("none"),),
            names=("none",),
        )
    fitting = fitting_candidates(clean.images.shape[1], config.channel_order, flat=judge.flat)
    return judge.with_warning(_with_order_note(judge.settled(), clean, decide, fitting.values()))


def _with_order_note(
    settled: Settlement, clean: CleanSet, decide: Decide, normalisations: Iterable[Normalisation]
) -> Settlement:
    """The same, with the order of the labels in its doubt that would dispel it; accuracy cannot choose before that."""
    if settled.doubt is None or settled.accuracy is None or clean.labels is None:
        return settled
    tried = [lambda indices, each=each: decide(clean.images[indices], each) for each in normalisations]
    note = order_note(clean.labels, tried, least=max(half_way(clean.labels), settled.accuracy + _CLEARLY_MORE))
    return replace(settled, doubt=settled.doubt + note)


@dataclass(frozen=True, slots=True)
class _Judge:
    """Candidates in turn, from the common ones to a search of the scale, as long as none explains the images."""

    clean: CleanSet
    decide: Decide
    config: ScanConfig
    confidence: Confidence | None
    posterior: Posterior | None
    flat: bool

    def taken(self, name: str, normalisation: Normalisation) -> Settlement:
        """The normalisation that was given; where colours lie in a row of numbers, no option says."""
        found = _take(name, normalisation, self.clean, self.decide, self.config)
        if not self.flat or self.clean.labels is None:
            return found
        other = _take(f"{name}-hwc", by_pixels(normalisation), self.clean, self.decide, self.config)
        return self._better(replace(other, warnings=(_BY_PIXELS,)), found)

    def settled(self) -> Settlement:
        """The best common candidate; another reading only where that leaves a doubt and the other is plainly better."""
        found = self._best_of(rare=False)
        if self._fits(found):
            return found
        found = self._better(self._best_of(rare=True), found)
        if found.doubt is None and not self._overconfidence(found) and not self._is_stretched(found):
            return found
        return self._better(self._searched(found), found)

    def with_warning(self, found: Settlement) -> Settlement:
        """The settlement, with a warning where the model is far surer than it is right."""
        excess = self._overconfidence(found)
        if not excess or found.accuracy is None:
            return found
        warning = (
            f"the model's mean highest posterior is {found.accuracy + excess:.2f} where its accuracy is "
            f"{found.accuracy:.2f} with preprocessing {found.names[0]}: it is overfitted, or was trained with another, "
            "under which sizes and verdict would differ; if you know which, pass --preprocess, or --mean, --std, "
            "--range and --channel-order as in training"
        )
        return replace(found, warnings=(*found.warnings, warning))

    def _best_of(self, *, rare: bool) -> Settlement:
        channels, order = self.clean.images.shape[1], self.config.channel_order
        fitting = fitting_candidates(channels, order, rare=rare, flat=self.flat)
        candidates = _run_rounds(self.clean.images, self._labels, fitting, self.decide, self.config.seed)
        return _judge(self._by_likelihood(candidates, fitting), self._labels, self.config, fitting, channels)

    def _by_likelihood(
        self, candidates: dict[str, PreprocessingCandidate], fitting: Mapping[str, Normalisation]
    ) -> dict[str, PreprocessingCandidate]:
        """The candidates, of those that are tied the ones out by which the model is surer than it was taught."""
        tied = [name for name, candidate in candidates.items() if candidate.tied]
        if self.posterior is None or len(tied) < 2:
            return candidates
        chosen = stratified(self._labels, _COMPARED_IMAGES, self.config.seed)
        images, labels = self.clean.images[chosen], self._labels[chosen]
        surprises = {name: surprise(self.posterior(images, labels, fitting[name])) for name in tied}
        scales = {name: _scale(fitting[name], images.shape[1]) for name in tied}
        out = too_sure(surprises, scales)
        return candidates | {
            name: replace(candidates[name], surprise=float(own.mean()), tied=name not in out)
            for name, own in surprises.items()
        }

    @property
    def _labels(self) -> NDArray[np.int64]:
        if self.clean.labels is None:
            raise ValueError("expected labels to judge candidates by, found none")
        return self.clean.labels

    def _right(self, normalisation: Normalisation, most: int) -> NDArray[np.bool_]:
        """Which of some images are decided as labelled."""
        chosen = stratified(self._labels, most, self.config.seed)
        right: NDArray[np.bool_] = self.decide(self.clean.images[chosen], normalisation) == self._labels[chosen]
        return right

    def _fits(self, found: Settlement) -> bool:
        return (found.accuracy or 0.0) >= GOOD_ACCURACY and not self._overconfidence(found)

    def _is_stretched(self, found: Settlement) -> bool:
        """Whether each image is standardised by itself without a good fit: that is like many a range and offset."""
        return found.normalisations[0].standardise and not self._fits(found)

    def _overconfidence(self, found: Settlement) -> float:
        """How much surer the model is than it is right, 0 if that is not much or not known."""
        if self.confidence is None or self.clean.labels is None or found.accuracy is None:
            return 0.0
        chosen = stratified(self.clean.labels, _CONFIDENCE_IMAGES, self.config.seed)
        excess = self.confidence(self.clean.images[chosen], found.normalisations[0]) - found.accuracy
        return excess if excess > MOST_OVERCONFIDENCE else 0.0

    def _better(self, other: Settlement, found: Settlement) -> Settlement:
        """The other settlement if it is plainly more accurate, with what was judged before it; else the found one."""
        right, before = (self._right(each.normalisations[0], _COMPARED_IMAGES) for each in (other, found))
        if not is_better(right, before):
            return found
        beaten = tuple(replace(candidate, tied=False) for candidate in found.record.candidates)
        return replace(other, record=replace(other.record, candidates=(*beaten, *other.record.candidates)))

    def _searched(self, found: Settlement) -> Settlement:
        """The best scale and offset of a search, on other images than those that compare it afterwards."""
        colours = self.clean.images.shape[1] == 3
        orders = [self.config.channel_order or "rgb"] if not colours or self.config.channel_order else ["rgb", "bgr"]
        pixel_order = found.normalisations[0].pixel_order
        best = search_scale(
            lambda reading: self._right(replace(reading, pixel_order=pixel_order), _SEARCHED_IMAGES), orders
        )
        best = replace(best, pixel_order=pixel_order)
        settled = _take(SEARCHED, best, self.clean, self.decide, self.config)
        accuracy = settled.accuracy or 0.0
        warning = (
            f"no known preprocessing explains the images well (the best of them {found.names[0]}): one of black "
            f"{best.low:.3g}, white {best.high:.3g} and order {best.channel_order} was found by accuracy "
            f"({accuracy:.3f}); pass --range, --mean, --std and --channel-order as in training"
        )
        return replace(settled, record=replace(settled.record, chosen_by="accuracy"), warnings=(warning,))


def paired_p_value(correct: NDArray[np.bool_], best_correct: NDArray[np.bool_]) -> float:
    """McNemar's exact test: are two classifiers equally accurate on the same images?

    Args:
        correct: Which images [N] the one decides correctly.
        best_correct: Which images [N] the other decides correctly.

    Returns:
        Two-sided p-value; 1 if they are correct on the same images.
    """
    from scipy.stats import binomtest

    only_one, only_best = int(np.sum(correct & ~best_correct)), int(np.sum(best_correct & ~correct))
    if only_one + only_best == 0:
        return 1.0
    return float(binomtest(only_one, only_one + only_best, 0.5).pvalue)


def _take(name: str, normalisation: Normalisation, clean: CleanSet, decide: Decide, config: ScanConfig) -> Settlement:
    """The given normalisation, with the accuracy it has."""
    accuracy = None if clean.labels is None else _accuracy(clean, clean.labels, decide, normalisation)
    return Settlement(
        record=_record(name, normalisation, "option"),
        accuracy=accuracy,
        warnings=(),
        doubt=None if clean.labels is None else _low_accuracy(accuracy, clean.labels, name, config),
        normalisations=(normalisation,),
        names=(name,),
    )


def _judge(
    candidates: dict[str, PreprocessingCandidate],
    labels: NDArray[np.int64],
    config: ScanConfig,
    fitting: Mapping[str, Normalisation],
    channels: int,
) -> Settlement:
    """The most plausible candidate that is not worse than the best."""
    tied = _most_accurate_first(candidates, fitting, channels)
    chosen, accuracy = tied[0], candidates[tied[0]].accuracy
    others = [name for name in tied[1:] if scale_differs(fitting[chosen], fitting[name], channels)][:1]
    return Settlement(
        record=_record(
            chosen,
            fitting[chosen],
            _chosen_by(candidates, len(tied)),
            tuple(candidates.values()),
            tuple(others),
        ),
        accuracy=accuracy,
        warnings=(*_tie_note([candidates[name] for name in tied], others), *_likelihood_note(candidates, tied)),
        doubt=_low_accuracy(accuracy, labels, f"{chosen}, the best of {len(candidates)}", config),
        normalisations=tuple(fitting[name] for name in (chosen, *others)),
        names=(chosen, *others),
    )


def _most_accurate_first(
    candidates: Mapping[str, PreprocessingCandidate], fitting: Mapping[str, Normalisation], channels: int
) -> list[str]:
    """Names of those that are tied, by plausibility, but the most accurate of those like the first before it."""
    tied = [name for name, candidate in candidates.items() if candidate.tied]
    first = fitting[tied[0]]
    alike = [
        name
        for name in tied
        if not scale_differs(first, fitting[name], channels) and fitting[name].channel_order == first.channel_order
    ]
    best = max(alike, key=lambda name: candidates[name].accuracy)
    return [best, *(name for name in tied if name != best)]


def _scale(normalisation: Normalisation, channels: int) -> float:
    """Mean factor on the pixels; NaN, which is larger than nothing, where each image has its own."""
    return float("nan") if normalisation.standardise else float(np.mean(normalisation.affine(channels)[0]))


def _chosen_by(candidates: Mapping[str, PreprocessingCandidate], num_tied: int) -> str:
    if num_tied > 1:
        return "tie"
    return "accuracy" if all(each.surprise is None for each in candidates.values()) else "likelihood"


def _run_rounds(
    images: NDArray[np.float32],
    labels: NDArray[np.int64],
    fitting: Mapping[str, Normalisation],
    decide: Decide,
    seed: int,
) -> dict[str, PreprocessingCandidate]:
    """Every candidate as its last round left it, in order of plausibility; at least one is tied with the best."""
    results: dict[str, PreprocessingCandidate] = {}
    left = list(fitting)
    right = {name: np.zeros(len(labels), bool) for name in fitting}
    before = np.empty(0, np.int64)
    for count, significance in _ROUNDS:
        judged = stratified(labels, len(labels) if count is None else count, seed)
        new = np.setdiff1d(judged, before, assume_unique=True)  # each round has the images of those before it
        if len(new):
            for name in left:
                right[name][new] = decide(images[new], fitting[name]) == labels[new]
        results |= _compare({name: right[name][judged] for name in left}, significance)
        left = [name for name in left if results[name].tied]
        before = judged
    return {name: results[name] for name in fitting}


def _compare(correct: Mapping[str, NDArray[np.bool_]], significance: float) -> dict[str, PreprocessingCandidate]:
    """Each candidate's accuracy and its paired test against the best; the first of equals is the best."""
    best = max(correct, key=lambda name: int(correct[name].sum()))
    p_values = {name: paired_p_value(right, correct[best]) for name, right in correct.items()}
    return {
        name: PreprocessingCandidate(
            name=name,
            accuracy=float(right.mean()),
            num_images=len(right),
            p_value=p_values[name],
            tied=p_values[name] > significance,
        )
        for name, right in correct.items()
    }


def _tie_note(tied: list[PreprocessingCandidate], repeated: list[str]) -> tuple[str, ...]:
    if len(tied) == 1:
        return ()
    shown = ", ".join(f"{candidate.name} {candidate.accuracy:.3f}" for candidate in tied)
    again = f", and the search is repeated with {_called(repeated[0])}, whose scale differs" if repeated else ""
    return (
        f"preprocessing candidates explain {tied[0].num_images} images equally well ({shown}): {_called(tied[0].name)} "
        f"is used{again}; pass --preprocess to settle it",
    )


def _likelihood_note(candidates: Mapping[str, PreprocessingCandidate], tied: list[str]) -> tuple[str, ...]:
    """Which candidates are as accurate and were left out nevertheless."""
    out = [name for name, each in candidates.items() if each.surprise is not None and not each.tied]
    if not out:
        return ()
    one = len(out) == 1
    return (
        f"preprocessing {' and '.join(map(_called, out))} {'explains' if one else 'explain'} the images as well, but "
        f"{'makes' if one else 'make'} the model far surer than it is right, so {_called(tied[0])} is taken; pass "
        "--preprocess to settle it",
    )


def _called(name: str) -> str:
    """A candidate's name in a sentence, where `none` would read as if nothing were taken."""
    return f"'{name}'{' (x/255)' if name == 'none' else ''}"


def _accuracy(clean: CleanSet, labels: NDArray[np.int64], decide: Decide, normalisation: Normalisation) -> float:
    return float(np.mean(decide(clean.images, normalisation) == labels))


def _low_accuracy(accuracy: float | None, labels: NDArray[np.int64], name: str, config: ScanConfig) -> str | None:
    """Why the accuracy is too low to scan, or None."""
    least = half_way(labels) if config.min_accuracy is None else config.min_accuracy
    if accuracy is None or accuracy >= least:
        return None
    return (
        f"expected a clean accuracy of at least {least:.3f}, found {accuracy:.3f} with preprocessing {name}: pass "
        "--preprocess (or --mean, --std, --range, --channel-order) as in the model's training, check the labels, or "
        "lower --min-accuracy"
    )


def half_way(labels: NDArray[np.int64]) -> float:
    """Half the way between chance, the share of the commonest label (at most a half), and 1."""
    chance = min(float(np.bincount(labels).max()) / len(labels), 0.5)
    return (1 + chance) / 2


def _record(
    name: str,
    normalisation: Normalisation,
    chosen_by: str,
    candidates: tuple[PreprocessingCandidate, ...] = (),
    repeated_as: tuple[str, ...] = (),
) -> PreprocessingRecord:
    return PreprocessingRecord(
        name=name, **asdict(normalisation), chosen_by=chosen_by, candidates=candidates, repeated_as=repeated_as
    )
