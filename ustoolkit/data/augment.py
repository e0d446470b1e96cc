"""Random changes of training images by imgaug: the image and its mask alike, keyed so that any epoch can be redrawn."""

import hashlib
from collections import deque

import numpy as np

from ustoolkit.data.augment_steps import steps
from ustoolkit.data.imgaug_quick import apply, iaa
from ustoolkit.recipe.augmentation import AugmentationSettings


class Augmenter:
    """Draws and applies random changes, in any number of threads; the same (seed, epoch, source id), the same change.

    Args:
        settings: how far each change may go.
        seed: another seed, other changes.
    """

    def __init__(self, settings: AugmentationSettings, seed: int) -> None:
        self._seed = seed
        self._settings = settings
        # imgaug's augmenters hold their random state, so each is used by one thread at a time.
        self._idle: deque[iaa.Sequential] = deque()

    def __call__(
        self, image: np.ndarray, mask: np.ndarray, source_id: str, epoch: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Changes one image.

        Args:
            image: uint8 (height, width, channels).
            mask: uint8 (height, width), class indices; moved with nearest neighbour.
            source_id: of the record.
            epoch: from 0.
        Returns:
            image and mask, of the same shapes and types; what comes in from outside the image is 0.
        """
        key = hashlib.blake2b(f"{self._seed}/{epoch}/{source_id}".encode(), digest_size=4).digest()
        try:
            sequence = self._idle.pop()
        except IndexError:
            sequence = steps(self._settings)
        changed = apply(sequence, image, mask, int.from_bytes(key, "little"))
        self._idle.append(sequence)
        return changed
