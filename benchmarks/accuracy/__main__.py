"""The command `python -m benchmarks.accuracy`."""

from benchmarks.accuracy.report import main

if __name__ == "__main__":
    raise SystemExit(main())
