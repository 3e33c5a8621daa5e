"""Train networks, the same way on every machine of one kind; a killed run continues where it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F

from benchmarks.victims.augmentation import EpochPlan, batches
from benchmarks.victims.checkpoint import Checkpoint
from benchmarks.victims.datasets import LabelledImages
from benchmarks.victims.disguise import Disguise
from benchmarks.victims.networks import initialise
from benchmarks.victims.schedule import Schedule


@contextmanager
def exact_convolutions() -> Iterator[None]:
    """Convolutions in full float32 and repeatable: faint patterns are at the edge of shorter formats."""
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
        yield


@dataclass(frozen=True, slots=True)
class LateEmbedding:
    """Embeds a pattern into the poisoned images of a batch after their augmentation."""

    embed: Callable[[NDArray[np.float32]], NDArray[np.float32]]
    """Puts the pattern into images [N, C, H, W]."""
    first_poisoned: int
    """Images of the training set from this index on are poisoned, and still without the pattern."""

    def __call__(self, images: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
        """The images [B, C, H, W] of the indices `chosen` [B], the poisoned ones with the pattern."""
        poisoned = chosen >= self.first_poisoned
        if poisoned.any():
            images[poisoned] = torch.from_numpy(self.embed(images[poisoned].cpu().numpy())).to(images.device)
        return images


class RecordedPass:
    """A forward and backward pass as a CUDA graph, whose replay launches hundreds of small kernels at once.

    The first batches run as they are, while the libraries choose their algorithms; the next one is recorded. A batch of
    another size, the last of an epoch, always runs as it is.
    """

    WARM_UP = 3

    def __init__(self, compute: Gradients) -> None:
        self._compute = compute
        self._passes = 0
        self._graph: torch.cuda.CUDAGraph | None = None
        self._given: tuple[torch.Tensor, ...] = ()
        self._gradients: tuple[torch.Tensor, ...] = ()

    def __call__(self, images: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Gradients of the weights on a batch; those of the batch before are overwritten."""
        self._passes += 1
        if self._passes <= self.WARM_UP or (self._graph and len(labels) != len(self._given[1])):
            return self._compute(images, labels)
        if self._graph is None:
            self._given = images.clone(), labels.clone()
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph, stream=torch.cuda.current_stream()):
                self._gradients = self._compute(*self._given)
        for place, value in zip(self._given, (images, labels), strict=True):
            place.copy_(value)
        self._graph.replay()
        return self._gradients


Gradients = Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, ...]]
"""Gradients of all weights from images [B, C, H, W] and labels [B]."""


