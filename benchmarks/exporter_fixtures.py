"""The command `python -m benchmarks.exporter_fixtures`."""

from benchmarks.exporters.fixtures import main

if __name__ == "__main__":
    raise SystemExit(main())
