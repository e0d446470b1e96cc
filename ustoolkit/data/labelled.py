"""Labelled regions in memory, ready for a network that classifies: cut out, scaled, and more of them where asked."""

import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import tee

import numpy as np
import tensorflow as tf

from ustoolkit.data.augment import Augmenter
from ustoolkit.data.expand import copy_id, plan_copies
from ustoolkit.data.leaks import groups, is_made
from ustoolkit.data.lesions import LesionFinder
from ustoolkit.data.oversample import oversample
from ustoolkit.data.records import IndexRow, Records
from ustoolkit.data.region_inputs import region_to_network
from ustoolkit.data.sample import Sample
from ustoolkit.errors import RecordsError
from ustoolkit.progress import progress
from ustoolkit.recipe import Recipe
from ustoolkit.recipe.classification import RegionSettings
from ustoolkit.recipe.settings import DataSettings

_NO_SMOTE = "set classification.balance.smote to 'off'"
_ARRAYS = ("groups", "truth", "pixels", "lesions", "made")


@dataclass(frozen=True, eq=False)
class LabelledRegions:
    """Images to classify, at the network's size.

    Attributes:
        source_ids: of each; a copy's name is that of `ustoolkit.data.expand.copy_id`.
        groups: str (n,), the patients that belong together; a synthetic image has one of its own.
        truth: int64 (n,), index of the label.
        pixels: uint8 (n, height, width, channels).
        lesions: uint8 (n, height, width), 0 or 1.
        made: bool (n,), augmented copies and synthetic images, also those that the records held already.
    """

    source_ids: list[str]
    groups: np.ndarray
    truth: np.ndarray
    pixels: np.ndarray
    lesions: np.ndarray
    made: np.ndarray

    def inputs(self, recipe: Recipe) -> np.ndarray:
        """What the network takes, uint8 (n, height, width, channels), the mask as a last channel where asked for."""
        if not recipe.classification.region.mask_channel:
            return self.pixels
        return np.concatenate([self.pixels, 255 * self.lesions[..., np.newaxis]], axis=-1)

    def inputs_shape(self, recipe: Recipe) -> tuple[int, int, int]:
        """Height, width and channels of what the network takes."""
        height, width, channels = self.pixels.shape[1:]
        return height, width, channels + int(recipe.classification.region.mask_channel)

    def taken(self, places: np.ndarray) -> "LabelledRegions":
        """Some of the regions, in the order of int `places` (k,)."""
        arrays = {name: getattr(self, name)[places] for name in _ARRAYS}
        return LabelledRegions([self.source_ids[place] for place in places], **arrays)

    def with_pixels(self, pixels: np.ndarray, lesions: np.ndarray) -> "LabelledRegions":
        """The same regions with other pixels and lesions, of the same shapes and types."""
        return replace(self, pixels=pixels, lesions=lesions)


def read_labelled(
    records: Records, source_ids: Sequence[str], labels: Sequence[str], recipe: Recipe, find: LesionFinder
) -> LabelledRegions:
    """Reads labelled images and cuts out what the network is to see.

    Args:
        records: where they are.
        source_ids: which.
        labels: as of `labels_of`.
        recipe: its `data` and `classification.region`.
        find: where their lesions are.
    Returns:
        the regions, in the order of the records.
    Raises:
        DataError: the lesion of an image is not known.
        RecordsError: a shard is damaged, or an image's label is none of `labels`.
    """
    group_of = groups(records.index)
    earlier = {row.source_id for row in records.index if is_made(row)}
    order = {label: number for number, label in enumerate(labels)}
    samples, again = tee(records.read(source_ids))
    names, patients, truth, pixels, lesions = [], [], [], [], []
    pairs = zip(samples, find(again), strict=True)
    for sample, mask in progress(pairs, "cutting out", total=len(source_ids)):
        if sample.label not in order:
            raise RecordsError(
                f"{sample.source_id}: expected one of the labels {_listed(labels)}, found '{sample.label}'. Correct "
                "the label, or leave the image out of the split."
            )
        names.append(sample.source_id)
        patients.append(group_of[sample.patient_id])
        truth.append(order[sample.label])
        region, lesion = cut_region(sample, mask, recipe)
        pixels.append(region)
        lesions.append(lesion)
    made = np.array([name in earlier for name in names])
    return LabelledRegions(names, np.array(patients), np.array(truth), np.stack(pixels), np.stack(lesions), made)


def cut_region(sample: Sample, mask: np.ndarray, recipe: Recipe) -> tuple[np.ndarray, np.ndarray]:
    """The region of one image as the network sees it.

    Args:
        sample: the image.
        mask: uint8 (height, width), not 0 where the lesion is.
        recipe: its `data` and `classification.region`.
    Returns:
        uint8 (*image_size, channels) and uint8 (*image_size,), the lesion in it as 0 or 1.
    """
    cut = _cutter(recipe.data, recipe.classification.region)
    pixels, lesion = cut(tf.constant(sample.image), tf.constant(mask))
    return pixels.numpy(), lesion.numpy()


