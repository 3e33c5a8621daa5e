"""Which schema versions of an operator mean the same for the tensors of a float classifier.

Most new versions of an operator only widen its types (bfloat16 in opset 13, float8 and int4 in 19 to 25) or reword its
text, so a converter written for one serves the other. A group lists versions whose attributes, inputs, outputs and
arithmetic are equal; versions that changed meaning (Softmax 11 to 13, Clip 6 to 11) stand in different groups.
Read from the schemas of onnx 1.23 (opset 28); `tests/converters/operators/test_registry.py` compares the two.
"""

from __future__ import annotations

_UNARY_MATHS = dict.fromkeys(["Acos", "Asin", "Atan", "Cos", "Sin", "Tan"], ((7, 22),)) | dict.fromkeys(
    ["Acosh", "Asinh", "Atanh", "Cosh", "Sinh"], ((9, 22),)
)
_UNARY_BASIC = dict.fromkeys(
    ["Abs", "Ceil", "Exp", "Floor", "Log", "Neg", "Reciprocal", "Sigmoid", "Sqrt", "Tanh"], ((6, 13),)
)
_BINARY_MATHS = dict.fromkeys(["Add", "Div", "Mul", "Sub"], ((7, 13, 14),))
_ACTIVATIONS = {
    "Celu": ((12, 28),),
    "Elu": ((6, 22),),
    "HardSigmoid": ((6, 22),),
    "HardSwish": ((14, 22),),
    "LeakyRelu": ((6, 16),),
    "Mish": ((18, 22),),
    "PRelu": ((7, 9, 16),),
    "Relu": ((6, 13, 14),),
    "Selu": ((6, 22),),
    "Softplus": ((1, 22),),
    "Softsign": ((1, 22),),
    "ThresholdedRelu": ((10, 22),),
}
_SOFTMAXES = dict.fromkeys(["Hardmax", "LogSoftmax", "Softmax"], ((1, 11),))
_LINEAR = {
    "Conv": ((1, 11, 22),),
    "ConvTranspose": ((1, 11, 22),),
    "DeformConv": ((19, 22),),
    "Einsum": ((12, 28),),
    "Gemm": ((7, 9), (11, 13)),
    "MatMul": ((1, 9, 13),),
}
_POOLS_AND_NORMS = {
    "AveragePool": ((10, 11), (19, 22)),
    "BatchNormalization": ((14, 15),),
    "Dropout": ((7, 10), (12, 13, 22)),
    "GlobalAveragePool": ((1, 22),),
    "GlobalLpPool": ((2, 22),),
    "GlobalMaxPool": ((1, 22),),
    "InstanceNormalization": ((6, 22),),
    "LRN": ((1, 13),),
    "LpNormalization": ((1, 22),),
    "LpPool": ((2, 11), (18, 22)),
    "MaxPool": ((10, 11, 12, 22),),
    "MeanVarianceNormalization": ((9, 13),),
}
_REDUCTIONS = dict.fromkeys(["ReduceL1", "ReduceL2", "ReduceMean", "ReduceProd", "ReduceSumSquare"], ((1, 11, 13),)) | {
    "ArgMax": ((1, 11), (12, 13)),
    "ArgMin": ((1, 11), (12, 13)),
    "Max": ((8, 12, 13),),
    "Mean": ((8, 13),),
    "Min": ((8, 12, 13),),
    "ReduceLogSum": ((1, 11, 13), (18, 28)),
    "ReduceLogSumExp": ((1, 11, 13), (18, 28)),
    "ReduceMax": ((1, 11, 12, 13), (18, 20)),
    "ReduceMin": ((1, 11, 12, 13), (18, 20)),
    "ReduceSum": ((1, 11),),
    "Sum": ((8, 13),),
    "TopK": ((11, 24),),
}
_SHAPES = {
    "Cast": ((6, 9, 13, 19, 21, 23, 24, 25, 28),),  # `saturate` and `round_mode` concern float8 alone
    "CastLike": ((15, 19, 21, 23, 24, 25),),
    "Concat": ((4, 11, 13),),
    "Constant": ((1, 9), (12, 13, 19, 21, 23, 24, 25)),
    "ConstantOfShape": ((9, 20, 21, 23, 24, 25),),
    "DepthToSpace": ((11, 13, 28),),
    "Expand": ((8, 13),),
    "EyeLike": ((9, 22),),
    "Flatten": ((1, 9, 11, 13, 21, 23, 24, 25),),
    "Gather": ((1, 11, 13),),
    "GatherElements": ((11, 13),),
    "GatherND": ((12, 13),),
    "Identity": ((1, 13, 14, 16, 19, 21, 23, 24, 25),),
    "OneHot": ((9, 11, 28),),
    "Pad": ((11, 13), (18, 19, 21, 23, 24, 25)),
    "Reshape": ((5, 13), (14, 19, 21, 23, 24, 25)),
    "Resize": ((18, 19),),
    "ScatterND": ((11, 13),),
    "Shape": ((1, 13), (15, 19, 21, 23, 24, 25)),
    "Size": ((1, 13, 19, 21, 23, 24, 25),),
    "Slice": ((10, 11, 13),),
    "SpaceToDepth": ((1, 13),),
    "Split": ((2, 11),),
    "Squeeze": ((1, 11), (13, 21, 23, 24, 25)),
    "Tile": ((6, 13),),
    "Transpose": ((1, 13, 21, 23, 24, 25),),
    "Unsqueeze": ((1, 11), (13, 21, 23, 24, 25)),
    "Upsample": ((9, 10),),
    "Where": ((9, 16),),
}
_LOGIC_AND_ROUNDING = {
    "Equal": ((7, 11, 13, 19),),
    "Erf": ((9, 13),),
    "Greater": ((7, 9, 13),),
    "GreaterOrEqual": ((12, 16),),
    "IsInf": ((10, 20),),
    "IsNaN": ((9, 13, 20),),
    "Less": ((7, 9, 13),),
    "LessOrEqual": ((12, 16),),
    "Mod": ((10, 13, 28),),
    "NonZero": ((9, 13),),
    "Pow": ((7, 12, 13, 15),),
    "Range": ((11, 27),),
    "Round": ((11, 22),),
    "Sign": ((9, 13),),
}

EQUAL_VERSIONS: dict[str, tuple[tuple[int, ...], ...]] = (
    _UNARY_MATHS
    | _UNARY_BASIC
    | _BINARY_MATHS
    | _ACTIVATIONS
    | _SOFTMAXES
    | _LINEAR
    | _POOLS_AND_NORMS
    | _REDUCTIONS
    | _SHAPES
    | _LOGIC_AND_ROUNDING
)
"""Operator of the default domain -> groups of `since_version`s that are interchangeable."""


def equal_versions(operator: str, version: int) -> tuple[int, ...]:
    """Other schema versions with the meaning of `version`, nearest first and older before newer.

    Args:
        operator: Operator of the default ONNX domain.
        version: Its `since_version`.

    Returns:
        The versions of its group without `version`; empty if it stands alone.
    """
    group = next((group for group in EQUAL_VERSIONS.get(operator, ()) if version in group), ())
    others = (other for other in group if other != version)
    return tuple(sorted(others, key=lambda other: (abs(other - version), other)))
