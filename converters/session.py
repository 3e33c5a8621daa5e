"""onnxruntime, opened on bytes: sessions, feeds and probes, with its failures turned into one kind of error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from functools import cache
from importlib import metadata
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from numpy.typing import NDArray

from backscan.converters.errors import EngineError
from backscan.converters.graph import set_outputs

if TYPE_CHECKING:
    import onnxruntime

Arrays = dict[str, NDArray[Any]]
CPU_ONLY = ("CPUExecutionProvider",)
_EXACT_INT8 = "session.x64quantprecision"
"""Where a processor would saturate sums of 8-bit products (x86 without VNNI), take slower kernels that do not."""
_SILENT = 4  # what goes wrong is in the exception; a refusal may be expected, as of a batch that is not free


def open_session(
    data: bytes,
    external: Mapping[str, bytes] | None = None,
    *,
    threads: int | None = None,
    optimise: bool = True,
    providers: Sequence[str] = CPU_ONLY,
) -> onnxruntime.InferenceSession:
    """Open a model from memory; no file is read and no custom operator library is loaded.

    Products of 8-bit numbers are exact on every processor, where onnxruntime has a kernel for that.

    Args:
        data: Bytes of the model.
        external: Location -> bytes of its external-data files.
        threads: Threads that one operator may use; None leaves it to onnxruntime.
        optimise: Let onnxruntime rewrite the graph; off, every named value can be asked for.
        providers: Execution providers in order of preference.

    Returns:
        The open session.

    Raises:
        EngineError: onnxruntime refuses the model, or is not installed properly.
    """
    ort = _onnxruntime()

    def opened(exact_int8: str) -> onnxruntime.InferenceSession:
        options = ort.SessionOptions()
        options.log_severity_level = _SILENT
        options.use_deterministic_compute = True
        options.add_session_config_entry(_EXACT_INT8, exact_int8)
        if threads is not None:
            options.intra_op_num_threads = threads
        if not optimise:
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        if external:
            names, buffers = list(external), list(external.values())
            options.add_external_initializers_from_files_in_memory(names, buffers, [len(b) for b in buffers])
        # Without the fallback: it prints to the standard output, which belongs to the report.
        return ort.InferenceSession(data, options, providers=list(providers), enable_fallback=0)

    try:
        try:
            return opened("1")
        except ort.capi.onnxruntime_pybind11_state.NotImplemented:  # no exact kernel for signed inputs, say
            return opened("0")
    except Exception as error:  # onnxruntime's errors share no base class
        raise EngineError(f"onnxruntime cannot open the model ({_first_line(error)}): export it again") from error


def run_session(
    session: onnxruntime.InferenceSession, feeds: Mapping[str, NDArray[Any]], wanted: Sequence[str] = ()
) -> Arrays:
    """All outputs of a session by name, or those that are wanted.

    A list of scores by class name, as scikit-learn's models give, is a matrix here.

    Raises:
        EngineError: onnxruntime failed while running.
    """
    names = list(wanted) or [output.name for output in session.get_outputs()]
    try:
        outputs = session.run(names, dict(feeds))
    except Exception as error:
        raise EngineError(f"onnxruntime cannot run the model ({_first_line(error)}): export it again") from error
    return {name: _as_array(value) for name, value in zip(names, outputs, strict=True)}


def _as_array(value: Any) -> NDArray[Any]:
    if isinstance(value, list) and value and isinstance(value[0], dict):  # one dictionary an image, from `ZipMap`
        return np.array([list(scores.values()) for scores in value], np.float32)
    return np.asarray(value)


def probe(model: onnx.ModelProto, names: Sequence[str], feeds: Sequence[Mapping[str, NDArray[Any]]]) -> list[Arrays]:
    """What named values of a model hold for given inputs, computed by onnxruntime without any rewriting.

    Args:
        model: A whole model, external data folded in; it is left as it is.
        names: Values to look at; each is computed by a node.
        feeds: One dictionary of inputs for each run.

    Returns:
        For each run, value name -> array.

    Raises:
        EngineError: the model cannot be opened or run.
    """
    outputs = [deepcopy(value) for value in model.graph.output]
    set_outputs(model.graph, names)
    data = model.SerializeToString()
    del model.graph.output[:]
    model.graph.output.extend(outputs)
    session = open_session(data, optimise=False)
    del data  # as large as the model
    return [run_session(session, feed) for feed in feeds]


def noise(shape: tuple[int, ...], dtype: np.dtype[Any], *, seed: int) -> NDArray[Any]:
    """Random image-like input: uniform in [0, 1] for floating types, whole numbers up to 255 for integers."""
    values = np.random.default_rng(seed).random(shape, dtype=np.float32)
    largest = 1 if np.issubdtype(dtype, np.floating) else min(255, np.iinfo(dtype).max)
    return (values * largest).astype(dtype)


@cache
def _onnxruntime() -> Any:
    installed = [name for name in ("onnxruntime", "onnxruntime-gpu") if _is_installed(name)]
    if len(installed) != 1:
        found = " and ".join(installed) or "none"
        raise EngineError(
            f"expected exactly one of onnxruntime and onnxruntime-gpu, found {found}: uninstall what is there, then "
            "install the extra `cpu` or `gpu`"
        )
    import onnxruntime

    return onnxruntime


def _is_installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
