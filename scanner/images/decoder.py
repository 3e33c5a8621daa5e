"""The child's side of `decoding`: it alone sees the bytes of pictures and archives."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backscan.scanner.images.archive import Archive
from backscan.scanner.images.limits import ReadLimits
from backscan.scanner.images.pictures import read_picture

if TYPE_CHECKING:
    from collections.abc import Generator

    import numpy as np
    from numpy.typing import NDArray

_BATCH_VALUES = 1 << 22
_BATCH_SECONDS = 1.0


class Decoder:
    """Decodes what the parent names."""

    def pictures(self, request: dict[str, Any]) -> Generator[dict[str, Any], None, dict[str, Any]]:
        """Events with the next images, in the order of the files."""
        limits, num_values = ReadLimits(**request["limits"]), 0
        batch: list[NDArray[np.float32]] = []
        waiting, since = 0, time.monotonic()
        for file in request["files"]:
            batch.append(read_picture(Path(file), limits, num_values))
            num_values += batch[-1].size
            waiting += batch[-1].size
            if waiting >= _BATCH_VALUES or time.monotonic() - since > _BATCH_SECONDS:
                yield {"images": batch}
                batch, waiting, since = [], 0, time.monotonic()
        yield {"images": batch}
        return {}

    def parquet(self, request: dict[str, Any]) -> Generator[dict[str, Any], None, dict[str, Any]]:
        """Events with the next images and labels of parquet files, then the names of the classes."""
        from backscan.scanner.images.parquet import class_names, read_parquet

        limits, num_values = ReadLimits(**request["limits"]), 0
        names: tuple[str, ...] = ()
        for file in map(Path, request["files"]):
            names = names or class_names(file)
            batch: list[NDArray[np.float32]] = []
            labels: list[int | None] = []
            for image, label in read_parquet(file, limits, num_values):
                num_values += image.size
                batch.append(image)
                labels.append(label)
                if sum(each.size for each in batch) >= _BATCH_VALUES:
                    yield {"images": batch, "labels": labels}
                    batch, labels = [], []
            yield {"images": batch, "labels": labels}
        return {"names": list(names)}

    def archive(self, request: dict[str, Any]) -> Generator[dict[str, Any], None, dict[str, Any]]:
        """Events with the next images of an archive and how many there are in all; last its labels and warnings."""
        archive = Archive(Path(request["file"]), ReadLimits(**request["limits"]))
        for part in archive.parts():
            yield {"images": part, "of": archive.num_images}
        return {"labels": archive.labels, "warnings": list(archive.warnings)}
