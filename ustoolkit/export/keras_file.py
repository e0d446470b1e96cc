"""One network as a `.keras` file, with its recipe and its description inside."""

import io
import json
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tf_keras as keras

from ustoolkit.errors import RunError
from ustoolkit.files import without_nan
from ustoolkit.inference.graph import SegmentationGraph
from ustoolkit.inference.keras_segmenter import CARD, METADATA, RECIPE
from ustoolkit.recipe import Recipe, dump_toml
from ustoolkit.recipe.pixels import OFF
from ustoolkit.run import Run


class KerasWriter:
    """Writes the network of a run, from raw pixel values to logits, as Keras saves a model.

    Resizing, flips, threshold and what is done to masks are not in it; `KerasSegmenter` does them as the description
    inside says. Keras itself loads the file, and leaves the entries under `ustoolkit/` alone.
    """

    def convert(
        self,
        graph: SegmentationGraph,
        runs: Sequence[Run],
        calibration: Callable[[], Iterator[np.ndarray]] | None = None,
    ) -> bytes:
        """The network with its recipe.

        Args:
            graph: of one network.
            runs: the one that it was made of.
            calibration: not used.
        Raises:
            RunError: there are several networks.
        """
        if len(graph.models) != 1 or len(runs) != 1:
            raise RunError(
                f"model.keras: expected one run, found {len(graph.models)}, and a Keras file holds one network. Export "
                "them as a SavedModel."
            )
        return _saved(graph.models[0], runs[0].recipe)

    def pack(self, content: bytes, metadata: dict[str, Any], card: str) -> bytes:
        """The file with its description.

        Args:
            content: what `convert` made.
            metadata: JSON-serialisable, with 'classes' and 'inference'.
            card: for people to read.
        """
        described = json.dumps(without_nan(metadata), indent=2, ensure_ascii=False, allow_nan=False)
        return _with_texts(content, {METADATA: described + "\n", CARD: card})


def _saved(model: keras.Model, recipe: Recipe) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        model.save(path)
        return _with_texts(path.read_bytes(), {RECIPE: dump_toml(_portable(recipe))})


def _portable(recipe: Recipe) -> Recipe:
    """Without the places of weights to begin with: they act in training only, and tell of the machine."""
    model, training = recipe.model, recipe.training.model_copy(update={"initial_weights": OFF})
    holder = getattr(model, "classifier", model)
    if "weights" in type(holder).model_fields:
        holder = holder.model_copy(update={"weights": OFF})
    model = model.model_copy(update={"classifier": holder}) if hasattr(model, "classifier") else holder
    return recipe.model_copy(update={"model": model, "training": training})


def _with_texts(content: bytes, texts: dict[str, str]) -> bytes:
    """A zip file with more entries, compressed."""
    stream = io.BytesIO(content)
    with zipfile.ZipFile(stream, "a", zipfile.ZIP_DEFLATED) as archive:
        for name, text in texts.items():
            archive.writestr(name, text)
    return stream.getvalue()
