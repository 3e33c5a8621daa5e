"""The command `python -m benchmarks.agreement`."""

from __future__ import annotations

from benchmarks.speed.agreement import main

if __name__ == "__main__":
    raise SystemExit(main())
