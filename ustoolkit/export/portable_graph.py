"""The segmenter of basic operations only, for runtimes that lack TensorFlow's own resizing."""

from collections.abc import Sequence

import tensorflow as tf

from ustoolkit.inference.graph import Member, SegmentationGraph
from ustoolkit.recipe.settings import DataSettings, InferenceSettings


class PortableGraph(tf.Module):
    """What `SegmentationGraph` computes for one image, until its mask is cleaned.

    Images are resized by products with matrices of weights, which are computed from the image's size. No shape depends
    on a value: each follows from the shape of the image, so that a runtime can plan its memory once a size, and give
    the whole network to its fastest kernels.

    Attributes:
        channels: of the images, 1 or 3; what the members take, 3 where they differ.
        classes: how many, the background included.
        inference: the flips and the threshold.
    """

    def __init__(self, members: Sequence[Member], inference: InferenceSettings) -> None:
        super().__init__(name="portable_segmentation")
        self._graph = SegmentationGraph(members, inference)
        self.inference = inference
        self.channels = max(data.channels for data in self._graph.inputs)
        self.classes = max(2, self._graph.outputs)

    @property
    def images(self) -> tf.TensorSpec:
        """What `segment` takes: uint8 (1, height, width, channels)."""
        return tf.TensorSpec([1, None, None, self.channels], tf.uint8, name="images")

    @property
    def inputs(self) -> tuple[tf.TensorSpec, ...]:
        """What `network` takes: float32 (1, *image_size, channels), one for each different input that members take."""
        shapes = [(1, *data.image_size, data.channels) for data in self._graph.inputs]
        return tuple(tf.TensorSpec(shape, name=f"input_{number}") for number, shape in enumerate(shapes))

    def segment(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        """Segments one image.

        With `keep_aspect` the part of the network's input that the image takes is rounded in float32, not float64; of
        the sizes up to 2048 × 2048 some 60 in four million come out one pixel longer or shorter than elsewhere.

        Args:
            images: uint8 (1, height, width, channels), of any size.
        Returns:
            'probability': float32 (1, height, width, classes; 1, the lesion's, for two classes);
            'mask': uint8 (1, height, width), class indices, after the threshold only.
        """
        return self.finish(images, self.network(self.prepare(images)))

    def prepare(self, images: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """Images as in `segment` to what `inputs` says, 0 to 255."""
        pixels = tf.transpose(tf.cast(images, tf.float32), (0, 3, 1, 2))
        rows, columns = _positions(images)
        return tuple(_to_network(pixels, rows, columns, data) for data in self._graph.inputs)

    def network(self, inputs: tuple[tf.Tensor, ...]) -> tuple[tf.Tensor, ...]:
        """What `prepare` made to probabilities at the networks' own sizes; see `SegmentationGraph.network`."""
        return self._graph.network(inputs)

    def finish(self, images: tf.Tensor, outputs: tuple[tf.Tensor, ...]) -> dict[str, tf.Tensor]:
        """What `network` made to what `segment` returns."""
        rows, columns = _positions(images)
        pairs = zip(outputs, self._graph.inputs, strict=True)
        probability = tf.add_n([_to_original(output, rows, columns, data) for output, data in pairs])
        probability = tf.transpose(probability, (0, 2, 3, 1))
        if self.classes == 2:
            mask = tf.cast(probability[..., 0] >= self.inference.threshold, tf.uint8)
        else:
            mask = tf.cast(tf.argmax(probability, -1, output_type=tf.int32), tf.uint8)
        return {"probability": probability, "mask": mask}


def _positions(images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Centres of the rows and of the columns of (1, height, width, channels), in pixels: 0.5, 1.5, …

    Counted from the pixels themselves: a range up to a size has a length that is known only when it is computed.
    """
    return tuple(
        tf.cumsum(0.0 * tf.cast(line, tf.float32) + 1.0) - 0.5 for line in (images[0, :, 0, 0], images[0, 0, :, 0])
    )


def _to_network(pixels: tf.Tensor, rows: tf.Tensor, columns: tf.Tensor, data: DataSettings) -> tf.Tensor:
    """float32 (1, channels, height, width) as `ustoolkit.data.resize.to_network`."""
    if data.channels < pixels.shape[1]:
        pixels = tf.round(0.299 * pixels[:, :1] + 0.587 * pixels[:, 1:2] + 0.114 * pixels[:, 2:])
    height, width = data.image_size
    inner_height, inner_width = _inner_size(rows, columns, data)
    down = _shrinking(rows, height, inner_height)
    across = _shrinking(columns, width, inner_width)
    resized = tf.matmul(tf.matmul(down, pixels), across, transpose_b=True)
    resized = tf.clip_by_value(resized, 0.0, 255.0)
    return tf.reshape(tf.transpose(resized, (0, 2, 3, 1)), (1, height, width, data.channels))


def _to_original(output: tf.Tensor, rows: tf.Tensor, columns: tf.Tensor, data: DataSettings) -> tf.Tensor:
    """float32 (1, *image_size, classes) as `ustoolkit.data.resize.to_original`, but (1, classes, height, width)."""
    inner_height, inner_width = _inner_size(rows, columns, data)
    down = _between(rows, data.image_size[0], inner_height)
    across = _between(columns, data.image_size[1], inner_width)
    return tf.matmul(tf.matmul(down, tf.transpose(output, (0, 3, 1, 2))), across, transpose_b=True)


def _inner_size(rows: tf.Tensor, columns: tf.Tensor, data: DataSettings) -> tuple[tf.Tensor, tf.Tensor]:
    """Height and width that the image itself takes of the network's input, float32."""
    height, width = (tf.constant(float(side)) for side in data.image_size)
    if not data.keep_aspect:
        return height, width
    image_height, image_width = _length(rows), _length(columns)
    inner_height = tf.minimum(height, tf.round(width * image_height / image_width))
    inner_width = tf.minimum(width, tf.round(height * image_width / image_height))
    return tf.maximum(inner_height, 1.0), tf.maximum(inner_width, 1.0)


def _length(centres: tf.Tensor) -> tf.Tensor:
    return tf.reduce_max(centres) + 0.5


def _shrinking(centres: tf.Tensor, side: int, inner: tf.Tensor) -> tf.Tensor:
    """Weights (side, n) of n pixels in those of the network: bilinear, a triangle as wide as it takes against aliasing.

    Rows beyond `inner` are padding and hold 0.
    """
    own = tf.range(side, dtype=tf.float32)[:, tf.newaxis]  # whole numbers, which float16 holds up to 2048
    scale = 1.0 / (inner / _length(centres))
    distance = tf.abs(centres[tf.newaxis] - (own * scale + 0.5 * scale)) / tf.maximum(scale, 1.0)
    weights = tf.nn.relu(1.0 - distance)
    total = tf.reduce_sum(weights, axis=1, keepdims=True)
    return weights / tf.maximum(total, 1e-6) * tf.cast(own < inner, tf.float32)


def _between(centres: tf.Tensor, side: int, inner: tf.Tensor) -> tf.Tensor:
    """Weights (n, side) of the network's pixels in n of the image: bilinear, borders repeated."""
    own = tf.range(side, dtype=tf.float32)
    place = tf.clip_by_value(centres[:, tf.newaxis] * (inner / _length(centres)) - 0.5, 0.0, inner - 1.0)
    return tf.nn.relu(1.0 - tf.abs(own - place))
