"""Our side of the input pipeline: batches of the records, as training takes them."""

import os
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from side_protocol import serve
from turns import cores

from ustoolkit.data.pipeline import Batches
from ustoolkit.data.records import Records
from ustoolkit.recipe import load_recipe

import tensorflow as tf  # isort: skip; the package chooses the Keras first


class OurPipeline:
    """Tasks are 'RECIPE ENGINE': a pass through all images, cached in memory."""

    def __init__(self, folder: Path) -> None:
        self._records = Records(folder / "records")

    def hello(self) -> dict[str, Any]:
        """Version."""
        return {"tensorflow": tf.__version__}

    def describe(self, subject: str) -> dict[str, Any]:
        """Shape and mean of what comes out, so that the sides can be compared."""
        images, masks = next(iter(self._batches(*subject.split()).epoch(0)))
        return {
            "shape": list(images.shape),
            "mean": float(tf.reduce_mean(images)),
            "lesion": float((masks > 0).numpy().mean()),
        }

    def prepare(self, task: str) -> Callable[[], object]:
        """See `side_protocol.Framework`."""
        batches, epochs = self._batches(*task.split()), count()
        return lambda: sum(len(images) for images, _ in batches.epoch(next(epochs)))

    def _batches(self, recipe: str, engine: str) -> Batches:
        settings = [f"augmentation.engine={engine}", f"augmentation.workers={cores()}", "data.cache=memory"]
        names = [row.source_id for row in self._records.index]
        return Batches(self._records, names, load_recipe(recipe, settings), training=True)


if __name__ == "__main__":
    serve(OurPipeline(Path(sys.argv[1])))
