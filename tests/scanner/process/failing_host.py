"""A host with a defect, for the command line's tests of what a defect in the model's process looks like."""

from __future__ import annotations

from backscan.scanner.process.child import ModelHost
from backscan.scanner.process.protocol import Message


class FailingHost(ModelHost):
    """Fails in one step."""

    def prepare(self, message: Message) -> Message:
        """Asks for what is not there."""
        raise KeyError(sorted(message))
