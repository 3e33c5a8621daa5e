"""The opened model in the process that may touch it: one method a step, plain messages in and out.

It runs in the sandboxed child, or in this process with `--no-sandbox`, and is the only code of the scanner that
imports torch or onnxruntime. `executors.Subject` is its typed counterpart on the other side.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from backscan.scanner.config import ScanConfig
from backscan.scanner.errors import OptionError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from backscan.converters import Artifact, CutCandidate, Normalisation, OrtClassifier, TorchClassifier
    from backscan.converters.cuts.split import OrtCut, Split
    from backscan.scanner.detectors import Examination

Message = dict[str, Any]

# Share of images that a cut model has to decide as the file does: that of the copy (CONTRACT, Parity).
_LEAST_AGREEMENT = 0.99
# Images on which reduced precision has to prove itself.
_PROBED_IMAGES = 64

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
        self._threads: int | None = None
        self._split: Split | None = None
        self._cut: OrtCut | None = None
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
        self._artifact, self._threads = artifact, message["threads"]
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
        if self._split is not None:
            self._split = self._split.with_normalisation(normalisation)
        if self._cut is not None:
            self._cut = self._cut.with_normalisation(normalisation)
        return {}

    def decide(self, message: Message) -> Message:
        """Decisions of the original file on images in [0, 1].

        Optional: `normalisation` to use instead of the settled one, or `addition`, added at the cut.
        """
        runtime = self.runtime
        if "addition" in message:
            runtime = self._adding(message["addition"])
        if "normalisation" in message:
            runtime = runtime.with_normalisation(_normalisation(message))
        return {"decisions": runtime.decisions(message["images"])}

    def find_switches(self, message: Message) -> Message:
        """Switches built into the graph, and what they do (`graph_findings`)."""
        from backscan.scanner.switches.findings import find_graph_findings

        runtime = self.runtime
        findings = find_graph_findings(
            self.artifact,
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

        return {"cuts": [asdict(cut) for cut in cut_candidates(self.artifact, self.runtime.signature)]}

    def cut(self, message: Message) -> Message:
        """Cut the original file at a tensor, and the copy too unless `runtime_only`; or say why that cannot be.

        Raises:
            CutNameError: no cut is at the tensor that was asked for.
        """
        from backscan.converters.errors import ConverterError, CutNameError

        tensor = message["tensor"] or ""
        try:
            tensor = tensor or self._first_convolution()
            cut = self._open_cut(tensor, runtime_only=message["runtime_only"])
        except CutNameError:
            raise
        except ConverterError as error:
            return {"tensor": tensor, "shape": [], "obstacle": str(error)}
        obstacle = "" if self._split is None else _disagreement(self._split, self.runtime, message["images"])
        return {"tensor": tensor, "shape": list(cut.shape), "obstacle": obstacle}

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
        """Take the source images and find the step size of a detector, as well as the time allows."""
        from backscan.scanner.detectors import DETECTORS

        started = time.monotonic()
        seconds = message.get("seconds")
        self._deadline = float("inf") if seconds is None else started + seconds
        self._examination = self._examine(message)
        pilot = DETECTORS[message["detector"]].find_step_size(self._examination)
        taken = time.monotonic() - started
        return {"step_size": pilot.step_size, "seconds_per_image": taken / max(1, pilot.num_images)}

    def look(self, message: Message) -> Message:
        """Take a short look at some pairs; no sizes if the time was up."""
        from backscan.scanner.detectors import DETECTORS

        pairs = self._begin(message)
        sizes = DETECTORS[message["detector"]].look(self.examination, pairs)
        return {"sizes": np.array(sizes, dtype=np.float64)}

    def optimise(self, message: Message) -> Generator[Message, None, Message]:
        """Search some pairs; every finished pair is an event, the answer says whether the time was enough."""
        from backscan.scanner.detectors import DETECTORS

        pairs = self._begin(message)
        detector = DETECTORS[message["detector"]]
        finished = 0
        for result in detector.optimise(self.examination, pairs, message["step_size"]):
            finished += 1
            yield {"pair": result.to_dict(), "pattern": result.pattern}
        return {"finished": finished}

    def search_targets(self, message: Message) -> Generator[Message, None, Message]:
        """Search every target class; every finished one is an event, the answer says whether the time was enough."""
        from backscan.scanner.detectors import TARGET_DETECTORS

        self._deadline = float("inf") if message["seconds"] is None else time.monotonic() + message["seconds"]
        finished = 0
        for result in TARGET_DETECTORS[message["detector"]].search(self._examine(message)):
            finished += 1
            yield {"target": result.to_dict()}
        return {"finished": finished}

    def _begin(self, message: Message) -> list[tuple[int, int]]:
        """Set the time that is allowed for some pairs, and give them."""
        self._deadline = float("inf") if message["seconds"] is None else time.monotonic() + message["seconds"]
        return [(int(source), int(target)) for source, target in message["pairs"]]

    @property
    def examination(self) -> Examination:
        """What detectors work on."""
        if self._examination is None:
            raise RuntimeError("expected `prepare` before this step")
        return self._examination

    @property
    def runtime(self) -> OrtClassifier:
        """The original file in onnxruntime."""
        if self._runtime is None:
            raise RuntimeError("expected `open` before any other step")
        return self._runtime

    @property
    def artifact(self) -> Artifact:
        """The original file's bytes."""
        if self._artifact is None:
            raise RuntimeError("expected `open` before any other step")
        return self._artifact

    @property
    def copy(self) -> TorchClassifier:
        """The differentiable copy."""
        if self._copy is None:
            raise RuntimeError("expected `open` without `runtime_only` before this step")
        return self._copy

    def _first_convolution(self) -> str:
        """The tensor at which XMK section 5.2.3 cuts.

        Raises:
            ConverterError: the model has no convolution, or something of the image goes around it.
        """
        from backscan.converters import ConverterError, cut_candidates

        for cut in cut_candidates(self.artifact, self.runtime.signature):
            if cut.is_first_convolution:
                return cut.name
        raise ConverterError(
            "expected a first convolution that all of the image passes through, found none: choose one of the tensors "
            "that `scanner inspect MODEL --tensors` lists with --cut"
        )

    def _open_cut(self, tensor: str, *, runtime_only: bool) -> CutCandidate:
        """The model cut at a tensor, under the normalisation that is settled."""
        from backscan.converters.cuts.split import open_cut, split

        signature, normalisation = self.runtime.signature, self.runtime.normalisation
        if runtime_only:
            self._cut = open_cut(self.artifact, signature, tensor, normalisation=normalisation, threads=self._threads)
            return self._cut.cut
        self._split = split(
            self.artifact,
            signature,
            tensor,
            normalisation=normalisation,
            device=self.copy.device,
            threads=self._threads,
        )
        self._cut = self._split.original
        return self._cut.cut

    def _adding(self, pattern: NDArray[np.float32]) -> OrtClassifier:
        """The original file with a pattern added at the cut."""
        if self._cut is None:
            raise RuntimeError("expected `cut` before decisions with an addition")
        return self._cut.adding(pattern[None])

    def _examine(self, message: Message) -> Examination:
        import torch

        from backscan.converters.cuts.bfloat16 import reduce_precision
        from backscan.scanner.detectors import Examination

        device = next(self.copy.buffers()).device
        images = {
            int(label): torch.from_numpy(np.ascontiguousarray(array)).to(device)
            for label, array in message["images_by_class"].items()
        }
        with torch.no_grad():
            decisions = {label: self.copy.log_posterior(array).argmax(dim=1) for label, array in images.items()}
        draft = cut_draft = None
        if images:
            probe = _spread(list(images.values()))
            draft = reduce_precision(self.copy, probe)
            if draft is not None and self._split is not None:
                cut_draft = _reduced(self._split, probe)
        return Examination(
            classifier=self.copy,
            images_by_class=images,
            decisions_by_class=decisions,
            num_classes=self.copy.signature.num_classes,
            config=ScanConfig.from_dict(message["config"]),
            stopped=lambda: time.monotonic() > self._deadline,
            cut=self._split,
            draft=draft,
            cut_draft=cut_draft,
        )


