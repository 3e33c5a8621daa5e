"""The command `python -m benchmarks.base_counts`."""

from __future__ import annotations

from benchmarks.speed.base_counts import main

if __name__ == "__main__":
    raise SystemExit(main())
