"""The command `python -m benchmarks.victims`."""

from benchmarks.victims.victims import main

if __name__ == "__main__":
    raise SystemExit(main())
