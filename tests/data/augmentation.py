"""What the tests of augmentation share: settings of one change alone, test images, and both engines called alike."""

import numpy as np
import tensorflow as tf

from ustoolkit.data.augment import Augmenter
from ustoolkit.data.augment_native import NativeAugmenter
from ustoolkit.recipe.augmentation import AugmentationSettings

OFF = {
    "rotation_degrees": 0,
    "shift": 0,
    "shear_degrees": 0,
    "zoom": 0,
    "horizontal_flip": 0,
    "channel_shift": 0,
    "contrast": 0,
}
INTENSITIES = {
    "channel_shift": 0.2,
    "contrast": 0.4,
    "gamma": 0.8,
    "gain": 0.4,
    "speckle": 0.4,
    "blur": 2.0,
    "shadow": 0.7,
    "resolution": 3.0,
}
GEOMETRY = {"rotation_degrees": 30, "shift": 0.15, "shear_degrees": 20, "zoom": 0.3, "vertical_flip": 0.5}
EVERYTHING = AugmentationSettings(**{**INTENSITIES, **GEOMETRY})
SIZE = (64, 88)


def only(**change):
    return AugmentationSettings(**{**OFF, **change})


def picture(channels=1, size=SIZE, seed=0):
    """Grey values without order, and a mask of three classes."""
    random = np.random.default_rng(seed)
    image = random.integers(0, 256, (*size, channels), np.uint8)
    mask = np.zeros(size, np.uint8)
    mask[10:30, 20:60], mask[35:50, 5:40] = 1, 2
    return image, mask


def by_imgaug(settings, image, mask, count, epoch=0):
    augmenter = Augmenter(settings, seed=0)
    changed = [augmenter(image, mask, str(number), epoch) for number in range(count)]
    return np.stack([pixels for pixels, _ in changed]), np.stack([classes for _, classes in changed])


def natively(settings, image, mask, count, epoch=0):
    images, masks = np.repeat(image[np.newaxis], count, 0), np.repeat(mask[np.newaxis], count, 0)
    names = tf.constant([str(number) for number in range(count)])
    changed = NativeAugmenter(settings, seed=0)(images, masks, names, epoch)
    return tuple(values.numpy() for values in changed)


ENGINES = {"imgaug": by_imgaug, "tensorflow": natively}
