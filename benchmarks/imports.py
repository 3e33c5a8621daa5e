"""The command `python -m benchmarks.imports`."""

from __future__ import annotations

from benchmarks.exporters.imports import main

if __name__ == "__main__":
    raise SystemExit(main())
