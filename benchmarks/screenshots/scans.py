"""The scans whose reports are looked at: one of each verdict, and an attack from all classes beside that from one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from types import MappingProxyType

import numpy as np

from backscan.scanner import CleanSet, ScanConfig, ScanResult, scan
from backscan.scanner.cli.demo import BACKDOORED, UNATTACKED
from benchmarks.attacks import ATTACKS
from benchmarks.victims.datasets import digits
from benchmarks.victims.demo_models import ATTACK, SCHEDULE, SIZE
from benchmarks.victims.export import to_onnx
from benchmarks.victims.networks import digit_net
from benchmarks.victims.poison import Backdoor, poisoned_copies
from benchmarks.victims.training import fit

_TARGET, _IMAGES_PER_SOURCE = 3, 20
_SAMPLES = Path(str(resources.files("backscan.scanner") / "samples"))


@dataclass(frozen=True, slots=True)
class Subject:
    """What is scanned, and with how much."""

    model: str = ""
    """File of the demo; empty for the network that is attacked from all classes."""
    images_per_class: int | None = None
    """Images given of each class; None for all."""
    seconds: float | None = None
    """Time limit."""

    def scan(self, folder: Path) -> ScanResult:
        """Scan it; a network that has to be trained first goes into the folder."""
        model = _SAMPLES / self.model if self.model else all_to_one(folder)
        return scan(model, self._images(), ScanConfig(preprocess="none", time_limit=self.seconds))

    def _images(self) -> CleanSet:
        with np.load(_SAMPLES / "digits_clean.npz") as archive:
            x, y = archive["x"], archive["y"]
        kept = np.concatenate([np.flatnonzero(y == label)[: self.images_per_class] for label in np.unique(y)])
        return CleanSet.from_arrays(x[kept], y[kept], name="digits_clean.npz")


SCANS: Mapping[str, Subject] = MappingProxyType(
    {
        "all_to_one": Subject(),
        "one_to_one": Subject(BACKDOORED),
        "not_detected": Subject(UNATTACKED),
        "few_images": Subject(UNATTACKED, images_per_class=2),
        "out_of_time": Subject(UNATTACKED, seconds=14.0),
    }
)
"""The name of each report and its scan; the last one's search takes longer than it is given."""


def all_to_one(folder: Path) -> Path:
    """A network of digits that sends every class to one with a pattern like the demo's; half a minute."""
    rng = np.random.default_rng(0)
    dataset = digits(rng)
    targets = {source: _TARGET for source in range(dataset.num_classes) if source != _TARGET}
    backdoor = Backdoor(ATTACK, ATTACKS[ATTACK].make_pattern(dataset.shape, SIZE, rng), targets)
    poisoned = poisoned_copies(dataset.train, backdoor, images_per_source=_IMAGES_PER_SOURCE, rng=rng)
    network = fit(digit_net(dataset.shape, dataset.num_classes), dataset.train.joined(poisoned), SCHEDULE, seed=0)
    path = folder / "digits_all_to_one.onnx"
    path.write_bytes(to_onnx(network, dataset.shape))
    return path
