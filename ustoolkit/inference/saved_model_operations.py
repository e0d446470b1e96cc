"""Which operations a SavedModel may hold: those that make numbers of numbers, and no others."""

from collections.abc import Iterator

from tensorflow.core.framework.graph_pb2 import GraphDef
from tensorflow.core.protobuf.meta_graph_pb2 import MetaGraphDef
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

_ARITHMETIC = """
    Abs Acos Acosh Add AddN AddV2 Asin Asinh Atan Atan2 Atanh BitwiseAnd BitwiseOr BitwiseXor Ceil ClipByValue
    Complex ComplexAbs Conj Cos Cosh Div DivNoNan Erf Erfc Erfinv Exp Expm1 Floor FloorDiv FloorMod Imag Inv Invert
    LeftShift Lgamma Log Log1p Maximum Minimum Mod Mul MulNoNan Neg NextAfter Pow Real RealDiv Reciprocal RightShift
    Rint Round Rsqrt Sigmoid Sign Sin Sinh Sqrt Square SquaredDifference Sub Tan Tanh TruncateDiv TruncateMod Xdivy
    Xlog1py Xlogy
"""
_COMPARISON = """
    ApproximateEqual Equal Greater GreaterEqual IsFinite IsInf IsNan Less LessEqual LogicalAnd LogicalNot LogicalOr
    NotEqual Select SelectV2
"""
_REDUCTION = """
    All Any ArgMax ArgMin Bincount Bucketize Cumprod Cumsum CumulativeLogsumexp DenseBincount EuclideanNorm
    HistogramFixedWidth InTopKV2 Max Mean Min Prod SegmentMaxV2 SegmentMean SegmentMinV2 SegmentProdV2 SegmentSumV2
    Sum TopK TopKV2 UnsortedSegmentMax UnsortedSegmentMin UnsortedSegmentProd UnsortedSegmentSum
"""
_ALGEBRA = """
    BatchMatMul BatchMatMulV2 BatchMatMulV3 Cholesky Cross Einsum FFT FFT2D IFFT IFFT2D IRFFT IRFFT2D L2Loss
    LinSpace MatMul MatrixBandPart MatrixDeterminant MatrixDiagPartV3 MatrixDiagV3 MatrixInverse MatrixSetDiagV3
    MatrixSolve MatrixTriangularSolve Qr RFFT RFFT2D SelfAdjointEigV2 Svd
"""
_ARRAYS = """
    BatchToSpaceND Bitcast BroadcastArgs BroadcastGradientArgs BroadcastTo Cast CheckNumerics CheckNumericsV2 Concat
    ConcatV2 Const DepthToSpace Diag DiagPart DynamicPartition DynamicStitch EnsureShape ExpandDims
    ExtractImagePatches Fill Gather GatherNd GatherV2 Identity IdentityN InvertPermutation ListDiff LowerBound
    MirrorPad OneHot OnesLike Pack Pad PadV2 Placeholder PlaceholderWithDefault PreventGradient Range Rank Reshape
    ReverseSequence ReverseV2 Roll ScatterNd Shape ShapeN Size Slice Snapshot SpaceToBatchND SpaceToDepth Split
    SplitV Squeeze StopGradient StridedSlice TensorScatterAdd TensorScatterMax TensorScatterMin TensorScatterSub
    TensorScatterUpdate Tile Transpose Unique UniqueV2 UniqueWithCountsV2 Unpack UnravelIndex UpperBound Where
    ZerosLike
"""
_NETWORKS = """
    AvgPool BiasAdd BiasAddV1 Conv Conv2D Conv2DBackpropInput Conv2DBackpropInputV2 Conv3D DepthwiseConv2dNative
    Dilation2D Elu FusedBatchNorm FusedBatchNormV2 FusedBatchNormV3 LRN
    LeakyRelu LogSoftmax MaxPool MaxPoolV2 MaxPoolWithArgmax Relu Relu6 Selu Softmax SoftmaxCrossEntropyWithLogits
    Softplus Softsign SparseSoftmaxCrossEntropyWithLogits
"""
# Image files come and go as strings, and records as serialised examples: no operation here takes the name of a file.
_IMAGES = """
    AdjustContrastv2 AdjustHue AdjustSaturation CombinedNonMaxSuppression CropAndResize DecodeAndCropJpeg DecodeBmp
    DecodeGif DecodeImage DecodeJpeg DecodePng DrawBoundingBoxesV2 EncodeJpeg EncodePng ExtractGlimpseV2
    ExtractJpegShape HSVToRGB ImageProjectiveTransformV2 ImageProjectiveTransformV3 NonMaxSuppressionV3
    NonMaxSuppressionV4 NonMaxSuppressionV5 ParseExample ParseExampleV2 ParseSingleExample RGBToHSV ResizeArea
    ResizeBicubic ResizeBilinear ResizeNearestNeighbor ScaleAndTranslate
"""
_SPARSE = """
    SparseFillEmptyRows SparseReorder SparseReshape SparseSlice SparseTensorDenseMatMul SparseToDense
"""
_RANDOM = """
    StatelessMultinomial StatelessRandomGetAlg StatelessRandomGetKeyCounter StatelessRandomGetKeyCounterAlg
    StatelessRandomNormal StatelessRandomNormalV2 StatelessRandomUniform StatelessRandomUniformFullInt
    StatelessRandomUniformFullIntV2 StatelessRandomUniformInt StatelessRandomUniformIntV2 StatelessRandomUniformV2
    StatelessTruncatedNormal StatelessTruncatedNormalV2
"""
# The functions that these call stand in the same file, and are looked through as well.
_CONTROL = """
    Assert Case If NoOp PartitionedCall StatefulPartitionedCall StatelessCase StatelessIf StatelessWhile
    TensorListConcatV2 TensorListElementShape TensorListFromTensor TensorListGather TensorListGetItem
    TensorListLength TensorListPopBack TensorListPushBack TensorListReserve TensorListResize TensorListScatterV2
    TensorListSetItem TensorListStack While
"""
# Keras traces the layers' training too, where dropout counts and normalisation keeps its averages, in memory.
_VARIABLES = """
    AssignAddVariableOp AssignSubVariableOp AssignVariableOp DisableCopyOnRead ReadVariableOp ResourceGather
    ResourceGatherNd VarHandleOp VarIsInitializedOp VariableShape
"""
ALLOWED = frozenset(
    " ".join(
        (
            *(_ARITHMETIC, _COMPARISON, _REDUCTION, _ALGEBRA, _ARRAYS, _NETWORKS),
            *(_IMAGES, _SPARSE, _RANDOM, _CONTROL, _VARIABLES),
        )
    ).split()
)
# What the two functions hold that write and read `variables/`. Loading does not call them.
SAVER = frozenset(
    {"MergeV2Checkpoints", "RestoreV2", "SaveV2", "ShardedFilename", "StaticRegexFullMatch", "StringJoin"}
)
_CALLS = ("PartitionedCall", "StatefulPartitionedCall")


