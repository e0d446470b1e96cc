"""One annotated image: the value that every reader yields and every record holds."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy import ndimage

from ustoolkit.errors import DataError


@dataclass(frozen=True, eq=False)
class Sample:
    """An image with everything that its source knew of it.

    Attributes:
        source_id: unique name within the data set, stable between conversions (a file stem, mostly).
        image: uint8 (height, width, channels), 1 channel (grey) or 3 (RGB), full range 0 to 255.
        mask: uint8 (height, width), a class index a pixel (0 background), or None where not annotated.
        label: name of the image's class such as 'benign', or '' where unknown.
        patient_id: images with the same value are never divided between splits.
        spacing_mm: (row, column) distance between pixel centres in millimetres, or None where unknown.
        filename: the image file's name, without its folders.
        attributes: whatever else the source knew (device, BI-RADS, fold), JSON-serialisable.
    """

    source_id: str
    image: np.ndarray
    mask: np.ndarray | None
    label: str
    patient_id: str
    spacing_mm: tuple[float, float] | None = None
    filename: str = ""
    attributes: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.image.dtype != np.uint8 or self.image.ndim != 3 or self.image.shape[2] not in (1, 3):
            raise DataError(
                f"{self.source_id}: expected a uint8 image (height, width, 1 or 3), "
                f"found {self.image.dtype} {self.image.shape}. Convert it to 8-bit grey or RGB."
            )
        if self.mask is None:
            return
        if self.mask.dtype != np.uint8 or self.mask.shape != self.image.shape[:2]:
            raise DataError(
                f"{self.source_id}: the mask is {self.mask.dtype} {_size(self.mask)}, the image is "
                f"{_size(self.image)}; expected a uint8 mask of the image's size. "
                "Draw the mask on this image, or leave the image out."
            )

    @property
    def truth(self) -> np.ndarray:
        """The mask of an image that is annotated, as `mask`.

        Raises:
            DataError: it is not.
        """
        if self.mask is None:
            raise DataError(
                f"{self.source_id}: expected an annotated image, found no mask. Annotate it, or leave it out."
            )
        return self.mask


def count_regions(mask: np.ndarray) -> int:
    """The number of 8-connected regions of the class that has most.

    Args:
        mask: uint8 (height, width), class indices.
    """
    classes = np.unique(mask[mask > 0])
    return max((int(ndimage.label(mask == index, np.ones((3, 3)))[1]) for index in classes), default=0)


def _size(array: np.ndarray) -> str:
    return f"{array.shape[1]} × {array.shape[0]}" if array.ndim >= 2 else str(array.shape)
