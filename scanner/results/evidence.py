"""What can be shown: the recovered pattern, its replay on the file, controls, findings in the graph."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from pydantic.dataclasses import dataclass

from backscan.scanner.errors import ReportError
from backscan.scanner.results.base import STRICT, EncodedArray
from backscan.scanner.results.pairs import PairKey

Count = Annotated[int, Field(ge=0)]

DEPENDS_ON_CALL = "depends-on-call"
"""Rule of the graph finding that the answer about an image depends on the other images of a call."""

DORMANT_UNIT = "dormant-unit"
"""Rule of the graph finding that a unit which ordinarily stands still decides once a pattern wakes it."""

_FOLLOWS = 0.5


@dataclass(frozen=True, slots=True, config=STRICT)
class FoundPattern:
    """The recovered pattern of a detected pair."""

    detector: str
    """Detector that found it."""
    source: int
    """Source class."""
    target: int
    """Target class."""
    space: str
    """`image`, the space in which it changes the image (`--space`), or the tensor it is added to."""
    size: float
    """Norm that the detector uses."""
    size_l1: float
    """L1 norm."""
    size_l2: float
    """L2 norm."""
    largest_change: float
    """Largest absolute value of any element."""
    values: EncodedArray
    """The pattern, [C, H, W] or in the shape of its space or of the features."""
    mask: EncodedArray | None = None
    """How much of the image the pattern takes the place of, in [0, 1], [H, W]; left out of reports of patterns that are
    added."""
    picture: EncodedArray | None = None
    """What it changes of the card of its space, [C, H, W]; left out of reports of patterns that show themselves."""

    @property
    def key(self) -> PairKey:
        """Detector, source and target."""
        return self.detector, self.source, self.target

    @property
    def shown(self) -> NDArray[np.float32]:
        """What a picture of it shows: its values as far as they hide the image, or what it changes of a card.

        Raises:
            ReportError: its mask is not of its size.
        """
        weights, shown = self.weights, (self.picture or self.values).decode()
        return shown if weights is None else shown * weights

    @property
    def weights(self) -> NDArray[np.float32] | None:
        """How much of the image it takes the place of, [H, W]; None of a pattern that is added.

        Raises:
            ReportError: its mask is not of its size.
        """
        weights = None if self.mask is None else self.mask.decode()
        if weights is not None and weights.shape != self.values.decode().shape[1:]:
            raise ReportError(
                "expected a mask of the pattern's size in the report, found another: make the report again"
            )
        return weights


@dataclass(frozen=True, slots=True, config=STRICT)
class Example:
    """One held-out source image before and after the pattern, as the original artifact decides."""

    label: int
    """Class of the image."""
    decision_before: int
    """Decision without the pattern."""
    decision_after: int
    """Decision with the pattern."""
    before_png: str
    """The image as base64 PNG."""
    after_png: str
    """The image with the pattern, clipped, as base64 PNG; empty where the pattern acts on features inside the model."""


@dataclass(frozen=True, slots=True, config=STRICT)
class CollateralDamage:
    """What the pattern does to images of another class."""

    source: int
    """Class of the images."""
    rate: float
    """Share of them decided as the target with the pattern."""
    initial_rate: float
    """The same without the pattern."""
    num_images: int
    """Images counted."""


@dataclass(frozen=True, slots=True, config=STRICT)
class Verification:
    """Replay of the found pattern on the original file with onnxruntime."""

    provider: str
    """Execution provider that onnxruntime really used."""
    source: int
    """Source class of the replayed pattern."""
    target: int
    """Target class of the replayed pattern."""
    rate_torch: float
    """Rate on the optimisation images that the torch copy gave."""
    rate_original: float
    """Rate on the same images that the original file gives."""
    num_images: int
    """Optimisation images of the source class."""
    rate_held_out: float
    """Rate on held-out images."""
    num_held_out: int
    """Held-out images of the source class."""
    rate_shuffled: float
    """Rate on held-out images of the pattern with its pixels shuffled (same norm)."""
    num_shuffled: int
    """Image decisions behind `rate_shuffled` (several shuffles of the same images)."""
    p_value: float
    """One-sided Fisher test: held-out rate above the shuffled one."""
    confirmed: bool
    """Whether the contract's three conditions hold."""
    reason: str
    """The conditions that failed, or why it is confirmed."""
    collateral: tuple[CollateralDamage, ...] = ()
    """Rates of the other source classes."""
    detector: str = "pairwise"
    """Detector whose pattern was replayed."""
    model_sha256: str | None = None
    """Digest of the file that the pattern was replayed on; None in reports of 0.1."""

    @property
    def key(self) -> PairKey:
        """Detector, source and target."""
        return self.detector, self.source, self.target

    @property
    def followers(self) -> tuple[int, ...]:
        """Other classes that follow the pattern: most of their images, and twice as many as without it."""
        follow = (each for each in self.collateral if each.rate > _FOLLOWS and each.rate > 2.0 * each.initial_rate)
        return tuple(each.source for each in follow)


@dataclass(frozen=True, slots=True, config=STRICT)
class Controls:
    """Comparisons a reader needs to judge a detected or most extreme pair."""

    source: int | None = None
    """Source class of the most extreme pair."""
    target: int | None = None
    """Target class of the most extreme pair."""
    size: float | None = None
    """Its size."""
    reversed_size: float | None = None
    """Size of the reversed pair (target to source): natural similarity is about symmetric, a backdoor is not."""
    median_size: float | None = None
    """Median size of all pairs that count."""
    target_median_size: float | None = None
    """Median size of all pairs with this target."""
    source_median_size: float | None = None
    """Median size of the other pairs with this source: some classes are near all others."""


@dataclass(frozen=True, slots=True, config=STRICT)
class GraphFinding:
    """Something built into the graph that can switch or mask the decision."""

    rule: str
    """Stable identifier of the rule."""
    severity: str
    """`note`, `warning` or `error` (demonstrated)."""
    message: str
    """One sentence."""
    nodes: tuple[str, ...]
    """Names of the nodes involved."""
    evidence: str
    """What was seen in the graph, or what the demonstration did."""
    demonstrated: bool = False
    """Whether an input was found that takes the branch and changes the decision in onnxruntime."""
    source: int | None = None
    """Decision without the switch, if demonstrated."""
    target: int | None = None
    """Decision with the switch, if demonstrated."""
    unresolved: bool = False
    """Whether it was not settled what the nodes do, so that nothing may be called not detected."""


@dataclass(frozen=True, slots=True, config=STRICT)
class DormantUnits:
    """Units inside the model that hold the same on all ordinary images, and what was tried of them."""

    dormant: Count
    """Units that stand still: channels, and elements where the rest of their channel does not."""
    tried: Count
    """Those that were moved, by themselves or with others, to see whether they decide."""
    deciding: Count
    """Those that then send images of several classes to one class, as units of ordinary networks do."""
    searched: Count
    """Those of them that decide the soonest, for which a pattern was searched that wakes them."""
    obstacle: str = ""
    """Why units were left untried; empty if none was."""
