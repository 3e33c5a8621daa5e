"""Train many networks of one structure at once: stacked weights, one program. Worth it on a GPU only.

Each network gets what `training.fit` would give it from the same seed, up to rounding.
"""

import copy
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import nn
from torch.func import functional_call, stack_module_state
from torch.nn import functional as F

from benchmarks.datasets import LabelledImages
from benchmarks.networks import initialise
from benchmarks.training import Checkpoint, EpochPlan, Schedule, batches, exact_convolutions


class _Stack(nn.Module):
    """M networks of one structure as one module, whose tensors have an axis of networks in front."""

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        self._structure = [copy.deepcopy(networks[0]).to("meta").train()]  # in a list: not a submodule
        weights, statistics = stack_module_state(list(networks))
        self._names = {name.replace(".", "_"): name for name in (*weights, *statistics)}
        for name, tensor in weights.items():
            self.register_parameter(name.replace(".", "_"), nn.Parameter(tensor.detach()))
        for name, tensor in statistics.items():
            self.register_buffer(name.replace(".", "_"), tensor)

    def _state(self) -> dict[str, torch.Tensor]:
        return {self._names[name]: tensor for name, tensor in (*self.named_parameters(), *self.named_buffers())}

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits [M, B, K] of images [M, B, C, H, W]."""

        def one(state: dict[str, torch.Tensor], batch: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = functional_call(self._structure[0], state, (batch,))
            return logits

        return torch.vmap(one)(self._state(), images)

    def unstack(self, networks: Sequence[nn.Module]) -> None:
        """Write each network's tensors back."""
        for index, network in enumerate(networks):
            network.load_state_dict({name: tensor[index].detach().cpu() for name, tensor in self._state().items()})


def fit_stack(
    build: Callable[[], nn.Module],
    clean: LabelledImages,
    poisoned: Sequence[LabelledImages],
    schedule: Schedule,
    *,
    seeds: Sequence[int],
    device: str,
    checkpoint: Path | None = None,
) -> list[nn.Module]:
    """Train one network for each seed.

    Args:
        build: Makes a network; all have one structure.
        clean: Training images that all networks share.
        poisoned: Further training images of each network, as many for each; perhaps none.
        schedule: How to train.
        seeds: A seed for each network, as in `training.fit`.
        device: Where to train.
        checkpoint: File that keeps the state after every epoch, and is taken up if it is there.

    Returns:
        The networks on the CPU, in evaluation mode.
    """
    generators = tuple(torch.Generator().manual_seed(seed) for seed in seeds)
    networks = [initialise(build(), generator) for generator in generators]
    stack = _Stack(networks).to(device)
    pool = _Pool(clean, poisoned, device)
    optimiser, cycle = schedule.optimiser(stack.parameters(), pool.num_images)
    kept = Checkpoint(checkpoint, {"stack": stack, "optimiser": optimiser, "cycle": cycle}, generators)
    with exact_convolutions():
        for epoch in range(kept.load(), schedule.epochs):
            plans = [EpochPlan.draw(each, pool.num_images, augment=schedule.augment) for each in generators]
            for batch in batches(pool.num_images, schedule.batch_size):
                images, labels = pool.take(plans, batch)
                logits = stack(images)
                # Summed over networks, so that each one's gradient is its own.
                losses = F.cross_entropy(
                    logits.flatten(0, 1),
                    labels.flatten(),
                    reduction="none",
                    label_smoothing=schedule.label_smoothing,
                )
                optimiser.zero_grad()
                losses.unflatten(0, labels.shape).mean(dim=1).sum().backward()
                optimiser.step()
                cycle.step()
            kept.save(epoch + 1)
    stack.unstack(networks)
    return [network.eval() for network in networks]


class _Pool:
    """Training images on the device: the clean ones once, the poisoned ones of each network."""

    def __init__(self, clean: LabelledImages, poisoned: Sequence[LabelledImages], device: str) -> None:
        self._device = device
        self._clean = torch.from_numpy(clean.images).to(device), torch.from_numpy(clean.labels).to(device)
        self._poisoned = (
            torch.stack([torch.from_numpy(each.images) for each in poisoned]).to(device),
            torch.stack([torch.from_numpy(each.labels) for each in poisoned]).to(device),
        )
        self.num_images = len(clean.labels) + self._poisoned[1].shape[1]

    def take(self, plans: Sequence[EpochPlan], batch: slice) -> tuple[torch.Tensor, torch.Tensor]:
        """Images [M, B, C, H, W] and labels [M, B] of a batch of each network's own plan."""
        chosen = torch.stack([plan.order[batch] for plan in plans]).to(self._device)
        images, labels = (
            self._select(clean, own, chosen) for clean, own in zip(self._clean, self._poisoned, strict=True)
        )
        augmented = [plan.augmented(own, batch) for plan, own in zip(plans, images, strict=True)]
        return torch.stack(augmented), labels

    @staticmethod
    def _select(clean: torch.Tensor, own: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
        selected = clean[chosen.clamp(max=len(clean) - 1)]
        network, place = torch.nonzero(chosen >= len(clean), as_tuple=True)
        selected[network, place] = own[network, chosen[network, place] - len(clean)]
        return selected
