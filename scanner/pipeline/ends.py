"""How a scan ends without returning, with what it leaves of the model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backscan.scanner.errors import AbsentNameError

if TYPE_CHECKING:
    from backscan.scanner.results import ScanResult


class Interrupted(Exception):  # noqa: N818 - the user's wish, not an error
    """Ctrl-C ended the scan (130); carries the result as far as it is made."""

    def __init__(self, result: ScanResult) -> None:
        super().__init__("interrupted")
        self.result = result


class NameNotInModelError(AbsentNameError):
    """An option names what this model does not have; one of several models then goes without a verdict."""

    def __init__(self, message: str, result: ScanResult) -> None:
        super().__init__(message)
        self.result = result
