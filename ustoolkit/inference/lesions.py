"""Lesions as a segmenter finds them, for a classifier to look at."""

from collections.abc import Iterable, Iterator
from itertools import tee

import numpy as np

from ustoolkit.data.sample import Sample
from ustoolkit.inference.postprocess import keep_largest_components, to_mask
from ustoolkit.inference.segmenter import Segmenter


class FoundLesions:
    """A `ustoolkit.data.lesions.LesionFinder` that asks a segmenter.

    Of several regions the largest is the lesion, as where images are diagnosed. Where it finds none, the mask is that
    of the pixels that it held most likely, from half of the highest probability on, so that every image can be
    classified; such images are listed in `missed`.

    Attributes:
        missed: source ids of the images without a lesion, so far.
    """

    def __init__(self, segmenter: Segmenter) -> None:
        self.segmenter = segmenter
        self.missed: list[str] = []

    def __call__(self, samples: Iterable[Sample]) -> Iterator[np.ndarray]:
        """Yields uint8 (height, width), 1 for the lesion, for each sample."""
        samples, kept = tee(samples)
        probabilities = self.segmenter.probabilities(sample.image for sample in samples)
        for sample, probability in zip(kept, probabilities, strict=True):
            mask = keep_largest_components((to_mask(probability, self.segmenter.inference) > 0).astype(np.uint8))
            if not mask.any():
                self.missed.append(sample.source_id)
                mask = _likeliest(probability, self.segmenter)
            yield mask


def _likeliest(probability: np.ndarray, segmenter: Segmenter) -> np.ndarray:
    lesion = probability[..., 0] if probability.shape[-1] == 1 else 1 - probability[..., 0]
    found = np.stack([lesion >= lesion.max() / 2, lesion < lesion.max() / 2], axis=-1)[..., :1].astype(np.float32)
    settings = segmenter.inference.model_copy(update={"threshold": 0.5, "smallest_region_pixels": 0})
    mask = (to_mask(found, settings.model_copy(update={"opening_radius_pixels": 0})) > 0).astype(np.uint8)
    return mask if mask.any() else np.ones_like(mask)
