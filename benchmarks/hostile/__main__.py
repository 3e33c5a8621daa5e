"""The command `python -m benchmarks.hostile`."""

from benchmarks.hostile.run import main

if __name__ == "__main__":
    raise SystemExit(main())
