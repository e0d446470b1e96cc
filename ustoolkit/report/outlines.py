"""Outlines of masks as paths of a drawing, so that a page draws them over an image at any size."""

from collections.abc import Iterator

import contourpy
import cv2
import numpy as np

SCALE = 4  # whole numbers in a path for each pixel of the picture: a quarter of a pixel is seen by nobody
_TOLERANCE = 0.3  # pixels of the picture that a path may lie beside the mask's edge


def outline_path(region: np.ndarray, size: tuple[int, int]) -> str:
    """The outline of a region and of its holes.

    Args:
        region: bool (height, width).
        size: width and height of the picture that it is drawn on, pixels; its shape may differ from the region's.
    Returns:
        the `d` of an SVG path, in units of 1 / `SCALE` pixels of the picture, to be filled by 'evenodd'; '' for an
        empty region.
    """
    return "".join(_loop(points) for points in _contours(region, size))


def class_outlines(mask: np.ndarray, num_classes: int, size: tuple[int, int]) -> list[str]:
    """The `outline_path` of each class but the background.

    Args:
        mask: uint8 (height, width), class indices.
        num_classes: how many there are, the background included.
        size: see `outline_path`.
    """
    return [outline_path(mask == index, size) for index in range(1, num_classes)]


def _contours(region: np.ndarray, size: tuple[int, int]) -> Iterator[np.ndarray]:
    """Closed polygons, int (points, 2) of across and down, that are more than a line."""
    height, width = region.shape
    # Pixel (0, 0) of the padded region has its centre half a pixel outside of the image.
    padded = np.pad(region, 1).astype(float)
    factors = SCALE * np.array([size[0] / width, size[1] / height])
    for line in contourpy.contour_generator(z=padded).lines(0.5):
        points = (np.asarray(line) - 0.5) * factors
        simple = cv2.approxPolyDP(points[:-1].astype(np.float32)[:, np.newaxis], SCALE * _TOLERANCE, closed=True)
        whole = np.rint(simple[:, 0]).astype(int)
        if len(whole) > 2:
            yield whole


def _loop(points: np.ndarray) -> str:
    """A closed path in steps from point to point, which are shorter to write than places."""
    steps = np.diff(points, axis=0)
    return f"M{_pair(points[0])}l{''.join(map(_step, steps)).removeprefix(' ')}z"


def _step(step: np.ndarray) -> str:
    text = _pair(step)
    return text if text.startswith("-") else f" {text}"


def _pair(values: np.ndarray) -> str:
    across, down = values
    return f"{across}{'' if down < 0 else ' '}{down}"
