"""Options of the commands that come after the verdict."""

from __future__ import annotations

from dataclasses import dataclass

from backscan.scanner.choices import RUNNING, SEARCH, Table, check_value, option, options_of

_METHODS = Table("backscan.scanner.repair", "METHODS")


@dataclass(frozen=True, slots=True)
class RepairOptions:
    """How a model is repaired, and when the repair is believed."""

    method: str | None = option(
        None,
        "{names}; by default minimax, or cut-gate where the scan demonstrated a switch in the graph.",
        SEARCH,
        choices=(_METHODS,),
    )
    max_drop: float = option(
        0.02,
        "Loss of accuracy on held-out images from which a repair is not believed; {default} by default.",
        SEARCH,
        low=0.0,
        high=1.0,
    )
    steps: int = option(
        240, "Steps of a training, of up to 320 images each.", SEARCH, low=1, high=1_000_000, shown=True
    )
    seed: int = option(0, "Seed of every random choice.", RUNNING, low=0, high=2**63 - 1, shown=True)

    def __post_init__(self) -> None:
        """Refuse values out of range and methods that the table lacks.

        Raises:
            OptionError: the option, what was expected and what was found.
        """
        for name, rules in options_of(RepairOptions).items():
            if getattr(self, name) is not None:
                check_value(rules, getattr(self, name))
