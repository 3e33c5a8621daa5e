"""What the rules know beside the graph: the input, and at which batch sizes to look at values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from backscan.converters.session import Arrays, noise
from backscan.converters.signature.signature import ModelSignature

_PROBE_BATCHES = (2, 5)  # a value that agrees at both does not depend on the batch


@dataclass(frozen=True, slots=True)
class Setting:
    """The circumstances of a rewrite."""

    signature: ModelSignature
    """The model's signature."""

    @property
    def batches(self) -> tuple[int, ...]:
        """Batch sizes to look at: two if the batch is free, else the one there is."""
        return _PROBE_BATCHES if self.signature.batch is None else (self.signature.batch,)

    def feeds(self) -> list[Arrays]:
        """Noise images for each batch size."""
        dtype: np.dtype[Any] = np.dtype(self.signature.dtype)
        return [
            {self.signature.input_name: noise(self.signature.model_shape(batch), dtype, seed=batch)}
            for batch in self.batches
        ]
