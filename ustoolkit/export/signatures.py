"""The ways to call an export: pixels, image files or TensorFlow records in; masks as arrays or as PNG out."""

import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from ustoolkit.inference.diagnosis_graph import DiagnosisGraph
from ustoolkit.inference.graph import ANY_IMAGES, ANY_SPACING, SegmentationGraph

_FILES = tf.TensorSpec([None], tf.string, name="image_bytes")
_EXAMPLES = tf.TensorSpec([None], tf.string, name="examples")
_Outputs = dict[str, tf.Tensor]
_MAPS = ("probability", "logits", "mask")
_KEYS = {
    "image/encoded": tf.io.FixedLenFeature([], tf.string),
    "image/spacing_mm": tf.io.VarLenFeature(tf.float32),
}


class ExportedGraph(tf.Module):
    """A segmenter, or one with a classifier, with the signatures that an export has.

    `serving_default` takes `images`; `with_spacing` takes `images` and `spacing_mm`, and measures in mm too;
    `image_bytes` takes image files; `tf_example` takes records as `ustoolkit records` writes them, and their spacing;
    `compact` takes image files and spacings, and answers with PNG files, far fewer bytes than maps.

    Args:
        graph: what is exported.
    """

    def __init__(self, graph: SegmentationGraph | DiagnosisGraph) -> None:
        super().__init__(name="export")
        self.graph = graph

    @functools.cached_property
    def signatures(self) -> dict[str, tf.types.experimental.ConcreteFunction]:
        """By name, traced."""
        functions = {
            "serving_default": self.of_images,
            "with_spacing": self.of_images_with_spacing,
            "image_bytes": self.of_files,
            "tf_example": self.of_examples,
            "compact": self.compactly,
        }
        return {name: function.get_concrete_function() for name, function in functions.items()}

    @tf.function(input_signature=[ANY_IMAGES])
    def of_images(self, images: tf.Tensor) -> _Outputs:
        """Images of one size; see the graph's `finish`."""
        return self.graph.finish(images, self.graph.network(self.graph.prepare(images)))

    @tf.function(input_signature=[ANY_IMAGES, ANY_SPACING])
    def of_images_with_spacing(self, images: tf.Tensor, spacing_mm: tf.Tensor) -> _Outputs:
        """Images of one size with the distance of their rows and columns, 0 where it is not known."""
        return self.graph.finish(images, self.graph.network(self.graph.prepare(images)), spacing_mm)

    @tf.function(input_signature=[_FILES])
    def of_files(self, image_bytes: tf.Tensor) -> _Outputs:
        """PNG or JPEG files, whose images may differ in size.

        Returns:
            as `of_images`, each image at its own size in the upper left of the largest one's, 0 beside it; and 'size',
            int32 (batch, 2), the height and width of each.
        """
        return self._of_files(image_bytes, None)

    @tf.function(input_signature=[_EXAMPLES])
    def of_examples(self, examples: tf.Tensor) -> _Outputs:
        """Serialised `tf.train.Example`s with 'image/encoded' and, where known, 'image/spacing_mm'; as `of_files`."""
        parsed = tf.io.parse_example(examples, _KEYS)
        spacing = tf.sparse.to_dense(tf.sparse.reset_shape(parsed["image/spacing_mm"], [tf.shape(examples)[0], 2]))
        return self._of_files(parsed["image/encoded"], spacing)

    @tf.function(input_signature=[_FILES, ANY_SPACING])
    def compactly(self, image_bytes: tf.Tensor, spacing_mm: tf.Tensor) -> _Outputs:
        """PNG or JPEG files to PNG files.

        Returns:
            the graph's outputs but for the maps, and 'size'; in place of the maps 'mask_bytes', strings (batch,), PNG
            of the image's size, 0 and 255, or the class indices of three classes or more; and of two classes
            'probability_bytes', the lesion's from 0 to 255.
        """

        def compressed(
            content: tf.Tensor, size: tf.Tensor, outputs: tuple[tf.Tensor, ...], spacing: tf.Tensor
        ) -> _Outputs:
            found = self._finished(content, size, outputs, spacing)
            mask, probability = found.pop("mask"), found.pop("probability")
            del found["logits"]
            two = self.graph.outputs == 1
            found["mask_bytes"] = tf.io.encode_png((mask * 255 if two else mask)[..., tf.newaxis])
            if two:
                found["probability_bytes"] = tf.io.encode_png(tf.cast(tf.round(probability * 255), tf.uint8))
            return found

        inputs, sizes = self._decoded(image_bytes)
        specs = {name: spec for name, spec in self._specs(True).items() if name not in _MAPS}
        specs["mask_bytes"] = tf.TensorSpec([], tf.string)
        if self.graph.outputs == 1:
            specs["probability_bytes"] = tf.TensorSpec([], tf.string)
        return {**self._each(compressed, image_bytes, inputs, sizes, spacing_mm, specs), "size": sizes}

    def _of_files(self, image_bytes: tf.Tensor, spacing_mm: tf.Tensor | None) -> _Outputs:
        inputs, sizes = self._decoded(image_bytes)
        largest = tf.reduce_max(sizes, axis=0)

        def padded(content: tf.Tensor, size: tf.Tensor, outputs: tuple[tf.Tensor, ...], spacing: tf.Tensor) -> _Outputs:
            found = self._finished(content, size, outputs, None if spacing_mm is None else spacing)
            for name in _MAPS:
                missing = largest - tf.shape(found[name])[:2]
                beside = [[0, missing[0]], [0, missing[1]], *[[0, 0]] * (len(found[name].shape) - 2)]
                found[name] = tf.pad(found[name], beside)
            return found

        spacing = tf.zeros([tf.shape(sizes)[0], 2]) if spacing_mm is None else spacing_mm
        specs = self._specs(spacing_mm is not None)
        return {**self._each(padded, image_bytes, inputs, sizes, spacing, specs), "size": sizes}

    def _decoded(self, image_bytes: tf.Tensor) -> tuple[tuple[tf.Tensor, ...], tf.Tensor]:
        """Network inputs, and int32 (batch, 2) sizes."""

        def decoded(content: tf.Tensor) -> tuple[tuple[tf.Tensor, ...], tf.Tensor]:
            image = _image_of(content)
            return tuple(each[0] for each in self.graph.prepare(image[tf.newaxis])), tf.shape(image)[:2]

        specs = tuple(tf.TensorSpec((*data.image_size, data.channels), tf.float32) for data in self.graph.inputs)
        return tf.map_fn(decoded, image_bytes, fn_output_signature=(specs, tf.TensorSpec([2], tf.int32)))

    def _each(
        self,
        finish: Callable[..., _Outputs],
        image_bytes: tf.Tensor,
        inputs: tuple[tf.Tensor, ...],
        sizes: tf.Tensor,
        spacing: tf.Tensor,
        specs: dict[str, tf.TensorSpec],
    ) -> _Outputs:
        """The network on all images together, then what differs in size one by one."""
        items = (image_bytes, sizes, self.graph.network(inputs), spacing)
        return tf.map_fn(lambda item: finish(*item), items, fn_output_signature=specs)

    def _finished(
        self, content: tf.Tensor, size: tf.Tensor, outputs: tuple[tf.Tensor, ...], spacing: tf.Tensor | None
    ) -> _Outputs:
        """The graph's outputs of one image, without the axis of the batch."""
        if isinstance(self.graph, DiagnosisGraph):
            # Decoded once more for the classifier: images of different sizes cannot be kept as one batch.
            images = _image_of(content)[tf.newaxis]
        else:
            images = tf.zeros([1, size[0], size[1], 1], tf.uint8)  # only their size is looked at
        batched = tuple(output[tf.newaxis] for output in outputs)
        found = self.graph.finish(images, batched, None if spacing is None else spacing[tf.newaxis])
        return {name: output[0] for name, output in found.items()}

    def _specs(self, in_mm: bool) -> dict[str, tf.TensorSpec]:
        """Of the graph's outputs for one image."""
        traced = (self.of_images_with_spacing if in_mm else self.of_images).get_concrete_function()
        return {
            name: tf.TensorSpec(output.shape[1:], output.dtype) for name, output in traced.structured_outputs.items()
        }


