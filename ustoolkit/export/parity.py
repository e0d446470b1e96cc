"""How far what was exported agrees with the networks that it was made of, image by image."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import tee

import numpy as np

from ustoolkit.data.sample import Sample
from ustoolkit.errors import RunError
from ustoolkit.inference.postprocess import to_mask
from ustoolkit.inference.segmenter import Segmenter
from ustoolkit.inference.tune import image_dice

ROUNDING = 1e-4  # of a probability; a pixel so near to the threshold may fall on either side


@dataclass(frozen=True)
class Parity:
    """Agreement of two segmenters on annotated images.

    Attributes:
        images: how many.
        dice_before, dice: mean over images, of the reference and of what was exported; NaN where undefined. An image
            without a lesion counts where one of both finds one: 1 for whoever does not.
        largest_difference: of a probability, anywhere.
        pixels_decided_otherwise: share of all pixels, before regions are cleaned.
        beyond_rounding: how many of these are `ROUNDING` or more away from where the decision turns.
    """

    images: int
    dice_before: float
    dice: float
    largest_difference: float
    pixels_decided_otherwise: float
    beyond_rounding: int

    @property
    def dice_loss(self) -> float:
        """By how much the Dice fell; below 0 where it rose."""
        return self.dice_before - self.dice


def measure_parity(reference: Segmenter, exported: Segmenter, samples: Iterable[Sample]) -> Parity:
    """Compares two segmenters image by image, in memory that does not grow with their number.

    Args:
        reference: the networks.
        exported: what was made of them, with the same classes.
        samples: annotated.
    Raises:
        RunError: what was exported gives probabilities that are no numbers.
    """
    kept, first, second = tee(samples, 3)
    found = zip(
        kept,
        reference.probabilities(sample.image for sample in first),
        exported.probabilities(sample.image for sample in second),
        strict=True,
    )
    scores: list[tuple[float, float]] = []
    largest, otherwise, beyond, pixels = 0.0, 0, 0, 0
    for sample, before, after in found:
        if not np.isfinite(after).all():
            raise RunError(
                f"{sample.source_id}: expected probabilities, found some that are no numbers in what was exported. "
                "Export in another format."
            )
        dice, dice_after = (
            image_dice(sample.truth, to_mask(probability, reference.inference), len(reference.classes))
            for probability in (before, after)
        )
        scores.append((dice, dice_after))
        largest = max(largest, float(np.abs(before - after).max()))
        decided, margin = _decided(before, reference.inference.threshold)
        differs = decided != _decided(after, reference.inference.threshold)[0]
        otherwise += int(differs.sum())
        beyond += int((differs & (margin >= ROUNDING)).sum())
        pixels += differs.size
    return Parity(len(scores), *_mean(scores), largest, otherwise / max(1, pixels), beyond)


def _mean(scores: list[tuple[float, float]]) -> tuple[float, float]:
    """Mean Dice of both over images that have one in either."""
    values = np.array(scores, np.float64).reshape(-1, 2)
    defined = np.isfinite(values).any(axis=1)
    if not defined.any():
        return float("nan"), float("nan")
    before, after = np.nan_to_num(values[defined], nan=1.0).mean(axis=0)
    return float(before), float(after)


def _decided(probability: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """Class of each pixel, and how far its probability is from where the class would be another."""
    if probability.shape[-1] == 1:
        return probability[..., 0] >= threshold, np.abs(probability[..., 0] - threshold)
    two = np.sort(probability, axis=-1)[..., -2:]
    return probability.argmax(-1), (two[..., 1] - two[..., 0]) / 2
