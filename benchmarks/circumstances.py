"""What a committed table must say about how its figures came to be."""

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
    """The commit of the working tree, marked where something was changed since."""
    done = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def processor() -> str:
    """Name of the processor, or at least its family."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
