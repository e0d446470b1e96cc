"""The device frame around a scan: black border, text, depth scale, grey bar, calipers."""

import cv2
import numpy as np

_GREY = 190
_WHITE = 255


def scan_area(size: tuple[int, int]) -> tuple[slice, slice]:
    """Rows and columns of the scan within a framed image of a height and width in pixels."""
    height, width = size
    return slice(round(0.09 * height), round(0.93 * height)), slice(round(0.05 * width), round(0.90 * width))


def draw_frame(
    scan: np.ndarray, size: tuple[int, int], device: str, depth_mm: float, frequency_mhz: float
) -> np.ndarray:
    """Sets a scan into its device's frame.

    Args:
        scan: uint8 (height, width) as `scan_area` gives them.
        size: height and width of the framed image in pixels.
        device: name to write above the scan.
        depth_mm: depth of the scan, for the scale beside it.
        frequency_mhz: written below the scan.
    Returns:
        uint8 (height, width).
    """
    height, width = size
    rows, columns = scan_area(size)
    image = np.zeros(size, np.uint8)
    image[rows, columns] = scan
    letter = min(height, width) / 256
    _write(image, device, (columns.start, rows.start - round(7 * letter)), 0.38 * letter)
    below = f"B {frequency_mhz:.1f} MHz  D {depth_mm / 10:.1f} cm"
    _write(image, below, (columns.start, height - round(5 * letter)), 0.32 * letter)
    per_mm = (rows.stop - rows.start) / depth_mm
    for tick in range(0, int(depth_mm) + 1, 5):
        row = min(rows.start + round(tick * per_mm), height - 1)
        length = round((6 if tick % 10 == 0 else 3) * letter)
        image[row, columns.stop + 1 : columns.stop + 1 + length] = _GREY
        if tick and tick % 10 == 0:
            _write(
                image,
                str(tick // 10),
                (columns.stop + round(9 * letter), row + round(4 * letter)),
                0.32 * letter,
            )
    bar = np.linspace(_WHITE, 0, max(2, round(0.2 * height)))[:, None]
    image[rows.start : rows.start + len(bar), : max(1, round(0.02 * width))] = bar
    return image


def draw_calipers(image: np.ndarray, points: np.ndarray) -> None:
    """Draws the crosses of a measurement.

    Args:
        image: uint8 (height, width), changed in place.
        points: int (count, 2), row and column of each cross.
    """
    arm = max(1, round(3 * min(image.shape) / 256))
    for row, column in points.tolist():
        cv2.line(image, (column - arm, row), (column + arm, row), _WHITE)
        cv2.line(image, (column, row - arm), (column, row + arm), _WHITE)


def lesion_axes(mask: np.ndarray, spacing_mm: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """The ends of a lesion's longest diameter and of its extent across that diameter.

    Args:
        mask: uint8 (height, width), not empty, 1 in the lesion.
        spacing_mm: (row, column) distance between pixel centres.
    Returns:
        Two int (2, 2) arrays of (row, column) points.
    """
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    hull = cv2.convexHull(np.concatenate(contours))[:, 0, ::-1]
    millimetres = hull * np.asarray(spacing_mm)
    between = millimetres[:, None] - millimetres[None]
    first, second = np.unravel_index(np.argmax(np.sum(between**2, axis=-1)), between.shape[:2])
    row_mm, column_mm = between[first, second]
    across = millimetres @ np.array([-column_mm, row_mm])
    return hull[[first, second]], hull[[np.argmin(across), np.argmax(across)]]


def _write(image: np.ndarray, text: str, origin: tuple[int, int], scale: float) -> None:
    """Writes text with its baseline's left end at (column, row); too small to read is left out."""
    if scale >= 0.25:
        cv2.putText(image, text, origin, cv2.FONT_HERSHEY_SIMPLEX, scale, _GREY, 1, cv2.LINE_AA)
