"""Pictures and archives, decoded in a limited child process, for their decoders are old and their files foreign.

What the child answers is checked before it is believed, as everything that has touched such a file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from backscan.scanner.errors import CleanSetError, InternalError, TimeUpError
from backscan.scanner.images.archive import LARGEST_LABEL
from backscan.scanner.images.limits import ReadImages, ReadLimits

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from backscan.converters.sandbox.limits import PhaseLimits
    from backscan.converters.sandbox.runner import Report, Runner

_DECODER = "backscan.scanner.images.decoder:Decoder"
_CHANNELS = {3: (1, 3), 4: (1, 3, 4)}
"""Axes of an answer -> channels that it may have: one picture has no fourth, an archive may."""
_SECONDS = 60
"""For one picture, or for a process that reports none."""
_ARCHIVE_SECONDS = 300
_TABLE_SECONDS = 3600
_SECONDS_EACH = 2
"""Processor time for each picture, on average."""
_LABEL_BYTES = 1 << 28
_MOST_WARNINGS, _LONGEST_WARNING = 10, 10_000


@dataclass(frozen=True, slots=True)
class Decoding:
    """The way to the process that decodes."""

    runner: Runner
    """It, or this process."""
    limits: ReadLimits
    """Bounds on what is read."""

    def pictures(self, files: Sequence[Path]) -> list[NDArray[np.float32]]:
        """The images [C, H, W] in [0, 1] of files, in their order.

        Raises:
            CleanSetError: a file is no single plain picture, too large, or takes too long.
        """
        from backscan.converters.sandbox.limits import PhaseLimits

        images: list[NDArray[np.float32]] = []
        num_values = 0

        def receive(event: dict[str, Any]) -> None:
            nonlocal num_values
            for image in _listed(event.get("images")):
                images.append(_checked(image, 3))
                num_values += images[-1].size
                _believe(images[-1][0].size <= self.limits.image_pixels and len(images) <= len(files))
                _believe(4 * num_values <= self.limits.total_bytes)

        cpu = _SECONDS + _SECONDS_EACH * len(files)
        phase = PhaseLimits("pictures", wall_seconds=None, cpu_seconds=cpu, silence_seconds=_SECONDS)
        # The process has another working folder.
        self._ask("pictures", {"files": [str(file.absolute()) for file in files]}, phase, receive)
        _believe(len(images) == len(files))
        return images

    def parquet(self, files: Sequence[Path]) -> ReadImages:
        """The images and labels of parquet files, see `parquet.read_parquet`.

        Raises:
            CleanSetError: pyarrow is not installed, a file is not such a one, or it takes too long.
        """
        from backscan.converters.sandbox.limits import PhaseLimits
        from backscan.scanner.images.parquet import require_pyarrow
        from backscan.scanner.images.resizing import of_one_kind

        require_pyarrow()
        images: list[NDArray[np.float32]] = []
        labels: list[int | None] = []
        num_values = 0

        def receive(event: dict[str, Any]) -> None:
            nonlocal num_values
            new = [_checked(image, 3) for image in _listed(event.get("images"))]
            num_values += sum(image.size for image in new)
            images.extend(new)
            labels.extend(_listed(event.get("labels")))
            _believe(len(labels) == len(images))
            _believe(4 * num_values <= self.limits.total_bytes)

        phase = PhaseLimits("parquet", wall_seconds=None, cpu_seconds=_TABLE_SECONDS, silence_seconds=_ARCHIVE_SECONDS)
        told = self._ask("parquet", {"files": [str(file.absolute()) for file in files]}, phase, receive)
        names = _listed(told.get("names"))
        _believe(all(isinstance(name, str) and len(name) <= _LONGEST_WARNING for name in names))
        known = [label for label in labels if label is not None]
        _believe(all(type(label) is int and 0 <= label <= LARGEST_LABEL for label in known))
        _believe(len(known) in (0, len(labels)))
        if not images:
            raise CleanSetError(f"expected images in {files[0].name}, found none: take a part that has some")
        same, notes = of_one_kind(images)
        return ReadImages(same, np.array(known, np.int64) if known else None, dict(enumerate(names)), notes)

    def archive(self, file: Path) -> ReadImages:
        """The images of an archive, see `archive.Archive`.

        Raises:
            CleanSetError: the file is no such archive, or takes too long.
        """
        from backscan.converters.sandbox.limits import PhaseLimits

        phase = PhaseLimits("archive", wall_seconds=2 * _ARCHIVE_SECONDS, cpu_seconds=_ARCHIVE_SECONDS)
        parts = _Parts(self.limits)
        told = self._ask("archive", {"file": str(file.absolute())}, phase, parts.receive)
        pixels, labels, warnings = parts.whole(), told.get("labels"), told.get("warnings")
        if labels is not None:
            _believe(isinstance(labels, np.ndarray) and labels.dtype == np.int64 and labels.shape == pixels.shape[:1])
            _believe(bool(((labels >= 0) & (labels <= LARGEST_LABEL)).all()))
        texts = _listed(warnings)
        _believe(len(texts) <= _MOST_WARNINGS)
        _believe(all(isinstance(text, str) and len(text) <= _LONGEST_WARNING for text in texts))
        return ReadImages(pixels, labels, {}, tuple(texts))

    def _ask(
        self, method: str, request: dict[str, Any], phase: PhaseLimits, receive: Report | None = None
    ) -> dict[str, Any]:
        from backscan.converters.sandbox import errors as told_by

        message = {**request, "limits": asdict(self.limits)}
        try:
            return self.runner.call(method, message, limits=phase, on_event=receive)
        except told_by.TimeUpError as error:
            raise TimeUpError(str(error)) from error
        except told_by.SandboxError as error:
            raise CleanSetError(
                f"expected images that can be decoded within limits, found otherwise ({error}): remove what is damaged"
            ) from error
        except told_by.UnexpectedError as error:
            failure = InternalError(f"decoding images failed inside the scanner: {error}")
            failure.add_note(error.child_traceback)
            raise failure from error


class _Parts:
    """The images of an archive as its parts arrive, held once."""

    def __init__(self, limits: ReadLimits) -> None:
        self._limits = limits
        self._images: NDArray[np.float32] | None = None
        self._filled = 0

    def receive(self, event: dict[str, Any]) -> None:
        """Put the next images behind those that came before."""
        part, total = _checked(event.get("images"), 4), event.get("of", 0)
        _believe(type(total) is int and 0 < total <= self._limits.images)
        if self._images is None:
            _believe(4 * total * part[0].size <= self._limits.total_bytes)
            self._images = np.empty((total, *part.shape[1:]), np.float32)
        end = self._filled + len(part)
        _believe(total == len(self._images) and end <= total and part.shape[1:] == self._images.shape[1:])
        self._images[self._filled : end] = part
        self._filled = end

    def whole(self) -> NDArray[np.float32]:
        """All images [N, C, H, W]."""
        _believe(self._images is not None and self._filled == len(self._images))
        images: NDArray[np.float32] = self._images  # type: ignore[assignment]
        return images


@contextmanager
def open_decoding(limits: ReadLimits, *, sandbox: bool) -> Iterator[Decoding]:
    """A limited child process that decodes, or this process with `sandbox=False`.

    Raises:
        CleanSetError: the child cannot start.
    """
    from backscan.converters.sandbox import errors as told_by
    from backscan.converters.sandbox.limits import Limits
    from backscan.converters.sandbox.runner import InProcess
    from backscan.converters.sandbox.sandbox import Sandbox

    try:
        bounds = Limits(message_bytes=limits.total_bytes + _LABEL_BYTES)
        runner: Runner = (
            Sandbox(_DECODER, limits=bounds, threads=1, errors=(CleanSetError,)) if sandbox else InProcess(_DECODER)
        )
    except told_by.TimeUpError as error:
        raise TimeUpError(str(error)) from error
    except told_by.SandboxError as error:
        raise CleanSetError(f"expected a process that decodes images, found that none could start: {error}") from error
    try:
        yield Decoding(runner, limits)
    finally:
        runner.close()


def _checked(image: object, axes: int) -> NDArray[np.float32]:
    """One image [C, H, W], or several [N, C, H, W], if they are what they have to be."""
    _believe(isinstance(image, np.ndarray) and image.dtype == np.float32 and image.ndim == axes and image.size > 0)
    pixels: NDArray[np.float32] = image  # type: ignore[assignment]
    _believe(pixels.shape[-3] in _CHANNELS[axes])
    low, high = float(pixels.min()), float(pixels.max())
    _believe(low >= 0.0 and high <= 1.0)  # false for what is no number
    return pixels


def _listed(value: object) -> list[Any]:
    _believe(isinstance(value, list))
    found: list[Any] = value  # type: ignore[assignment]
    return found


def _believe(condition: bool) -> None:
    if not condition:
        raise CleanSetError(
            "expected images as they were asked for from the process that decodes them, found something else: a file "
            "may have taken it over, do not use these images"
        )
