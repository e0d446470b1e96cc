"""Where the lesion of an image is, to classify it by: as annotated, as a box, or as something else finds it."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from ustoolkit.data.sample import Sample
from ustoolkit.errors import DataError
from ustoolkit.recipe.classification import RegionSettings

LesionFinder = Callable[[Iterable[Sample]], Iterator[np.ndarray]]
"""Takes samples, yields for each a uint8 (height, width) mask, not 0 where the lesion is."""


def known_lesions(region: RegionSettings) -> LesionFinder:
    """A finder that takes what the data set says.

    Args:
        region: `source` 'truth', 'box' or 'image'; for the last an image's mask may be missing.
    Returns:
        a `LesionFinder`; it raises DataError at an image whose lesion is not known.
    """
    return lambda samples: (lesion_mask(sample, region) for sample in samples)


def lesion_mask(sample: Sample, region: RegionSettings) -> np.ndarray:
    """The lesion of one image, as its data set knows it.

    Args:
        sample: the image.
        region: where its lesion is said to be.
    Returns:
        uint8 (height, width), 1 for the lesion; all 0 only where the whole image is looked at.
    Raises:
        DataError: no mask, an empty one, or no box.
    """
    if region.source == "box":
        return _box_mask(sample, region.box_attribute)
    if sample.mask is not None and (sample.mask.any() or region.source == "image"):
        return (sample.mask > 0).astype(np.uint8)
    if region.source == "image":
        return np.zeros(sample.image.shape[:2], np.uint8)
    found = "none" if sample.mask is None else "an empty one"
    raise DataError(
        f"{sample.source_id}: expected a mask of the lesion to classify, found {found}. Draw the lesion, leave the "
        "image out, or set classification.region.source to 'image' or 'predicted'."
    )


def _box_mask(sample: Sample, attribute: str) -> np.ndarray:
    height, width = sample.image.shape[:2]
    box = _numbers(sample.attributes.get(attribute))
    mask = np.zeros((height, width), np.uint8)
    if box is not None:
        left, top, wide, high = (round(value) for value in box)
        mask[max(0, top) : max(0, top + high), max(0, left) : max(0, left + wide)] = 1
    if not mask.any():
        raise DataError(
            f"{sample.source_id}: expected the attribute '{attribute}' to hold left, top, width and height of a box "
            f"within {width} × {height} pixels, found {sample.attributes.get(attribute)!r}. Correct the box, or name "
            "the attribute that holds it as classification.region.box_attribute."
        )
    return mask


def _numbers(box: Any) -> list[float] | None:
    """Four finite numbers from a list, or from text such as '[91, 24, 103, 79]'."""
    if isinstance(box, str):
        box = box.strip("[]() ").replace(";", ",").split(",")
    try:
        values = [float(value) for value in box]
    except (TypeError, ValueError):
        return None
    return values if len(values) == 4 and bool(np.isfinite(values).all()) else None
