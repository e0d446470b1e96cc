"""Image in, probability out, as TensorFlow functions: the one graph that prediction runs and the export holds."""

import tensorflow as tf
import tf_keras as keras

from ustoolkit.data.resize import to_network, to_original
from ustoolkit.recipe import Recipe
from ustoolkit.recipe.settings import InferenceSettings

_ANY_IMAGES = tf.TensorSpec([None, None, None, None], tf.uint8, name="images")


class SegmentationGraph(tf.Module):
    """A network with its resizing, normalisation, sigmoid or softmax, and threshold around it.

    Args:
        model: from raw pixel values (batch, *image_size, channels) to logits.
        recipe: its `data` and `inference` tables.
        inference: what a run was tuned to, in place of the recipe's; None for the recipe's.
    """

    def __init__(self, model: keras.Model, recipe: Recipe, inference: InferenceSettings | None = None) -> None:
        super().__init__(name="segmentation")
        self.model = model
        self._data = recipe.data
        self._threshold = (inference or recipe.inference).threshold

    @tf.function(input_signature=[_ANY_IMAGES])
    def prepare(self, images: tf.Tensor) -> tf.Tensor:
        """uint8 (batch, height, width, 1 or 3), any size, to the network's input."""
        return to_network(images, self._data)

    @tf.function
    def network(self, inputs: tf.Tensor) -> tf.Tensor:
        """The network's input to float32 probabilities (batch, *image_size, classes; 1 for two classes)."""
        logits = self.model(inputs, training=False)
        return tf.sigmoid(logits) if logits.shape[-1] == 1 else tf.nn.softmax(logits)

    @tf.function(reduce_retracing=True)
    def restore(self, probability: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
        """The network's probabilities to those of an image of int32 `size` (height, width)."""
        return to_original(probability, size, self._data)

    @tf.function(input_signature=[_ANY_IMAGES])
    def segment(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        """Segments images of one size.

        Args:
            images: uint8 (batch, height, width, 1 or 3).
        Returns:
            'probability': float32 (batch, height, width, classes; 1, the lesion's, for two classes);
            'mask': uint8 (batch, height, width), class indices.
        """
        probability = self.restore(self.network(self.prepare(images)), tf.shape(images)[1:3])
        return {"probability": probability, "mask": self._mask(probability)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
    def segment_bytes(self, image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        """Segments encoded images, which may differ in size.

        Args:
            image_bytes: strings (batch,), each a PNG or JPEG file's content.
        Returns:
            as `segment`, every image at its own size in the upper left of the largest one's; and 'size': int32
            (batch, 2), the height and width of each.
        """

        def decode(content: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            image = tf.io.decode_image(content, channels=3, expand_animations=False)
            image = tf.ensure_shape(image, [None, None, 3])
            return self.prepare(image[tf.newaxis])[0], tf.shape(image)[:2]

        shape = (*self._data.image_size, self._data.channels)
        signature = (tf.TensorSpec(shape, tf.float32), tf.TensorSpec([2], tf.int32))
        inputs, sizes = tf.map_fn(decode, image_bytes, fn_output_signature=signature)
        largest = tf.reduce_max(sizes, axis=0)

        def restore(item: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
            restored = self.restore(item[0][tf.newaxis], item[1])[0]
            padding = largest - item[1]
            return tf.pad(restored, [[0, padding[0]], [0, padding[1]], [0, 0]])

        outputs = self.network(inputs)
        spec = tf.TensorSpec([None, None, outputs.shape[-1]], tf.float32)
        probability = tf.map_fn(restore, (outputs, sizes), fn_output_signature=spec)
        return {"probability": probability, "mask": self._mask(probability), "size": sizes}

    def _mask(self, probability: tf.Tensor) -> tf.Tensor:
        if probability.shape[-1] == 1:
            return tf.cast(probability[..., 0] >= self._threshold, tf.uint8)
        return tf.cast(tf.argmax(probability, -1), tf.uint8)