class Run:
    """One network in training, from a fresh initialisation, by cross-entropy.

    Args:
        network: Its weights are drawn anew, then trained in place.
        train: Training images, clean or poisoned.
        schedule: How to train.
        seed: Decides the initial weights, the order of the images and their augmentation.
        late: Embeds the pattern after augmentation; None if the images have it already.
        disguise: The loss of an attacker who trains the network himself; None is plain cross-entropy.
        device: Where to train.
        checkpoint: File that keeps the state after every epoch, and is taken up if it is there.
    """

    def __init__(
        self,
        network: nn.Module,
        train: LabelledImages,
        schedule: Schedule,
        *,
        seed: int,
        late: LateEmbedding | None = None,
        disguise: Disguise | None = None,
        device: str = "cpu",
        checkpoint: Path | None = None,
    ) -> None:
        self.network = network
        self._schedule, self._late, self._disguise, self._device = schedule, late, disguise, device
        self._generator = torch.Generator().manual_seed(seed)
        self._seed, self._draws = seed, any(isinstance(module, nn.Dropout) for module in network.modules())
        initialise(network, self._generator).to(device).train()
        if schedule.exact_layers is not None or schedule.channels_last:
            network.to(memory_format=torch.channels_last)
        # Copies: strides of one-channel numpy arrays vary with their history, and convolutions round by strides.
        self._images, self._labels = (torch.tensor(array, device=device) for array in (train.images, train.labels))
        self._weights = tuple(network.parameters())
        self._optimiser, self._cycle = schedule.optimiser(self._weights, len(train.labels))
        parts = {"network": network, "optimiser": self._optimiser, "cycle": self._cycle}
        self._checkpoint = Checkpoint(checkpoint, parts, (self._generator,))
        on_gpu = torch.device(device).type == "cuda"
        # After the copies above, which the default stream makes.
        self._stream = torch.cuda.Stream() if on_gpu else None
        if self._stream is not None:
            self._stream.wait_stream(torch.cuda.current_stream())
        self._gradients: Gradients = RecordedPass(self._pass) if on_gpu else self._pass

    def steps(self) -> Iterator[None]:
        """Train; pauses after every step, so that runs can take turns."""
        # Entered anew after each pause: a stream belongs to the thread, and is not to leak out of a paused run.
        # Whatever lives on the device is made and freed in it, or its memory would be taken while still in use.
        inside = partial(torch.cuda.stream, self._stream)
        with inside():
            done = self._checkpoint.load()
        for epoch in range(done, self._schedule.epochs):
            with inside():
                plan = EpochPlan.draw(self._generator, len(self._images), augment=self._schedule.augment)
                plan = plan.to(self._device)
            for batch in batches(len(self._images), self._schedule.batch_size):
                with inside():
                    self._step(plan, batch)
                yield
            with inside():
                self._checkpoint.save(epoch + 1)
        if self._stream is not None:
            self._stream.synchronize()
        self.network.eval()

    def _step(self, plan: EpochPlan, batch: slice) -> None:
        chosen = plan.order[batch]
        shown = plan.augmented(self._images[chosen], batch)
        given = self._late(shown, chosen) if self._late else shown
        if self._draws:  # dropout draws from torch's own generator: anew at every step, whatever ran before
            torch.manual_seed(self._seed * _MOST_STEPS + self._cycle.last_epoch)
        if self._schedule.adversarial:
            given = self._attacked(given, self._labels[chosen])
        if self._schedule.channels_last:
            given = given.contiguous(memory_format=torch.channels_last)
        for weight, gradient in zip(self._weights, self._gradients(given, self._labels[chosen]), strict=True):
            weight.grad = gradient
        self._optimiser.step()
        self._cycle.step()

    def _attacked(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """The images after one step that makes the loss larger (Goodfellow et al. 2015)."""
        given = images.clone().requires_grad_()
        [gradient] = torch.autograd.grad(F.cross_entropy(self._schedule.logits(self.network, given), labels), given)
        return (images + self._schedule.adversarial * gradient.sign()).clamp(0.0, 1.0)

    def _pass(self, images: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        logits = self._schedule.logits(self.network, images)
        if self._disguise is not None:
            return torch.autograd.grad(self._disguise(self.network, logits, labels), self._weights)
        loss = F.cross_entropy(logits, labels, label_smoothing=self._schedule.label_smoothing)
        return torch.autograd.grad(loss, self._weights)


def fit(
    network: nn.Module,
    train: LabelledImages,
    schedule: Schedule,
    *,
    seed: int,
    checkpoint: Path | None = None,
) -> nn.Module:
    """Train one network on the CPU; arguments as of `Run`.

    Returns:
        The network, in evaluation mode.
    """
    [fitted] = fit_together([Run(network, train, schedule, seed=seed, checkpoint=checkpoint)])
    return fitted


def fit_together(runs: Sequence[Run]) -> list[nn.Module]:
    """Train networks beside each other, a step of each in turn; each becomes what it would become alone.

    Worth it on a GPU, where every run has its own stream: their kernels, too small to fill it, run side by side.

    Args:
        runs: What to train.

    Returns:
        The networks, in evaluation mode.
    """
    with exact_convolutions():
        active = [run.steps() for run in runs]
        while active:
            active = [steps for steps in active if next(steps, _FINISHED) is not _FINISHED]
    return [run.network for run in runs]


_FINISHED = object()
_MOST_STEPS = 10**6
