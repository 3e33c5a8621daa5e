"""Small members of the architectures that people export, from timm's own classes, with weights that are not degenerate.

Fresh weights hide mistakes: a head of zeros gives constant logits, batch statistics of 0 and 1 make a forgotten
normalisation invisible, layer scales of 1e-6 switch whole blocks off.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

NUM_CLASSES = 10


@dataclass(frozen=True, slots=True)
class Architecture:
    """A network to export."""

    size: int
    """Height and width of its images."""
    make: Callable[[], nn.Module]
    """Builds it with fresh weights."""
    passes: int = 10
    """How often its batch statistics see the same images."""


def use_fused_attention(fused: bool) -> None:
    """Whether new networks of timm call torch's fused attention, which exporters below opset 14 cannot write."""
    _import_timm()
    from timm.layers import set_fused_attn

    set_fused_attn(fused)


def _import_timm() -> None:
    """Timm imports torchvision, whose wheels want the CUDA build of torch for two operators that no classifier has."""
    for name in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, name):
            torch.library.define(f"torchvision::{name}", "(Tensor boxes, Tensor scores, float threshold) -> Tensor")


def _named(name: str, **settings: object) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        _import_timm()
        import timm

        network: nn.Module = timm.create_model(name, num_classes=NUM_CLASSES, **settings)
        return network

    return make


def build_named(name: str) -> nn.Module:
    """A network of timm's by its name, of its own size, as it is before training."""
    torch.manual_seed(0)
    return _named(name)().eval()


def _mixer() -> nn.Module:
    _import_timm()
    from timm.models.mlp_mixer import MlpMixer

    return MlpMixer(num_classes=NUM_CLASSES, img_size=32, patch_size=8, embed_dim=48, num_blocks=3)


ARCHITECTURES = {
    "resnet": Architecture(64, _named("resnet18")),
    "mobilenetv3": Architecture(64, _named("mobilenetv3_small_050")),
    "efficientnet": Architecture(64, _named("efficientnet_b0")),
    "convnext": Architecture(64, _named("convnext_atto", depths=(1, 1, 2, 1), dims=(16, 32, 48, 64))),
    "convnext_grn": Architecture(64, _named("convnextv2_atto", depths=(1, 1, 1, 1), dims=(16, 32, 48, 64))),
    "densenet": Architecture(64, _named("densenet121", growth_rate=8, block_config=(2, 3, 3, 2))),
    "vit": Architecture(32, _named("vit_tiny_patch16_224", img_size=32, patch_size=8, embed_dim=48, depth=3)),
    "swin": Architecture(
        56, _named("swin_tiny_patch4_window7_224", img_size=56, embed_dim=24, depths=(2, 2), num_heads=(2, 4))
    ),
    "mixer": Architecture(32, _mixer),
    "regnet": Architecture(64, _named("regnety_002")),
    "repvgg": Architecture(64, _named("repvgg_a0"), passes=40),
}
"""Name -> architecture; a few blocks each, so that an export takes seconds."""


def build(name: str, *, seed: int = 0) -> nn.Module:
    """A network of the table, in evaluation mode, with weights as of a trained one."""
    torch.manual_seed(seed)  # timm initialises from the global generator
    architecture = ARCHITECTURES[name]
    network = architecture.make()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            _enliven(parameter, generator)
        images = torch.rand(24, 3, architecture.size, architecture.size, generator=generator)
        images *= torch.rand(24, 3, 1, 1, generator=generator)  # of different colours, too
        _settle_statistics(network, images, architecture.passes)
        network.eval().get_classifier().bias -= network(images).mean(dim=0)  # so that decisions differ
    return network


def _settle_statistics(network: nn.Module, images: torch.Tensor, passes: int) -> None:
    """Batch statistics as after some steps of training.

    With those of a fresh network the signal dies on its way through a deep one. With the exact ones of noise the
    network amplifies rounding so much that it differs from itself in float64 by percents.
    """
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = 0.1
    network.train()
    for _ in range(passes):
        for batch in images.split(8):
            network(batch)


def _enliven(parameter: nn.Parameter, generator: torch.Generator) -> None:
    """Give a constant matrix or scale some life; biases stay zero, as exporters merge equal ones through Identity."""
    if parameter.dim() > 1 and parameter.std() < 1e-4:
        parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    elif parameter.dim() == 1 and 0 < parameter.abs().max() <= 1 and parameter.std() < 1e-4:
        parameter.copy_(0.5 + torch.rand(parameter.shape, generator=generator))
