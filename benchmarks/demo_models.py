"""The command `python -m benchmarks.demo_models`."""

from __future__ import annotations

from benchmarks.victims.demo_models import main

if __name__ == "__main__":
    raise SystemExit(main())
