"""Everything that can go wrong between an ONNX file and a model that can be called.

ConverterError                    the model cannot be used; every message names the remedy
├── ArtifactError                 bytes that are no ONNX model, or external data that is missing
│   ├── UnknownBytesError         bytes that tell nothing
│   └── UnreadableFileError       a path that is missing or cannot be read: the caller's mistake, not the model's
├── PolicyError                   a model that the intake policy refuses
│   └── LimitExceededError        more of something than the policy allows (`limit`, `actual`)
├── SignatureError                not an image classifier, or one whose inputs or outputs must be named
│   └── OutputNameError           the output that was asked for is none, or does not classify
├── CutNameError                  the model cannot be cut at the tensor that was asked for
├── NodeError                     one node is to blame (`operator`, `domain`, `opset`, `node`)
│   ├── UnsupportedOperatorError  no converter for this operator, opset and domain
│   └── ConversionError           a converter exists but refused or failed at this node
├── NotDifferentiableError        no gradient can flow from the output to the image
│   └── NoNetworkError            trees or support vectors decide, so that nothing but a search by gradient is lacking
└── EngineError                   onnxruntime cannot open or run the model
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

_MAX_SHOWN = 80
"""Characters of a node's name in a message."""


class ConverterError(Exception):
    """Base of the converters' errors: one sentence with what was expected, found, where, and what to do."""


class ArtifactError(ConverterError):
    """The bytes are not an ONNX model, or part of the model is missing."""


class UnknownBytesError(ArtifactError):
    """The bytes are no ONNX model, and nothing else that begins with a mark of its own."""


class UnreadableFileError(ArtifactError):
    """The path does not exist, is no file, or may not be read."""


class PolicyError(ConverterError):
    """The intake policy refuses the model; `rule` names the rule that did."""

    def __init__(self, message: str, *, rule: str) -> None:
        super().__init__(message)
        self.rule = rule


class LimitExceededError(PolicyError):
    """The model, or handling it, needs more than a limit allows."""

    def __init__(self, message: str, *, rule: str, limit: float, actual: float) -> None:
        super().__init__(message, rule=rule)
        self.limit = limit
        self.actual = actual


class SignatureError(ConverterError):
    """The model's inputs or outputs are not those of an image classifier."""


class OutputNameError(SignatureError):
    """The output that was asked for is none of the model's, or gives no scores."""


class CutNameError(ConverterError):
    """The tensor at which to cut the model is none, or not all of the image passes through it."""


class NodeError(ConverterError):
    """Base of the errors that one node of the graph causes: which operator, where, at which opset."""

    def __init__(self, message: str, *, operator: str, domain: str, opset: int, node: str) -> None:
        super().__init__(message)
        self.operator = operator
        self.domain = domain
        self.opset = opset
        self.node = node

    @classmethod
    def at(cls, *, operator: str, domain: str, opset: int, node: str, reason: str) -> Self:
        """Build the error with the sentence that all node errors share."""
        shown = node if len(node) <= _MAX_SHOWN else f"{node[:_MAX_SHOWN]}..."
        where = f"node '{shown}' ({describe_operator(operator, domain)}, opset {opset})"
        return cls(f"{where}: {reason}", operator=operator, domain=domain, opset=opset, node=node)


class UnsupportedOperatorError(NodeError):
    """No converter is registered for the operator at this schema version."""


class ConversionError(NodeError):
    """The converter of an operator refused or failed at this node."""


class NotDifferentiableError(ConverterError):
    """The output does not depend on the image through anything that has a gradient."""


class NoNetworkError(NotDifferentiableError):
    """Trees or support vectors decide: the file can be asked, but no pattern can be searched by its gradient."""


class EngineError(ConverterError):
    """onnxruntime cannot open or run the model."""


@contextmanager
def border(step: str) -> Iterator[None]:
    """Turn whatever a library raises over a file into an error about the file; also a decorator.

    The functions that read a file's graph stand behind it: what onnx, onnx2torch, torch and onnxruntime raise over a
    graph that nobody thought of cannot be listed, and says nothing about the scanner.

    Args:
        step: What could not be done, such as "reading the outputs of the model".

    Raises:
        ConverterError: something else than one was raised; that memory ran out stays what it is.
    """
    try:
        yield
    except (ConverterError, MemoryError):
        raise
    except Exception as error:
        raise ConverterError(
            f"{step} failed with {type(error).__name__}: {error}; export the model again with another exporter or "
            "opset, or report it"
        ) from error


def describe_operator(operator: str, domain: str) -> str:
    """Name an operator as ONNX does: `Conv` in the default domain, else `domain::operator`."""
    return f"{domain}::{operator}" if domain else operator
