"""The command `python -m benchmarks.many_classes`."""

from benchmarks.levels.many_classes import main

if __name__ == "__main__":
    raise SystemExit(main())
