"""A lesion at one standard size, with its outline and its surroundings: what every family of measurements looks at.

Scanners differ in zoom and pixel size, so the lesion is scaled until the square root of its area, its `side`, has a set
number of pixels. All distances are then given in sides.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import cv2
import numpy as np
from skimage.measure import find_contours

from ustoolkit.errors import DataError

_SIDE = 80  # pixels of the square root of the lesion's area
_LONGEST = 4 * _SIDE  # pixels of a long, thin lesion
_ABOVE, _BESIDE, _BELOW = 0.8, 0.8, 1.3  # sides that are seen around the lesion; shadows lie below
_SMOOTHING = 0.015  # sides: steps of pixels are no spikes
_SCAN_SIZE = 128  # pixels of the picture in which the scan is told from the black around it
_BLACK = 2  # grey levels; compression leaves so much in black
_FLAT = 1.0  # grey levels, the step of 8-bit pixels
_NEAR, _FAR = 0.06, 0.5  # sides: the ring that the lesion is compared with
OUTLINE_POINTS = 256


class Measurement(NamedTuple):
    """What one number says of a lesion.

    Attributes:
        neutral: its value where it is undefined.
        meaning: one line.
    """

    neutral: float
    meaning: str


@dataclass(frozen=True, eq=False)
class Lesion:
    """The largest region of a mask, at the standard size, with what is around it.

    Attributes:
        grey: float32 (height, width), grey levels 0 to 255; what lies outside of the picture repeats its edge.
        inside: bool (height, width), the lesion without holes.
        seen: bool (height, width), pixels of the scan: not outside of the picture, not black around a scan, and not of
            another region of the mask.
        outline: float64 (256, 2), row and column of points at equal distances along the outline.
        side: pixels, the square root of the lesion's area.
        relative_width: of the lesion, fraction of the picture's width.
        depth: of the lesion's top below the picture's, in sides.
        relative_depth: of the lesion's middle, fraction of the picture's height.
    """

    grey: np.ndarray
    inside: np.ndarray
    seen: np.ndarray
    outline: np.ndarray
    side: float
    relative_width: float
    depth: float
    relative_depth: float

    @cached_property
    def distance(self) -> np.ndarray:
        """float32 (height, width), sides from the outline, negative inside."""
        inside = self.inside.astype(np.uint8)
        outwards = cv2.distanceTransform(1 - inside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        inwards = cv2.distanceTransform(inside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        return (outwards - inwards) / self.side

    @cached_property
    def box(self) -> tuple[np.float64, np.float64, np.float64, np.float64]:
        """Top, bottom, left and right of the outline, pixels."""
        (top, left), (bottom, right) = self.outline.min(axis=0), self.outline.max(axis=0)
        return top, bottom, left, right

    @cached_property
    def posterior(self) -> np.ndarray:
        """bool (height, width), what lies below the lesion's middle within its columns, where shadows fall."""
        top, bottom, left, right = self.box
        rows, columns = np.ogrid[: self.grey.shape[0], : self.grey.shape[1]]
        return (rows > (top + bottom) / 2) & (columns >= left) & (columns <= right) & ~self.inside

    @cached_property
    def around(self) -> np.ndarray:
        """bool (height, width), the tissue that the lesion is compared with: a ring, without what may be shadow."""
        return (self.distance > _NEAR) & (self.distance < _FAR) & self.seen & ~self.posterior

    @cached_property
    def level(self) -> float:
        """Median grey level of the tissue around; of the lesion where there is none."""
        return float(np.median(self.grey[self.around if self.around.any() else self.inside]))

    @cached_property
    def spread(self) -> float:
        """Grey levels: half the distance of the 16th and 84th percentiles of the tissue around; NaN where it is flat.

        By this, and not by the level, grey values are divided, so that neither brightness nor gain counts.
        """
        values = self.grey[self.around]
        if not values.size:
            return float("nan")
        low, high = np.percentile(values, (16, 84))
        return float(high - low) / 2 if high - low >= _FLAT else float("nan")

    def smoothed(self, sigma: float) -> np.ndarray:
        """The grey values after a Gaussian low-pass.

        Args:
            sigma: standard deviation, sides.
        Returns:
            float32 (height, width).
        """
        return cv2.GaussianBlur(self.grey, (0, 0), max(sigma * self.side, 0.1))


