"""The copy of a file whose weights may change: which torch tensor holds which stored numbers, and where each lies.

A stored tensor reaches its torch module by way of rewrites and converters, which transpose, reshape, widen or join it.
None of them is asked. The copy is built again from a file whose stored numbers are their own places: a tensor of that
second copy says for each of its elements where it comes from. What the places lead to in the file is then compared with
what the first copy holds. Only tensors for which both are equal, number by number, are trained; all others keep still.
Batch normalisations are not folded into convolutions here, so that each stored tensor keeps a tensor of its own.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import inliner, numpy_helper
from torch import Tensor, fx, nn
from torch.func import functional_call

from backscan.converters.errors import ConverterError, border
from backscan.converters.graph import consumers, sort_nodes
from backscan.converters.intake.artifact import Artifact, parse
from backscan.converters.rewrites.folding import constants_to_initialisers
from backscan.converters.signature.readable import readable
from backscan.converters.signature.signature import ModelSignature, Normalisation
from backscan.converters.torch_import.builder import ORIGIN
from backscan.converters.torch_import.classifier import TorchClassifier
from backscan.converters.torch_import.half import widen
from backscan.converters.torch_import.importer import expose_logits, import_network
from backscan.converters.torch_import.stored import dequantised, stored_names

_MOVING = frozenset({"Cast", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})
"""Operators that hand numbers on as they are."""
_WEIGHED = {
    **dict.fromkeys(("Conv", "ConvTranspose", "Gemm", "MatMul", "Einsum", "PRelu"), (0, 1, 2)),
    **dict.fromkeys(("Add", "Sub", "Mul", "Div"), (0, 1)),
    **dict.fromkeys(("BatchNormalization", "LayerNormalization", "InstanceNormalization"), (1, 2)),
    **dict.fromkeys(("GroupNormalization", "RMSNormalization", "SimplifiedLayerNormalization"), (1, 2)),
}
"""Operators whose constants are weights, and at which inputs; a variance, a scale of Resize or a limit is none."""
_WITH_CHANNELS = frozenset({"BatchNormalization", "Conv"})
_DIGIT = 1 << 20
"""Places are told in two digits of this base, each of which a float32 holds exactly."""
_UNIT = 2.0**-34
"""What a digit is multiplied by, so that a network of places neither overflows nor saturates."""


@dataclass(frozen=True, slots=True)
class _Slot:
    """Where the numbers of one torch tensor are stored."""

    name: str
    """Name of the stored tensor."""
    places: Tensor | None
    """Place of each element there, int64; None where it is the stored tensor from first to last."""
    shape: torch.Size
    """Shape of the torch tensor."""
    channels_last: bool
    """Whether it is a kernel that is kept channels last."""

    def of(self, weights: Mapping[str, Tensor]) -> Tensor:
        """The torch tensor that the weights make."""
        flat = weights[self.name].reshape(-1)
        taken = (flat if self.places is None else flat[self.places.to(flat.device)]).reshape(self.shape)
        return taken.contiguous(memory_format=torch.channels_last) if self.channels_last else taken


@dataclass(frozen=True, slots=True)
class Layer:
    """A convolution or batch normalisation: what follows it sees its channels and nothing before it."""

    module: nn.Module
    """Its module, which gives [N, channels, ...]."""
    tensors: tuple[str, ...]
    """Its torch tensors, whose rows are its channels: a channel whose rows are 0 is gone."""


class TrainableClassifier:
    """A copy of a file that is called with whatever weights; made by `import_trainable`."""

    def __init__(self, classifier: TorchClassifier, slots: Mapping[str, _Slot], weights: dict[str, Tensor]) -> None:
        self.classifier = classifier
        """The copy with the weights that the file holds."""
        self.weights = weights
        """Stored tensors by name, float32, in the shape in which the file has them."""
        self._slots = slots

    def log_posterior(self, images: Tensor, weights: Mapping[str, Tensor] | None = None) -> Tensor:
        """Log-probabilities [N, K] of images [N, C, H, W] in [0, 1] under the given weights, or the file's."""
        chosen = {**self.weights, **(weights or {})}
        taken = {name: slot.of(chosen) for name, slot in self._slots.items()}
        scores: Tensor = functional_call(self.classifier, taken, (images,))
        return scores

    def layers(self) -> tuple[Layer, ...]:
        """Layers with channels of their own whose weights are stored, from the image on."""
        modules = self.classifier.named_modules()
        found = []
        for place, module in modules:
            for node in module.graph.nodes if isinstance(module, fx.GraphModule) else ():
                operator = node.meta.get(ORIGIN, {}).get("operator")
                if operator in _WITH_CHANNELS and not any(_normalises(user) for user in node.users):
                    read = [f"{place}.{given.target}" for given in node.args[1:3] if isinstance(given, fx.Node)]
                    if all(key in self._slots for key in read):
                        found.append(Layer(module.get_submodule(str(node.target)), tuple(read)))
        return tuple(found)

    def tensors_of(self, name: str) -> tuple[str, ...]:
        """Torch tensors that hold numbers of a stored tensor, such as `network.network.Conv_0.weight`."""
        return tuple(key for key, slot in self._slots.items() if slot.name == name)

    def stored_mask(self, key: str, rows: Sequence[int]) -> tuple[str, Tensor]:
        """Name and places, bool in its shape, of what is stored for some rows (axis 0) of a torch tensor."""
        slot = self._slots[key]
        chosen = torch.zeros(slot.shape, dtype=torch.bool)
        chosen[list(rows)] = True
        held = self.weights[slot.name]
        mask = torch.zeros(held.numel(), dtype=torch.bool)
        places = torch.arange(chosen.numel()) if slot.places is None else slot.places.cpu()
        mask[places[chosen.reshape(-1)]] = True
        return slot.name, mask.reshape(held.shape).to(held.device)