def _reduced(parts: Split, images: Tensor) -> Split | None:
    """A cut model with the part behind the cut in reduced precision, if that gains something."""
    import torch

    from backscan.converters.cuts.bfloat16 import reduce_part

    with torch.no_grad():
        features = parts.front(images)
    back = reduce_part(parts.back, features)
    return None if back is None else replace(parts, back=back)


def _spread(images: Sequence[Tensor]) -> Tensor:
    """A few dozen of all images, from every class."""
    import torch

    every = torch.cat(list(images))
    return every[:: max(1, len(every) // _PROBED_IMAGES)]


def _disagreement(parts: Split, runtime: OrtClassifier, images: NDArray[np.float32]) -> str:
    """Why the parts of a cut model are not the model in the file; empty if they decide as it does."""
    import torch

    device = parts.front.inputs.factor.device
    with torch.no_grad():
        features = parts.front(torch.from_numpy(np.ascontiguousarray(images)).to(device))
        of_parts = parts.back(features).argmax(dim=1).cpu().numpy()
    nothing = np.zeros((1, *parts.shape), np.float32)
    of_file = runtime.decisions(images)
    agreement = min(
        float((other == of_file).mean()) for other in (of_parts, parts.original.adding(nothing).decisions(images))
    )
    if agreement >= _LEAST_AGREEMENT:
        return ""
    return f"the model cut at '{parts.cut}' decides as the file on {agreement:.1%} of {len(images)} images only"


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
