"""The segmenter as an ONNX file, for ONNX Runtime and what else reads that format."""

import contextlib
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from ustoolkit.errors import RunError
from ustoolkit.export.portable_graph import PortableGraph
from ustoolkit.files import without_nan
from ustoolkit.inference.graph import SegmentationGraph
from ustoolkit.inference.onnx_segmenter import CARD, METADATA, onnx_package
from ustoolkit.run import Run

_OPSET = 18
_INPUT = "images"
_LARGEST_BYTES = 2**31 - 2**20  # what a protocol buffer can hold, less room for the description


class OnnxWriter:
    """Writes a graph as ONNX, from one uint8 image of any size to its probability and mask.

    The input 'images' and the outputs 'probability' and 'mask' are those of `PortableGraph.segment`. What is done to
    masks after the threshold is left to the caller.
    """

    def convert(
        self,
        graph: SegmentationGraph,
        runs: Sequence[Run] = (),
        calibration: Callable[[], Iterator[np.ndarray]] | None = None,
    ) -> bytes:
        """The graph as ONNX.

        Args:
            graph: of one or several networks.
            runs, calibration: not used.
        Raises:
            RunError: a package is missing, or the networks cannot be converted or are larger than the format allows.
        """
        onnx_package("onnx")
        converter = onnx_package("tf2onnx")
        segmenter = PortableGraph(graph.members, graph.inference)
        channels = max(data.channels for data in graph.inputs)
        image = tf.TensorSpec([1, None, None, channels], tf.uint8, name=_INPUT)
        function = tf.function(segmenter.segment, input_signature=[image], autograph=False)
        try:
            with _quiet():
                model, _ = converter.convert.from_function(function, [image], opset=_OPSET)
            content = _with_named_sizes(model).SerializeToString()
        except Exception as problem:  # of tf2onnx, which raises many kinds, and of protocol buffers beyond 2 GiB
            raise RunError(
                f"model.onnx: expected networks that tf2onnx converts, found ones that it does not "
                f"({' '.join(str(problem).split())[:300]}). Export them as a SavedModel."
            ) from None
        if len(content) > _LARGEST_BYTES:
            raise RunError(
                f"model.onnx: expected networks of less than 2 GiB together, found {len(content) / 2**30:.1f} GiB. "
                "Export fewer together, or a SavedModel."
            )
        return content

    def pack(self, content: bytes, metadata: dict[str, Any], card: str) -> bytes:
        """The file with its description, as properties of the model.

        Args:
            content: what `convert` made.
            metadata: JSON-serialisable, with 'classes' and 'inference'.
            card: for people to read.
        Raises:
            RunError: a package is missing.
        """
        onnx = onnx_package("onnx")
        model = onnx.ModelProto.FromString(content)
        described = json.dumps(without_nan(metadata), indent=2, ensure_ascii=False, allow_nan=False)
        onnx.helper.set_model_props(model, {METADATA: described + "\n", CARD: card})
        return model.SerializeToString()


def _with_named_sizes(model: Any) -> Any:
    """The same model, whose free sizes are called 'height' and 'width'; the converter numbers them."""
    for value in (*model.graph.input, *model.graph.output):
        sizes = value.type.tensor_type.shape.dim
        for size, name in zip(sizes[1:3], ("height", "width"), strict=True):
            size.dim_param = name
    return model


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the converter's notes on how it goes about its work."""
    logger = logging.getLogger("tf2onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
