"""The imported model as a torch module: images in pixel units in, log-posteriors out, differentiable between."""

from __future__ import annotations

from copy import copy
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from backscan.converters.signature.signature import ModelSignature, Normalisation
from backscan.converters.torch_import.pixels import PixelInput

_Module = TypeVar("_Module", bound=nn.Module)

_TINY = 1e-30
"""Floor of a probability whose logit is out of reach: far below what float32 resolves next to 1."""


class TorchClassifier(nn.Module):
    """A frozen, differentiable classifier of images in pixel units."""

    def __init__(
        self,
        network: nn.Module,
        signature: ModelSignature,
        normalisation: Normalisation,
        *,
        head: str,
        notes: tuple[str, ...] = (),
    ) -> None:
        """Wrap a network.

        Args:
            network: Takes the model's own input for N images, gives [N, num_scores].
            signature: Inputs and outputs of the model.
            normalisation: How pixels become model input.
            head: What the network's scores are: the kinds of `ModelSignature.output_kind`, or "sigmoid_logits" for
                scores whose sigmoids the model would give.
            notes: What a user should know about the import, such as surrogate gradients; one sentence each.
        """
        super().__init__()
        self.inputs = PixelInput(signature, normalisation)
        self.network = network
        self.signature = signature
        self.head = head
        self.has_surrogates = False
        """Whether steps inside pass a gradient that is not their own."""
        self.notes = notes

    @property
    def normalisation(self) -> Normalisation:
        """How pixels become model input."""
        return self.inputs.normalisation

    @property
    def device(self) -> torch.device:
        """Where the classifier lives."""
        return self.inputs.factor.device

    def with_normalisation(self, normalisation: Normalisation) -> TorchClassifier:
        """The same network with another normalisation; the two share their weights."""
        return twin_with(self, inputs=PixelInput(self.signature, normalisation).to(self.device))

    def log_posterior(self, images: Tensor) -> Tensor:
        """Log-probabilities log p(c|x).

        Args:
            images: [N, C, H, W], float32 RGB pixels in [0, 1].

        Returns:
            [N, K], float32, exact in the tail wherever the logits are within reach.

        Raises:
            ValueError: the images have another shape than the model's.
        """
        return log_posterior(self.logits(images), self.head)

    def logits(self, images: Tensor) -> Tensor:
        """The network's scores before the head, [N, num_scores]: logits wherever the graph has them.

        Args:
            images: [N, C, H, W], float32 RGB pixels in [0, 1].

        Raises:
            ValueError: the images have another shape than the model's.
        """
        scores: Tensor = self.network(self.inputs(images))
        return scores.float()

    def forward(self, images: Tensor) -> Tensor:
        """The same as `log_posterior`."""
        return self.log_posterior(images)


def twin_with(module: _Module, **children: nn.Module) -> _Module:
    """A module that differs from another in some of its children and shares the others."""
    twin = copy(module)
    twin._modules = {**module._modules, **children}
    return twin


def log_posterior(scores: Tensor, head: str) -> Tensor:
    """Log-probabilities from the scores of a head.

    Args:
        scores: [N, K], or [N, 1] of a binary classifier.
        head: "logits", "log_probabilities", "sigmoid_logits", "sigmoids" or "probabilities".

    Returns:
        [N, K]; the exponentials of a row sum to 1.
    """
    binary = scores.shape[1] == 1
    if head in {"logits", "log_probabilities"} or (head == "sigmoid_logits" and binary):
        scores = F.pad(scores, (1, 0)) if binary else scores
    elif head == "sigmoid_logits":
        scores = F.logsigmoid(scores)
    else:
        scores = (torch.cat([1 - scores, scores], dim=1) if binary else scores).clamp_min(_TINY).log()
    return F.log_softmax(scores, dim=1)
