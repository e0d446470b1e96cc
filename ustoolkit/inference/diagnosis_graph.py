"""Image in, diagnosis out, as one TensorFlow function: what `ustoolkit.inference.diagnosis` does, for an export."""

import math
from collections.abc import Sequence

import tensorflow as tf
import tf_keras as keras

from ustoolkit.data.region_inputs import network_input, region_to_network
from ustoolkit.evaluation.probabilities import SMALLEST_PROBABILITY
from ustoolkit.inference.classifier import Decision
from ustoolkit.inference.graph import ANY_IMAGES, SegmentationGraph, area_of_pixel
from ustoolkit.inference.region_graph import clean_lesion, measure_lesion
from ustoolkit.recipe import Recipe

NO_LESION = ""
_ONE_LESION = [
    tf.TensorSpec([None, None, None], tf.uint8),
    tf.TensorSpec([None, None], tf.uint8),
    tf.TensorSpec([2], tf.float32),
]


class DiagnosisGraph(tf.Module):
    """A segmenter and a classifier that looks at the lesion which it finds, in the steps of `SegmentationGraph`.

    Args:
        segmentation: of two classes.
        model: from raw pixel values (batch, *image_size, channels, the mask's too) to logits (batch, 1 or labels).
        recipe: of the classifier.
        decision: its temperature and threshold.
        labels: their names, the positive one last.
    """

    def __init__(
        self,
        segmentation: SegmentationGraph,
        model: keras.Model,
        recipe: Recipe,
        decision: Decision,
        labels: Sequence[str],
    ) -> None:
        super().__init__(name="diagnosis")
        self.segmentation, self.model = segmentation, model
        self.inference, self.inputs = segmentation.inference, segmentation.inputs
        self._decision, self._labels = decision, list(labels)
        self._data, self._region = recipe.data, recipe.classification.region

    @property
    def outputs(self) -> int:
        """Probabilities a pixel, 1 for the lesion's."""
        return self.segmentation.outputs

    @tf.function(input_signature=[ANY_IMAGES])
    def prepare(self, images: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """See `SegmentationGraph.prepare`."""
        return self.segmentation.prepare(images)

    @tf.function
    def network(self, inputs: tuple[tf.Tensor, ...]) -> tuple[tf.Tensor, ...]:
        """See `SegmentationGraph.network`."""
        return self.segmentation.network(inputs)

    def finish(
        self, images: tf.Tensor, outputs: tuple[tf.Tensor, ...], spacing_mm: tf.Tensor | None = None
    ) -> dict[str, tf.Tensor]:
        """What the segmenter's network made of images to diagnoses.

        Args:
            images: uint8 (batch, height, width, 1 or 3).
            outputs: of these images.
            spacing_mm: float32 (batch, 2), distance of rows and of columns; 0 where it is not known. None: no
                millimetres are asked for.
        Returns:
            what `SegmentationGraph.finish` gives, the mask being the largest region that was found, 1; and
            'lesion_found': bool (batch,); without a lesion what follows is NaN or '';
            'label_probability': float32 (batch, labels), calibrated, the positive label last;
            'decision': string (batch,), name of the label;
            'long_diameter_pixels', 'short_diameter_pixels': float32 (batch,); 'long_diameter_mm' and
            'short_diameter_mm' where millimetres are asked for, NaN where the spacing is not known.
        """
        segmented = self.segmentation.finish(images, outputs, spacing_mm)
        spacing = tf.zeros([tf.shape(images)[0], 2]) if spacing_mm is None else spacing_mm
        numbers = tf.TensorSpec([], tf.float32)
        spec = {
            "mask": tf.TensorSpec([None, None], tf.uint8),
            "lesion_found": tf.TensorSpec([], tf.bool),
            "label_probability": tf.TensorSpec([len(self._labels)], tf.float32),
            "decision": tf.TensorSpec([], tf.string),
            "area_pixels": numbers,
            **{f"{name}_diameter_{unit}": numbers for name in ("long", "short") for unit in ("pixels", "mm")},
        }
        items = (images, segmented["mask"], spacing)
        diagnosed = tf.map_fn(lambda item: self._diagnosed(*item), items, fn_output_signature=spec)
        if spacing_mm is None:
            diagnosed = {name: output for name, output in diagnosed.items() if not name.endswith("_mm")}
        else:
            diagnosed["area_mm2"] = diagnosed["area_pixels"] * area_of_pixel(spacing_mm)
        return {**segmented, **diagnosed}

    @tf.function(input_signature=[ANY_IMAGES])
    def diagnose(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        """Diagnoses images of one size, uint8 (batch, height, width, 1 or 3); see `finish` for what comes out."""
        return self.finish(images, self.network(self.prepare(images)))

    @tf.function(input_signature=_ONE_LESION)
    def _diagnosed(self, image: tf.Tensor, mask: tf.Tensor, spacing: tf.Tensor) -> dict[str, tf.Tensor]:
        lesion = clean_lesion(mask > 0, self.inference)
        nothing = tf.constant(math.nan)

        def judged() -> tuple[tf.Tensor, ...]:
            probability = self._probability(image, lesion)
            in_mm = tf.cond(
                tf.reduce_all(spacing > 0), lambda: measure_lesion(lesion, spacing), lambda: (nothing, nothing)
            )
            return (probability, self._decided(probability), *measure_lesion(lesion), *in_mm)

        def unknown() -> tuple[tf.Tensor, ...]:
            return (tf.fill([len(self._labels)], math.nan), tf.constant(NO_LESION), *[nothing] * 4)

        found = tf.reduce_any(lesion)
        probability, decision, long, short, long_mm, short_mm = tf.cond(found, judged, unknown)
        return {
            "mask": tf.cast(lesion, tf.uint8),
            "lesion_found": found,
            "label_probability": tf.ensure_shape(probability, [len(self._labels)]),
            "decision": decision,
            "area_pixels": tf.cast(tf.math.count_nonzero(lesion, dtype=tf.int32), tf.float32),
            "long_diameter_pixels": long,
            "short_diameter_pixels": short,
            "long_diameter_mm": long_mm,
            "short_diameter_mm": short_mm,
        }

    def _probability(self, image: tf.Tensor, lesion: tf.Tensor) -> tf.Tensor:
        pixels, inside = region_to_network(image, tf.cast(lesion, tf.uint8), self._data, self._region)
        # Regions are kept as whole grey levels in training, and so they are seen here.
        inputs = network_input(tf.round(pixels), inside, self._region)
        logits = self.model(inputs[tf.newaxis], training=False)[0]
        if logits.shape[-1] == 1:
            logits = tf.concat([tf.zeros_like(logits), logits], 0)
        logarithms = tf.maximum(tf.nn.log_softmax(logits), math.log(SMALLEST_PROBABILITY))
        return tf.nn.softmax(logarithms / self._decision.temperature)

    def _decided(self, probability: tf.Tensor) -> tf.Tensor:
        if len(self._labels) == 2:
            index = tf.cast(probability[-1] >= self._decision.threshold, tf.int32)
        else:
            index = tf.argmax(probability, output_type=tf.int32)
        return tf.gather(tf.constant(self._labels), index)
