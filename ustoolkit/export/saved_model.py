"""A SavedModel that takes images as they come: resizing, normalisation, sigmoid and resizing back are inside."""

from pathlib import Path

import tensorflow as tf

from ustoolkit.files import new_folder, write_json
from ustoolkit.inference.graph import SegmentationGraph
from ustoolkit.models.load import load_model
from ustoolkit.provenance import versions
from ustoolkit.run import Run


def export_saved_model(run: Run, out: Path | str, overwrite: bool = False) -> Path:
    """Writes a run's best model as a SavedModel with two signatures.

    `serving_default` takes `images`, uint8 (batch, height, width, 1 or 3) of any size; `image_bytes` takes
    `image_bytes`, strings (batch,) of PNG or JPEG files. Both give `probability` and `mask` at the images' own size;
    see `ustoolkit.inference.graph.SegmentationGraph`. The threshold is the run's, tuned where it was. The CRF, removing
    small regions, opening, keeping the largest region and filling holes are left to the caller, by the settings in
    `metadata.json`. A JPEG's EXIF orientation is not applied by TensorFlow: turn such photos before sending
    their bytes.

    Args:
        run: a trained run.
        out: the folder to make; `metadata.json` in it says what the model is.
        overwrite: whether an export that is already there may be replaced.
    Returns:
        the folder.
    Raises:
        RunError: the run has no weights, or its `tuned.json` is damaged.
        OutputError: the folder is taken or cannot be written.
    """
    recipe, inference = run.recipe, run.inference
    graph = SegmentationGraph(load_model(run), recipe, inference)
    signatures = {
        "serving_default": graph.segment.get_concrete_function(),
        "image_bytes": graph.segment_bytes.get_concrete_function(),
    }
    metadata = {
        "model": recipe.model.name,
        "recipe": recipe.name,
        "classes": run.classes,
        "input": "uint8 images (batch, height, width, 1 or 3), any size, values 0 to 255",
        "network_input": {"image_size": recipe.data.image_size, "channels": recipe.data.channels},
        "inference": inference.model_dump(mode="json"),
        "trained_on": {"digest": run.manifest["digest"], "counts": run.manifest["counts"]},
        "best_validation_dice": run.state.get("best_validation_dice"),
        "versions": versions(),
    }
    with new_folder(out, overwrite, owned_by="saved_model.pb") as folder:
        tf.saved_model.save(graph, str(folder), signatures=signatures)
        write_json(folder / "metadata.json", metadata)
    return Path(out)
