"""A trained network as it is explained: with what feeds it, and which of its layers are looked at."""

import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import tensorflow as tf
import tf_keras as keras

from ustoolkit.data.labelled import cut_region
from ustoolkit.data.lesions import lesion_mask
from ustoolkit.data.region_inputs import network_input
from ustoolkit.data.resize import to_network
from ustoolkit.data.sample import Sample
from ustoolkit.errors import DataError, RunError
from ustoolkit.explain.network import check_layers, depths, kernel_layers, unfold
from ustoolkit.explain.receptive_field import ReceptiveField
from ustoolkit.models.classifiers import features_of
from ustoolkit.models.load import load_model
from ustoolkit.recipe.classifiers import LesionFeaturesSettings
from ustoolkit.run import Run

_SMALLEST_PICTURE = 48  # pixels; below that a picture shows little but its borders


class Subject:
    """The network of a run, with its best weights.

    Attributes:
        run: it.
        name: of the run's folder.
        model: its network, unfolded; of a run whose bottleneck features go to an estimator the part that gives these,
            since the layers behind it were never trained.
        decides: whether the network itself ends in what the run decides.
    """

    def __init__(self, run: Run) -> None:
        """Loads the network.

        Raises:
            RunError: the run has no network, or no weights yet.
        """
        if isinstance(run.recipe.model, LesionFeaturesSettings):
            raise RunError(
                f"{run.folder}: expected a run with a network, found one of measurements, which has no layers. Leave "
                "out --layers, and name images by --image, to see which of their parts count."
            )
        self.run, self.name = run, run.folder.resolve().name
        model = load_model(run)
        self.decides = not (run.recipe.classifies and run.recipe.classification.transfer.form == "bottleneck")
        # Unfolded once, since all that looks at layers needs it so.
        self.model: keras.Model = unfold(model if self.decides else features_of(model))

    def layers(self, asked: str = "all") -> list[str]:
        """The layers to look at, from the first to the deepest.

        Args:
            asked: 'all', for those with kernels; or names, joined by commas.
        Raises:
            RunError: there is no such layer; names those nearest.
        """
        if asked == "all":
            return kernel_layers(self.model)
        names = [name.strip() for name in asked.split(",") if name.strip()]
        if not names:
            raise RunError("--layers: expected 'all' or names of layers joined by commas, found none.")
        check_layers(self.model, names)
        return sorted(dict.fromkeys(names), key=depths(self.model).__getitem__)

    def inputs(self, sample: Sample, lesion: np.ndarray | None = None) -> np.ndarray:
        """One image as the network takes it.

        Args:
            sample: the image.
            lesion: uint8 (height, width), not 0 where the lesion is, for a network that classifies; None for what the
                sample knows.
        Returns:
            float32 (*image_size, channels), 0 to 255.
        Raises:
            DataError: the network looks at a lesion, and there is none.
        """
        recipe = self.run.recipe
        if not recipe.classifies:
            return to_network(tf.constant(sample.image[np.newaxis]), recipe.data)[0].numpy()
        region = recipe.classification.region
        known = lesion_mask(sample, region) if lesion is None else lesion
        pixels, shown = cut_region(sample, known, recipe)
        given = network_input(tf.constant(pixels, tf.float32), tf.constant(shown, tf.float32), region)
        return given.numpy()

    def inputs_of(
        self,
        samples: Iterable[Sample],
        most: int,
        lesion_of: Callable[[Sample], np.ndarray | None] = lambda sample: None,
    ) -> np.ndarray:
        """Several images as the network takes them, those without a lesion that it needs left out.

        Args:
            samples: as many as there are; read only as far as needed.
            most: how many at most.
            lesion_of: finds the lesion that a classifier looks at; None for what a sample knows.
        Returns:
            float32 (n, *image_size, channels).
        Raises:
            DataError: none is left.
        """
        found: list[np.ndarray] = []
        problem = "there are none"
        for sample in samples:
            try:
                found.append(self.inputs(sample, lesion_of(sample)))
            except DataError as refusal:
                problem = str(refusal)
            if len(found) == most:
                break
        if not found:
            raise DataError(f"{self.run.folder}: expected images to look at layers with, found none ({problem}).")
        return np.stack(found)


def check_alike(after: Subject, before: Subject, layers: Sequence[str]) -> None:
    """Refuses to compare networks that take other images, or whose layers differ in shape.

    Raises:
        RunError: says what differs.
    """
    if after.model.input_shape != before.model.input_shape:
        sides = [" × ".join(str(side) for side in each.model.input_shape[1:]) for each in (after, before)]
        raise RunError(
            f"{before.run.folder}: expected a network for images of {sides[0]} as in {after.run.folder}, found "
            f"{sides[1]}. Compare runs of one network."
        )
    theirs = {layer.name for layer in before.model.layers}
    for name in layers:
        if name not in theirs:
            raise RunError(
                f"{before.run.folder}: expected a layer '{name}' as in {after.run.folder}, found none of this name. "
                "Compare runs of one network."
            )
        shapes = [[tuple(weight.shape) for weight in each.model.get_layer(name).weights] for each in (after, before)]
        if shapes[0] != shapes[1]:
            raise RunError(
                f"{before.run.folder}, layer '{name}': expected weights of the shapes {shapes[0]} as in "
                f"{after.run.folder}, found {shapes[1]}. Compare runs of one network."
            )


def picture_size(model: keras.Model, layer: str, field: ReceptiveField) -> tuple[int, int]:
    """Height and width, pixels, of an image that is large enough to show what a unit of a layer sees.

    Args:
        model: the network, unfolded.
        layer: one of its layers.
        field: that layer's receptive field.
    Returns:
        three times the field, in multiples of the coarsest stride up to the layer; at most the network's own size.
    """
    cut = keras.Model(model.input, model.get_layer(layer).output)
    whole = cut.input_shape[1:3]
    shapes = [
        tensor.shape[1:3] for each in cut.layers for tensor in tf.nest.flatten(each.output) if tensor.shape.rank == 4
    ]
    sizes = []
    for axis, extent in enumerate((field.height, field.width)):
        coarsest = max(whole[axis] // shape[axis] for shape in shapes)
        wanted = max(_SMALLEST_PICTURE, 3 * extent)
        fits = whole[axis] if math.isinf(wanted) else coarsest * math.ceil(wanted / coarsest)
        sizes.append(min(whole[axis], fits))
    return tuple(sizes)
