"""The one jit wrapper: explicit signatures, compiled once and cached, no global interpreter lock.

Explicit signatures compile when a module is imported, so every later start loads machine code from the cache.
The cache lies in `__pycache__` beside the source; where that folder is read-only numba takes the user's cache folder.
Kernels release the interpreter lock and callers share rows among threads: no OpenMP beside torch's own, results
that do not depend on the number of threads, and processes that may still fork.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numba
from numba import types

Function = TypeVar("Function", bound=Callable[..., Any])

FLOAT = types.float64
COUNT = types.int64
FLAG = types.boolean
VOID = types.void
SIX_FLOATS = types.UniTuple(FLOAT, 6)  # type: ignore[no-untyped-call]  # numba is only partly typed
# Read-only in the signature means that writeable arrays are accepted as well.
VECTOR = types.Array(types.float64, 1, "C", readonly=True)
MATRIX = types.Array(types.float64, 2, "C", readonly=True)
WRITEABLE_VECTOR = types.Array(types.float64, 1, "C")
WRITEABLE_MATRIX = types.Array(types.float64, 2, "C")


def jit(signature: Any) -> Callable[[Function], Function]:
    """Compile a function of floats and float64 arrays for one signature.

    Args:
        signature: numba signature, such as `FLOAT(FLOAT, VECTOR)`.

    Returns:
        Decorator that gives the compiled function.
    """

    def compile_function(function: Function) -> Function:
        compiled: Function
        try:
            compiled = numba.njit(signature, cache=True, error_model="numpy", nogil=True)(function)
        except RuntimeError as error:
            if "cannot cache" not in str(error):
                raise
            # No folder at all is writeable (a locked-down container): correct, but compiled at every start.
            compiled = numba.njit(signature, error_model="numpy", nogil=True)(function)
        return compiled

    return compile_function


def _drop_stale_cache(folder: Path) -> None:
    """Remove compiled code older than any source beside it.

    numba looks only at the file of the function itself, so code that inlined a function of another file would
    survive a change there.
    """
    newest = max(source.stat().st_mtime for source in folder.glob("*.py"))
    for index in (folder / "__pycache__").glob("*.nbi"):
        try:
            if index.stat().st_mtime < newest:
                index.unlink()
        except OSError:
            pass  # another process removed it first, or the folder is read-only and was never written by numba


_drop_stale_cache(Path(__file__).parent)
