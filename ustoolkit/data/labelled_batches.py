"""Labelled regions to batches by tf.data: shuffled, drawn evenly over labels where asked, augmented. Repeatable."""

import numpy as np
import tensorflow as tf

from ustoolkit.data.augment_processes import batch_augmenter, parallel_calls
from ustoolkit.data.dataset_options import BATCHES_AHEAD, repeatable
from ustoolkit.data.labelled import LabelledRegions
from ustoolkit.data.pipeline import waiting_threads
from ustoolkit.data.python_call import PythonCall
from ustoolkit.errors import RecipeError
from ustoolkit.recipe import Recipe
from ustoolkit.recipe.pixels import OFF


class LabelledBatches:
    """One part of a data set to classify, ready to iterate over in any epoch.

    Args:
        regions: what was made for training included.
        recipe: augmentation, sampling, batch size, seed.
        training: whether to shuffle, sample and augment, and leave out a last batch that is not full. A part that was
            expanded by copies is not augmented again.
    Raises:
        RecipeError: the recipe wants them from a service, or augmented by TensorFlow.
    """

    def __init__(self, regions: LabelledRegions, recipe: Recipe, training: bool) -> None:
        self._regions, self._recipe, self._training = regions, recipe, training
        self.count = len(regions.truth)
        self.batch_size = min(recipe.training.batch_size, self.count) if training else recipe.training.batch_size
        augmented = training and recipe.augmentation.enabled and not recipe.classification.balance.expand_to
        _check_possible(recipe, augmented)
        self._augmenter = (
            batch_augmenter(
                recipe.augmentation,
                recipe.training.seed,
                self.count * recipe.training.passes * recipe.training.epochs,
                self.batch_size * (regions.pixels[0].nbytes + regions.lesions[0].nbytes),
            )
            if augmented
            else None
        )
        self._load = PythonCall(self._loaded, [tf.uint8, tf.int64])

    @property
    def steps(self) -> int:
        """Batches an epoch."""
        return self.count // self.batch_size if self._training else -(-self.count // self.batch_size)

    def epoch(self, number: int) -> tf.data.Dataset:
        """The batches of one epoch, the same whenever it is asked for.

        Args:
            number: from 0; changes the order, what is drawn, and the augmentation.
        Returns:
            a dataset of (image, label): float32 (batch, height, width, channels), 0 to 255, and int64 (batch,).
        """
        order = self._order(number)
        shape, kept = self._regions.inputs_shape(self._recipe), self._training

        def load(places: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            images, truth = self._load(places, tf.constant(number, tf.int64))
            images = tf.ensure_shape(images, [self.batch_size if kept else None, *shape])
            return tf.cast(images, tf.float32), tf.ensure_shape(truth, images.shape[:1])

        dataset = tf.data.Dataset.from_tensor_slices(order).batch(self.batch_size, drop_remainder=self._training)
        calls = parallel_calls(self._augmenter)
        dataset = dataset.map(load, num_parallel_calls=calls).with_options(waiting_threads(calls))
        return dataset.prefetch(BATCHES_AHEAD).with_options(repeatable())

    @property
    def failure(self) -> Exception | None:
        """What Python raised while tf.data made batches; None where nothing went wrong. See `told_by`."""
        return self._load.failure

    def close(self) -> None:
        """Lets go of the processes that augment; there are no batches afterwards."""
        self._load.close()
        self._augmenter = None

    def _order(self, number: int) -> np.ndarray:
        """Places of the regions in the order of an epoch; balanced sampling draws the rarer labels again."""
        if not self._training:
            return np.arange(self.count)
        generator = np.random.default_rng([self._recipe.training.seed, number])
        if self._recipe.classification.balance.sampling == "natural":
            return generator.permutation(self.count)
        truth = self._regions.truth
        members = [np.flatnonzero(truth == label) for label in np.unique(truth)]
        each = -(-self.count // len(members))
        # Whole rounds first, so that nothing is drawn a second time before everything of its label was drawn once.
        drawn = [
            np.concatenate([generator.permutation(found) for _ in range(-(-each // len(found)))])[:each]
            for found in members
        ]
        return generator.permutation(np.concatenate(drawn))[: self.count]

    def _loaded(self, places: np.ndarray, number: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        regions = self._regions.taken(places)
        if self._augmenter is not None:
            changed = self._augmenter(regions.pixels, regions.lesions, regions.source_ids, int(number))
            regions = regions.with_pixels(*changed)
        return regions.inputs(self._recipe), regions.truth


def _check_possible(recipe: Recipe, augmented: bool) -> None:
    """Raises a RecipeError for what is for networks that segment."""
    if recipe.data.service != OFF:
        raise RecipeError(
            f"data.service: expected 'off', since {recipe.model.name} classifies and its regions are in memory, found "
            f"'{recipe.data.service}'. Leave it out."
        )
    if augmented and recipe.augmentation.engine != "imgaug":
        raise RecipeError(
            f"augmentation.engine: expected 'imgaug', since {recipe.model.name} classifies, found "
            f"'{recipe.augmentation.engine}'. Leave it out."
        )
