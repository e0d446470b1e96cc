"""The steps of augmentation as imgaug's augmenters: its own where it has them, others over `scanner_changes`."""

from typing import Any

import numpy as np

from ustoolkit.data import scanner_changes as scanner
from ustoolkit.data.imgaug_quick import Affine, Uniform, iaa, iap
from ustoolkit.recipe.augmentation import AugmentationSettings


def steps(settings: AugmentationSettings) -> iaa.Sequential:
    """The published order: mirror, then move, then change the grey values; then what the scanner does.

    Args:
        settings: how far each change may go; what is off is left out, so that the others' draws stay as they are.
    Returns:
        imgaug's sequence, for `ustoolkit.data.imgaug_quick.apply`.
    """
    chosen: list[iaa.Augmenter] = []
    if settings.horizontal_flip:
        chosen.append(iaa.Fliplr(settings.horizontal_flip))
    if settings.vertical_flip:
        chosen.append(iaa.Flipud(settings.vertical_flip))
    if settings.rotation_degrees or settings.shift or settings.shear_degrees or settings.zoom:
        affine = Affine(
            rotate=Uniform(-settings.rotation_degrees, settings.rotation_degrees),
            translate_percent=dict.fromkeys(("x", "y"), Uniform(-settings.shift, settings.shift)),
            shear=Uniform(-settings.shear_degrees, settings.shear_degrees),
            scale=Uniform(1 - settings.zoom, 1 + settings.zoom),
            mode="constant",
            backend="cv2",
        )
        chosen.append(_sometimes(settings.probability, affine))
    if settings.contrast:
        chosen.append(iaa.LinearContrast(Uniform(1 - settings.contrast, 1 + settings.contrast)))
    if settings.channel_shift:
        offset = round(255 * settings.channel_shift)
        chosen.append(iaa.Add(Uniform(-offset, offset)))
    # As in a scanner: the beam, its speckle, what is in its way, then the knobs.
    share = settings.scanner_probability
    if settings.resolution > 1:
        chosen.append(_sometimes(share, _Coarser(settings.resolution)))
    if settings.blur:
        chosen.append(_sometimes(share, _Blurred(settings.blur)))
    if settings.speckle:
        chosen.append(_sometimes(share, _Speckled(settings.speckle)))
    if settings.shadow:
        chosen.append(_Shadowed(settings.shadow))
    if settings.gain:
        chosen.append(_sometimes(share, _Amplified(settings.gain)))
    if settings.gamma:
        chosen.append(iaa.GammaContrast(_Octaves(settings.gamma)))
    return iaa.Sequential(chosen)


def _sometimes(share: float, change: iaa.Augmenter) -> iaa.Augmenter:
    """Of all images without the draw whether, so that a share of 1 leaves the other draws as they are."""
    return change if share == 1 else iaa.Sometimes(share, change)


class _Octaves(iap.StochasticParameter):
    """An exponent whose logarithm is uniform: darker is as likely as brighter. imgaug's own power needs NumPy 1."""

    def __init__(self, reach: float) -> None:
        super().__init__()
        self._reach = reach

    def _draw_samples(self, size: tuple[int, ...], random_state: Any) -> np.ndarray:
        return np.exp2(random_state.uniform(-self._reach, self._reach, size)).astype(np.float32)


class _ScannerChange(iaa.Augmenter):
    """A change of the image alone, drawn anew for each."""

    def __init__(self, reach: float) -> None:
        super().__init__()
        self._reach = reach

    def _augment_batch_(self, batch: Any, random_state: Any, parents: Any, hooks: Any) -> Any:
        batch.images = [self._change(image, random_state.generator) for image in batch.images]
        return batch

    def _change(self, image: np.ndarray, random: np.random.Generator) -> np.ndarray:
        raise NotImplementedError

    def get_parameters(self) -> list[float]:
        return [self._reach]


class _Coarser(_ScannerChange):
    def _change(self, image: np.ndarray, random: np.random.Generator) -> np.ndarray:
        return scanner.coarser(image, *random.uniform(1, self._reach, 2))


class _Blurred(_ScannerChange):
    def _change(self, image: np.ndarray, random: np.random.Generator) -> np.ndarray:
        return scanner.blurred(image, random.uniform(0, self._reach))


class _Speckled(_ScannerChange):
    def _change(self, image: np.ndarray, random: np.random.Generator) -> np.ndarray:
        # A pulse is shorter than its beam is wide.
        cell = tuple(np.sort(random.uniform(*scanner.SPECKLE_CELL, 2)))
        deviation = random.uniform(0, self._reach)
        return scanner.speckled(image, scanner.speckle_pattern(image.shape[:2], cell, random), deviation)


class _Shadowed(_ScannerChange):
    def _change(self, image: np.ndarray, random: np.random.Generator) -> np.ndarray:
        if random.random() >= self._reach:
            return image
        *shape, loss = (random.uniform(*reach) for reach in scanner.SHADOW)
        return scanner.shadowed(image, scanner.shadow_profile(image.shape[:2], *shape), loss)


class _Amplified(_ScannerChange):
    def _change(self, image: np.ndarray, random: np.random.Generator) -> np.ndarray:
        return scanner.amplified(image, *random.uniform(1 - self._reach, 1 + self._reach, 2))
