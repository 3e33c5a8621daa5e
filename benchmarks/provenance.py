"""What a table says about how it was made: commit, machine, intervals of counts."""

import math
import os
import platform
import subprocess


def commit() -> str:
    """Short hash of the commit that is checked out, or `unknown`."""
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def machine() -> str:
    """Processor architecture and number of cores."""
    return f"{platform.machine()}, {os.cpu_count() or 1} processor cores"


def wilson(count: int, total: int) -> tuple[float, float]:
    """95 % interval of a proportion (Wilson)."""
    z = 1.959964
    centre = (count + 0.5 * z * z) / (total + z * z)
    half = z / (total + z * z) * math.sqrt(count * (total - count) / total + 0.25 * z * z)
    return max(centre - half, 0.0), min(centre + half, 1.0)


def share(count: int, total: int) -> str:
    """`17 of 20 (0.64-0.95)`: a count with its 95 % interval; empty where there is nothing to count."""
    if total == 0:
        return ""
    low, high = wilson(count, total)
    return f"{count} of {total} ({low:.2f}-{high:.2f})"