@border("the import into torch")
def import_trainable(
    artifact: Artifact,
    signature: ModelSignature,
    normalisation: Normalisation,
    *,
    device: str | torch.device = "cpu",
    only: Collection[str] | None = None,
) -> TrainableClassifier:
    """Import a model as a copy whose weights may change.

    Args:
        artifact: The model, external data included.
        signature: Its signature.
        normalisation: How pixels become its input.
        device: Where the copy shall live.
        only: Names of the stored tensors that may change, whoever reads them; None is the weights of operators.

    Returns:
        The copy, with every stored tensor of which it is shown that the copy holds it.

    Raises:
        ConverterError: the model cannot be imported, or holds no weight that could be written back.
    """
    model, head = _opened(artifact, signature)
    if signature.precision == "half":
        widen(model, signature)
    found = _weights(model.graph, stored_names(artifact), only)
    network, notes = import_network(_copy(model), signature, fold=False)
    places = _traced(model, signature, found)
    slots = {key: slot for key, held in _held(network).items() if (slot := _slot(held, places.get(key), found))}
    used = {slot.name for slot in slots.values()}
    if not used:
        raise ConverterError(
            "expected weights that reach the scores as they are stored, found none, as in models of whole numbers "
            "(QLinearConv, MatMulInteger): repair the model before it was quantised"
        )
    classifier = TorchClassifier(network, signature, normalisation, head=head, notes=notes)
    classifier.requires_grad_(requires_grad=False).eval().to(device)
    slots = {f"network.{key}": slot for key, slot in slots.items()}
    return TrainableClassifier(classifier, slots, {name: torch.tensor(found[name]).to(device) for name in used})


