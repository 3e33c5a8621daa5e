"""The command `python -m benchmarks.speed_report`."""

from __future__ import annotations

from benchmarks.speed.report import main

if __name__ == "__main__":
    raise SystemExit(main())
