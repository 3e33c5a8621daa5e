"""What the child process that touches the artifact may use, in all and in each phase of a scan."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

GIB = 1 << 30
MIB = 1 << 20

_LARGEST_DEFAULT = 64 * GIB
"""A machine with more memory than this gives the rest to other programs unless asked."""


def default_memory() -> int:
    """Three quarters of the machine's memory, in bytes: a runaway child must not take the parent with it."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min(physical * 3 // 4, _LARGEST_DEFAULT)


@dataclass(frozen=True, slots=True)
class PhaseLimits:
    """What one call into the child may use. None means that this is not limited.

    CPU time does not depend on the load of the machine, so it is the strict one; wall time catches what sleeps.
    """

    name: str = "call"
    """Name of the phase in messages, such as `intake`."""
    wall_seconds: float | None = 300.0
    """Seconds from the call to its answer."""
    cpu_seconds: int | None = 300
    """Seconds of CPU time, added up over the threads of the child."""
    silence_seconds: float | None = None
    """Seconds between two events of a streaming method."""
    memory_bytes: int | None = None
    """Resident memory in this phase, where that is less than `Limits.memory_bytes`."""


START = PhaseLimits("start", wall_seconds=180.0, cpu_seconds=90)
INTAKE = PhaseLimits("intake", wall_seconds=120.0, cpu_seconds=60)
IMPORT = PhaseLimits("import", wall_seconds=600.0, cpu_seconds=900)
SCAN = PhaseLimits("scan", wall_seconds=None, cpu_seconds=None, silence_seconds=1800.0)
"""An honest scan may take days: only a child that reports nothing for half an hour is stopped."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What the child may use over its whole life."""

    memory_bytes: int = field(default_factory=default_memory)
    """Resident memory; the address space may be larger by what threads and libraries reserve without using."""
    file_bytes: int = 1 * GIB
    """Size of each file that it writes into its scratch folder."""
    open_files: int = 1024
    """Number of open files."""
    message_bytes: int = 4 * GIB
    """Size of an answer."""
    bounded_address_space: bool = field(default_factory=lambda: not Path("/dev/nvidia0").exists())
    """False with CUDA, which reserves far more addresses than memory: the parent then only watches the memory."""

    @property
    def address_space(self) -> int | None:
        """Bytes of address space, or None where it cannot be limited."""
        if not self.bounded_address_space:
            return None
        # A thread reserves up to 8 MiB of stack and 128 MiB of arena, mostly unused; libraries map about 1 GiB.
        return self.memory_bytes + 2 * GIB + 136 * MIB * (os.cpu_count() or 1)
