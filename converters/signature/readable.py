"""The copy of a file through which it is called, where the file itself hides its scores or has no batch axis."""

from __future__ import annotations

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
    batched = with_batch_axis(artifact) if _lacks_batch_axis(artifact, signature) else None
    return with_outputs(with_column(batched or artifact, signature.output_name), [signature.output_name])


def _lacks_batch_axis(artifact: Artifact, signature: ModelSignature) -> bool:
    (value,) = free_inputs(parse(artifact, fold_external=False).graph)
    return len(dimensions(value) or ()) < len(signature.model_shape(1))
