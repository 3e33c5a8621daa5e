"""The command `python -m benchmarks.exporters`."""

from benchmarks.exporters.matrix import main

if __name__ == "__main__":
    raise SystemExit(main())
