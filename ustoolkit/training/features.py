"""Bottleneck features: what a network's backbone makes of labelled regions, computed once and kept in the run."""

import io
import zipfile
from pathlib import Path

import numpy as np
import tensorflow as tf
import tf_keras as keras

from ustoolkit.data.labelled import LabelledRegions
from ustoolkit.files import write_bytes
from ustoolkit.models.classifiers import features_of
from ustoolkit.progress import progress
from ustoolkit.run import Run


def bottleneck_features(model: keras.Model, regions: LabelledRegions, run: Run, part: str) -> np.ndarray:
    """The pooled features of a part, from the run's folder where they are there already.

    Args:
        model: of `ustoolkit.models.classifiers`, with the weights that the run begins with.
        regions: of the part.
        run: its `features/PART.npz` is read, or written.
        part: 'train' or 'validation'.
    Returns:
        float32 (n, features), in the order of the regions.
    """
    path = run.features(part)
    kept = _kept(path, regions)
    if kept is not None:
        return kept
    network = tf.function(features_of(model), reduce_retracing=True)
    size = run.recipe.inference.batch_size
    inputs = regions.inputs(run.recipe)
    starts = range(0, len(inputs), size)
    batches = [
        network(tf.constant(inputs[start : start + size], tf.float32), training=False).numpy()
        for start in progress(starts, f"features of {part}", total=len(starts), unit="batch")
    ]
    features = np.concatenate(batches).astype(np.float32)
    stream = io.BytesIO()
    np.savez(stream, features=features, source_ids=np.array(regions.source_ids))
    write_bytes(path, stream.getvalue())
    return features


def _kept(path: Path, regions: LabelledRegions) -> np.ndarray | None:
    """Features of exactly these regions from a file; None where there are none."""
    try:
        with np.load(path, allow_pickle=False) as content:
            same = content["source_ids"].tolist() == regions.source_ids
            return content["features"] if same else None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
