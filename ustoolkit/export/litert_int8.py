"""Networks in whole numbers, within a model whose resizing and probabilities stay as they are."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema
from tensorflow.lite.python.convert import mlir_quantize

# What is as good in int8 as in float32, given the range of its values. Others (normalisation by the image's or a
# group's own statistics, exponentials, products of two tensors) lose too much, or make the runtime fail.
_INT8_OPERATIONS = frozenset(
    {
        "ADD",
        "AVERAGE_POOL_2D",
        "BATCH_TO_SPACE_ND",
        "CONCATENATION",
        "CONV_2D",
        "DEPTHWISE_CONV_2D",
        "FULLY_CONNECTED",
        "MAX_POOL_2D",
        "MEAN",
        "PAD",
        "RELU",
        "RELU6",
        "RESHAPE",
        "RESIZE_BILINEAR",
        "RESIZE_NEAREST_NEIGHBOR",
        "SPACE_TO_BATCH_ND",
        "SPLIT",
        "TRANSPOSE_CONV",
    }
)
# The runtime's addition ends the process where the ranges of its tensors are further apart than 256 times.
_LARGEST_RATIO = 100.0


def calibrated(converter: tf.lite.TFLiteConverter, images: Sequence[np.ndarray]) -> bytes:
    """A float model that notes the range of each of its tensors.

    Args:
        converter: of a function from one uint8 image.
        images: uint8 (1, height, width, channels), of any sizes.
    Raises:
        ConverterError: the function holds an operation that LiteRT does not have.
    """
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([image] for image in images)
    # What TensorFlow's own debugger of quantization sets, which chooses operations too but converts twice.
    converter._experimental_calibrate_only = True
    return converter.convert()


def quantized(content: bytes, networks: Sequence[str]) -> bytes:
    """Turns the operations of networks into int8, with weights by channel; all others stay float32.

    Args:
        content: what `calibrated` gave.
        networks: names of the Keras models within, with which the names of their operations begin.
    """
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    (graph,) = model.subgraphs
    kinds = [_kind(code) for code in model.operatorCodes]
    kept = []
    for operator in graph.operators:
        tensors = [graph.tensors[index] for index in (*operator.outputs, *operator.inputs) if index >= 0]
        name = tensors[0].name.decode()
        kind = kinds[operator.opcodeIndex]
        inside = any(f"{network}/" in name for network in networks)
        if not inside or kind not in _INT8_OPERATIONS or (kind == "ADD" and not _comparable(tensors)):
            kept.append(name)
    return mlir_quantize(content, denylisted_nodes=kept)


def _kind(code: schema.OperatorCodeT) -> str:
    number = max(code.builtinCode, code.deprecatedBuiltinCode)  # older files have the second one only
    return next(name for name, value in vars(schema.BuiltinOperator).items() if value == number)


def _comparable(tensors: Sequence[schema.TensorT]) -> bool:
    """Whether the ranges of an addition's tensors are near enough to each other; a constant's is not noted."""
    noted = [tensor.quantization for tensor in tensors if tensor.quantization is not None]
    ranges = [float(np.max(one.max) - np.min(one.min)) for one in noted if one.max is not None]
    return not ranges or 0 < max(ranges) <= _LARGEST_RATIO * min(ranges)
