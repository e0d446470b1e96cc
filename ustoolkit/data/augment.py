"""Random changes of training images by imgaug: the image and its mask alike, keyed so that any epoch can be redrawn."""

import contextlib
import hashlib
from collections import deque
from collections.abc import Iterator

import numpy as np

from ustoolkit.recipe.augmentation import AugmentationSettings


@contextlib.contextmanager
def _numpy_names_that_imgaug_wants() -> Iterator[None]:
    """imgaug 0.4.0 reads `np.sctypes` while it is imported; NumPy 2 has taken it away."""
    lent = not hasattr(np, "sctypes")
    if lent:
        np.sctypes = {  # type: ignore[attr-defined]
            "int": [np.int8, np.int16, np.int32, np.int64],
            "uint": [np.uint8, np.uint16, np.uint32, np.uint64],
            "float": [np.float16, np.float32, np.float64],
            "complex": [np.complex64, np.complex128],
            "others": [bool, object, bytes, str, np.void],
        }
    try:
        yield
    finally:
        if lent:
            del np.sctypes  # type: ignore[attr-defined]


with _numpy_names_that_imgaug_wants():
    from imgaug import augmenters as iaa
    from imgaug.augmentables.segmaps import SegmentationMapsOnImage


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
            sequence = _sequence(self._settings)
        sequence.seed_(int.from_bytes(key, "little"))
        segmentation = SegmentationMapsOnImage(mask[..., np.newaxis].astype(np.int32), shape=image.shape)
        changed, moved = sequence(image=image, segmentation_maps=segmentation)
        self._idle.append(sequence)
        return np.ascontiguousarray(changed), moved.get_arr()[..., 0].astype(np.uint8)


def _sequence(settings: AugmentationSettings) -> iaa.Sequential:
    """The published order: mirror, then move, then change the grey values."""
    steps: list[iaa.Augmenter] = []
    if settings.horizontal_flip:
        steps.append(iaa.Fliplr(settings.horizontal_flip))
    if settings.vertical_flip:
        steps.append(iaa.Flipud(settings.vertical_flip))
    if settings.rotation_degrees or settings.shift or settings.shear_degrees or settings.zoom:
        affine = iaa.Affine(
            rotate=(-settings.rotation_degrees, settings.rotation_degrees),
            translate_percent=dict.fromkeys(("x", "y"), (-settings.shift, settings.shift)),
            shear=(-settings.shear_degrees, settings.shear_degrees),
            scale=(1 - settings.zoom, 1 + settings.zoom),
            mode="constant",
            backend="cv2",
        )
        steps.append(affine if settings.probability == 1 else iaa.Sometimes(settings.probability, affine))
    if settings.contrast:
        steps.append(iaa.LinearContrast((1 - settings.contrast, 1 + settings.contrast)))
    if settings.channel_shift:
        steps.append(iaa.Add((round(-255 * settings.channel_shift), round(255 * settings.channel_shift))))
    return iaa.Sequential(steps)
