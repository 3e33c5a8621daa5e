"""What the child of the sandbox may answer, and the errors that it tells."""

from collections.abc import Mapping, Sequence

from backscan.converters.sandbox.errors import UnexpectedError
from backscan.converters.sandbox.wire import Message, WireError

_ANSWERS: dict[str, dict[str, type]] = {
    "ready": {"active": list, "missing": list},
    "event": {"message": dict},
    "result": {"message": dict},
    "error": {"class": str, "text": str, "fields": dict, "memory": bool, "traceback": str},
}
"""The parts of each kind of answer."""


def check(answer: Message) -> Message:
    """The answer, if it is of a known kind and has all its parts.

    Raises:
        WireError: It is not, or has not.
    """
    parts = _ANSWERS.get(str(answer.get("kind")))
    if parts is None or not all(isinstance(answer.get(name), kind) for name, kind in parts.items()):
        raise WireError(f"expected an answer of a known kind with all its parts, found {sorted(answer)}")
    return answer


def error_kinds(roots: Sequence[type[Exception]]) -> dict[str, type[Exception]]:
    """Full name -> class, of some errors and all that derive from them."""
    return {f"{kind.__module__}.{kind.__qualname__}": kind for root in roots for kind in _tree(root)}


def _tree(root: type[Exception]) -> list[type[Exception]]:
    return [root] + [kind for child in root.__subclasses__() for kind in _tree(child)]


def told_error(answer: Message, kinds: Mapping[str, type[Exception]], phase: str) -> Exception:
    """The error that the target raised.

    Args:
        answer: A checked answer of the kind `error`.
        kinds: Errors that come back as what they are, with their fields.
        phase: The phase in which it was raised.

    Returns:
        An error of a known kind, else an `UnexpectedError` with the child's traceback.
    """
    kind = kinds.get(answer["class"])
    if kind is None:
        sentence = f"phase {phase!r} failed with {answer['class']}: {answer['text']}"
        return UnexpectedError(sentence, phase=phase, child_traceback=answer["traceback"])
    error = kind.__new__(kind, answer["text"])
    error.args = (answer["text"],)
    error.__dict__.update(answer["fields"])
    return error