def _opened(artifact: Artifact, signature: ModelSignature) -> tuple[onnx.ModelProto, str]:
    """A whole model with float weights among its initialisers, and what its scores are."""
    model = parse(readable(artifact, signature))
    sort_nodes(model.graph)
    head = expose_logits(model.graph, signature)
    model = inliner.inline_local_functions(model) if model.functions else model
    model.ir_version = max(model.ir_version, 4)
    constants_to_initialisers(model.graph)
    dequantised(model.graph)
    return model, head


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def _weights(
    graph: onnx.GraphProto, stored: frozenset[str], only: Collection[str] | None
) -> dict[str, NDArray[np.float32]]:
    """The stored float tensors of some names, or those that operators with weights read as such, by name."""
    readers = consumers(graph)

    def weighs(name: str) -> bool:
        nodes = readers.get(name, [])
        return bool(nodes) and all(
            weighs(node.output[0])
            if node.op_type in _MOVING and node.input[0] == name
            else node.op_type in _WEIGHED
            and all(index in _WEIGHED[node.op_type] for index, given in enumerate(node.input) if given == name)
            for node in nodes
        )

    return {
        tensor.name: np.array(numpy_helper.to_array(tensor))
        for tensor in graph.initializer
        if tensor.data_type == onnx.TensorProto.FLOAT
        and tensor.name in stored
        and np.prod(tensor.dims, dtype=np.int64) > 1
        and (weighs(tensor.name) if only is None else tensor.name in only)
    }


def _traced(
    model: onnx.ModelProto, signature: ModelSignature, found: Mapping[str, NDArray[np.float32]]
) -> dict[str, NDArray[np.int64]]:
    """Torch tensor -> place of each element among all weights one after another; those that do not tell are missing."""
    total = sum(array.size for array in found.values())
    low = _digits(model, signature, found, 0)
    high = _digits(model, signature, found, 1) if total >= _DIGIT else {key: np.zeros_like(low[key]) for key in low}
    return {key: low[key] + _DIGIT * high[key] for key in low.keys() & high.keys()}


def _digits(
    model: onnx.ModelProto, signature: ModelSignature, found: Mapping[str, NDArray[np.float32]], digit: int
) -> dict[str, NDArray[np.int64]]:
    """One digit of the place of every element of the torch tensors that hold whole numbers as they were written."""
    copy, start = _copy(model), 0
    for tensor in copy.graph.initializer:
        if tensor.name in found:
            places = np.arange(start, start + found[tensor.name].size) // _DIGIT**digit % _DIGIT + 1
            start += len(places)
            shown = (places * _UNIT).astype(np.float32).reshape(found[tensor.name].shape)
            tensor.CopyFrom(numpy_helper.from_array(shown, tensor.name))
    digits = {}
    for key, held in _held(import_network(copy, signature, fold=False).network).items():
        if held.dtype != torch.float32:
            continue
        numbers = np.nan_to_num(held.numpy().astype(np.float64) / _UNIT, nan=0.0, posinf=0.0, neginf=0.0) - 1
        if (numbers == np.round(numbers)).all() and (numbers >= 0).all() and (numbers < _DIGIT).all():
            digits[key] = numbers.astype(np.int64)
    return digits


def _held(network: nn.Module) -> dict[str, Tensor]:
    """Every tensor of a network by its name there, also where two names share one."""
    parameters = dict(network.named_parameters(remove_duplicate=False))
    return {
        name: held.detach()
        for name, held in (parameters | dict(network.named_buffers(remove_duplicate=False))).items()
        if held.numel() > 1
    }


def _slot(held: Tensor, places: NDArray[np.int64] | None, found: Mapping[str, NDArray[np.float32]]) -> _Slot | None:
    """Where a torch tensor is stored; None unless all of it is, in one stored tensor, and shown to be equal."""
    if places is None or held.shape != places.shape or held.dtype != torch.float32:
        return None
    start = 0
    for name, array in found.items():
        inside = places - start
        if (inside >= 0).all() and (inside < array.size).all():
            if not np.array_equal(array.reshape(-1)[inside], held.numpy(), equal_nan=True):
                return None
            flat = inside.reshape(-1)
            whole = flat.size == array.size and np.array_equal(flat, np.arange(array.size))
            last = (
                held.dim() == 4 and not held.is_contiguous() and held.is_contiguous(memory_format=torch.channels_last)
            )
            return _Slot(name, None if whole else torch.from_numpy(flat), held.shape, last)
        start += array.size
    return None


def _normalises(node: fx.Node) -> bool:
    return bool(node.meta.get(ORIGIN, {}).get("operator") == "BatchNormalization")
