"""The command `python -m benchmarks.calibration`."""

from __future__ import annotations

from benchmarks.levels.calibration import main

if __name__ == "__main__":
    raise SystemExit(main())
