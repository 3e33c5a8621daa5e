"""The command `python -m benchmarks.kill_resume`."""

from __future__ import annotations

from benchmarks.hostile.kill_resume import main

if __name__ == "__main__":
    raise SystemExit(main())
