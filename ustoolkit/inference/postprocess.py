"""From probabilities to the mask that is kept."""

import numpy as np
from scipy import ndimage

from ustoolkit.recipe.settings import InferenceSettings


def to_mask(probability: np.ndarray, settings: InferenceSettings) -> np.ndarray:
    """The final mask of one image.

    Args:
        probability: float (height, width, classes; 1, the lesion's, for two classes).
        settings: the threshold, for two classes, and whether to keep the largest region only.
    Returns:
        uint8 (height, width), class indices.
    """
    if probability.shape[-1] == 1:
        mask = (probability[..., 0] >= settings.threshold).astype(np.uint8)
    else:
        mask = probability.argmax(-1).astype(np.uint8)
    return keep_largest_components(mask) if settings.largest_component else mask


def keep_largest_components(mask: np.ndarray) -> np.ndarray:
    """Turns all but the largest 8-connected region of each class to background; of equal ones the first stays.

    Args:
        mask: uint8 (height, width), class indices.
    Returns:
        uint8 (height, width).
    """
    kept = np.zeros_like(mask)
    for index in np.unique(mask[mask > 0]):
        regions, count = ndimage.label(mask == index, structure=np.ones((3, 3)))
        sizes = ndimage.sum_labels(mask == index, regions, range(1, count + 1))
        kept[regions == int(np.argmax(sizes)) + 1] = index
    return kept
