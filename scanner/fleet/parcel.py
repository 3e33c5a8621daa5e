"""A model as it travels to a worker: its bytes and those of its external data, judged before they are read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from backscan.scanner.pipeline.admission import admitted_by, read
from backscan.scanner.process.parent import open_process

if TYPE_CHECKING:
    from backscan.converters import Artifact

# A tensor whose data lies outside the file has an entry of this name; a file without the word has none.
_MARK_OF_EXTERNAL_DATA = b"location"


@dataclass(frozen=True, slots=True)
class Parcel:
    """The bytes of a model."""

    name: str
    """File name without its folder."""
    data: bytes
    """The model file."""
    external: Mapping[str, bytes]
    """Location -> bytes of its external data."""

    def artifact(self) -> Artifact:
        """The model as it was read."""
        from backscan.converters import with_external
        from backscan.converters.intake.artifact import artifact_from_bytes

        artifact = artifact_from_bytes(self.name, self.data)
        return with_external(artifact, self.external) if self.external else artifact

    def unpack(self, folder: Path) -> Path:
        """Lay the files out in an empty folder of one's own; where the model is."""
        for location, data in {**self.external, self.name: self.data}.items():
            (folder / location).parent.mkdir(parents=True, exist_ok=True)
            (folder / location).write_bytes(data)
        return folder / self.name


def pack(model: Path, *, sandbox: bool) -> Parcel:
    """The bytes of a model; whether external data may be read is judged first, in a process of its own.

    Raises:
        UserError: the path is missing or cannot be read.
        NoVerdictError: the file is too large, or the audit refuses what it needs.
    """
    artifact = read(model)
    if _MARK_OF_EXTERNAL_DATA in artifact.data:
        with open_process(sandbox=sandbox) as process:
            artifact = admitted_by(process, artifact, model.parent)
    return Parcel(artifact.name, artifact.data, dict(artifact.external))