def with_more(regions: LabelledRegions, labels: Sequence[str], recipe: Recipe) -> LabelledRegions:
    """A training part with synthetic images and augmented copies, as `classification.balance` asks for.

    Both are made of these regions alone. Synthetic images, Borderline-SMOTE2's on the pixels, bring the smaller labels
    to the largest. Copies, of synthetic images too, bring all to `expand_to`, with as many of each label; where SMOTE
    on features is to balance the labels later, each image gets as many copies.

    Args:
        regions: of the training part.
        labels: as of `labels_of`.
        recipe: its `classification.balance`, `augmentation` and seed.
    Returns:
        the given regions first, unchanged; then what was made.
    Raises:
        RecordsError: `expand_to` is below what is there, or a label has too few images for SMOTE.
    """
    balance = recipe.classification.balance
    if balance.smote == "pixels":
        regions = _joined(regions, _synthetic(regions, labels, recipe.training.seed))
    if balance.expand_to:
        regions = _joined(regions, _copies(regions, labels, recipe))
    return regions


def _copies(regions: LabelledRegions, labels: Sequence[str], recipe: Recipe) -> LabelledRegions:
    balance, seed = recipe.classification.balance, recipe.training.seed
    balanced = balance.smote != "features"
    if not balanced and balance.expand_to < len(regions.truth):
        raise RecordsError(
            f"expected classification.balance.expand_to of at least {len(regions.truth)}, the images of the training "
            f"part, found {balance.expand_to}. Raise it, or set it to 0 for no copies."
        )
    rows = [
        _row(name, labels[index] if balanced else "")
        for name, index in zip(regions.source_ids, regions.truth, strict=True)
    ]
    plan = plan_copies(rows, balance.expand_to, seed, option="classification.balance.expand_to")
    augmenter = Augmenter(recipe.augmentation, seed)
    origins = [place for place, name in enumerate(regions.source_ids) for _ in range(plan[name])]
    numbers = [number for name in regions.source_ids for number in range(1, plan[name] + 1)]
    changed = [
        augmenter(regions.pixels[place], regions.lesions[place], regions.source_ids[place], number)
        for place, number in zip(origins, numbers, strict=True)
    ]
    shape = regions.pixels.shape[1:]
    return LabelledRegions(
        [copy_id(regions.source_ids[place], number) for place, number in zip(origins, numbers, strict=True)],
        regions.groups[origins],
        regions.truth[origins],
        np.array([pixels for pixels, _ in changed], np.uint8).reshape(-1, *shape),
        np.array([lesion for _, lesion in changed], np.uint8).reshape(-1, *shape[:2]),
        np.ones(len(origins), bool),
    )


def _synthetic(regions: LabelledRegions, labels: Sequence[str], seed: int) -> LabelledRegions:
    # The mask is mixed with the pixels, as one more channel, so that a region and its lesion stay together.
    both = np.concatenate([regions.pixels, 255 * regions.lesions[..., np.newaxis]], axis=-1)
    mixed, names, synthetic = oversample(both, [labels[index] for index in regions.truth], seed, _NO_SMOTE)
    made, names = mixed[synthetic], [name for name, new in zip(names, synthetic, strict=True) if new]
    identity = [f"synthetic-{number:04}" for number in range(1, len(made) + 1)]
    return LabelledRegions(
        identity,
        np.array(identity),
        np.array([list(labels).index(name) for name in names], np.int64),
        made[..., :-1],
        (made[..., -1] >= 128).astype(np.uint8),
        np.ones(len(made), bool),
    )


def _joined(first: LabelledRegions, second: LabelledRegions) -> LabelledRegions:
    arrays = {name: np.concatenate([getattr(first, name), getattr(second, name)]) for name in _ARRAYS}
    return replace(first, source_ids=[*first.source_ids, *second.source_ids], **arrays)


def _row(source_id: str, label: str) -> IndexRow:
    return IndexRow(source_id, source_id, label, "", 0, 0, None, 0, "")


@functools.cache
def _cutter(
    data: DataSettings, region: RegionSettings
) -> Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]:
    @tf.function(
        input_signature=[tf.TensorSpec([None, None, None], tf.uint8), tf.TensorSpec([None, None], tf.uint8)],
    )
    def cut(image: tf.Tensor, mask: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        pixels, lesion = region_to_network(image, mask, data, region)
        return tf.cast(tf.round(pixels), tf.uint8), tf.cast(lesion, tf.uint8)

    return cut


def _listed(labels: Iterable[str]) -> str:
    return ", ".join(f"'{label}'" for label in labels) or "none"
