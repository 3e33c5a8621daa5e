"""The command `python -m benchmarks.agreement`."""

from benchmarks.speed.agreement import main

if __name__ == "__main__":
    raise SystemExit(main())
