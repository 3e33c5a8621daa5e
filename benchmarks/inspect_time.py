"""How long `scanner inspect` takes on an untrained ResNet-50 of ImageNet's size, in a process of its own.

python -m benchmarks.inspect_time
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import command
from benchmarks.exporters.cases import Case, export
from benchmarks.exporters.models import build_named

MOST_SECONDS = 20.0
"""What it may take."""


def main() -> int:
    """Measure once; exit 1 if it took too long or found something."""
    command.parser(__doc__).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "resnet50.onnx"
        path.write_bytes(export(build_named("resnet50"), 224, Case("resnet50", "legacy", 17, "free")))
        size, start = path.stat().st_size >> 20, time.perf_counter()
        inspection = [sys.executable, "-m", "backscan.scanner", "inspect", str(path)]
        done = subprocess.run(inspection, capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - start
    print(done.stdout, done.stderr)
    print(f"{size} MB in {seconds:.1f} s, load {os.getloadavg()[0]:.1f}")
    return int(done.returncode != 0 or seconds > MOST_SECONDS or "no switches" not in done.stdout)


if __name__ == "__main__":
    raise SystemExit(main())
