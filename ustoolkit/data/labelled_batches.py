"""Labelled regions to batches by tf.data: shuffled, drawn evenly over labels where asked, augmented. Repeatable."""

import numpy as np
import tensorflow as tf

from ustoolkit.data.augment_processes import batch_augmenter, parallel_calls
from ustoolkit.data.dataset_options import BATCHES_AHEAD, repeatable
from ustoolkit.data.labelled import LabelledRegions
from ustoolkit.data.pipeline import waiting_threads
from ustoolkit.recipe import Recipe


class LabelledBatches:
    """One part of a data set to classify, ready to iterate over in any epoch.

    Args:
        regions: what was made for training included.
        recipe: augmentation, sampling, batch size, seed.
        training: whether to shuffle, sample and augment, and leave out a last batch that is not full. A part that was
            expanded by copies is not augmented again.
    """

    def __init__(self, regions: LabelledRegions, recipe: Recipe, training: bool) -> None:
        self._regions, self._recipe, self._training = regions, recipe, training
        self.count = len(regions.truth)
        self.batch_size = min(recipe.training.batch_size, self.count) if training else recipe.training.batch_size
        augmented = training and recipe.augmentation.enabled and not recipe.classification.balance.expand_to
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

        def inputs(places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            return self._inputs(places, number), self._regions.truth[places]

        def load(places: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            images, truth = tf.numpy_function(inputs, [places], [tf.uint8, tf.int64])
            images = tf.ensure_shape(images, [self.batch_size if kept else None, *shape])
            return tf.cast(images, tf.float32), tf.ensure_shape(truth, images.shape[:1])

        dataset = tf.data.Dataset.from_tensor_slices(order).batch(self.batch_size, drop_remainder=self._training)
        calls = parallel_calls(self._augmenter)
        dataset = dataset.map(load, num_parallel_calls=calls).with_options(waiting_threads(calls))
        return dataset.prefetch(BATCHES_AHEAD).with_options(repeatable())

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

    def _inputs(self, places: np.ndarray, number: int) -> np.ndarray:
        regions = self._regions.taken(places)
        if self._augmenter is not None:
            regions = regions.with_pixels(*self._augmenter(regions.pixels, regions.lesions, regions.source_ids, number))
        return regions.inputs(self._recipe)
