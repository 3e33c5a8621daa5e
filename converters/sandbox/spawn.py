"""Start the child process of the sandbox: a fresh interpreter with nothing of the parent's but its module path."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import site
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from backscan.converters.sandbox import child
from backscan.converters.sandbox.limits import Limits

_KEPT_VARIABLES = ("PATH", "LANG", "TZ", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
_KEPT_PREFIXES = ("LC_", "OMP_", "MKL_", "OPENBLAS_", "CUDA_", "NVIDIA_", "PYTORCH_")
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_HOME_VARIABLES = ("HOME", "TMPDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "NUMBA_CACHE_DIR", "MPLCONFIGDIR")


@dataclass(frozen=True, slots=True)
class Child:
    """A running child process, and the parent's ends of its pipes, which do not block."""

    process: subprocess.Popen[bytes]
    """Leader of its own process group, so that all it starts ends with it."""
    requests: int
    """Descriptor to write requests to."""
    answers: int
    """Descriptor to read answers from."""
    scratch: str
    """The only folder in which it may write."""

    @property
    def terminal(self) -> int:
        """Descriptor to read from what its libraries print."""
        assert self.process.stdout is not None  # noqa: S101 - `spawn` asks for it
        return self.process.stdout.fileno()

    def resident_bytes(self) -> int:
        """Memory it has now, or 0 where the system does not tell."""
        try:
            fields = Path(f"/proc/{self.process.pid}/statm").read_text().split()
        except OSError:
            return 0
        return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")

    def end(self) -> None:
        """Kill its process group, close the pipes and remove the scratch folder."""
        # It is not reaped yet, so its number still belongs to it.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        os.close(self.requests)
        os.close(self.answers)
        with self.process:  # closes its output and waits for it
            pass
        shutil.rmtree(self.scratch, ignore_errors=True)


def spawn(target: str, limits: Limits, *, threads: int | None, cpu_seconds: int | None) -> Child:
    """Start a child that constructs the target and serves it.

    Args:
        target: `package.module:Class`.
        limits: What it may use.
        threads: Threads of its numerical libraries; None leaves it to them.
        cpu_seconds: CPU time for the start.
    """
    scratch = tempfile.mkdtemp(prefix="backscan-")
    request_end, requests = os.pipe()
    answers, answer_end = os.pipe()
    settings = {
        "target": target,
        "path": _module_path(),
        "limits": {**asdict(limits), "address_space": limits.address_space},
        "scratch": scratch,
        "parent": os.getpid(),
        "requests": request_end,
        "answers": answer_end,
        "start_cpu_seconds": cpu_seconds,
    }
    process = subprocess.Popen(  # noqa: S603 - our own interpreter and file
        [sys.executable, "-P", "-B", child.__file__, json.dumps(settings)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=scratch,
        env=_environment(scratch, threads),
        pass_fds=(request_end, answer_end),
        start_new_session=True,
    )
    os.close(request_end)
    os.close(answer_end)
    opened = Child(process, requests, answers, scratch)
    for descriptor in (requests, answers, opened.terminal):
        os.set_blocking(descriptor, False)
    return opened


def _module_path() -> list[str]:
    """The parent's module path without the current folder, where a model may lie beside a hostile `json.py`."""
    here = os.getcwd()
    # What does not exist is left as it is: editable installs put a marker there that their finder knows.
    entries = [os.path.abspath(entry) if os.path.exists(entry) else entry for entry in sys.path if entry]
    return [entry for entry in entries if entry != here]


def _environment(scratch: str, threads: int | None) -> dict[str, str]:
    """Few variables of the parent, none that holds a secret or loads a library."""
    kept = {
        name: value for name, value in os.environ.items() if name in _KEPT_VARIABLES or name.startswith(_KEPT_PREFIXES)
    }
    kept |= dict.fromkeys(_HOME_VARIABLES, scratch)
    if threads is not None:
        kept |= dict.fromkeys(_THREAD_VARIABLES, str(threads))
    # With a random seed, the order of sets of names would differ from scan to scan.
    return kept | {"PYTHONHASHSEED": "0", "PYTHONUSERBASE": site.getuserbase()}
