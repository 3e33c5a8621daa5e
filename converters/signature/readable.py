"""The copy of a file through which it is called, where the file itself hides its scores or has no batch axis."""

from __future__ import annotations

import onnx

from backscan.converters.graph import dimensions, free_inputs
from backscan.converters.intake.artifact import Artifact, parse
from backscan.converters.signature.additions import with_batch_axis, with_outputs
from backscan.converters.signature.columns import with_column
from backscan.converters.signature.signature import ModelSignature


def readable(artifact: Artifact, signature: ModelSignature) -> Artifact:
    """The artifact as its signature reads it: with the scores among its outputs, and with a batch axis.

    Args:
        artifact: The model, external data included.
        signature: Its signature.

    Returns:
        The artifact itself where nothing has to be added, and for what this has made already.
    """
    if not signature.through_copy:
        return artifact
    model = parse(artifact, fold_external=False)
    batched = with_batch_axis(artifact) if lacks_batch_axis(model, signature) else None
    return with_outputs(with_column(batched or artifact, signature.output_name), [signature.output_name])


def lacks_batch_axis(model: onnx.ModelProto, signature: ModelSignature) -> bool:
    """Whether a file takes one image without a batch axis, which its signature and the copy of it have."""
    return len(dimensions(free_inputs(model.graph)[0]) or ()) < len(signature.model_shape(1))
