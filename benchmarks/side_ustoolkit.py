"""Our side beside PyTorch: the toolkit's own pipeline, compiled training step, graph and export.

A network is named by a recipe and settings: 'lighter_unet_128 model.group_size=8'.
"""

import os
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
from side_protocol import flags_and_settings, serve

from ustoolkit.data.pipeline import Batches
from ustoolkit.data.records import Records
from ustoolkit.data.resize import mask_to_network
from ustoolkit.export.formats import FORMATS
from ustoolkit.export.litert import LiteRtWriter
from ustoolkit.export.onnx_file import OnnxWriter
from ustoolkit.export.saved_model import write_saved_model
from ustoolkit.export.signatures import ExportedGraph
from ustoolkit.inference.graph import Member, SegmentationGraph
from ustoolkit.models import build_model
from ustoolkit.models.cost import multiply_adds
from ustoolkit.recipe import load_recipe
from ustoolkit.training.losses import weighted_sum
from ustoolkit.training.start import start_run
from ustoolkit.training.strategy import make_strategy
from ustoolkit.training.trainer import Training

import tensorflow as tf  # isort: skip; the package chooses the Keras first

tf.get_logger().setLevel("ERROR")  # each network has graphs of its own, which TensorFlow takes for needless retracing
WRITERS = {
    "litert-float32": LiteRtWriter("float32"),
    "litert-float16": LiteRtWriter("float16"),
    "litert-int8": LiteRtWriter("int8"),
    "onnx": OnnxWriter(),
}
SAME_LOSS = "loss.terms={ dice = 1.0, cross_entropy = 1.0 }"


