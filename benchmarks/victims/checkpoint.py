"""Where a training run stands, so that a killed one continues."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch


class Resumable(Protocol):
    """What a checkpoint keeps: a network, an optimiser, a learning rate."""

    def state_dict(self) -> dict[str, Any]:
        """The state as plain values and tensors."""
        ...

    def load_state_dict(self, state_dict: dict[str, Any]) -> object:
        """Take a state back."""
        ...


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Where a training run stands, kept in one file that is replaced whole after every epoch."""

    path: Path | None
    """The file; None keeps nothing."""
    parts: Mapping[str, Resumable]
    """What is kept, by name."""
    generators: tuple[torch.Generator, ...]
    """Random numbers continue where they were."""

    def load(self) -> int:
        """Take up the state of an earlier run.

        Returns:
            Epochs that are done; 0 if there is no earlier run.
        """
        if self.path is None or not self.path.exists():
            return 0
        state = torch.load(self.path, weights_only=True)
        for name, part in self.parts.items():
            part.load_state_dict(state[name])
        for generator, generator_state in zip(self.generators, state["generators"], strict=True):
            generator.set_state(generator_state)
        epochs: int = state["epochs"]
        return epochs

    def save(self, epochs: int) -> None:
        """Keep the state after a number of epochs; a kill at any moment leaves the old file or the new one."""
        if self.path is None:
            return
        state = {name: part.state_dict() for name, part in self.parts.items()}
        generator_states = [generator.get_state() for generator in self.generators]
        partial = self.path.with_suffix(".partial")
        torch.save(state | {"generators": generator_states, "epochs": epochs}, partial)
        os.replace(partial, self.path)