def view_lesion(image: np.ndarray, mask: np.ndarray) -> Lesion:
    """Cuts the largest lesion out with its surroundings, and scales it to the standard size.

    Args:
        image: uint8 (height, width, 1 or 3).
        mask: bool or uint8 (height, width); what is not 0 is lesion.
    Raises:
        DataError: image and mask differ in size or are not of these types, or the mask is empty.
    """
    _check(image, mask)
    grey = image[..., 0] if image.shape[2] == 1 else cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY)
    lesion, others, (top, left, tall, wide), area = _largest(mask)
    height, width = grey.shape
    scale = min(_SIDE / np.sqrt(area), _LONGEST / max(tall, wide))
    side = np.sqrt(area)
    rows = _window(top, tall, height, _ABOVE * side, _BELOW * side)
    columns = _window(left, wide, width, _BESIDE * side, _BESIDE * side)
    window = slice(max(0, rows[0]), min(height, rows[1])), slice(max(0, columns[0]), min(width, columns[1]))
    seen = _scan(grey, lesion)[window] & ~others[window]
    size = [max(1, round((part.stop - part.start) * scale)) for part in window]
    border = (
        round((window[0].start - rows[0]) * scale) + 2,
        round((rows[1] - window[0].stop) * scale) + 2,
        round((window[1].start - columns[0]) * scale) + 2,
        round((columns[1] - window[1].stop) * scale) + 2,
    )
    pixels = cv2.copyMakeBorder(_resize(grey[window], size), *border, cv2.BORDER_REPLICATE)
    share = cv2.copyMakeBorder(_resize(lesion[window], size), *border, cv2.BORDER_CONSTANT, value=0)
    share = cv2.GaussianBlur(share, (0, 0), max(_SMOOTHING * side * scale, 0.1))
    level = 0.5 if share.max() > 0.6 else float(share.max()) / 2  # a line thinner than the standard pixels
    outline = _outline(share, level)
    return Lesion(
        grey=pixels,
        inside=share > level,
        seen=cv2.copyMakeBorder(_resize(seen, size), *border, cv2.BORDER_CONSTANT, value=0) > 0.5,
        outline=outline,
        side=float(side * scale),
        relative_width=wide / width,
        depth=float(top / side),
        relative_depth=(top + tall / 2) / height,
    )


def _check(image: np.ndarray, mask: np.ndarray) -> None:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] not in (1, 3):
        raise DataError(
            f"image: expected uint8 (height, width, 1 or 3), found {image.dtype} {image.shape}. "
            "Convert it to 8-bit grey or RGB."
        )
    if mask.dtype not in (np.bool_, np.uint8) or mask.shape != image.shape[:2]:
        raise DataError(
            f"mask: expected bool or uint8 {image.shape[:2]} as its image, found {mask.dtype} {mask.shape}. "
            "Draw the mask on this image."
        )
    if not mask.any():
        raise DataError(
            "mask: expected a lesion to measure, found an empty mask. Draw the lesion, or leave the image out."
        )


def _largest(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray, tuple[int, int, int, int], int]:
    """The largest region without holes, the other regions, its top, left, height and width, and its area."""
    _, numbers, found, _ = cv2.connectedComponentsWithStats((mask != 0).astype(np.uint8), connectivity=8)
    number = 1 + int(np.argmax(found[1:, cv2.CC_STAT_AREA]))
    left, top, wide, tall = (int(value) for value in found[number, :4])
    box = slice(top, top + tall), slice(left, left + wide)
    part = (numbers[box] == number).astype(np.uint8)
    outlines, _ = cv2.findContours(part, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(part, outlines, -1, 1, cv2.FILLED)
    lesion = np.zeros(mask.shape, np.uint8)
    lesion[box] = part
    return lesion, (numbers > 0) & (lesion == 0), (top, left, tall, wide), int(part.sum())


def _window(start: int, length: int, whole: int, before: float, after: float) -> tuple[int, int]:
    """First and last row or column that is looked at, beyond the picture where the lesion is near its edge."""
    return int(np.floor(start - before)), int(np.ceil(start + length + after))


def _resize(pixels: np.ndarray, size: list[int]) -> np.ndarray:
    """(height, width) to float32 of another size, averaging where it shrinks."""
    how = cv2.INTER_AREA if size[0] < pixels.shape[0] else cv2.INTER_LINEAR
    return cv2.resize(np.ascontiguousarray(pixels).astype(np.float32), (size[1], size[0]), interpolation=how)


def _scan(grey: np.ndarray, lesion: np.ndarray) -> np.ndarray:
    """bool (height, width): the convex hull of what is not black and of the lesion.

    A hull, since a deep shadow is black too, but between tissue on both sides.
    """
    factor = max(1.0, max(grey.shape) / _SCAN_SIZE)
    size = [max(1, round(length / factor)) for length in grey.shape]
    small = cv2.medianBlur(np.rint(_resize(grey, size)).astype(np.uint8), 3)  # without text
    points = cv2.findNonZero(((small > _BLACK) | (_resize(lesion, size) > 0)).astype(np.uint8))
    hull = np.zeros(small.shape, np.uint8)
    cv2.fillConvexPoly(hull, cv2.convexHull(points), 1)
    return cv2.resize(hull, grey.shape[::-1], interpolation=cv2.INTER_NEAREST) > 0


def _outline(share: np.ndarray, level: float) -> np.ndarray:
    """Points at equal distances along the longest outline at `level`."""
    longest = max(find_contours(share, level), key=len)
    steps = np.hypot(*np.diff(longest, axis=0).T)
    along = np.concatenate([[0], np.cumsum(steps)])
    places = np.linspace(0, along[-1], OUTLINE_POINTS, endpoint=False)
    return np.stack([np.interp(places, along, longest[:, axis]) for axis in (0, 1)], axis=1)
