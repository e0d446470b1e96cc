"""Images in, masks out, as TensorFlow functions: the one graph that prediction runs and the export holds."""

from collections.abc import Sequence
from dataclasses import dataclass

import tensorflow as tf
import tf_keras as keras

from ustoolkit.data.resize import to_network, to_original
from ustoolkit.errors import RunError
from ustoolkit.inference.region_graph import clean_mask
from ustoolkit.models.load import load_model
from ustoolkit.recipe.settings import DataSettings, InferenceSettings
from ustoolkit.run import Run

ANY_IMAGES = tf.TensorSpec([None, None, None, None], tf.uint8, name="images")
ANY_SPACING = tf.TensorSpec([None, 2], tf.float32, name="spacing_mm")
_NEAREST_TO_CERTAIN = 1e-7  # of float32; a probability of 1 would have endless log-odds
_FLIPS = {"off": ((),), "horizontal": ((), (2,)), "both": ((), (2,), (1,), (1, 2))}


@dataclass(frozen=True, eq=False)
class Member:
    """One network of an ensemble.

    Attributes:
        model: from raw pixel values (batch, *data.image_size, data.channels) to logits.
        data: what its input is.
    """

    model: keras.Model
    data: DataSettings


class SegmentationGraph(tf.Module):
    """Networks with resizing, normalisation, sigmoid or softmax, threshold and cleaning of masks around them.

    Three steps, so that a caller may join images of different sizes in between: `prepare`, `network`, `finish`. The
    probabilities of several networks are averaged, and with `inference.flips` those of mirrored images.

    Attributes:
        members: one or more, of the same classes.
        inference: the flips, the threshold and what is done to masks, but for the CRF.
    """

    def __init__(self, members: Sequence[Member], inference: InferenceSettings) -> None:
        super().__init__(name="segmentation")
        self.members, self.inference = list(members), inference
        self.models = [member.model for member in members]
        self.inputs = list(dict.fromkeys(member.data for member in members))

    @property
    def outputs(self) -> int:
        """Probabilities a pixel: 1, the lesion's, for two classes, else one a class."""
        return self.models[0].output_shape[-1]

    @tf.function(input_signature=[ANY_IMAGES])
    def prepare(self, images: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """uint8 (batch, height, width, 1 or 3), any size, to one input for each different one that members take."""
        return tuple(to_network(images, data) for data in self.inputs)

    @tf.function
    def network(self, inputs: tuple[tf.Tensor, ...]) -> tuple[tf.Tensor, ...]:
        """What `prepare` made to float32 probabilities (batch, *image_size, classes; 1 for two classes).

        With several inputs each output is its members' share of the mean: what `restore` makes of them adds up to it.
        """
        outputs = []
        for data, pixels in zip(self.inputs, inputs, strict=True):
            own = [self._probability(member.model, pixels) for member in self.members if member.data == data]
            outputs.append(tf.add_n(own) / len(self.members))
        return tuple(outputs)

    @tf.function(reduce_retracing=True)
    def restore(self, outputs: tuple[tf.Tensor, ...], size: tf.Tensor) -> tf.Tensor:
        """What `network` made to the probability of images of int32 `size` (height, width)."""
        pairs = zip(outputs, self.inputs, strict=True)
        return tf.add_n([to_original(output, size, data) for output, data in pairs])

    def finish(
        self, images: tf.Tensor, outputs: tuple[tf.Tensor, ...], spacing_mm: tf.Tensor | None = None
    ) -> dict[str, tf.Tensor]:
        """What `network` made to masks and sizes, at the images' own size.

        Args:
            images: uint8 (batch, height, width, 1 or 3).
            outputs: of these images.
            spacing_mm: float32 (batch, 2), distance of rows and of columns; 0 where it is not known. None: no
                millimetres are asked for.
        Returns:
            'probability': float32 (batch, height, width, classes; 1, the lesion's, for two classes);
            'logits': of the same shape, its log-odds, or for three classes or more its logarithm;
            'mask': uint8 (batch, height, width), class indices, after the threshold and the settings of masks;
            'area_pixels': float32 (batch,), of the lesion, or (batch, classes - 1), of each class but the background;
            'area_mm2': the same in mm², NaN where the spacing is not known; only where it is asked for.
        """
        probability = self.restore(outputs, tf.shape(images)[1:3])
        mask = tf.map_fn(self._cleaned, self._decided(probability))
        area = tf.stack(
            [tf.math.count_nonzero(mask == index, axis=(1, 2), dtype=tf.int32) for index in range(1, self._classes)], -1
        )
        area = tf.cast(area[:, 0] if self._classes == 2 else area, tf.float32)
        found = {"probability": probability, "logits": self._logits(probability), "mask": mask, "area_pixels": area}
        if spacing_mm is not None:
            pixel = tf.reshape(area_of_pixel(spacing_mm), [-1, *[1] * (len(area.shape) - 1)])
            found["area_mm2"] = area * pixel
        return found

    @tf.function(input_signature=[ANY_IMAGES])
    def segment(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        """Segments images of one size, uint8 (batch, height, width, 1 or 3); see `finish` for what comes out."""
        return self.finish(images, self.network(self.prepare(images)))

    @property
    def _classes(self) -> int:
        return max(2, self.outputs)

    def _probability(self, model: keras.Model, pixels: tf.Tensor) -> tf.Tensor:
        found = []
        for axes in _FLIPS[self.inference.flips]:
            logits = model(tf.reverse(pixels, axes) if axes else pixels, training=False)
            probability = tf.sigmoid(logits) if logits.shape[-1] == 1 else tf.nn.softmax(logits)
            found.append(tf.reverse(probability, axes) if axes else probability)
        return found[0] if len(found) == 1 else tf.add_n(found) / len(found)

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.uint8)])
    def _cleaned(self, mask: tf.Tensor) -> tf.Tensor:
        return clean_mask(mask, self.inference, self._classes)

    def _decided(self, probability: tf.Tensor) -> tf.Tensor:
        if self.outputs == 1:
            return tf.cast(probability[..., 0] >= self.inference.threshold, tf.uint8)
        return tf.cast(tf.argmax(probability, -1), tf.uint8)

    def _logits(self, probability: tf.Tensor) -> tf.Tensor:
        possible = tf.clip_by_value(probability, _NEAREST_TO_CERTAIN, 1 - _NEAREST_TO_CERTAIN)
        return tf.math.log(possible) - (tf.math.log1p(-possible) if self.outputs == 1 else 0.0)


