"""False-alarm rates of the published and the calibrated p-value on simulated models without a backdoor.

    python -m benchmarks.calibration --out benchmarks/results

Ideal nulls are what the calibration assumes: independent Gamma reciprocals. The others are what real models do: some
targets are near everything, some sources are, and natural similarity of two classes is symmetric. There each effect
multiplies the reciprocals and carries a quarter of the variance of their logarithm.
"""

import argparse
import json
import math
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import polygamma

from backscan.scanner.hypothesis import Terms, assess

Matrix = NDArray[np.float64]

SIGNIFICANCE = 0.05
SHAPE = 5.0
"""Gamma shape of the reciprocals: a coefficient of variation of 0.45, about that of real models."""
EFFECT = math.sqrt(float(polygamma(1, SHAPE)) / 3.0)
"""Standard deviation of the logarithm of an effect: a quarter of the variance in all."""
STATISTICS = ("plain", "reverse-controlled")


def ideal(rng: np.random.Generator, num_classes: int) -> Matrix:
    """Independent reciprocals."""
    return rng.gamma(SHAPE, size=(num_classes, num_classes))


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


NULLS: Mapping[str, Callable[[np.random.Generator, int], Matrix]] = {
    "ideal": ideal,
    "target effects": target_effects,
    "source effects": source_effects,
    "symmetric similarity": symmetric_similarity,
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
    """Fits at the boundary of the family, whose p is 1."""
    seconds: float
    """Time of all tests on one core."""


def cells(draws: int) -> Iterator[Cell]:
    """All rows: ideal nulls at every number of classes, the others at ten and twenty."""
    for null in NULLS:
        for num_classes in (3, 5, 10, 20, 43) if null == "ideal" else (10, 20):
            for statistic in STATISTICS:
                yield Cell(null, num_classes, statistic, draws)


def simulate(cell: Cell, num_nulls: int, seed: int) -> Alarms:
    """Test simulated models, each from a seed of its own, which the statistics share."""
    started = time.perf_counter()
    published = calibrated = boundary = 0
    for index in range(num_nulls):
        key = (list(NULLS).index(cell.null), cell.num_classes, index)
        reciprocals = NULLS[cell.null](np.random.default_rng((seed, *key)), cell.num_classes)
        np.fill_diagonal(reciprocals, np.nan)
        found = assess(reciprocals, Terms(statistic=cell.statistic, bootstrap_draws=cell.draws, seed=index))
        published += found.p_value is not None and found.p_value <= SIGNIFICANCE
        calibrated += found.calibrated_p_value is not None and found.calibrated_p_value <= SIGNIFICANCE
        boundary += found.null is not None and found.null.status == "boundary"
    return Alarms(num_nulls, published, calibrated, boundary, time.perf_counter() - started)


def wilson(count: int, total: int) -> tuple[float, float]:
    """95 % interval of a proportion (Wilson)."""
    z = 1.959964
    centre = (count + 0.5 * z * z) / (total + z * z)
    half = z / (total + z * z) * math.sqrt(count * (total - count) / total + 0.25 * z * z)
    return max(centre - half, 0.0), min(centre + half, 1.0)


def table(rows: list[tuple[Cell, Alarms]], heading: str) -> str:
    """The rows as Markdown."""
    lines = [
        "# False alarms on simulated models without a backdoor",
        "",
        heading,
        "",
        "| null | K | statistic | draws | published p alarms | calibrated p alarms | boundary | seconds |",
        "|---|---:|---|---:|---|---|---:|---:|",
    ]
    for cell, alarms in rows:
        counts = [_rate(count, alarms.num_nulls) for count in (alarms.published, alarms.calibrated)]
        lines.append(
            f"| {cell.null} | {cell.num_classes} | {cell.statistic} | {cell.draws} | {counts[0]} | {counts[1]} "
            f"| {alarms.boundary} | {alarms.seconds:.0f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Simulate all cells, print the table and write it as Markdown and JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nulls", type=int, default=2000, help="simulated models in each row")
    parser.add_argument("--draws", type=int, default=199, help="bootstrap draws of each test")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="folder for calibration.md and calibration.json")
    arguments = parser.parse_args()

    command = f"python -m benchmarks.calibration --nulls {arguments.nulls} --draws {arguments.draws}"
    provenance = {"command": f"{command} --seed {arguments.seed}", "seed": arguments.seed, "commit": _commit()}
    heading = (
        f"`{provenance['command']}`, commit {provenance['commit']}: share of {arguments.nulls} nulls with p of at most "
        f"{SIGNIFICANCE}, with 95 % Wilson intervals. Reciprocals are Gamma of shape {SHAPE:g}; effects carry a "
        "quarter of the variance of their logarithm. Boundary counts fits whose likelihood grows to the edge, p = 1."
    )
    rows: list[tuple[Cell, Alarms]] = []
    for cell in cells(arguments.draws):
        rows.append((cell, simulate(cell, arguments.nulls, arguments.seed)))
        print(table(rows[-1:], "").splitlines()[-1], flush=True)
        if arguments.out:
            document = {**provenance, "rows": [asdict(cell) | asdict(alarms) for cell, alarms in rows]}
            (arguments.out / "calibration.md").write_text(table(rows, heading), encoding="utf-8")
            (arguments.out / "calibration.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def _rate(count: int, total: int) -> str:
    low, high = wilson(count, total)
    return f"{count} = {count / total:.3f} ({low:.3f}-{high:.3f})"


def _commit() -> str:
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


if __name__ == "__main__":
    main()
