"""The command `python -m benchmarks.exporter_fixtures`."""

from __future__ import annotations

from benchmarks.exporters.fixtures import main

if __name__ == "__main__":
    raise SystemExit(main())