def area_of_pixel(spacing_mm: tf.Tensor) -> tf.Tensor:
    """float32 (batch, 2), 0 where it is not known, to mm² (batch,), NaN there."""
    known = tf.reduce_all(spacing_mm > 0, axis=-1)
    return tf.where(known, tf.reduce_prod(spacing_mm, axis=-1), float("nan"))


def segmentation_graph(runs: Sequence[Run], inference: InferenceSettings | None = None) -> SegmentationGraph:
    """The graph of one run, or of several as one ensemble.

    Args:
        runs: that segment the same classes, at least one.
        inference: from probabilities to masks; None for what the first run says.
    Raises:
        RunError: a run classifies, has no weights, is damaged, or has other classes than the first.
    """
    for run in runs:
        if run.recipe.classifies:
            raise RunError(
                f"{run.folder}: expected a run that segments, found one that classifies. To classify images name it in "
                "'ustoolkit diagnose IMAGES --segmenter RUN --classifier RUN'."
            )
        if run.classes != runs[0].classes:
            raise RunError(
                f"{run.folder}: expected the classes {', '.join(runs[0].classes)} as in {runs[0].folder}, found "
                f"{', '.join(run.classes)}. Name runs of one data set."
            )
    settings = runs[0].inference if inference is None else inference
    return SegmentationGraph([Member(load_model(run), run.recipe.data) for run in runs], settings)
