"""Our side of `against_pytorch.py`: the toolkit's own pipeline, compiled training step, graph and export."""

import os
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
from side_protocol import serve

from ustoolkit.data.pipeline import Batches
from ustoolkit.data.records import Records
from ustoolkit.data.resize import mask_to_network
from ustoolkit.inference.graph import SegmentationGraph
from ustoolkit.models import build_model
from ustoolkit.recipe import load_recipe
from ustoolkit.training.losses import weighted_sum
from ustoolkit.training.start import start_run
from ustoolkit.training.strategy import make_strategy
from ustoolkit.training.trainer import _Training

import tensorflow as tf  # isort: skip; the package chooses the Keras first

SAME_LOSS = "loss.terms={ dice = 1.0, cross_entropy = 1.0 }"


class Ours:
    """The tasks, done by the toolkit."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._records = Records(folder / "records")
        self._graphs: dict[str, SegmentationGraph] = {}
        samples = list(self._records.read([row.source_id for row in self._records.index[:8]]))
        self._images = np.stack([sample.image for sample in samples])
        self._masks = [sample.mask for sample in samples]

    def hello(self) -> dict[str, Any]:
        """Version; TensorFlow takes one thread a core by itself."""
        return {"tensorflow": tf.__version__}

    def describe(self, recipe: str) -> dict[str, Any]:
        """Leaves weights, images and probabilities in a file for the other side to compare with."""
        graph = self._graph(recipe)
        recipe_of_loss = load_recipe(recipe, [SAME_LOSS])
        masks = tf.stack([mask_to_network(mask, recipe_of_loss.data) for mask in self._masks])
        learned = [layer for layer in graph.model.layers if layer.trainable_weights]  # not dropout's random state
        weights = [array for layer in learned for array in layer.get_weights()]
        probability = graph.segment(tf.constant(self._images))["probability"].numpy()
        arrays = {f"weight_{i:03}": array for i, array in enumerate(weights)}
        arrays |= {"images": self._images, "masks": masks.numpy(), "probability": probability}
        np.savez(self._folder / f"{recipe}.npz", **arrays)
        logits = graph.model(graph.prepare(tf.constant(self._images)), training=False)
        loss = weighted_sum(recipe_of_loss.loss)(logits, masks)
        trainable = sum(int(np.prod(weight.shape)) for weight in graph.model.trainable_variables)
        return {"weights": trainable, "loss": float(tf.reduce_mean(loss))}

    def prepare(self, task: str) -> Callable[[], object]:
        """See `side_protocol.Framework`."""
        kind, *how = task.split()
        if kind == "pipeline":
            return self._pipeline("memory" if "cached" in how else "off")
        if kind == "train":
            return self._training_step(how[0])
        return self._inference(int(how[0]), "exported" in how)

    def _pipeline(self, cache: str) -> Callable[[], object]:
        recipe = load_recipe("fast", [f"data.cache={cache}"])
        batches = Batches(self._records, [row.source_id for row in self._records.index], recipe, training=True)
        epochs = count()
        return lambda: sum(len(images) for images, _ in batches.epoch(next(epochs)))

    def _training_step(self, name: str) -> Callable[[], object]:
        recipe = load_recipe(name, [SAME_LOSS])
        run = start_run(recipe, self._records, self._folder / f"run_{name}", overwrite=True)
        trainer = _Training(run, self._records, make_strategy("one"))
        images, masks = next(iter(trainer.training.epoch(0)))
        return lambda: float(trainer._step((images, masks)))

    def _inference(self, images: int, exported: bool) -> Callable[[], object]:
        graph = self._graph("fast")
        array = self._images[:images]
        if not exported:
            return lambda: graph.segment(tf.constant(array))["probability"].numpy()
        folder = str(self._folder / f"exported_{images}")
        tf.saved_model.save(graph, folder, signatures={"serving_default": graph.segment})
        model = tf.saved_model.load(folder)
        segment = model.signatures["serving_default"]
        # The model is named so that it lives as long as its function.
        return lambda model=model: segment(images=tf.constant(array))["probability"].numpy()

    def _graph(self, name: str) -> SegmentationGraph:
        if name not in self._graphs:
            recipe = load_recipe(name)
            self._graphs[name] = SegmentationGraph(build_model(recipe, 2), recipe)
        return self._graphs[name]


if __name__ == "__main__":
    serve(Ours(Path(sys.argv[1])))