class Ours:
    """The tasks, done by the toolkit."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._records = Records(folder / "records")
        self._graphs: dict[str, SegmentationGraph] = {}
        self._runs = count()
        samples = list(self._records.read([row.source_id for row in self._records.index[:8]]))
        self._images = np.stack([sample.image for sample in samples])
        self._masks = [sample.mask for sample in samples]

    def hello(self) -> dict[str, Any]:
        """Version; TensorFlow takes one thread a core by itself."""
        return {"tensorflow": tf.__version__}

    def describe(self, subject: str) -> dict[str, Any]:
        """Leaves weights, images and probabilities of a network in a file for the other side to compare with."""
        if subject.startswith("export "):
            return self.export(subject.removeprefix("export "))
        graph = self._graph(subject)
        (name,), settings = flags_and_settings(subject)
        recipe_of_loss = load_recipe(name, [SAME_LOSS, *settings])
        few = recipe_of_loss.training.batch_size
        images = self._images[:few]
        masks = tf.stack([mask_to_network(mask, recipe_of_loss.data) for mask in self._masks[:few]])
        model = graph.models[0]
        learned = [layer for layer in model.layers if layer.trainable_weights]  # not dropout's random state
        weights = [array for layer in learned for array in layer.get_weights()]
        probability = graph.segment(tf.constant(images))["probability"].numpy()
        arrays = {f"weight_{i:03}": array for i, array in enumerate(weights)}
        arrays |= {"images": images, "masks": masks.numpy(), "probability": probability}
        np.savez(self._folder / f"{subject}.npz", **arrays)
        logits = model(graph.prepare(tf.constant(images))[0], training=False)
        loss = weighted_sum(recipe_of_loss.loss)(logits, masks)
        trainable = sum(int(np.prod(weight.shape)) for weight in model.trainable_variables)
        counted = multiply_adds(model)
        return {"weights": trainable, "loss": float(tf.reduce_mean(loss)), "multiply_adds": counted}

    def prepare(self, task: str) -> Callable[[], object]:
        """See `side_protocol.Framework`."""
        kind, *how = task.split()
        if kind == "pipeline":
            return self._pipeline("memory" if "cached" in how else "off")
        if kind == "train":
            return self._training_step(how)
        if kind in ("call", "predict", "saved", "compact"):
            return self._of_exports(kind, how[0], int(how[1]), int(how[2]))
        if kind == "convolution":
            return _convolution(*map(int, how[:3]), how[3])
        return self._inference(int(how[0]), "exported" in how)

    def _pipeline(self, cache: str) -> Callable[[], object]:
        recipe = load_recipe("fast", [f"data.cache={cache}"])
        batches = Batches(self._records, [row.source_id for row in self._records.index], recipe, training=True)
        epochs = count()
        return lambda: sum(len(images) for images, _ in batches.epoch(next(epochs)))

    def _training_step(self, how: list[str]) -> Callable[[], object]:
        recipe = load_recipe(how[0], [SAME_LOSS, *how[1:]])
        run = start_run(recipe, self._records, self._folder / f"run_{next(self._runs)}")
        training = Training(run, self._records, make_strategy("one"))
        batch = next(iter(training.task.training.epoch(0)))
        return lambda: float(training.step.train(batch))

    def _inference(self, images: int, exported: bool) -> Callable[[], object]:
        graph = self._graph("fast")
        array = self._images[:images]
        if not exported:
            return lambda: graph.segment(tf.constant(array))["probability"].numpy()
        folder = self._folder / f"exported_{images}"
        write_saved_model(ExportedGraph(graph), folder)
        model = tf.saved_model.load(str(folder))
        segment = model.signatures["serving_default"]
        # The model is named so that it lives as long as its function.
        return lambda model=model: segment(images=tf.constant(array))["probability"].numpy()

    def _of_exports(self, kind: str, subject: str, images: int, side: int) -> Callable[[], object]:
        """A network alone, called or by `predict` on its own input, or the whole of an export on images."""
        graph, array = self._graph(subject), self._images[:images, :side, :side]
        if kind == "saved":
            model = tf.saved_model.load(str(self._folder / subject / "1"))
            segment = model.signatures["serving_default"]
            return lambda model=model: segment(images=tf.constant(array))["probability"].numpy()
        (inputs,) = graph.prepare(tf.constant(array))
        if kind == "call":
            return lambda: graph.models[0](inputs, training=False).numpy()
        pixels = inputs.numpy()
        return lambda: graph.models[0].predict(pixels, batch_size=images, verbose=0)

    def export(self, subject: str) -> dict[str, int]:
        """Writes a network in every format into a folder of its name.

        Returns:
            bytes of each file.
        """
        graph, folder = self._graph(subject), self._folder / subject / "1"
        folder.mkdir(parents=True)
        metadata = {"classes": ["background", "lesion"], "inference": graph.inference.model_dump(mode="json")}
        write_saved_model(ExportedGraph(graph), folder)
        for form, writer in WRITERS.items():
            path = folder / FORMATS[form].file
            path.write_bytes(writer.pack(writer.convert(graph, calibration=lambda: iter(self._images)), metadata, ""))
        return {path.name: path.stat().st_size for path in folder.iterdir() if path.is_file()}

    def _graph(self, subject: str) -> SegmentationGraph:
        if subject not in self._graphs:
            (name,), settings = flags_and_settings(subject)
            recipe = load_recipe(name, ["inference.flips=off", *settings])  # the others do not mirror images
            self._graphs[subject] = SegmentationGraph([Member(build_model(recipe, 2), recipe.data)], recipe.inference)
        return self._graphs[subject]


def _convolution(images: int, side: int, channels: int, precision: str) -> Callable[[], object]:
    """A plain 3 × 3 convolution, forward only, with as many filters as channels."""
    inputs = tf.cast(tf.random.stateless_normal((images, side, side, channels), (0, 1)), precision)
    kernel = tf.cast(tf.random.stateless_normal((3, 3, channels, channels), (0, 2)), precision)
    convolve = tf.function(lambda pixels: tf.nn.conv2d(pixels, kernel, strides=1, padding="SAME"))
    return lambda: convolve(inputs)


if __name__ == "__main__":
    serve(Ours(Path(sys.argv[1])))
