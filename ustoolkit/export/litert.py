"""The segmenter as one LiteRT file (.tflite) with its description inside."""

import contextlib
import io
import json
import os
import re
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Literal

import numpy as np
import tensorflow as tf
import tf_keras as keras

from ustoolkit.errors import RunError
from ustoolkit.export.litert_int8 import calibrated, quantized
from ustoolkit.export.portable_graph import PortableGraph
from ustoolkit.files import without_nan
from ustoolkit.inference.graph import SegmentationGraph
from ustoolkit.inference.litert_segmenter import CARD, METADATA, described, in_channels, try_model
from ustoolkit.layers.grouped import GroupedConvolution
from ustoolkit.processes import process_pool
from ustoolkit.run import Run

Precision = Literal["float32", "float16", "int8"]
_PRECISIONS = ("float32", "float16", "int8")
_MOST_SPLIT = 8  # groups
_NO_DATE = (1980, 1, 1, 0, 0, 0)  # the same content gives the same file


class LiteRtWriter:
    """Writes a graph as a LiteRT file, from one uint8 image of any size to its probability and mask.

    The input 'images' and the outputs 'probability' and 'mask' are those of `PortableGraph.segment`. What is done to
    masks after the threshold is left to the caller.

    Args:
        precision: 'float32'; 'float16', which stores the weights, the threshold and other numbers so and computes in
            float32; or 'int8', which computes the networks in whole numbers, and all around them in float32.
    """

    def __init__(self, precision: str) -> None:
        if precision not in _PRECISIONS:
            raise RunError(f"expected a precision of {', '.join(_PRECISIONS)}, found '{precision}'. Name one of them.")
        self.precision = precision

    def convert(
        self,
        graph: SegmentationGraph,
        runs: Sequence[Run] = (),
        calibration: Callable[[], Iterator[np.ndarray]] | None = None,
    ) -> bytes:
        """The graph as a model without a description.

        Args:
            graph: of one or several networks.
            runs: not used.
            calibration: gives uint8 (height, width, 1 or 3) images of the kind that the networks learned from, some
                hundred; needed for int8, which takes the range of every tensor from them.
        Raises:
            RunError: the networks cannot be converted or run, or int8 is asked for without an image.
        """
        portable = PortableGraph(graph.members, graph.inference)
        images = _calibration(calibration, portable.channels) if self.precision == "int8" else []
        traced = _traced(portable, graph.models)
        # Keras's models would be saved layer by layer on the way, which takes minutes for some; the weights suffice.
        weights = tf.Module()
        weights.of_models = [weight for model in graph.models for weight in model.weights]
        converter = tf.lite.TFLiteConverter.from_concrete_functions([traced], weights)
        try:
            with _quiet():
                content = self._converted(converter, images, [model.name for model in graph.models])
        except Exception as problem:  # of the converter, which raises many kinds
            raise RunError(_not_converted(str(problem), traced.graph.as_graph_def())) from None
        _check_runs(content, portable.channels)
        return content

    def _converted(
        self, converter: tf.lite.TFLiteConverter, images: Sequence[np.ndarray], networks: Sequence[str]
    ) -> bytes:
        if self.precision == "int8":
            return quantized(calibrated(converter, images), networks)
        if self.precision == "float16":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.target_spec.supported_types = [tf.float16]
        return converter.convert()

    def pack(self, content: bytes, metadata: dict[str, Any], card: str) -> bytes:
        """A model with its description.

        Args:
            content: what `convert` gave.
            metadata: JSON-serialisable, at least with 'classes' and 'inference'.
            card: Markdown, for people.
        Returns:
            the file: the model, then a zip archive with 'metadata.json' and 'model_card.md'. Interpreters do not look
            at what follows the model; zip readers do not look at what goes before the archive.
        """
        text = json.dumps(without_nan(described(content, metadata)), indent=2, ensure_ascii=False, allow_nan=False)
        file = io.BytesIO(content)
        with zipfile.ZipFile(file, "a") as archive:
            for name, inside in ((METADATA, text), (CARD, card)):
                archive.writestr(zipfile.ZipInfo(name, _NO_DATE), inside, zipfile.ZIP_DEFLATED)
        return file.getvalue()


def _traced(portable: PortableGraph, models: Sequence[keras.Model]) -> tf.types.experimental.ConcreteFunction:
    function = tf.function(portable.segment, input_signature=[portable.images], autograph=False)
    with few_groups_split(models):
        return function.get_concrete_function()


@contextlib.contextmanager
def few_groups_split(models: Sequence[keras.Model]) -> Iterator[None]:
    """Wide groups as convolutions of their own: LiteRT is some quarter faster so, and calibration four times."""
    layers = {part for model in models for part in model.submodules if isinstance(part, GroupedConvolution)}
    chosen = {layer: layer.chosen for layer in layers if layer.chosen in ("blocks", "native")}
    try:
        for layer in chosen:
            _, _, size, channels = layer.kernel.shape
            layer.chosen = "split" if 1 < channels // size <= _MOST_SPLIT else layer.chosen
        yield
    finally:
        for layer, own in chosen.items():
            layer.chosen = own


def _calibration(images: Callable[[], Iterator[np.ndarray]] | None, channels: int) -> list[np.ndarray]:
    found = [] if images is None else [in_channels(image, channels)[np.newaxis] for image in images()]
    if not found:
        raise RunError("int8: expected images to calibrate on, found none. Name the records by --records.")
    return found


def _check_runs(content: bytes, channels: int) -> None:
    """Tries the model in a process of its own, since the runtime ends a process whose model it cannot compute."""
    try:
        with process_pool(1) as pool:
            pool.submit(try_model, content, channels).result()
    except (BrokenProcessPool, RuntimeError, ValueError) as problem:
        raise RunError(
            f"expected a model that LiteRT runs, found one that it does not ({' '.join(str(problem).split())[:300]}). "
            "Export it in another precision, or as a SavedModel."
        ) from None


def _not_converted(problem: str, graph: tf.compat.v1.GraphDef) -> str:
    """What to say of a converter's error, which names operations; the layers that hold these are looked up."""
    nodes = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
    missing = set(re.findall(r"\btf\.(\w+)", problem)) & {node.op for node in nodes}
    layers = {node.name.rpartition("/")[0] for node in nodes if node.op in missing}
    return (
        f"{', '.join(sorted(layers - {''})) or 'the networks'}: expected layers of operations that LiteRT has, found "
        f"{', '.join(sorted(missing)) or ' '.join(problem.split())[:300]}. Export the run as a SavedModel."
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what the converter says of its own inner life, to the error stream itself."""
    before = os.dup(2)
    with tempfile.TemporaryFile() as sink:
        try:
            os.dup2(sink.fileno(), 2)
            yield
        finally:
            os.dup2(before, 2)
            os.close(before)
