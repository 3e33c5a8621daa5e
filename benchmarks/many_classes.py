"""The command `python -m benchmarks.many_classes`."""

from __future__ import annotations

from benchmarks.levels.many_classes import main

if __name__ == "__main__":
    raise SystemExit(main())
