"""The command `python -m benchmarks.imports`."""

from benchmarks.exporters.imports import main

if __name__ == "__main__":
    raise SystemExit(main())
