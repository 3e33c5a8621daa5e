"""The opened model in the process that may touch it: one method a step, plain messages in and out.

It runs in the sandboxed child, or in this process with `--no-sandbox`, and is the only code of the scanner that
imports torch or onnxruntime. `executors.Subject` is its typed counterpart on the other side.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from backscan.scanner.config import ScanConfig
from backscan.scanner.errors import OptionError

if TYPE_CHECKING:
    from backscan.converters import Artifact, Normalisation, OrtClassifier, TorchClassifier
    from backscan.scanner.detectors import Examination

Message = dict[str, Any]

_SIGNATURE_FIELDS = (
    "input_name",
    "input_shape",
    "layout",
    "dtype",
    "batch",
    "output_name",
    "output_kind",
    "opset",
    "producer",
    "other_outputs",
)


class Worker:
    """Holds one model: the original file in onnxruntime, and its differentiable copy in torch."""

    def __init__(self) -> None:
        self._runtime: OrtClassifier | None = None
        self._copy: TorchClassifier | None = None
        self._artifact: Artifact | None = None
        self._examination: Examination | None = None
        self._deadline = float("inf")

    def audit(self, message: Message) -> Message:
        """Look at the bytes before any library loads them."""
        from backscan.converters import audit

        return audit(message["data"]).to_dict()

    def open(self, message: Message) -> Message:
        """Open the original file in onnxruntime, and import it into torch unless `runtime_only`."""
        from backscan.converters import Artifact, import_model, open_runtime, read_signature

        artifact = Artifact(**message["artifact"])
        signature = read_signature(artifact, output_name=message["output_name"], image_size=message["image_size"])
        self._artifact = artifact
        self._runtime = open_runtime(artifact, signature, threads=message["threads"])
        answer: Message = {
            "signature": {name: getattr(signature, name) for name in _SIGNATURE_FIELDS},
            "num_classes": signature.num_classes,
            "provider": self._runtime.providers[0],
            "device": "cpu",
            "warnings": [],
        }
        if not message["runtime_only"]:
            answer["device"], device = _prepare_torch(message["device"])
            self._copy = import_model(artifact, signature, device=device)
            answer["warnings"] = list(self._copy.notes)
        return answer

    def settle(self, message: Message) -> Message:
        """Set how pixels become model input from now on."""
        normalisation = _normalisation(message)
        self._runtime = self.runtime.with_normalisation(normalisation)
        if self._copy is not None:
            self._copy = self._copy.with_normalisation(normalisation)
        return {}

    def decide(self, message: Message) -> Message:
        """Decisions of the original file on images in [0, 1], under another normalisation if one is given."""
        runtime = self.runtime
        if "normalisation" in message:
            runtime = runtime.with_normalisation(_normalisation(message))
        return {"decisions": runtime.decisions(message["images"])}

    def find_switches(self, message: Message) -> Message:
        """Switches built into the graph, and what they do (`graph_findings`)."""
        from backscan.scanner.graph_findings import find_graph_findings

        if self._artifact is None:
            raise RuntimeError("expected `open` before `find_switches`")
        runtime = self.runtime
        findings = find_graph_findings(
            self._artifact,
            runtime.signature,
            runtime.normalisation,
            message["images"],
            decisions=runtime.decisions,
            seed=message["seed"],
        )
        return {"findings": [asdict(finding) for finding in findings]}

    def list_cuts(self, _: Message) -> Message:
        """Tensors at which the model can be cut in two (`converters.split`)."""
        from backscan.converters import cut_candidates

        if self._artifact is None:
            raise RuntimeError("expected `open` before `list_cuts`")
        return {"cuts": [asdict(cut) for cut in cut_candidates(self._artifact, self.runtime.signature)]}

    def compare(self, message: Message) -> Message:
        """Parity of the copy with the original file on some images."""
        from backscan.converters import compare

        report = compare(self.copy, self.runtime, message["images"], images_real=message["images_real"])
        return {
            "decision_agreement": report.decision_agreement,
            "largest_probability_gap": report.max_probability_gap,
            "largest_logit_gap": report.max_relative_logit_gap,
            "gradient_error": report.gradient_error,
            "num_images": report.num_images,
            "real_images": report.images_real,
            "passed": report.passed,
            "reason": report.reason or report.gradient_warning or "",
        }

    def prepare(self, message: Message) -> Message:
        """Take the source images and find the step size of a detector."""
        from backscan.scanner.detectors import DETECTORS

        started = time.monotonic()
        self._examination = self._examine(message)
        pilot = DETECTORS[message["detector"]].find_step_size(self._examination)
        seconds = time.monotonic() - started
        return {"step_size": pilot.step_size, "seconds_per_image": seconds / max(1, pilot.num_images)}

    def optimise(self, message: Message) -> Generator[Message, None, Message]:
        """Search some pairs; every finished pair is an event, the answer says whether the time was enough."""
        from backscan.scanner.detectors import DETECTORS

        if self._examination is None:
            raise RuntimeError("expected `prepare` before `optimise`")
        self._deadline = float("inf") if message["seconds"] is None else time.monotonic() + message["seconds"]
        pairs = [(int(source), int(target)) for source, target in message["pairs"]]
        detector = DETECTORS[message["detector"]]
        finished = 0
        for result in detector.optimise(self._examination, pairs, message["step_size"]):
            finished += 1
            yield {"pair": result.to_dict(), "pattern": result.pattern}
        return {"finished": finished}

    @property
    def runtime(self) -> OrtClassifier:
        """The original file in onnxruntime."""
        if self._runtime is None:
            raise RuntimeError("expected `open` before any other step")
        return self._runtime

    @property
    def copy(self) -> TorchClassifier:
        """The differentiable copy."""
        if self._copy is None:
            raise RuntimeError("expected `open` without `runtime_only` before this step")
        return self._copy

    def _examine(self, message: Message) -> Examination:
        import torch

        from backscan.scanner.detectors import Examination

        device = next(self.copy.buffers()).device
        images = {
            int(label): torch.from_numpy(np.ascontiguousarray(array)).to(device)
            for label, array in message["images_by_class"].items()
        }
        with torch.no_grad():
            decisions = {label: self.copy.log_posterior(array).argmax(dim=1) for label, array in images.items()}
        return Examination(
            classifier=self.copy,
            images_by_class=images,
            decisions_by_class=decisions,
            num_classes=self.copy.signature.num_classes,
            config=ScanConfig.from_dict(message["config"]),
            stopped=lambda: time.monotonic() > self._deadline,
        )


def _normalisation(message: Mapping[str, Any]) -> Normalisation:
    from backscan.converters import Normalisation

    fields: dict[str, Any] = message["normalisation"]
    return Normalisation(**(fields | {"mean": tuple(fields["mean"]), "std": tuple(fields["std"])}))


def _prepare_torch(wanted: str) -> tuple[str, str]:
    """Name for reports and torch's name of the device to use; on a CPU operators keep to one thread.

    Raises:
        OptionError: a GPU is wanted and there is none.
    """
    import torch

    if wanted == "cpu" or (wanted == "auto" and not torch.cuda.is_available()):
        torch.set_num_threads(1)
        return "cpu", "cpu"
    if not torch.cuda.is_available():
        raise OptionError("expected a CUDA device for --device cuda, found none that torch can use: use --device auto")
    return torch.cuda.get_device_name(), "cuda"
