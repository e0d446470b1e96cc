"""imgaug to the bit, without the checks, copies and conversions that took most of its time."""

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np

__all__ = ["Affine", "Uniform", "apply", "iaa", "iap"]


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
    from imgaug import parameters as iap
    from imgaug import random as imgaug_random
    from imgaug.augmentables.batches import _BatchInAugmentation


def apply(sequence: iaa.Sequential, image: np.ndarray, mask: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Changes one image and its mask.

    Args:
        sequence: imgaug's augmenters; one thread at a time.
        image: uint8 (height, width, channels).
        mask: uint8 (height, width), class indices.
        seed: from 0; the same seed, the same change.
    Returns:
        new arrays of the same shapes and types.
    """
    _seed(sequence, np.random.SeedSequence(seed))
    # `Sequential.__call__` checks, copies and converts for half a millisecond to arrive at this batch.
    batch = _BatchInAugmentation(images=[image.copy()], segmentation_maps=[_Mask(mask[..., np.newaxis].copy())])
    batch = sequence.augment_batch_(batch)
    return np.ascontiguousarray(batch.images[0]), np.ascontiguousarray(batch.segmentation_maps[0].arr[..., 0])


def _seed(augmenter: iaa.Augmenter, seeds: np.random.SeedSequence) -> None:
    """`Augmenter.seed_` to the bit, without its copies of generators, which cost more than warping the image."""
    augmenter.random_state = imgaug_random.RNG(np.random.Generator(np.random.SFC64(seeds)))
    children = [child for group in augmenter.get_children_lists() for child in group]
    if children:
        source = np.random.Generator(np.random.SFC64(seeds))
        for child in children:
            entropy = source.integers(0, 2**31 - 1, dtype=np.int32, size=2)[-1]
            _seed(child, np.random.SeedSequence(entropy, spawn_key=(0,)))


class _Mask:
    """Stands in for imgaug's `SegmentationMapsOnImage`, which would make int32 of the classes."""

    def __init__(self, classes: np.ndarray) -> None:
        self.arr = classes
        self.shape = classes.shape


class Affine(iaa.Affine):
    """imgaug's map to the bit, its matrix made once for image and mask, and without scikit-image's classes."""

    def _augment_batch_(self, batch: Any, random_state: Any, parents: Any, hooks: Any) -> Any:
        samples = self._draw_samples(batch.nb_rows, random_state)
        for row, (image, classes) in enumerate(zip(batch.images, batch.segmentation_maps, strict=True)):
            height, width = image.shape[:2]
            drawn = samples.get_affine_parameters(row, image.shape, image.shape)
            matrix = _affine_matrix(drawn, height, width)
            if np.average(np.abs(np.eye(3, dtype=np.float32) - matrix)) <= 1e-4:
                continue  # as imgaug does
            batch.images[row] = _warped(image, matrix, cv2.INTER_LINEAR)
            classes.arr = _warped(classes.arr, matrix, cv2.INTER_NEAREST)
        return batch


def _warped(values: np.ndarray, matrix: np.ndarray, interpolation: int) -> np.ndarray:
    size = values.shape[1], values.shape[0]
    return cv2.warpAffine(np.ascontiguousarray(values), matrix[:2], size, flags=interpolation).reshape(values.shape)


def _affine_matrix(drawn: dict[str, float], height: int, width: int) -> np.ndarray:
    """From where a pixel was to where it goes: shear, zoom, turn and shift about the centre; float64 (3, 3), x first.

    imgaug draws one angle for the shear of both axes; the two together are, to first order, a turn by that angle.
    """
    centre = _map(translation=(width / 2.0 - 0.5, height / 2.0 - 0.5))
    to_origin = _map(translation=(-(width / 2.0 - 0.5), -(height / 2.0 - 0.5)))
    turned = _map(rotation=-3.141592 / 2)  # imgaug's pi, since the pixels are to be imgaug's
    matrix = _map(shear=drawn["shear_y_rad"]) @ (turned @ to_origin)
    matrix = _map(rotation=3.141592 / 2) @ matrix
    moved = _map(
        (drawn["scale_x"], drawn["scale_y"]),
        drawn["rotate_rad"],
        drawn["shear_x_rad"],
        (drawn["translate_x_px"], drawn["translate_y_px"]),
    )
    return centre @ (moved @ matrix)


def _map(
    scale: tuple[float, float] = (1, 1),
    rotation: float = 0.0,
    shear: float = 0.0,
    translation: tuple[float, float] = (0, 0),
) -> np.ndarray:
    """An affine map in homogeneous coordinates: scale, then shear along x, then turn clockwise, then shift."""
    cosine, sine, tangent = math.cos(rotation), math.sin(rotation), math.tan(shear)
    return np.array(
        [
            [scale[0] * cosine, -scale[1] * (tangent * cosine + sine), translation[0]],
            [scale[0] * sine, -scale[1] * (tangent * sine - cosine), translation[1]],
            [0, 0, 1],
        ]
    )


class Uniform(iap.StochasticParameter):
    """imgaug's uniform numbers to the bit, without the checks that take longer than to warp an image."""

    def __init__(self, low: float, high: float) -> None:
        super().__init__()
        self._low, self._high = np.float32(low), np.float32(high)  # as imgaug rounds them

    def draw_samples(self, size: tuple[int, ...], random_state: Any = None) -> np.ndarray:
        generator = random_state.generator
        generator.random(2)  # imgaug's bounds are parameters too, which each draw on the way
        fixed = self._low == self._high
        drawn = np.full(size, self._low) if fixed else generator.uniform(self._low, self._high, size)
        generator.random()
        return drawn.astype(np.float32)

    def _draw_samples(self, size: tuple[int, ...], random_state: Any) -> np.ndarray:
        return self.draw_samples(size, random_state)
