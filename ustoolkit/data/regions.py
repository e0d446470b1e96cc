"""Square crops around lesions: the region of interest that a lesion is judged by."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from ustoolkit.data.sample import Sample
from ustoolkit.errors import DataError


def region_window(mask: np.ndarray, margin: float) -> tuple[int, int, int]:
    """The square around everything annotated, moved into the picture as far as it fits.

    Args:
        mask: uint8 (height, width), class indices; all lesions of the image count.
        margin: on each side, fraction of the lesion's longer side.
    Returns:
        top and left (pixels, below 0 where the square is larger than the picture) and side (pixels).
    Raises:
        DataError: the mask is empty.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        raise DataError("expected a lesion to cut out, found an empty mask. Leave the image out, or draw its lesion.")
    longer = max(rows[-1] - rows[0], columns[-1] - columns[0]) + 1
    side = int(np.ceil(longer * (1 + 2 * margin)))
    start = []
    for found, length in ((rows, mask.shape[0]), (columns, mask.shape[1])):
        centred = (found[0] + found[-1] + 1 - side) // 2
        least, most = min(0, length - side), max(0, length - side)
        start.append(int(np.clip(centred, least, most)))
    return start[0], start[1], side


def crop_region(image: np.ndarray, mask: np.ndarray, margin: float, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Cuts out the lesion with some of what surrounds it, and scales it; its shape is kept.

    Args:
        image: uint8 (height, width, channels).
        mask: uint8 (height, width), class indices.
        margin: on each side, fraction of the lesion's longer side.
        size: height and width of the result, pixels.
    Returns:
        uint8 (size, size, channels) and uint8 (size, size); what lies outside of the picture is 0.
    Raises:
        DataError: the mask is empty.
    """
    top, left, side = region_window(mask, margin)
    pixels = _scale(_cut(image, top, left, side), size, Image.Resampling.BILINEAR)
    return pixels, _scale(_cut(mask, top, left, side)[..., np.newaxis], size, Image.Resampling.NEAREST)[..., 0]


@dataclass(frozen=True)
class RegionCrop:
    """Loads the region of interest of a stored image; an entry's `load`.

    Attributes:
        original: the whole image.
        margin, size: as in `crop_region`.
    """

    original: Callable[[], Sample]
    margin: float
    size: int

    def __call__(self) -> Sample:
        """Cuts the region out; attributes of the whole image stay.

        Raises:
            DataError: there is no lesion.
        """
        whole = self.original()
        if whole.mask is None:
            raise DataError(f"{whole.source_id}: expected a mask to cut out a lesion by, found none. Draw one.")
        try:
            side = region_window(whole.mask, self.margin)[2]
            image, mask = crop_region(whole.image, whole.mask, self.margin, self.size)
        except DataError as problem:
            raise DataError(f"{whole.source_id}: {problem}") from None
        scale = side / self.size
        return Sample(
            source_id=whole.source_id,
            image=image,
            mask=mask,
            label=whole.label,
            patient_id=whole.patient_id,
            spacing_mm=whole.spacing_mm and (whole.spacing_mm[0] * scale, whole.spacing_mm[1] * scale),
            filename=whole.filename,
            attributes=whole.attributes | {"region_side": side},
        )


def _cut(pixels: np.ndarray, top: int, left: int, side: int) -> np.ndarray:
    cut = np.zeros((side, side, *pixels.shape[2:]), pixels.dtype)
    inside = pixels[max(0, top) : top + side, max(0, left) : left + side]
    row, column = max(0, -top), max(0, -left)
    cut[row : row + inside.shape[0], column : column + inside.shape[1]] = inside
    return cut


def _scale(pixels: np.ndarray, size: int, how: Image.Resampling) -> np.ndarray:
    """(side, side, channels) to (size, size, channels), averaging where it shrinks."""
    planes = [Image.fromarray(pixels[..., channel]).resize((size, size), how) for channel in range(pixels.shape[2])]
    return np.stack([np.asarray(plane) for plane in planes], axis=-1)
