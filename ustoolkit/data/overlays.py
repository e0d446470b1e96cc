"""What a scanner's software or an annotator drew over an image: calipers, text, colour."""

from dataclasses import dataclass

import cv2
import numpy as np

COLOUR_DIFFERENCE = 40  # between a pixel's strongest and weakest channel; JPEG leaves less on grey tissue
# A cross's arms in pixels, and by how many grey levels they stand out on both sides. Chance makes short ones sooner.
_UPRIGHT = ((3, 50), (4, 25))
_OBLIQUE = ((4, 25),)
_MIDDLE = 2  # pixels around a cross's centre where the one bar is beside the other
_STROKE = 5  # pixels; letters are drawn thinner, and speckle is wider along the probe
_STROKE_CONTRAST = 45  # grey levels
_SHORTEST_STROKE = 4  # pixels
_FEWEST_STROKES = 4  # upright ones in a line of text
_BORDER = 8  # pixels, more than any shift below

Box = tuple[int, int, int, int]  # x, y, width, height


@dataclass(frozen=True)
class Overlays:
    """What was found drawn over one image.

    Attributes:
        coloured_fraction: share of the pixels that are not grey, in [0, 1].
        calipers: crosses, upright or oblique, that are no part of a text.
        text_regions: lines of text.
    """

    coloured_fraction: float
    calipers: int
    text_regions: int


def find_overlays(image: np.ndarray) -> Overlays:
    """Looks for what was drawn over an image.

    Marks of seven pixels and more are seen, letters of six and more. A dotted line between calipers is not counted.

    Args:
        image: uint8 (height, width, 1 or 3).
    """
    grey = brightness(image)
    text = text_boxes(grey)
    calipers = [centre for centre in caliper_centres(grey) if not is_within(centre, text)]
    return Overlays(
        coloured_fraction=round(float(np.count_nonzero(coloured(image)) / grey.size), 6),
        calipers=len(calipers),
        text_regions=len(text),
    )


def brightness(image: np.ndarray) -> np.ndarray:
    """The strongest channel, by which a yellow mark is bright: uint8 (height, width) of (height, width, 1 or 3)."""
    channels = cv2.split(image)
    return channels[0] if len(channels) == 1 else cv2.max(cv2.max(*channels[:2]), channels[2])


def coloured(image: np.ndarray) -> np.ndarray:
    """The pixels that are not grey, bool (height, width), of a uint8 image (height, width, 1 or 3)."""
    channels = cv2.split(image)
    if len(channels) == 1:
        return np.zeros(image.shape[:2], bool)
    weakest = cv2.min(cv2.min(*channels[:2]), channels[2])
    return cv2.subtract(brightness(image), weakest) > COLOUR_DIFFERENCE


def caliper_centres(grey: np.ndarray) -> list[tuple[int, int]]:
    """Centres of the crosses that mark a measurement's ends, as (row, column); letters such as + are among them.

    Along each of a cross's four arms every pixel is brighter than what lies on both sides of it.

    Args:
        grey: uint8 (height, width).
    """
    found = cv2.dilate(_crosses(grey), np.ones((5, 5), np.uint8))
    _, _, _, centres = cv2.connectedComponentsWithStats(found)
    return [(round(row), round(column)) for column, row in centres[1:]]


def text_boxes(grey: np.ndarray) -> list[Box]:
    """Lines of text, as boxes (x, y, width, height) in pixels.

    Letters have upright strokes narrower than speckle, several of them side by side at one height.

    Args:
        grey: uint8 (height, width).
    """
    narrow = cv2.morphologyEx(grey, cv2.MORPH_TOPHAT, np.ones((1, _STROKE), np.uint8)) > _STROKE_CONTRAST
    strokes = cv2.morphologyEx(narrow.astype(np.uint8), cv2.MORPH_OPEN, np.ones((_SHORTEST_STROKE, 1), np.uint8))
    _, _, stats, _ = cv2.connectedComponentsWithStats(strokes)
    tallest = max(16, min(grey.shape) // 12)
    upright = stats[1:][(stats[1:, 2] <= stats[1:, 3]) & (stats[1:, 3] <= tallest), :4]
    return [_around(line) for line in _lines(upright.tolist()) if len(line) >= _FEWEST_STROKES]


def _crosses(grey: np.ndarray) -> np.ndarray:
    """1 at the centres of crosses, else 0: uint8 (height, width)."""
    height, width = grey.shape
    around: np.ndarray = cv2.copyMakeBorder(grey, _BORDER, _BORDER, _BORDER, _BORDER, cv2.BORDER_CONSTANT)
    found = np.zeros_like(around)
    row, column = _standing_out(around, 0, 3), _standing_out(around, 3, 0)
    falling, rising = _standing_out(around, 2, -2), _standing_out(around, 2, 2)
    # A cross's middle stands out between its bars too; the inside of an o, or the corner of a 4, does not.
    upright_middle = cv2.min(_standing_out(around, 3, -3), _standing_out(around, 3, 3))
    oblique_middle = cv2.min(row, column)
    for arm, contrast in _UPRIGHT:
        bar = _bar(arm)
        bars = cv2.min(cv2.erode(row, bar[None]), cv2.erode(column, bar[:, None]))
        found |= (cv2.min(bars, upright_middle) > contrast).astype(np.uint8)
    for arm, contrast in _OBLIQUE:
        bar = np.diag(_bar(arm))
        bars = cv2.min(cv2.erode(falling, bar), cv2.erode(rising, bar[::-1]))
        found |= (cv2.min(bars, oblique_middle) > contrast).astype(np.uint8)
    return found[_BORDER : _BORDER + height, _BORDER : _BORDER + width]


def _bar(arm: int) -> np.ndarray:
    return (np.abs(np.arange(-arm, arm + 1)) >= _MIDDLE).astype(np.uint8)


def _standing_out(grey: np.ndarray, right: int, down: int) -> np.ndarray:
    """How much brighter each pixel is than the brighter of its neighbours at an offset and the opposite one."""
    shift = ((down, right), (-down, -right))
    return cv2.subtract(grey, cv2.max(*[np.roll(grey, offset, (0, 1)) for offset in shift]))


def _lines(strokes: list[list[int]]) -> list[list[list[int]]]:
    """Strokes side by side at one height, from left to right."""
    lines: list[list[list[int]]] = []
    for stroke in sorted(strokes):
        x, y, _, height = stroke
        for line in reversed(lines):
            last_x, last_y, last_width, last_height = line[-1]
            level = min(y + height, last_y + last_height) - max(y, last_y) >= 0.6 * min(height, last_height)
            if level and x - (last_x + last_width) <= 2 * max(height, last_height):
                line.append(stroke)
                break
        else:
            lines.append([stroke])
    return lines


def _around(strokes: list[list[int]]) -> Box:
    x, y = min(stroke[0] for stroke in strokes), min(stroke[1] for stroke in strokes)
    right, bottom = max(stroke[0] + stroke[2] for stroke in strokes), max(stroke[1] + stroke[3] for stroke in strokes)
    return x, y, right - x, bottom - y


def is_within(centre: tuple[int, int], boxes: list[Box]) -> bool:
    """Whether a point lies in a line of text or where its next letters would be."""
    row, column = centre
    return any(x - 2 * h <= column < x + w + 2 * h and y - h // 2 <= row < y + h + h // 2 for x, y, w, h in boxes)
