"""One step of an RNN, a GRU and an LSTM, and the activations that their nodes may name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from backscan.converters.operators.activations import hard_sigmoid, leaky_relu, thresholded_relu

Activation = Callable[[Tensor], Tensor]

State = tuple[Tensor, ...]
"""What goes from step to step, [N, hidden] each: the hidden state, and the cell of an LSTM."""


class Weights(NamedTuple):
    """What one direction of a node multiplies its state by; G is the number of gates."""

    recurrent: Tensor
    """[G hidden, hidden]."""
    bias: Tensor | None
    """[G hidden]."""
    peepholes: Tensor | None
    """[3 hidden]."""


class Functions(NamedTuple):
    """What one direction of a node computes with."""

    activations: tuple[Activation, ...]
    """In the order of the operator's equations."""
    clip: float | None
    """Bound on what goes into the activations of gates."""
    linear_before_reset: bool
    """Whether a GRU multiplies its state by the weights before the reset gate."""
    input_forget: bool
    """Whether the forget gate of an LSTM is what its input gate leaves."""

    def activate(self, index: int, values: Tensor) -> Tensor:
        """Apply one of the activations to values within the bound."""
        return self.activations[index](values if self.clip is None else values.clamp(-self.clip, self.clip))


Step = Callable[[Tensor, State, Weights, Functions], State]
"""From what drives the gates [N, G hidden] and a state to the next state."""


def step_rnn(drive: Tensor, state: State, weights: Weights, functions: Functions) -> State:
    """One step of a plain cell."""
    return (functions.activate(0, drive + F.linear(state[0], weights.recurrent, weights.bias)),)


def step_gru(drive: Tensor, state: State, weights: Weights, functions: Functions) -> State:
    """One step of a gated unit; the gates are update, reset and hidden."""
    (hidden,) = state
    of_update, of_reset, of_new = drive.chunk(3, dim=-1)
    update_part, reset_part, new_part = F.linear(hidden, weights.recurrent, weights.bias).chunk(3, dim=-1)
    update = functions.activate(0, of_update + update_part)
    reset = functions.activate(0, of_reset + reset_part)
    if functions.linear_before_reset:
        carried = reset * new_part
    else:
        bias = None if weights.bias is None else weights.bias.chunk(3)[2]
        carried = F.linear(reset * hidden, weights.recurrent.chunk(3)[2], bias)
    return ((1 - update) * functions.activate(1, of_new + carried) + update * hidden,)


def step_lstm(drive: Tensor, state: State, weights: Weights, functions: Functions) -> State:
    """One step of a cell with memory; the gates are input, output, forget and cell."""
    hidden, cell = state
    gates = drive + F.linear(hidden, weights.recurrent, weights.bias)
    of_input, of_output, of_forget, of_cell = gates.chunk(4, dim=-1)
    see_input, see_output, see_forget = (None,) * 3 if weights.peepholes is None else weights.peepholes.chunk(3)
    taken = functions.activate(0, _peeping(of_input, cell, see_input))
    kept = 1 - taken if functions.input_forget else functions.activate(0, _peeping(of_forget, cell, see_forget))
    cell = kept * cell + taken * functions.activate(1, of_cell)
    shown = functions.activate(0, _peeping(of_output, cell, see_output))
    return shown * functions.activations[2](cell), cell  # onnxruntime bounds the gates and not the cell


def _peeping(gate: Tensor, cell: Tensor, peephole: Tensor | None) -> Tensor:
    return gate if peephole is None else gate + peephole * cell


def affine(values: Tensor, *, alpha: float, beta: float) -> Tensor:
    """Give alpha x + beta."""
    return alpha * values + beta


def scaled_tanh(values: Tensor, *, alpha: float, beta: float) -> Tensor:
    """Give alpha tanh(beta x)."""
    return alpha * torch.tanh(beta * values)


_ACTIVATIONS: Mapping[str, tuple[Callable[..., Tensor], dict[str, float]]] = MappingProxyType(
    {
        "affine": (affine, {"alpha": 1.0, "beta": 0.0}),
        "elu": (F.elu, {"alpha": 1.0}),
        "hardsigmoid": (hard_sigmoid, {"alpha": 0.2, "beta": 0.5}),
        "leakyrelu": (leaky_relu, {"alpha": 0.01}),
        "relu": (torch.relu, {}),
        "scaledtanh": (scaled_tanh, {"alpha": 1.0, "beta": 1.0}),
        "sigmoid": (torch.sigmoid, {}),
        "softplus": (F.softplus, {}),
        "softsign": (F.softsign, {}),
        "tanh": (torch.tanh, {}),
        "thresholdedrelu": (thresholded_relu, {"alpha": 1.0}),
    }
)
"""Name in small letters -> function and the defaults of its parameters."""


def activations(names: Sequence[str], alphas: Sequence[float], betas: Sequence[float]) -> tuple[Activation, ...]:
    """The activations that a node names.

    Args:
        names: Their names.
        alphas: A first parameter for each of them that has one, in turn; where they run out, the default.
        betas: The same for the second parameter.

    Raises:
        ValueError: an activation that ONNX does not know.
    """
    given = {"alpha": iter(alphas), "beta": iter(betas)}
    return tuple(_activation(name, given) for name in names)


def _activation(name: str, given: Mapping[str, Iterator[float]]) -> Activation:
    if name.lower() not in _ACTIVATIONS:
        raise ValueError(f"expected an activation that ONNX names, found '{name}': export the model with another one")
    function, defaults = _ACTIVATIONS[name.lower()]
    chosen = {parameter: next(given[parameter], default) for parameter, default in defaults.items()}
    return partial(function, **chosen) if chosen else function
