"""The command `python -m benchmarks.fuzz`."""

from benchmarks.hostile.fuzz import main

if __name__ == "__main__":
    raise SystemExit(main())
