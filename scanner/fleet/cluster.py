"""A Ray cluster: one that is joined, or one of this machine for the time of the scans; and what it has room for."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any, TextIO

from backscan.scanner.errors import OptionError, UserError

_THIS_MACHINE = "127.0.0.1"
# How the names of Ray's own threads begin.
_THREADS = "ray_"


@dataclass(frozen=True, slots=True)
class Needs:
    """What the scan of a model takes of a node."""

    processors: int
    """Processors, which are as many threads."""
    gpus: int
    """Graphics cards."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster that this process has joined."""

    ray: Any
    """The package."""

    def needs(self, device: str, threads: int | None) -> Needs:
        """What a scan takes: a card where one is asked for, or left to the scan and there."""
        wants_gpu = device == "cuda" or (device == "auto" and self._total("GPU") >= 1)
        return Needs(threads or 1, int(wants_gpu))

    def room(self, needs: Needs) -> int:
        """How many scans fit into the cluster as it is now."""
        by_processors = self._total("CPU") // needs.processors
        return int(min(by_processors, self._total("GPU")) if needs.gpus else by_processors)

    def _total(self, resource: str) -> float:
        return float(self.ray.cluster_resources().get(resource, 0.0))


@contextmanager
def joined(address: str) -> Iterator[Cluster]:
    """A cluster; what was started here ends with it, and what was joined before stays so.

    Args:
        address: `HOST:PORT` of a Ray client server. Empty: the cluster that this program or its job (`RAY_ADDRESS`)
            belongs to, else the processors of this machine.

    Raises:
        OptionError: Ray is not installed.
        UserError: no cluster answers there.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is reported to anybody
    try:
        ray: Any = import_module("ray")
    except ImportError as error:
        raise OptionError(
            "expected ray for --executor ray, found it is not installed: `pip install 'backscan[ray]'`, or scan with "
            "--executor local"
        ) from error
    with _reports_alone_on_stdout():
        if ray.is_initialized() and not address:
            yield Cluster(ray)
            return
        _join(ray, address)
        try:
            yield Cluster(ray)
        finally:
            ray.shutdown()


class _WithoutRay:
    """The standard output without what Ray's threads write there: they tell of lost workers in mid report."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        if threading.current_thread().name.startswith(_THREADS):
            return len(text)
        return self.stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextmanager
def _reports_alone_on_stdout() -> Iterator[None]:
    if sys.stdout is None:  # closed before the start
        yield
        return
    stream = sys.stdout
    alone: Any = _WithoutRay(stream)
    sys.stdout = alone
    try:
        yield
    finally:
        if sys.stdout is alone:
            sys.stdout = stream


def _join(ray: Any, address: str) -> None:
    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    logging.getLogger("ray").setLevel(logging.ERROR)  # it speaks before it reads that
    own = os.environ.get("RAY_ADDRESS", "")
    try:
        if address:
            ray.init(f"ray://{address}", **quiet)
        elif own:
            ray.init(own, **quiet)
        else:  # nobody else on the network may give it work
            os.environ.setdefault("RAY_worker_niceness", "0")  # as a scan in this process has
            ray.init("local", include_dashboard=False, _node_ip_address=_THIS_MACHINE, **quiet)
    except Exception as error:  # Ray's own, those of gRPC, of sockets
        where = f"at {address or own}" if address or own else "to start on this machine"
        told = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise UserError(
            f"expected a Ray cluster {where}, found: {told}; check it, and that Ray and Python are of one version"
        ) from error
