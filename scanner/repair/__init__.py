"""Ways to repair a model: each learns new weights from clean images and, where it needs one, the recovered pattern.

They run where the model is open (the child process), on its differentiable copy; what they change is written back into
the file by name (`mending`). One file, one table line.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Method:
    """A way to repair a model."""

    function: str
    """Where it stands, `module:name`: a function from a lesson to weights by name. Empty for one that edits nodes."""
    adds: str = ""
    """What adds nodes to the file whose constants the method learns, `module:name`: a function from a file, its
    signature, its normalisation and clean images to a `Bounded`. Empty for methods that learn what the file holds."""
    needs_pattern: bool = False
    """Whether it works with a pattern on images alone."""


METHODS: Mapping[str, Method] = MappingProxyType(
    {
        "unlearn": Method("backscan.scanner.repair.training:unlearn"),
        "minimax": Method("backscan.scanner.repair.minimax:minimax"),
        "prune": Method("backscan.scanner.repair.pruning:prune", needs_pattern=True),
        "fine-pruning": Method("backscan.scanner.repair.pruning:fine_prune"),
        "fine-tune": Method("backscan.scanner.repair.training:fine_tune"),
        "bound-activations": Method(
            "backscan.scanner.repair.bounding:bound", adds="backscan.scanner.repair.bounding:with_bounds_to_learn"
        ),
        "cut-gate": Method(""),
    }
)
