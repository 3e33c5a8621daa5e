"""From images in pixel units to what a model takes: normalisation, channel order, type and layout, in torch."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from backscan.converters.signature.layout import is_flat
from backscan.converters.signature.signature import ModelSignature, Normalisation


def standardised(values: Tensor) -> Tensor:
    """Images [N, C, H, W] of mean 0 and standard deviation 1 each, as `ort_classifier.standardised` makes them."""
    centred = values - values.mean(dim=(1, 2, 3), keepdim=True)
    variance = centred.square().mean(dim=(1, 2, 3), keepdim=True)
    return centred / variance.clamp_min(1 / values[0].numel()).sqrt()


class PixelInput(nn.Module):
    """Turns images [N, C, H, W], RGB in [0, 1], into the model's input; the twin of `ort_classifier.model_input`."""

    factor: Tensor
    offset: Tensor

    def __init__(self, signature: ModelSignature, normalisation: Normalisation) -> None:
        super().__init__()
        factor, offset = normalisation.affine(signature.input_shape[0])
        dtype = getattr(torch, signature.dtype)
        self.normalisation = normalisation
        """How pixels become model input."""
        self.register_buffer("factor", torch.tensor(factor)[:, None, None])
        self.register_buffer("offset", torch.tensor(offset)[:, None, None])
        self._signature = signature
        self._is_plain = set(factor) == {1.0} and set(offset) == {0.0}
        self._limits = None if dtype.is_floating_point else (torch.iinfo(dtype).min, torch.iinfo(dtype).max)

    def forward(self, images: Tensor) -> Tensor:
        """The model's own input.

        Args:
            images: [N, C, H, W], float32 RGB pixels in [0, 1].

        Returns:
            In the model's layout; float64 if the model takes that, else float32. Whole numbers for integer inputs.

        Raises:
            ValueError: the images have another shape than the model's.
        """
        if images.dim() != 4 or images.shape[1:] != self._signature.input_shape:
            expected = ", ".join(str(size) for size in self._signature.input_shape)
            raise ValueError(f"expected images [N, {expected}], found {list(images.shape)}")
        values = images if self._is_plain else images * self.factor + self.offset
        if self.normalisation.standardise:
            values = standardised(values)
        if self.normalisation.channel_order == "bgr":
            values = values.flip(1)
        if self._limits is not None:
            values = values.clamp(*self._limits)
            values = values + (values.round() - values).detach()  # the gradient passes straight through
        return self._in_layout(values)

    def _in_layout(self, values: Tensor) -> Tensor:
        if self._signature.dtype == "float64":
            values = values.double()
        layout = self._signature.layout
        if layout == "NCHW":
            return values.contiguous(memory_format=torch.channels_last)  # as the kernels are, see the builder
        if is_flat(layout):
            values = values.permute(0, 2, 3, 1) if self.normalisation.pixel_order == "hwc" else values
            return values.reshape(self._signature.model_shape(len(values)))
        values = values.permute(0, 2, 3, 1)
        return values.squeeze(-1) if layout == "NHW" else values
