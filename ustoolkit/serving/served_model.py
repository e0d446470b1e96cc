"""An export as the server calls it: by name of a signature, arrays in and arrays out."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf.json_format import MessageToDict
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from ustoolkit.errors import RunError
from ustoolkit.inference.saved_model import load_export
from ustoolkit.inference.segmenter import newest_version


@dataclass(frozen=True)
class Input:
    """One input of a signature.

    Attributes:
        dtype: 'uint8', 'float32' or 'string'.
        shape: of one row, None where any size is taken.
    """

    dtype: str
    shape: tuple[int | None, ...]


class ServedModel:
    """An export, loaded.

    Args:
        export: folder of one version, or of versions, of which the newest is taken.
        name: under which it is served; '' for its own.
    Attributes:
        name, version, task, classes: what it is.
        metadata: the export's `metadata.json`.
        inputs: by signature and name.
        signature_defs: as TensorFlow Serving writes them.
    Raises:
        RunError: the folder is no export of ours, is damaged, or holds operations beyond arithmetic.
    """

    def __init__(self, export: Path, name: str = "") -> None:
        folder = newest_version(export)
        if folder is None:
            raise RunError(
                f"{export}: expected an exported SavedModel, or a folder of its versions, found none. Name what "
                "'ustoolkit export --out' made."
            )
        self._model, self.metadata = load_export(folder)
        self.name = name or str(self.metadata.get("name") or folder.parent.name)
        # TensorFlow Serving goes by the folder, so that it is what a client can rely on.
        self.version = folder.name if folder.name.isdigit() else str(self.metadata.get("version", 1))
        self.task = str(self.metadata.get("task", "segmentation"))
        self.classes = [str(each) for each in self.metadata["classes"]]
        self.inputs = {
            signature: {
                port: Input(spec.dtype.name, tuple(spec.shape.as_list()[1:]))
                for port, spec in self._model.signatures[signature].structured_input_signature[1].items()
            }
            for signature in self.metadata["signatures"]
        }
        self.signature_defs = _signature_defs(folder)

    def call(self, signature: str, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Calls a signature; several threads may do so at once.

        Args:
            signature: one of `inputs`.
            inputs: by name, arrays of the same length along their first axis; strings as arrays of bytes objects.
        Returns:
            by name, of that length.
        Raises:
            ValueError: an image cannot be decoded, or the model does not take these values.
        """
        try:
            tensors = {name: tf.constant(values, self.inputs[signature][name].dtype) for name, values in inputs.items()}
            outputs = self._model.signatures[signature](**tensors)
        except tf.errors.InvalidArgumentError:
            raise ValueError("the model cannot read these values") from None
        return {name: output.numpy() for name, output in outputs.items()}


def _signature_defs(folder: Path) -> dict[str, Any]:
    content = SavedModel()
    content.ParseFromString((folder / "saved_model.pb").read_bytes())
    definitions = content.meta_graphs[0].signature_def
    return {
        name: MessageToDict(definition, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
        for name, definition in sorted(definitions.items())
    }
