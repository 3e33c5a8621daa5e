"""Random numbers of torch that follow from a seed and from what they are for, whatever else is drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Generator


def generator(*key: int) -> Generator:
    """A generator on the CPU for one purpose.

    Args:
        key: The seed of the scan, then what tells this purpose from others, such as a target class; not negative.
    """
    import torch

    return torch.Generator().manual_seed(int(np.random.SeedSequence(key).generate_state(1)[0]))
