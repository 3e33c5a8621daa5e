"""LSTM, GRU and RNN as ONNX states them, step by step in plain torch, so that gradients and vmap go through."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from backscan.converters.operators.nodes import attribute, converted, register_all, stateless
from backscan.converters.operators.recurrent_cells import (
    Functions,
    State,
    Step,
    Weights,
    activations,
    step_gru,
    step_lstm,
    step_rnn,
)
from backscan.converters.operators.registry import ConverterFunction, OnnxGraph, OnnxNode, OperationConverterResult


class Given(NamedTuple):
    """Inputs of a node; D is the number of directions, G that of gates."""

    values: Tensor
    """[S, N, features], or [N, S, features]."""
    weights: Tensor
    """[D, G hidden, features]."""
    recurrent: Tensor
    """[D, G hidden, hidden]."""
    biases: Tensor | None = None
    """[D, 2 G hidden]: of the weights, and of the recurrent ones."""
    lengths: Tensor | None = None
    """Steps of each sequence, [N]; all of them by default."""
    hidden: Tensor | None = None
    """First hidden state, [D, N, hidden], or [N, D, hidden]; zeros by default."""
    cell: Tensor | None = None
    """First cell of an LSTM, the same."""
    peepholes: Tensor | None = None
    """What the gates of an LSTM see of its cell, [D, 3 hidden]."""


@dataclass(frozen=True, slots=True)
class Recurrence:
    """The attributes of a node."""

    step: Step
    """One step."""
    num_states: int
    """How many tensors a state has."""
    backward: tuple[bool, ...]
    """For each direction whether it runs from the last step to the first."""
    functions: tuple[Functions, ...]
    """What a step of each direction computes with."""
    batch_first: bool
    """Whether the images are the first axis of inputs and outputs."""
    num_outputs: int
    """How many outputs the node has."""


def recur(*tensors: Tensor | None, config: Recurrence) -> Tensor | tuple[Tensor, ...]:
    """Run a recurrent node.

    Args:
        tensors: The inputs, in the order of `Given`.
        config: The attributes.

    Returns:
        As many as the node has of: the hidden states of all steps [S, D, N, hidden], and those of the last step
        [D, N, hidden]; images first if the inputs have them first.
    """
    given = Given(*tensors)  # type: ignore[arg-type]
    if config.batch_first:
        given = given._replace(
            values=given.values.transpose(0, 1),
            hidden=None if given.hidden is None else given.hidden.transpose(0, 1),
            cell=None if given.cell is None else given.cell.transpose(0, 1),
        )
    ways = [_run(given, index, config) for index in range(len(config.backward))]
    steps = torch.stack([states for states, _ in ways], dim=1)
    last = [torch.stack(states) for states in zip(*(state for _, state in ways), strict=True)]
    if config.batch_first:
        steps, last = steps.permute(2, 0, 1, 3), [states.transpose(0, 1) for states in last]
    outputs = (steps, *last)[: config.num_outputs]
    return outputs[0] if len(outputs) == 1 else outputs


def _run(given: Given, index: int, config: Recurrence) -> tuple[Tensor, State]:
    """One direction: its hidden states [S, N, hidden] in the order of the steps, and its state after the last."""
    values, lengths, backward = given.values, given.lengths, config.backward[index]
    own, carried = (None, None) if given.biases is None else given.biases[index].chunk(2)
    weights = Weights(given.recurrent[index], carried, None if given.peepholes is None else given.peepholes[index])
    drives = F.linear(_turned(values, lengths) if backward else values, given.weights[index], own)
    state = _first_state(given, index, config.num_states)
    steps = list[Tensor]()
    for place, drive in enumerate(drives.unbind()):
        after = config.step(drive, state, weights, config.functions[index])
        if lengths is None:
            state = after
            steps.append(state[0])
        else:  # a sequence that has ended keeps its state, and shows zeros
            going = (place < lengths).unsqueeze(-1)
            state = tuple(torch.where(going, new, old) for new, old in zip(after, state, strict=True))
            steps.append(torch.where(going, state[0], 0))
    found = torch.stack(steps)
    return _turned(found, lengths) if backward else found, state


def _first_state(given: Given, index: int, num_states: int) -> State:
    shape = (given.values.shape[1], given.recurrent.shape[-1])
    firsts = (given.hidden, given.cell)[:num_states]
    return tuple(given.values.new_zeros(shape) if f is None else f[index].expand(shape) for f in firsts)


def _turned(values: Tensor, lengths: Tensor | None) -> Tensor:
    """Sequences [S, N, ...] from their last step to their first; what lies behind the last stays where it is."""
    if lengths is None:
        return values.flip(0)
    places = torch.arange(len(values), device=values.device).unsqueeze(1)
    places = torch.where(places < lengths, lengths - 1 - places, places)
    return torch.take_along_dim(values, places.reshape(*places.shape, *[1] * (values.dim() - 2)), 0)


def _converter(step: Step, *, defaults: tuple[str, ...], num_states: int = 1) -> ConverterFunction:
    """Make the converter of an operator.

    Args:
        step: Its step.
        defaults: Names of the activations of one direction.
        num_states: How many tensors its state has.
    """

    def convert(node: OnnxNode, _graph: OnnxGraph) -> OperationConverterResult:
        backward = _DIRECTIONS[attribute(node, "direction", "forward")]
        config = Recurrence(
            step=step,
            num_states=num_states,
            backward=backward,
            functions=tuple(_functions(node, defaults, len(backward))),
            batch_first=bool(attribute(node, "layout", 0)),
            num_outputs=len(node.output_values),
        )
        return converted(node, partial(recur, config=config))

    return convert


def _functions(node: OnnxNode, defaults: tuple[str, ...], num_directions: int) -> Iterator[Functions]:
    """What each direction computes with; the node names the activations of one after those of the other."""
    size = len(defaults)
    named = attribute(node, "activations", defaults * num_directions)
    if len(named) < size * num_directions:
        raise ValueError(f"expected {size} activations a direction, found {len(named)} in all: name every one of them")
    chosen = activations(named, attribute(node, "activation_alpha", ()), attribute(node, "activation_beta", ()))
    for first in range(0, size * num_directions, size):
        yield Functions(
            activations=chosen[first : first + size],
            clip=attribute(node, "clip", None),
            linear_before_reset=bool(attribute(node, "linear_before_reset", 0)),
            input_forget=bool(attribute(node, "input_forget", 0)),
        )


def reverse_sequence(values: Tensor, lengths: Tensor, *, batch_axis: int, time_axis: int) -> Tensor:
    """Turn the first steps of each sequence around, as many as it has; the axes are the first two."""
    turned = values.movedim((time_axis, batch_axis), (0, 1))
    return _turned(turned, lengths).movedim((0, 1), (time_axis, batch_axis))


_DIRECTIONS = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}
_VERSIONS = (7, 14, 22)

register_all(
    {
        "GRU": (_VERSIONS, _converter(step_gru, defaults=("Sigmoid", "Tanh"))),
        "LSTM": (_VERSIONS, _converter(step_lstm, defaults=("Sigmoid", "Tanh", "Tanh"), num_states=2)),
        "RNN": (_VERSIONS, _converter(step_rnn, defaults=("Tanh",))),
        "ReverseSequence": ((10, 28), stateless(reverse_sequence, batch_axis=1, time_axis=0)),
    }
)
