"""A SavedModel that takes images as they come: everything from resizing to the cleaned mask is inside."""

from pathlib import Path

import tensorflow as tf

from ustoolkit.export.signatures import ExportedGraph


def write_saved_model(exported: ExportedGraph, folder: Path) -> None:
    """Writes a segmenter, or one with a classifier, with its signatures.

    Of what is done to masks, only the CRF is left to the caller. A JPEG's EXIF orientation is not applied by
    TensorFlow: turn such photos before sending their bytes.

    Args:
        exported: of one or several networks, with a classifier or without.
        folder: there already; `saved_model.pb` and `variables/` are written into it.
    """
    tf.saved_model.save(exported, str(folder), signatures=exported.signatures)
