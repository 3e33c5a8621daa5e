"""Rewrites that bring the dialects of all exporters to one plain graph without changing a value.

| rule | what it does | who needs it |
|---|---|---|
| 1 | inline model-local functions | torch dynamo before 2.6, onnxscript |
| 2 | put the nodes in order and keep what leads to the wanted outputs | skl2onnx (labels, `ZipMap`), auxiliary heads |
| 3 | turn `Constant` nodes into initialisers | torch legacy, paddle2onnx |
| 4 | fold what the image cannot change, shapes too | torch (`Shape` chains, `Identity(weight)`), jax2onnx, QDQ |
| 5 | write `Reshape` targets as numbers, the batch as -1, without `allowzero` | torch dynamo, tf2onnx, CNTK |
| 6 | replace `If` by the branch taken and unroll `Loop` of known length | tf2onnx, torch scripted |
| 7 | drop `Identity`, `Dropout` and casts to the same type | Keras, tf2onnx, paddle2onnx |
| 8 | fold `BatchNormalization`, `Mul` and `Add` into the `Conv` before them | all; worth about 1.4 in speed |

Rule 4 needs no evaluator of its own: what does not depend on the image depends on the batch size alone, so
onnxruntime is asked for it at two batch sizes. Where both agree the value is a constant.
"""

from backscan.converters.rewrites.rules import normalise

__all__ = ["normalise"]
