"""The command `python -m benchmarks.switches`."""

from benchmarks.switches.trial import main

if __name__ == "__main__":
    raise SystemExit(main())
