"""How a fleet of small models is scanned on Ray: by one worker, by two, and by two of which one is killed now and then.

    OMP_NUM_THREADS=1 python -m benchmarks.fleet --models 50 --kill-every 20 --out benchmarks/results

Every scan has one thread. The time is from the call to the last result, with workers that have scanned a model before;
what the start of the cluster and its workers takes stands beside it. Results are compared as JSON, without times, and
some models are scanned by this process as well.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from backscan.scanner import ScanConfig, scan_models
from benchmarks import command
from benchmarks.fleet.killing import killing
from benchmarks.fleet.models import make_fleet
from benchmarks.provenance import circumstances
from benchmarks.table import grid, page

_LIBRARIES = ("ray", "torch", "onnxruntime")
_TIMELESS = {"timings": {}, "finished": ""}


@dataclass(frozen=True, slots=True)
class Round:
    """One time through all models."""

    workers: str
    """Who scanned."""
    models: int
    """How many models."""
    seconds: float
    """From the call to the last result."""
    start: float
    """What the cluster and the workers took before."""
    killed: int
    """Workers that were killed."""
    identical: int
    """Models whose result is that of the first round, byte for byte but for times."""


def main() -> None:
    """Run every round and write the table."""
    parser = command.parser(__doc__, out="the table and its JSON")
    parser.add_argument("--models", type=int, default=50, help="models of the fleet")
    parser.add_argument("--images", type=int, default=20, help="images of a class for the search")
    parser.add_argument("--kill-every", type=float, default=20.0, help="seconds after which a worker is killed")
    parser.add_argument("--local", type=int, default=5, help="models that this process scans as well")
    parser.add_argument("--detector", action="append", default=[], help="of the scans; repeatable, by default theirs")
    options = parser.parse_args()
    os.environ |= {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_worker_niceness": "0",  # as this process has, which is measured beside it
    }
    with TemporaryDirectory(prefix="fleet-") as scratch:
        models, images = make_fleet(Path(scratch), options.models)
        config = ScanConfig(
            images_per_class=options.images,
            threads=1,
            device="cpu",
            preprocess="none",
            detectors=tuple(options.detector),
        )
        paths = sorted(models.glob("*.onnx"))
        rounds: list[Round] = []
        first: dict[str, str] = {}
        for workers, kill in ((1, 0.0), (2, 0.0), (2, options.kill_every)):
            rounds.append(_round(paths, images, config, first, workers=workers, kill=kill))
            print(rounds[-1], flush=True)
        if options.local:
            rounds.append(_local(paths[: options.local], images, config, first))
            print(rounds[-1], flush=True)
    text = _report(rounds, options)
    print(text)
    command.publish(options.out, "fleet", text, {"rounds": [asdict(each) for each in rounds]})


def _round(
    paths: Sequence[Path], images: Path, config: ScanConfig, first: dict[str, str], *, workers: int, kill: float
) -> Round:
    """All models on a cluster of so many workers; the first round fills `first`."""
    began = time.monotonic()
    with _cluster(workers):
        list(scan_models(paths[:workers], images, config, executor="ray"))  # every worker has begun
        warm = time.monotonic()
        with killing(kill or 1e9) as killed:
            found = _texts(scan_models(paths, images, config, executor="ray", max_retries=20))
        seconds = time.monotonic() - warm
    same = sum(first.setdefault(name, text) == text for name, text in found.items())
    label = f"{workers} on Ray" + (f", one killed every {kill:g} s" if kill else "")
    return Round(label, len(found), round(seconds, 1), round(warm - began, 1), len(killed), same)


def _local(paths: Sequence[Path], images: Path, config: ScanConfig, first: dict[str, str]) -> Round:
    began = time.monotonic()
    found = _texts(scan_models(paths, images, config))
    same = sum(first.get(name) == text for name, text in found.items())
    return Round("this process", len(found), round(time.monotonic() - began, 1), 0.0, 0, same)


def _texts(results: Iterator[Any]) -> dict[str, str]:
    """Results by model, as text without times."""
    return {each.model.name: json.dumps(each.to_dict() | _TIMELESS) for each in results}


@contextmanager
def _cluster(workers: int) -> Iterator[None]:
    """A cluster of this machine with one processor a worker."""
    ray: Any = import_module("ray")
    ray.init(
        "local",
        num_cpus=workers,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        _node_ip_address="127.0.0.1",
    )
    try:
        yield
    finally:
        ray.shutdown()


def _report(rounds: Sequence[Round], options: argparse.Namespace) -> str:
    """The rounds as Markdown."""
    one, two = rounds[0], rounds[1]
    told = [f"Two workers are {one.seconds / two.seconds:.2f} times as fast as one."]
    if options.local:
        own, a_model = rounds[-1].seconds / rounds[-1].models, one.seconds / one.models
        told.append(
            f"A model takes {a_model:.2f} s on one worker and {own:.2f} s in a process of its own: the difference is "
            "what Ray costs, and the spread of the machine."
        )
    header = ("scanned by", "models", "seconds", "start before", "killed", "identical results")
    rows = [(each.workers, each.models, each.seconds, each.start, each.killed, each.identical) for each in rounds]
    made_by = (
        f"`OMP_NUM_THREADS=1 python -m benchmarks.fleet --models {options.models} --images {options.images} "
        f"--kill-every {options.kill_every:g} --local {options.local}`"
    )
    heading = f"{made_by}, {circumstances(_LIBRARIES)}."
    return page("A fleet on Ray", heading, " ".join(told), grid(header, rows, "lrrrrr"))


if __name__ == "__main__":
    main()
