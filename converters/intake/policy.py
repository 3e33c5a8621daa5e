"""What a model file may contain and how large it may be: one value, whose fields are the limits."""

from __future__ import annotations

from dataclasses import dataclass

_STANDARD = """
Abs Acos Acosh Add AffineGrid And ArgMax ArgMin Asin Asinh Atan Atanh Attention AveragePool BatchNormalization
BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Cast CastLike Ceil Celu CenterCropPad Clip Col2Im Compress Concat
Constant ConstantOfShape Conv ConvInteger ConvTranspose Cos Cosh CumProd CumSum DeformConv DepthToSpace
DequantizeLinear Div Dropout DynamicQuantizeLinear Einsum Elu Equal Erf Exp Expand EyeLike Flatten Floor GRU Gather
GatherElements GatherND Gelu Gemm GlobalAveragePool GlobalLpPool GlobalMaxPool Greater GreaterOrEqual GridSample
GroupNormalization HardSigmoid HardSwish Hardmax Identity If InstanceNormalization IsInf IsNaN LRN LSTM
LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax Loop LpNormalization LpPool MatMul MatMulInteger Max
MaxPool MaxRoiPool Mean MeanVarianceNormalization Min Mish Mod Mul Neg NonZero Not OneHot Or PRelu Pad Pow QLinearConv
QLinearMatMul QuantizeLinear RMSNormalization RNN Range Reciprocal ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp
ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu Reshape Resize ReverseSequence RoiAlign
RotaryEmbedding Round Scatter ScatterElements ScatterND Selu Shape Shrink Sigmoid Sign Sin Sinh Size Slice Softmax
Softplus Softsign SpaceToDepth Split Sqrt Squeeze Sub Sum SwiGLU Swish Tan Tanh ThresholdedRelu Tile TopK Transpose
Trilu Unsqueeze Upsample Where Xor
"""

_MACHINE_LEARNING = """
ArrayFeatureExtractor Binarizer CastMap FeatureVectorizer Imputer LabelEncoder LinearClassifier LinearRegressor
Normalizer OneHotEncoder SVMClassifier SVMRegressor Scaler TreeEnsemble TreeEnsembleClassifier TreeEnsembleRegressor
ZipMap
"""

_MICROSOFT = """
Attention BiasGelu ConvTransposeWithDynamicPads DequantizeLinear DynamicQuantizeMatMul FastGelu FusedConv FusedGemm
FusedMatMul Gelu MatMulIntegerToFloat MultiHeadAttention NhwcMaxPool QAttention QGemm QLinearAdd QLinearAveragePool
QLinearConcat QLinearConv QLinearGlobalAveragePool QLinearLeakyRelu QLinearMul QLinearReduceMean QLinearSigmoid
QLinearSoftmax QLinearWhere QuantizeLinear QuickGelu SkipLayerNormalization SkipSimplifiedLayerNormalization
"""

DEFAULT_OPERATORS = (
    *_STANDARD.split(),
    *(f"ai.onnx.ml.{name}" for name in _MACHINE_LEARNING.split()),
    *(f"com.microsoft.{name}" for name in _MICROSOFT.split()),
)
"""Operators of image classifiers, as exporters and quantisers write them.

Not among them: random operators (such a model answers anew each time), decoders and text operators (they parse what
comes with the image), sequences, unbounded `Scan`, training, and every operator that needs a library.
"""

GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Policy:
    """Limits of the intake. Each may be raised for a model that is trusted; the defaults fit a 2 GB ImageNet model."""

    max_file_bytes: int = 2 * GIB
    """Size of the model file (the format cannot hold more)."""
    max_external_bytes: int = 8 * GIB
    """Size of all external-data files together."""
    max_shared_bytes: int = 1 << 26
    """Bytes of external data that several tensors use, counted for each but the first."""
    max_tensor_bytes: int = 2 * GIB
    """Size of one stored tensor, as its shape and type declare it."""
    max_elements: int = 1 << 28
    """Elements of a tensor that the graph only declares or builds from constants."""
    max_rank: int = 32
    """Axes of a tensor."""
    max_nodes: int = 100_000
    """Nodes of the file, those of subgraphs and functions included."""
    max_expanded_nodes: int = 500_000
    """Nodes after every call of a function is replaced by its body and every loop is unrolled."""
    max_tensors: int = 100_000
    """Stored tensors."""
    max_functions: int = 1_000
    """Local functions."""
    max_values: int = 100_000
    """Inputs, outputs and values whose shape the file declares, those of subgraphs and functions included."""
    max_notes: int = 250_000
    """Entries of any other one kind, such as attributes, axes, names that nodes use, remarks on quantisation."""
    max_fields: int = 12_000_000
    """Fields of the file, whatever their kind; a tree of a forest has nine of them for each of its nodes."""
    max_unpacked_bytes: int = GIB
    """Memory of lists of whole numbers, which lie in the file in fewer bytes than they take."""
    max_depth: int = 16
    """Subgraphs within subgraphs, and functions that call functions."""
    max_loop_trips: int = 10_000
    """Turns of a loop, which must be a constant."""
    max_inputs: int = 1_024
    """Inputs and outputs of the model, of a node and of a function."""
    max_name_bytes: int = 1_024
    """Length of a name."""
    max_text_bytes: int = 1 << 20
    """Length of any other text or list of numbers in an attribute."""
    max_window: int = 1 << 16
    """Kernel sizes, strides, dilations and paddings."""
    min_opset: int = 7
    """Oldest opset of the standard operators; in older ones operators broadcast in another way."""
    max_opset: int = 28
    """Newest opset of the standard operators."""
    max_ir_version: int = 14
    """Newest version of the file format."""
    operators: tuple[str, ...] = DEFAULT_OPERATORS
    """Allowed operators: `Conv`, `ai.onnx.ml.Scaler`."""
