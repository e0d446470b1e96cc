"""Image in, diagnosis out, as one TensorFlow function: what `ustoolkit.inference.diagnosis` does, for an export."""

import math

import tensorflow as tf
import tf_keras as keras

from ustoolkit.data.region_inputs import network_input, region_to_network
from ustoolkit.evaluation.probabilities import SMALLEST_PROBABILITY
from ustoolkit.inference.classifier import Decision
from ustoolkit.inference.graph import SegmentationGraph
from ustoolkit.inference.region_graph import clean_lesion, measure_lesion
from ustoolkit.recipe import Recipe
from ustoolkit.recipe.settings import InferenceSettings

_ONE_IMAGE = tf.TensorSpec([1, None, None, None], tf.uint8, name="images")
NOT_DECIDED = -1


class DiagnosisGraph(tf.Module):
    """A segmenter and a classifier that looks at the lesion which it finds.

    Args:
        segmentation: of two classes.
        inference: what is done to the segmenter's masks; the CRF is left out.
        model: from raw pixel values (batch, *image_size, channels, the mask's too) to logits (batch, 1 or labels).
        recipe: of the classifier.
        decision: its temperature and threshold.
    """

    def __init__(
        self,
        segmentation: SegmentationGraph,
        inference: InferenceSettings,
        model: keras.Model,
        recipe: Recipe,
        decision: Decision,
    ) -> None:
        super().__init__(name="diagnosis")
        self.segmentation, self.model = segmentation, model
        self._inference, self._decision = inference, decision
        self._data, self._region = recipe.data, recipe.classification.region
        self._labels = max(2, model.output_shape[-1])

    @tf.function(input_signature=[_ONE_IMAGE])
    def diagnose(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        """Diagnoses one image.

        Args:
            images: uint8 (1, height, width, 1 or 3), any size.
        Returns:
            'mask': uint8 (1, height, width), 1 for the lesion, the largest region that was found;
            'lesion_probability': float32 (1, height, width), of each pixel, by the segmenter;
            'lesion_found': bool (1,); without a lesion what follows is NaN, -1 or 0;
            'probability': float32 (1, labels), calibrated, the positive label last;
            'decision': int32 (1,), index of the label;
            'long_diameter', 'short_diameter': float32 (1,), pixels;
            'area': int32 (1,), pixels.
        """
        segmented = self.segmentation.segment(images)
        lesion = clean_lesion(segmented["mask"][0] > 0, self._inference)
        found = tf.reduce_any(lesion)
        probability, long, short = tf.cond(
            found,
            lambda: (self._probability(images[0], lesion), *measure_lesion(lesion)),
            lambda: (tf.fill([self._labels], math.nan), tf.constant(math.nan), tf.constant(math.nan)),
        )
        probability = tf.ensure_shape(probability, [self._labels])
        outputs = {
            "mask": tf.cast(lesion, tf.uint8),
            "lesion_probability": segmented["probability"][0, ..., 0],
            "lesion_found": found,
            "probability": probability,
            "decision": tf.where(found, self._decided(probability), NOT_DECIDED),
            "long_diameter": long,
            "short_diameter": short,
            "area": tf.math.count_nonzero(lesion, dtype=tf.int32),
        }
        return {name: output[tf.newaxis] for name, output in outputs.items()}

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
        if self._labels == 2:
            return tf.cast(probability[-1] >= self._decision.threshold, tf.int32)
        return tf.argmax(probability, output_type=tf.int32)
