"""The command `python -m benchmarks.calibration`."""

from benchmarks.levels.calibration import main

if __name__ == "__main__":
    raise SystemExit(main())
