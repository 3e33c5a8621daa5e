"""Real exports for tests: small torch modules through torch's own exporters."""

import io
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx
import torch


def export(
    module: torch.nn.Module, shape: tuple[int, ...], *, dynamo: bool = False, opset: int = 17
) -> onnx.ModelProto:
    """Export a module whose input is named `image` and has a free batch.

    Args:
        module: The network; it is set to evaluation.
        shape: Shape of one image.
        dynamo: The newer of torch's two exporters.
        opset: Version of the standard operators.
    """
    example = torch.zeros(2, *shape)
    names = {"input_names": ["image"], "output_names": ["scores"], "opset_version": opset}
    with warnings.catch_warnings(), TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")  # both exporters warn about parts of themselves
        if not dynamo:
            file = io.BytesIO()
            torch.onnx.export(module.eval(), (example,), file, dynamo=False, dynamic_axes={"image": {0: "N"}}, **names)
            return onnx.load_model_from_string(file.getvalue())
        path = Path(folder) / "model.onnx"
        dynamic = ({0: torch.export.Dim("N")},)
        torch.onnx.export(module.eval(), (example,), path, dynamo=True, dynamic_shapes=dynamic, verbose=False, **names)
        return onnx.load(path)
