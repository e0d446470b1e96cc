"""Segmentation by an exported SavedModel, which is looked through before it is loaded."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from ustoolkit.errors import RunError
from ustoolkit.files import read_json
from ustoolkit.inference.saved_model_operations import find_forbidden
from ustoolkit.recipe.settings import InferenceSettings

_REMEDY = "Export the run again with 'ustoolkit export'."


class SavedModelSegmenter:
    """Segments with an exported SavedModel; see `ustoolkit.inference.segmenter.Segmenter`."""

    def __init__(self, folder: Path) -> None:
        """Loads the model.

        Raises:
            RunError: the folder is no export of ours.
        """
        self._model, metadata = load_export(folder)
        self.classes = [str(name) for name in metadata["classes"]]
        self.inference = InferenceSettings(**metadata["inference"])
        self._segment = self._model.signatures["serving_default"]

    def probabilities(self, images: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """See `Segmenter.probabilities`."""
        for image in images:
            yield self._segment(images=tf.constant(image[np.newaxis]))["probability"][0].numpy()

    def splits_of(self, records_digest: str) -> dict[str, list[str]] | None:
        """None: an export does not know who was in which part."""
        return None


def load_export(folder: Path) -> tuple[Any, dict[str, Any]]:
    """Loads a SavedModel that `ustoolkit export` wrote.

    Args:
        folder: of one version, with `saved_model.pb` and `metadata.json`.
    Returns:
        the model, with its `signatures`, and its metadata: at least 'classes', 'inference' and 'signatures'.
    Raises:
        RunError: the folder is no export of ours, is damaged, or holds operations beyond arithmetic.
    """
    metadata = read_json(folder / "metadata.json", RunError, _REMEDY)
    _check_operations(folder)
    try:
        for needed in ("classes", "inference", "signatures"):
            metadata[needed]
        InferenceSettings(**metadata["inference"])
        model = tf.saved_model.load(str(folder))
        for name in metadata["signatures"]:
            model.signatures[name]
    except Exception as problem:  # a damaged file shows in many ways: OSError, KeyError, DecodeError, …
        raise RunError(
            f"{folder}: the exported model is damaged or not one of ours ({str(problem)[:200]}). {_REMEDY}"
        ) from None
    return model, metadata


def _check_operations(folder: Path) -> None:
    """Refuses a graph that could touch files or call code, before TensorFlow sees it: a graph is a program."""
    content = SavedModel()
    try:
        content.ParseFromString((folder / "saved_model.pb").read_bytes())
    except (DecodeError, OSError) as problem:
        raise RunError(f"{folder}: the exported model is damaged ({str(problem)[:200]}). {_REMEDY}") from None
    found = find_forbidden(content)
    if found is not None:
        raise RunError(
            f"{folder}: expected a model that computes only, found {found}, which might read, write or call what is "
            f"outside of it. Do not use it unless you know who made it. {_REMEDY}"
        )
