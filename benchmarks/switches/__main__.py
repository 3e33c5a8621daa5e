"""The command `python -m benchmarks.switches`."""

from benchmarks.switches.run import main

if __name__ == "__main__":
    raise SystemExit(main())
