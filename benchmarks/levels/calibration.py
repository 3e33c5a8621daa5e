"""False-alarm rates of the published and the calibrated p-value on simulated models without a backdoor.

    python -m benchmarks.calibration --out benchmarks/results

Ideal nulls are what the calibration assumes: independent Gamma reciprocals. The others are what real models do: some
targets are near everything, some sources are, and natural similarity of two classes is symmetric. There each effect
multiplies the reciprocals and carries a quarter of the variance of their logarithm. What needs a table of its own is
one source that is near all classes, one target that is far from all, and pairs that ended at the largest size.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.special import polygamma

from backscan.scanner.inference.order_test import Terms, assess
from backscan.scanner.inference.statistics import STATISTICS
from backscan.scanner.results import UNREACHED
from benchmarks import command
from benchmarks.provenance import commit, rate
from benchmarks.table import grid, page

Matrix = NDArray[np.float64]

SIGNIFICANCE = 0.05
SHAPE = 5.0
"""Gamma shape of the reciprocals: a coefficient of variation of 0.45, about that of real models."""
EFFECT = math.sqrt(float(polygamma(1, SHAPE)) / 3.0)
"""Standard deviation of the logarithm of an effect: a quarter of the variance in all."""
FAMILIES = ("gamma", "inverse-gaussian")
"""Null families that are fitted."""
TESTED = ("plain", "reverse-controlled", "target-contrast")
"""Statistics of the table of each family; any other has a table of its own."""
_AT_A_LIMIT = {"a tenth": 0.1, "a fifth": 0.2, "a third": 1 / 3}
APART = (
    "one near source",
    "one far target",
    *(f"{share} at a limit" for share in _AT_A_LIMIT),
    "a fifth at a limit, as tried",
)
"""Nulls that have a table of their own, with every statistic or a chosen one."""


def ideal(rng: np.random.Generator, num_classes: int) -> Matrix:
    """Independent reciprocals."""
    return rng.gamma(SHAPE, size=(num_classes, num_classes))


def ideal_inverse_gaussian(rng: np.random.Generator, num_classes: int) -> Matrix:
    """Independent reciprocals with a heavier tail and the same coefficient of variation."""
    return rng.wald(1.0, SHAPE, size=(num_classes, num_classes))


def target_effects(rng: np.random.Generator, num_classes: int) -> Matrix:
    """Some targets are easier to reach from everywhere."""
    return ideal(rng, num_classes) * np.exp(EFFECT * rng.normal(size=num_classes))[None, :]


def source_effects(rng: np.random.Generator, num_classes: int) -> Matrix:
    """Some sources are easier to leave for everywhere."""
    return ideal(rng, num_classes) * np.exp(EFFECT * rng.normal(size=num_classes))[:, None]


def symmetric_similarity(rng: np.random.Generator, num_classes: int) -> Matrix:
    """Some classes are alike, which helps both ways."""
    similarity = np.triu(rng.normal(size=(num_classes, num_classes)), 1)
    return ideal(rng, num_classes) * np.exp(EFFECT * (similarity + similarity.T))


def one_near_source(rng: np.random.Generator, num_classes: int) -> Matrix:
    """One class is near all others, as a thin digit 1 is: twice the reciprocals of the rest, which vary less."""
    reciprocals = rng.gamma(2.0 * SHAPE, size=(num_classes, num_classes))
    reciprocals[0] *= 2.0
    return reciprocals


def widely_spread(rng: np.random.Generator, num_classes: int) -> Matrix:
    """Log-normal reciprocals with effects of sources and targets, as of fully connected networks for digits."""
    own, source, target = (
        rng.normal(size=shape) for shape in ((num_classes, num_classes), (num_classes, 1), (1, num_classes))
    )
    return np.exp(0.5 * own + 0.25 * source + 0.25 * target)


def one_far_target(rng: np.random.Generator, num_classes: int) -> Matrix:
    """One class is hard to reach from all others, as a thin digit 1 is for such networks."""
    reciprocals = widely_spread(rng, num_classes)
    reciprocals[:, 0] *= 0.25
    return reciprocals


def at_a_limit(rng: np.random.Generator, num_classes: int, *, share: float, unreached: float = UNREACHED) -> Matrix:
    """So many pairs need more than the largest size, and count as so many times that: by the scanner, or as tried."""
    reciprocals = widely_spread(rng, num_classes)
    limit = float(np.quantile(reciprocals[~np.eye(num_classes, dtype=bool)], share))
    return np.where(reciprocals < limit, limit / unreached, reciprocals)


NULLS: Mapping[str, Callable[[np.random.Generator, int], Matrix]] = {
    "ideal": ideal,
    "target effects": target_effects,
    "source effects": source_effects,
    "symmetric similarity": symmetric_similarity,
    "ideal inverse Gaussian": ideal_inverse_gaussian,
    "one near source": one_near_source,
    "one far target": one_far_target,
    **{f"{name} at a limit": partial(at_a_limit, share=share) for name, share in _AT_A_LIMIT.items()},
    "a fifth at a limit, as tried": partial(at_a_limit, share=0.2, unreached=1.0),
}


@dataclass(frozen=True, slots=True)
class Cell:
    """One row of the table: what is simulated."""

    null: str
    """Name in `NULLS`."""
    num_classes: int
    """Classes K."""
    statistic: str
    """Statistic that is tested."""
    family: str
    """Null family that is fitted."""
    draws: int
    """Bootstrap draws of each test; their number times the significance is whole, so the level stays exact."""


@dataclass(frozen=True, slots=True)
class Alarms:
    """How often the tests of a cell fired."""

    num_nulls: int
    """Simulated models."""
    published: int
    """Alarms of the published p-value."""
    calibrated: int
    """Alarms of the calibrated p-value."""
    boundary: int
    """Fits at the boundary of the family, where the spread of the others judges."""
    seconds: float
    """Time of all tests on one core."""


def cells(family: str, draws: int, only: str | None = None, apart: str | None = None) -> Iterator[Cell]:
    """All rows: ideal nulls of the family at every number of classes, the others at ten and twenty.

    Args:
        family: Null family that is fitted.
        draws: Bootstrap draws of each test.
        only: Statistic that has the table for itself; None are those of `TESTED`, of a null apart all.
        apart: Null of `APART` that has the table for itself.
    """
    if apart:
        names = (only,) if only else STATISTICS
        yield from (Cell(apart, num_classes, name, family, draws) for num_classes in (10, 20) for name in names)
        return
    own, other = ("ideal", "ideal inverse Gaussian") if family == "gamma" else ("ideal inverse Gaussian", "ideal")
    for null in (own, *(name for name in NULLS if name not in (own, other, *APART))):
        for num_classes in (3, 5, 10, 20, 43) if null == own else (10, 20):
            for statistic in (only,) if only else TESTED:
                yield Cell(null, num_classes, statistic, family, draws)


def simulate(cell: Cell, num_nulls: int, seed: int) -> Alarms:
    """Test simulated models, each from a seed of its own, which the statistics share."""
    started = time.perf_counter()
    published = calibrated = boundary = 0
    for index in range(num_nulls):
        key = (list(NULLS).index(cell.null), cell.num_classes, index)
        reciprocals = NULLS[cell.null](np.random.default_rng((seed, *key)), cell.num_classes)
        np.fill_diagonal(reciprocals, np.nan)
        terms = Terms(cell.statistic, null=cell.family, bootstrap_draws=cell.draws, seed=index, tells_power=False)
        found = assess(reciprocals, terms)
        published += found.p_value is not None and found.p_value <= SIGNIFICANCE
        calibrated += found.calibrated_p_value is not None and found.calibrated_p_value <= SIGNIFICANCE
        boundary += found.null is not None and found.null.status == "boundary"
    return Alarms(num_nulls, published, calibrated, boundary, time.perf_counter() - started)


def table(rows: list[tuple[Cell, Alarms]], heading: str) -> str:
    """The rows as Markdown."""
    header = ("null", "K", "statistic", "draws", "published p alarms", "calibrated p alarms", "boundary", "seconds")
    return page(
        "False alarms on simulated models without a backdoor",
        heading,
        grid(header, (_cells(cell, alarms) for cell, alarms in rows), "lrlrllrr"),
    )


def _cells(cell: Cell, alarms: Alarms) -> tuple[object, ...]:
    counts = [rate(count, alarms.num_nulls) for count in (alarms.published, alarms.calibrated)]
    return cell.null, cell.num_classes, cell.statistic, cell.draws, *counts, alarms.boundary, f"{alarms.seconds:.0f}"


def stem(family: str, statistic: str | None = None, null: str | None = None) -> str:
    """Name of the files of a table."""
    chosen = (None if family == "gamma" else family, statistic, null)
    return "_".join(["calibration", *(part.replace(",", "").replace(" ", "-") for part in chosen if part)])


_TOGETHER = (
    f"Ideal reciprocals have a coefficient of variation of {SHAPE**-0.5:.2f}; the others are Gamma of shape {SHAPE:g}, "
    "and effects carry a quarter of the variance of their logarithm."
)
_SPREAD = "Reciprocals are log-normal with standard deviations of 0.5, of the effects of sources and targets 0.25 each"
_APART = {
    "one near source": f"Reciprocals are Gamma of shape {2 * SHAPE:g}, those of one source doubled.",
    "one far target": f"{_SPREAD}, those of one target a quarter.",
} | {name: f"{_SPREAD}; {name}." for name in APART if " at a limit" in name}


def main() -> None:
    """Simulate all cells, print the table and write it as Markdown and JSON."""
    parser = command.parser(__doc__, out="the table and its JSON")
    parser.add_argument("--nulls", type=int, default=2000, help="simulated models in each row")
    parser.add_argument("--draws", type=int, default=199, help="bootstrap draws of each test")
    parser.add_argument("--family", choices=FAMILIES, default="gamma", help="null family that is fitted")
    parser.add_argument("--statistic", choices=STATISTICS, help="only this one, in a table of its own")
    parser.add_argument("--null", choices=APART, help="only this one, in a table of its own")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    made_by = f"python -m benchmarks.calibration --nulls {arguments.nulls} --draws {arguments.draws}"
    if arguments.family != "gamma":
        made_by += f" --family {arguments.family}"
    if arguments.statistic:
        made_by += f" --statistic {arguments.statistic}"
    if arguments.null:
        made_by += f" --null '{arguments.null}'"
    name = stem(arguments.family, arguments.statistic, arguments.null)
    provenance = {"command": f"{made_by} --seed {arguments.seed}", "seed": arguments.seed, "commit": commit()}
    heading = (
        f"`{provenance['command']}`, commit {provenance['commit']}: share of {arguments.nulls} nulls with p of at most "
        f"{SIGNIFICANCE}, with 95 % Wilson intervals, the {arguments.family} family fitted. "
        + (_APART[arguments.null] if arguments.null else _TOGETHER)
        + " Boundary counts fits whose likelihood grows to the edge, where the spread of the others judges."
    )
    rows: list[tuple[Cell, Alarms]] = []
    for cell in cells(arguments.family, arguments.draws, arguments.statistic, arguments.null):
        rows.append((cell, simulate(cell, arguments.nulls, arguments.seed)))
        print(table(rows[-1:], "").splitlines()[-1], flush=True)
        document = {**provenance, "rows": [asdict(cell) | asdict(alarms) for cell, alarms in rows]}
        command.publish(arguments.out, name, table(rows, heading), document, indent=2)
