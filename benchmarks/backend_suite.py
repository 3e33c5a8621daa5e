"""The command `python -m benchmarks.backend_suite`."""

from __future__ import annotations

from benchmarks.exporters.backend_suite import main

if __name__ == "__main__":
    raise SystemExit(main())
