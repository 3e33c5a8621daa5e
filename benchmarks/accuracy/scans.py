"""Scans of victims, each made once and kept beside the victim: what the accuracy tables are made from.

A setting decides what is searched. What is concluded from the search - statistic, inference, null, p-value - is judged
anew from the kept report by `outcomes`, so a new statistic needs no new scan.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from backscan.scanner import PRESETS, CleanSet, ScanConfig, ScanResult, scan
from benchmarks.command import replace_text
from benchmarks.victims.datasets import LabelledImages
from benchmarks.victims.images import clean_images
from benchmarks.victims.victims import Victim

FORMAT = 3
"""Counts changes of the search after which its results differ."""

Search = Mapping[str, Any]

_PLAIN: Search = MappingProxyType({"detectors": ("pairwise",), "objective": "ce", "images_per_class": 100})
_CLEANSE: Search = MappingProxyType({"images_per_class": 10, "max_steps": 300})
_FEATURES: Search = MappingProxyType({**_PLAIN, "detectors": ("features",)})

SETTINGS: Mapping[str, Search] = MappingProxyType(
    {
        "default": {"images_per_class": 100},
        "witnesses": {
            "detectors": ("pairwise", "features", "window"),
            "statistics": ("plain", "commonality"),
            "images_per_class": 100,
        },
        "window": {"detectors": ("window",), "images_per_class": 100},
        "mask": {"detectors": ("mask",), "images_per_class": 100},
        "large-window": {"detectors": ("large-window",), "images_per_class": 100},
        "pairwise": _PLAIN,
        "J": {**_PLAIN, "objective": "J"},
        "Jp": {**_PLAIN, "objective": "Jp"},
        "Jc": {**_PLAIN, "objective": "Jc"},
        "J, L1": {**_PLAIN, "objective": "J", "norm": "l1"},
        "J, plain steps": {**_PLAIN, "objective": "J", "step_rule": "plain"},
        "L1": {**_PLAIN, "norm": "l1"},
        "features": _FEATURES,
        "features J": {**_FEATURES, "objective": "J"},
        "box": {**_PLAIN, "box": True},
        "goal 0.9": {**_PLAIN, "goal_rate": 0.9},
        **{f"{n} images": {**_PLAIN, "images_per_class": n} for n in (5, 10, 25, 50)},
        **{f"seed {n}": {**_PLAIN, "images_per_class": 25, "seed": n} for n in (1, 2)},
        "margin": {"detectors": ("margin",), "images_per_class": 10},
        **{name: {**_CLEANSE, **PRESETS[name]} for name in PRESETS if name.startswith("NC-")},
        "transferability": {"detectors": ("transferability",), "images_per_class": 100},
        "TABOR": {**_CLEANSE, "detectors": ("tabor",), "norm": "l1"},
    }
)
"""What is searched, by name. `default` and `witnesses` are scans by several detectors, which `PARTS` splits; the latter
also finds what single images need, so that every way of concluding can be tried on its rows.

The paper's objectives are searched with steps of unit length, whose sizes do not depend on the step; plain gradient
steps, the paper's, stay below the goal rate on many pairs of networks whose softmax saturates. Neural Cleanse and
TABOR run at a reduced effort, 10 images per class and 300 steps; the margins need no images.
"""


PARTS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "default": {"pairwise": "pairwise", "features": "features J"},
        "witnesses": {"pairwise": "pairwise", "features": "features J", "window": "window"},
    }
)
"""For a setting with several detectors, the setting that searches what each of them searches: a row each."""


def row_settings(setting: str) -> tuple[str, ...]:
    """Settings of the rows that a scan gives: its own, or those of its parts."""
    return tuple(PARTS[setting].values()) if setting in PARTS else (setting,)


@dataclass(frozen=True, slots=True)
class KeptScan:
    """A scan of a victim and what it cost."""

    result: ScanResult
    """The report."""
    seconds: float
    """Processor time, all of it."""


def obtain_scan(
    victim: Victim, setting: str, *, cache: Path, images: LabelledImages, most_images: int | None = None
) -> KeptScan:
    """The scan of a victim under a setting, made if the cache lacks it.

    Args:
        victim: The classifier.
        setting: Name in `SETTINGS`.
        cache: Folder that keeps scans.
        images: The defender's images, which the victim never saw.
        most_images: Fewer images per class than the setting wants; None is as the setting says.

    Returns:
        The scan.
    """
    search = _limited(SETTINGS[setting], most_images)
    path = _path(victim, search, cache)
    if not path.exists():
        started = time.process_time()
        result = scan(victim.model, clean_set(images), replace(_COMMON, **search))
        document = {"seconds": time.process_time() - started, "report": result.to_dict()}
        replace_text(path, json.dumps(document, allow_nan=False))
    return _read(path)


def find_scan(victim: Victim, setting: str, *, cache: Path, most_images: int | None = None) -> KeptScan | None:
    """The scan of a victim under a setting, if the cache has it; arguments as in `obtain_scan`."""
    path = _path(victim, _limited(SETTINGS[setting], most_images), cache)
    return _read(path) if path.exists() else None


def defender_images(victim: Victim, *, cifar10: Path | None, most_images: int | None) -> LabelledImages:
    """Images of each class that the victim never saw: as many as the search and the replay take.

    Args:
        victim: The classifier.
        cifar10: Folder of CIFAR-10, for victims of it.
        most_images: Images per class to search with; a quarter more is taken for the replay. None takes all.
    """
    test = clean_images(victim.plan, cifar10=cifar10)
    if most_images is None:
        return test
    rng = np.random.default_rng((victim.plan.seed, 5))
    members = [rng.permutation(np.flatnonzero(test.labels == label)) for label in np.unique(test.labels)]
    return test.take(np.sort(np.concatenate([each[: most_images + most_images // 4 + 1] for each in members])))


def clean_set(images: LabelledImages) -> CleanSet:
    """The images as the scanner takes them."""
    digest = hashlib.sha256(images.images.tobytes() + images.labels.tobytes()).hexdigest()
    return CleanSet(images.images.copy(), images.labels.copy(), "held-out images", digest, {})


# Victims take pixels as they are. All statistics are judged later, so the scan itself makes only the cheapest.
_COMMON = ScanConfig(
    preprocess="none",
    sandbox=False,
    images_in_report=False,
    statistics=("plain",),
    bootstrap_draws=0,
    published_p=True,
)


def _limited(search: Search, most_images: int | None) -> Search:
    if most_images is None:
        return search
    return {**search, "images_per_class": min(search["images_per_class"], most_images)}


def _path(victim: Victim, search: Search, cache: Path) -> Path:
    """File of a scan, named by what is searched."""
    return cache / f"{victim.plan.digest}-{search_digest(search)}.scan.json"


def search_digest(search: Search) -> str:
    """Digest of what is searched."""
    chosen = json.dumps([FORMAT, sorted(search.items())])
    return hashlib.sha256(chosen.encode()).hexdigest()[:12]


def _read(path: Path) -> KeptScan:
    document = json.loads(path.read_text(encoding="utf-8"))
    return KeptScan(ScanResult.from_dict(document["report"]), document["seconds"])
