"""What a table says about how it was made: commit, versions, machine, intervals of counts."""

from __future__ import annotations

import math
import os
import platform
import subprocess
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path


def circumstances(libraries: Sequence[str]) -> str:
    """Commit, versions, hardware and load, as the end of a sentence that begins with the command."""
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in libraries)
    return (
        f"at commit {commit()} with Python {platform.python_version()}, {versions}, on {processor()} "
        f"({os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} when written)"
    )


def commit() -> str:
    """The commit of the working tree, marked where something but results was changed since."""
    head = _git("rev-parse", "--short", "HEAD")
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!benchmarks/results")
    return f"{head}-dirty" if head and changed else head or "unknown"


def _git(*arguments: str) -> str:
    """What git says of the repository around the working folder; empty where it cannot."""
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def machine() -> str:
    """Processor architecture and number of cores."""
    return f"{platform.machine()}, {os.cpu_count() or 1} processor cores"


def processor() -> str:
    """Name of the processor, or at least its family."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def wilson(count: int, total: int) -> tuple[float, float]:
    """95 % interval of a proportion (Wilson)."""
    z = 1.959964
    centre = (count + 0.5 * z * z) / (total + z * z)
    half = z / (total + z * z) * math.sqrt(count * (total - count) / total + 0.25 * z * z)
    return max(centre - half, 0.0), min(centre + half, 1.0)


def rate(count: int, total: int) -> str:
    """`17 = 0.850 (0.640-0.948)`: a count of many, its share and the 95 % interval of that."""
    low, high = wilson(count, total)
    return f"{count} = {count / total:.3f} ({low:.3f}-{high:.3f})"


def share(count: int, total: int) -> str:
    """`17 of 20 (0.64-0.95)`: a count with its 95 % interval; empty where there is nothing to count."""
    if total == 0:
        return ""
    low, high = wilson(count, total)
    return f"{count} of {total} ({low:.2f}-{high:.2f})"
