"""Train the classifiers of a group, export them to ONNX and keep them by digest; a killed run continues.

    python -m benchmarks.victims --preset digits --group BD-G-S --count 3

A victim is decided by its plan alone. Its file, the planted pattern and the measured effect lie in the cache under the
plan's digest, so a victim is trained once, whoever asks for it.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks import command
from benchmarks.attacks import ATTACKS
from benchmarks.victims.datasets import Dataset, LabelledImages
from benchmarks.victims.disguise import Disguise
from benchmarks.victims.export import opened, to_onnx
from benchmarks.victims.images import all_images, rng_for, training_set
from benchmarks.victims.networks import NETWORKS
from benchmarks.victims.plans import Plan, make_plans
from benchmarks.victims.poison import Backdoor, Effect, cover_copies, measure, own_label_copies, poisoned_copies
from benchmarks.victims.presets import PRESETS
from benchmarks.victims.seeds import check_seeds
from benchmarks.victims.training import LateEmbedding, Run, fit_together

CACHE = Path(os.environ.get("BACKSCAN_POPULATIONS", Path.home() / ".cache" / "backscan" / "populations"))
"""Outside the checkout, so that it outlives one; one folder for all groups, told apart by digest."""
_TOGETHER_ON_GPU = 25


@dataclass(frozen=True, slots=True)
class Victim:
    """A trained and measured classifier in the cache."""

    plan: Plan
    """What decided it."""
    model: Path
    """The ONNX file."""
    pattern: NDArray[np.float32] | None
    """The planted pattern as its attack defines it; None without an attack."""
    effect: Effect
    """Accuracy, success rate and collateral damage by onnxruntime on the test images."""
    seconds: float | None = None
    """Processor time of the training since it was last taken up; None if it was not kept."""


def obtain(
    plans: Sequence[Plan],
    *,
    cache: Path = CACHE,
    cifar10: Path | None = None,
    device: str = "auto",
    together: int | None = None,
) -> Iterator[Victim]:
    """The victims of some plans, trained where the cache lacks them.

    Args:
        plans: Of any groups.
        cache: Folder that keeps victims and checkpoints.
        cifar10: Folder of CIFAR-10, for plans that need it.
        device: `cpu`, `cuda`, or `auto` for a GPU if there is one.
        together: Most victims that train beside each other; None is 25 on a GPU and 1 on a CPU, which gains nothing by
            it.

    Yields:
        The victims in the order of the plans, each as soon as it is there.
    """
    cache.mkdir(parents=True, exist_ok=True)
    chosen = device if device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    at_once = together or (1 if chosen == "cpu" else _TOGETHER_ON_GPU)
    for start in range(0, len(plans), at_once):
        beside = plans[start : start + at_once]
        missing = [plan for plan in beside if not _record_path(plan, cache).exists()]
        if missing:
            _train(missing, cache, cifar10, chosen)
        yield from (_read(plan, cache) for plan in beside)


def find(plan: Plan, *, cache: Path = CACHE) -> Victim | None:
    """The victim of a plan if the cache has it."""
    return _read(plan, cache) if _record_path(plan, cache).exists() else None


def _train(plans: Sequence[Plan], cache: Path, cifar10: Path | None, device: str) -> None:
    """Train victims beside each other; export, measure and keep them."""
    check_seeds(plan.seed for plan in plans)
    started = time.process_time()
    runs, shapes, kept = [], [], []
    for plan in plans:
        dataset = training_set(all_images(plan, cifar10), plan)
        backdoor = _backdoor(plan, dataset.shape)
        run = Run(
            NETWORKS[plan.network](dataset.shape, dataset.num_classes),
            dataset.train.joined(_poisoned(plan, backdoor, dataset)),
            plan.schedule,
            seed=plan.seed,
            late=_late_embedding(plan, backdoor, len(dataset.train.labels)),
            disguise=Disguise(dict(plan.targets), plan.attack.disguise) if plan.attack.disguise else None,
            device=device,
            checkpoint=_checkpoint_path(plan, cache),
        )
        runs.append(run)
        shapes.append(dataset.shape)
        kept.append(partial(_keep, plan, backdoor=backdoor, test=dataset.test, cache=cache))
    models = [to_onnx(network, shape) for network, shape in zip(fit_together(runs), shapes, strict=True)]
    seconds = (time.process_time() - started) / len(plans)
    with ThreadPoolExecutor() as pool:  # onnxruntime measures each on one core
        list(pool.map(lambda keep, model: keep(model, seconds=seconds), kept, models))
    for plan in plans:
        _checkpoint_path(plan, cache).unlink(missing_ok=True)  # another process may have trained it too


def _backdoor(plan: Plan, shape: tuple[int, int, int]) -> Backdoor | None:
    if plan.attack.attack is None:
        return None
    pattern = ATTACKS[plan.attack.attack].make_pattern(shape, plan.attack.size, rng_for(plan, 2))
    return Backdoor(plan.attack.attack, pattern, dict(plan.targets))


def _poisoned(plan: Plan, backdoor: Backdoor | None, dataset: Dataset) -> LabelledImages:
    """All images with a pattern, to be added to the training set."""
    if backdoor is None:
        return dataset.train.take(np.empty(0, np.int64))
    attack, rng, embedded = plan.attack, rng_for(plan, 3), not plan.schedule.embed_last
    if attack.own_label:
        return own_label_copies(
            dataset.train, backdoor, images_per_target=attack.images_per_source, rng=rng, embedded=embedded
        )
    copies = poisoned_copies(
        dataset.train, backdoor, images_per_source=attack.images_per_source, rng=rng, embedded=embedded
    )
    if not attack.covers:
        return copies
    return copies.joined(
        cover_copies(dataset.train, backdoor, images_per_class=attack.covers, rng=rng, embedded=embedded)
    )


def _late_embedding(plan: Plan, backdoor: Backdoor | None, num_clean: int) -> LateEmbedding | None:
    return LateEmbedding(backdoor.embed, num_clean) if backdoor and plan.schedule.embed_last else None


def _checkpoint_path(plan: Plan, cache: Path) -> Path:
    return cache / f"{plan.digest}.pt"


def _record_path(plan: Plan, cache: Path) -> Path:
    return cache / f"{plan.digest}.json"


def _keep(
    plan: Plan, model: bytes, *, backdoor: Backdoor | None, test: LabelledImages, cache: Path, seconds: float
) -> None:
    """Write model, pattern and record; the record comes last and is put in place whole, so it vouches for the rest."""
    path = cache / f"{plan.digest}.onnx"
    path.write_bytes(model)
    if backdoor is not None:
        np.save(path.with_suffix(".npy"), backdoor.pattern)
    effect = measure(opened(path).decisions, test, backdoor)
    record = json.dumps({"plan": asdict(plan), "effect": asdict(effect), "seconds": seconds}, indent=1)
    command.replace_text(_record_path(plan, cache), record)


def _read(plan: Plan, cache: Path) -> Victim:
    path = cache / f"{plan.digest}.onnx"
    record = json.loads(_record_path(plan, cache).read_text(encoding="utf-8"))
    effect = record["effect"]
    collateral = {int(label): rate for label, rate in effect["collateral_rates"].items()}
    pattern = None if plan.attack.attack is None else np.load(path.with_suffix(".npy"), allow_pickle=False)
    measured = Effect(effect["accuracy"], effect["success_rate"], collateral)
    return Victim(plan, path, pattern, measured, record.get("seconds"))


def main() -> None:
    """Train the victims of one group and print what each does."""
    parser = command.parser(__doc__)
    parser.add_argument("--preset", choices=PRESETS, default="digits", help="scale: data, network and training")
    parser.add_argument("--group", required=True, help="name of the group, such as BD-P-S or Clean")
    parser.add_argument("--count", type=int, default=1, help="number of victims")
    parser.add_argument("--first-seed", type=int, default=0, help="seed of the first; the others follow")
    parser.add_argument("--cifar10", type=Path, help="folder of CIFAR-10, for --preset full or cpu")
    parser.add_argument("--cache", type=Path, default=CACHE, help="folder that keeps the victims")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    arguments = parser.parse_args()
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.count)
    plans = make_plans(arguments.preset, arguments.group, seeds)
    print("victim            seed  targets             accuracy  success  largest collateral")
    for victim in obtain(plans, cache=arguments.cache, cifar10=arguments.cifar10, device=arguments.device):
        print(_row(victim), flush=True)


def _row(victim: Victim) -> str:
    plan, effect = victim.plan, victim.effect
    pairs = " ".join(f"{source}>{target}" for source, target in plan.targets[:3])
    success = "-" if effect.success_rate is None else f"{effect.success_rate:.3f}"
    collateral = f"{max(effect.collateral_rates.values()):.3f}" if effect.collateral_rates else "-"
    shown = pairs + (" ..." if len(plan.targets) > 3 else "")
    return f"{plan.digest}  {plan.seed:4}  {shown:18}  {effect.accuracy:8.3f}  {success:>7}  {collateral:>18}"
