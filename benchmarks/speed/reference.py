"""The two references that every speed is measured against: one pair at a time, eager float32, the obvious way.

`PUBLISHED` is Algorithm 1 as printed: gradient descent on J, equation (3), with one delta per model found by a line
search, at most 300 steps. `LATER` is the form of the authors' later code: gradient descent on the mean cross-entropy
with a step of 0.01. Both take the gradient of a step in one pass and the rate after it in another, on all images.

Neither is ever made faster: they are the denominators of all ratios, and their verdicts are compared with the engine's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from backscan.converters import Normalisation, import_model, read_artifact, read_signature
from backscan.scanner import PairResult
from backscan.scanner.results import PairStatus, Trajectory

Network = Callable[[Tensor], Tensor]
Pair = tuple[int, int]

GOAL_RATE = 0.8
_LARGEST_FILE = 1 << 30
_BISECTIONS = 10
# Line search for delta: from the longest step down until the pilot pairs no longer overshoot the goal (XMK 3.1.2).
_LONGEST_STEP = 10.0
_SHORTER = 10.0**-0.5
_MOST_OVERSHOOT = 1.05
_TRIALS = 10


@dataclass(slots=True)
class Cost:
    """What descents cost."""

    gradients: int = 0
    """Images passed forward and backward."""
    forwards: int = 0
    """Images passed forward only."""
    wall_seconds: float = 0.0
    """Elapsed time."""
    cpu_seconds: float = 0.0
    """Processor time of all threads: what a loaded machine measures rightly."""

    @property
    def passes(self) -> int:
        """Images passed either way; a step takes as many of both kinds, so time is in proportion to it."""
        return self.gradients + self.forwards


@dataclass(frozen=True, slots=True)
class Reference:
    """One way to descend."""

    loss: Callable[[Tensor, int], Tensor]
    """(logits [N, K], target) -> the loss."""
    step_size: float | None
    """Delta; None finds it by a line search."""
    max_steps: int
    """Steps after which a pair is capped."""


def mean_posterior(logits: Tensor, target: int) -> Tensor:
    """J of XMK equation (3): minus the mean posterior of the target."""
    return -F.softmax(logits, dim=1)[:, target].mean()


def mean_cross_entropy(logits: Tensor, target: int) -> Tensor:
    """Mean of minus the log posterior of the target."""
    return F.cross_entropy(logits, torch.full((len(logits),), target, device=logits.device))


PUBLISHED = Reference(mean_posterior, None, max_steps=300)
LATER = Reference(mean_cross_entropy, 0.01, max_steps=1000)


@dataclass(frozen=True, slots=True)
class Descent:
    """Where one pair ended."""

    pair: Pair
    """Source and target."""
    reached: bool
    """Whether the goal rate was reached within the steps allowed."""
    pattern: Tensor
    """Last pattern [C, H, W], not refined."""
    before: Tensor
    """Pattern one step earlier."""
    trajectory: Trajectory
    """Size and rate at the start and after each step."""
    cost: Cost = field(default_factory=Cost)
    """What it took."""

    @property
    def steps(self) -> int:
        """Steps taken."""
        return len(self.trajectory.sizes) - 1


def load_network(model: Path, normalisation: Normalisation) -> Network:
    """The imported network as a plain function of images [N, C, H, W] in [0, 1]: logits [N, K], channels first.

    Exporters fold batch normalisation into the convolutions before the scanner sees a file; that is left as it is.
    """
    artifact = read_artifact(model, max_bytes=_LARGEST_FILE)
    classifier = import_model(artifact, read_signature(artifact)).with_normalisation(normalisation)
    body = classifier.network.to(memory_format=torch.contiguous_format)
    return lambda images: body(classifier.inputs(images).contiguous())


def descend(network: Network, images: Tensor, pair: Pair, reference: Reference, step_size: float) -> Descent:
    """Algorithm 1 for one pair, line by line.

    Args:
        network: Images [N, C, H, W] to logits [N, K].
        images: Source images, pixels in [0, 1].
        pair: Source and target.
        reference: Loss and largest number of steps.
        step_size: Delta.
    """
    target, cost = pair[1], Cost()
    wall, cpu = time.perf_counter(), time.process_time()
    pattern = before = torch.zeros_like(images[0])
    sizes, rates = [0.0], [rate_of(network, images, pattern, target, cost)]
    while rates[-1] < GOAL_RATE and len(sizes) <= reference.max_steps:
        moving = pattern.clone().requires_grad_()
        loss = reference.loss(network(torch.clamp(images + moving, 0.0, 1.0)), target)
        (gradient,) = torch.autograd.grad(loss, moving)
        cost.gradients += len(images)
        before, pattern = pattern, pattern - step_size * gradient
        sizes.append(float(pattern.double().norm()))
        rates.append(rate_of(network, images, pattern, target, cost))
    cost.wall_seconds, cost.cpu_seconds = time.perf_counter() - wall, time.process_time() - cpu
    return Descent(pair, rates[-1] >= GOAL_RATE, pattern, before, Trajectory(tuple(sizes), tuple(rates)), cost)


def rate_of(network: Network, images: Tensor, pattern: Tensor, target: int, cost: Cost) -> float:
    """Group misclassification rate, Algorithm 1 line 4."""
    cost.forwards += len(images)
    with torch.no_grad():
        decisions = network(torch.clamp(images + pattern, 0.0, 1.0)).argmax(dim=1)
    return float((decisions == target).double().mean())


def crossing(network: Network, images: Tensor, descent: Descent) -> tuple[Tensor, float]:
    """Pattern and rate where the last step of a descent crosses the goal rate, by bisection; not counted."""
    below, above, rate = descent.before, descent.pattern, descent.trajectory.rates[-1]
    for _ in range(_BISECTIONS):
        middle = (below + above) / 2
        at_middle = rate_of(network, images, middle, descent.pair[1], Cost())
        if at_middle >= GOAL_RATE:
            above, rate = middle, at_middle
        else:
            below = middle
    return above, rate


def line_search(
    network: Network, images_by_class: Mapping[int, Tensor], pilots: Sequence[Pair], reference: Reference
) -> float:
    """One delta for the model: the longest with which no pilot pair ends far beyond the crossing of the goal.

    XMK section 3.1.2: with too large a delta the algorithm ends in few steps, with a pattern much larger than needed.
    """
    step_size = _LONGEST_STEP
    for _ in range(_TRIALS):
        if all(_is_fine(network, images_by_class[pair[0]], pair, reference, step_size) for pair in pilots):
            return step_size
        step_size *= _SHORTER
    raise RuntimeError(
        f"expected a delta of at least {step_size:.1g} that does not overshoot, found none: check the model"
    )


def _is_fine(network: Network, images: Tensor, pair: Pair, reference: Reference, step_size: float) -> bool:
    found = descend(network, images, pair, reference, step_size)
    if not found.reached or found.steps == 0:
        return True
    refined = float(crossing(network, images, found)[0].double().norm())
    return found.trajectory.sizes[-1] <= _MOST_OVERSHOOT * refined


def draw_pairs(num_classes: int, count: int, seed: int) -> list[Pair]:
    """Seeded pairs of different classes, in their order."""
    pairs = [(source, target) for source in range(num_classes) for target in range(num_classes) if source != target]
    drawn = np.random.default_rng(seed).permutation(len(pairs))[:count]
    return [pairs[index] for index in sorted(drawn.tolist())]


def search(
    network: Network, images_by_class: Mapping[int, Tensor], pairs: Sequence[Pair], reference: Reference
) -> Iterator[Descent]:
    """Every pair, one after another, with the model's one delta."""
    step_size = reference.step_size
    if step_size is None:
        step_size = line_search(network, images_by_class, pairs[:: max(1, len(pairs) // 2)][:3], reference)
    for pair in pairs:
        yield descend(network, images_by_class[pair[0]], pair, reference, step_size)


def as_result(network: Network, images: Tensor, descent: Descent) -> PairResult:
    """A descent with its crossing refined, in the scanner's form, for the scanner's own inference."""
    source, target = descent.pair
    result = PairResult(
        detector="pairwise",
        source=source,
        target=target,
        status=PairStatus.REACHED,
        size=descent.trajectory.sizes[-1],
        initial_rate=descent.trajectory.rates[0],
        rate=descent.trajectory.rates[-1],
        steps=descent.steps,
        trajectory=descent.trajectory,
        pattern=_array(descent.pattern),
    )
    if descent.steps == 0:
        return replace(result, status=PairStatus.ALREADY_CONFUSED, size=None)
    if not descent.reached:
        return replace(result, status=PairStatus.STEP_LIMIT)
    pattern, rate = crossing(network, images, descent)
    return replace(result, size=float(pattern.double().norm()), rate=rate, pattern=_array(pattern))


def _array(pattern: Tensor) -> NDArray[np.float32]:
    return pattern.float().cpu().numpy()


@dataclass(frozen=True, slots=True)
class Estimate:
    """Time of a whole scan by a reference, scaled by counted passes from the pairs that were timed."""

    wall_seconds: float
    """Elapsed time of all pairs."""
    cpu_seconds: float
    """Processor time of all pairs."""
    capped: tuple[Pair, ...]
    """Timed pairs that ended at the largest number of steps: they would have taken longer."""
    steps: tuple[int, ...]
    """Steps of each timed pair."""


def estimate(descents: Sequence[Descent], num_pairs: int, *, with_capped: bool = True) -> Estimate:
    """Time of `num_pairs` pairs that pass as many images as the timed ones on average.

    Args:
        descents: Timed pairs.
        num_pairs: Pairs of the whole scan.
        with_capped: Whether pairs that did not arrive count; they are named in any case.
    """
    capped = tuple(entry.pair for entry in descents if not entry.reached)
    counted = [entry for entry in descents if with_capped or entry.reached]
    passes = sum(entry.cost.passes for entry in counted)
    per_pass = num_pairs * passes / max(1, len(counted)) / max(1, sum(entry.cost.passes for entry in descents))
    return Estimate(
        wall_seconds=per_pass * sum(entry.cost.wall_seconds for entry in descents),
        cpu_seconds=per_pass * sum(entry.cost.cpu_seconds for entry in descents),
        capped=capped,
        steps=tuple(entry.steps for entry in descents),
    )
