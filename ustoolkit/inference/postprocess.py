"""From probabilities to the mask that is kept."""

import cv2
import numpy as np
from scipy import ndimage

from ustoolkit.recipe.settings import InferenceSettings


def to_mask(probability: np.ndarray, settings: InferenceSettings) -> np.ndarray:
    """The final mask of one image.

    Args:
        probability: float (height, width, classes; 1, the lesion's, for two classes).
        settings: the threshold, for two classes; which regions of each class stay: large ones, thick ones, the
            largest one; and whether their holes are filled. In this order: thus holes of regions that go are not
            filled, and a region's size is that without its holes.
    Returns:
        uint8 (height, width), class indices.
    """
    if probability.shape[-1] == 1:
        mask = (probability[..., 0] >= settings.threshold).astype(np.uint8)
    else:
        mask = probability.argmax(-1).astype(np.uint8)
    mask = remove_small_regions(mask, settings.smallest_region_pixels)
    mask = open_regions(mask, settings.opening_radius_pixels)
    if settings.largest_component:
        mask = keep_largest_components(mask)
    return fill_holes(mask) if settings.fill_holes else mask


def remove_small_regions(mask: np.ndarray, smallest: int) -> np.ndarray:
    """Turns 8-connected regions of each class to background where they have fewer pixels than `smallest`.

    Args:
        mask: uint8 (height, width), class indices.
        smallest: pixels; 0 or 1 for none.
    Returns:
        uint8 (height, width).
    """
    kept = np.zeros_like(mask)
    for index in np.unique(mask[mask > 0]):
        regions, _ = ndimage.label(mask == index, structure=np.ones((3, 3)))
        stays = np.bincount(regions.ravel()) >= smallest
        stays[0] = False
        kept[stays[regions]] = index
    return kept


def open_regions(mask: np.ndarray, radius: int) -> np.ndarray:
    """Opening of each class by a disc: parts that the disc does not fit into become background.

    Args:
        mask: uint8 (height, width), class indices.
        radius: of the disc, pixels; 0 for none. What lies beyond the image's edge hides nothing.
    Returns:
        uint8 (height, width).
    """
    if radius == 0:
        return mask
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    kept = np.zeros_like(mask)
    for index in np.unique(mask[mask > 0]):
        kept[cv2.morphologyEx((mask == index).astype(np.uint8), cv2.MORPH_OPEN, disc) > 0] = index
    return kept


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


def fill_holes(mask: np.ndarray) -> np.ndarray:
    """Turns background that regions of a class enclose to that class.

    A way out that is open at a corner only does not count: regions are 8-connected, so their holes are 4-connected.
    What lies at the image's edge is not enclosed. Another class within a hole stays.

    Args:
        mask: uint8 (height, width), class indices.
    Returns:
        uint8 (height, width); background that is enclosed more than once takes the innermost class.
    """
    filled = mask.copy()
    innermost = np.full(mask.shape, np.inf)  # area that the enclosing region covers with its holes, pixels
    for index in np.unique(mask[mask > 0]):
        regions, _ = ndimage.label(ndimage.binary_fill_holes(mask == index), structure=np.ones((3, 3)))
        area = np.bincount(regions.ravel())[regions]
        enclosed = (mask == 0) & (regions > 0) & (area < innermost)
        filled[enclosed] = index
        innermost[enclosed] = area[enclosed]
    return filled