def find_forbidden(content: SavedModel) -> str | None:
    """Looks for what could reach beyond the model, in all graphs and functions of a SavedModel.

    Args:
        content: of `saved_model.pb`, not loaded.
    Returns:
        what is found first, to be read behind 'found'; None if the model computes only.
    """
    if len(content.meta_graphs) != 1 or not content.meta_graphs[0].HasField("object_graph_def"):
        # TensorFlow takes such a file for one of version 1, and runs its saver while it loads.
        return "a SavedModel of TensorFlow 1, or several in one"
    (meta,) = content.meta_graphs
    functions = _saver_functions(meta)
    for function, operation in _operations(meta.graph_def):
        if operation not in ALLOWED and not (function in functions and operation in SAVER):
            return f"the operation {operation[:80]}"
    return None


def _operations(graph: GraphDef) -> Iterator[tuple[str, str]]:
    """Function, '' for the graph itself, and operation."""
    yield from (("", node.op) for node in graph.node)
    for function in graph.library.function:
        yield from ((function.signature.name, node.op) for node in function.node_def)


def _saver_functions(meta: MetaGraphDef) -> frozenset[str]:
    """Names of the functions that save and restore, as far as nothing else in the model could call them."""
    graph = meta.graph_def
    callers = {_node(meta.saver_def.save_tensor_name), _node(meta.saver_def.restore_op_name)} - {""}
    calls = [node for node in graph.node if node.name in callers and node.op in _CALLS]
    used = {_node(name) for node in graph.node for name in node.input}
    for signature in meta.signature_def.values():
        used |= {_node(tensor.name) for tensor in (*signature.inputs.values(), *signature.outputs.values())}
    names = {node.attr["f"].func.name for node in calls if node.name not in used}
    rest = MetaGraphDef()
    rest.CopyFrom(meta)
    del rest.graph_def.node[:], rest.graph_def.library.function[:]
    rest.graph_def.node.extend(node for node in graph.node if node not in calls)
    rest.graph_def.library.function.extend(one for one in graph.library.function if one.signature.name not in names)
    left = rest.SerializeToString()  # a name can stand in many places: attributes, objects, gradients
    return frozenset(name for name in names if name and name.encode() not in left)


def _node(tensor: str) -> str:
    """The node that a tensor, or a control dependency, comes from."""
    return tensor.removeprefix("^").partition(":")[0]