def _image_of(content: tf.Tensor) -> tf.Tensor:
    image = tf.io.decode_image(content, channels=3, expand_animations=False)
    return tf.ensure_shape(image, [None, None, 3])


def describe_signatures(module: ExportedGraph) -> dict[str, Any]:
    """What every signature takes and gives, for people and programs to read.

    Returns:
        by name: 'inputs' and 'outputs', by name again: 'dtype', 'shape' (null for any size) and 'meaning'.
    """
    described = {}
    for name, function in module.signatures.items():
        inputs = {spec.name: spec for spec in function.structured_input_signature[0]}
        described[name] = {
            "inputs": {key: _described(key, spec) for key, spec in inputs.items()},
            "outputs": {key: _described(key, spec) for key, spec in sorted(function.structured_outputs.items())},
        }
    return described


def _described(name: str, spec: tf.TensorSpec) -> dict[str, Any]:
    shape = [None, *spec.shape.as_list()[1:]]
    return {"dtype": spec.dtype.name, "shape": shape, "meaning": MEANINGS[name]}


MEANINGS = {
    "images": "images of one size, (batch, height, width, 1 or 3), grey or RGB, 0 to 255",
    "image_bytes": "PNG or JPEG files of 8 bit; a JPEG's EXIF orientation is not applied",
    "examples": "serialised tf.train.Example, with image/encoded and, where known, image/spacing_mm",
    "spacing_mm": "distance of rows and of columns in mm, 0 where it is not known",
    "probability": "of the lesion at each pixel, or of each class, 0 to 1",
    "logits": "log-odds of the probability; its logarithm for three classes or more",
    "mask": "class of each pixel, 0 for background, cleaned as 'inference' says",
    "mask_bytes": "the mask as PNG: 0 and 255, or class indices for three classes or more",
    "probability_bytes": "the lesion's probability as PNG, 0 to 255",
    "area_pixels": "pixels of the lesion, or of each class but the background",
    "area_mm2": "area in mm², NaN where the spacing is not known",
    "size": "height and width of each image, pixels; what lies beyond in the maps is padding",
    "lesion_found": "whether there is a lesion; without one, what is said of it is NaN or empty",
    "label_probability": "of each label, calibrated, the positive one last",
    "decision": "name of the label decided on",
    "long_diameter_pixels": "largest distance between two points of the outline",
    "short_diameter_pixels": "longest chord at right angles to the long diameter",
    "long_diameter_mm": "the long diameter in mm, NaN where the spacing is not known",
    "short_diameter_mm": "the short diameter in mm, NaN where the spacing is not known",
}
