"""Image, mask and both laid over each other, side by side, as Li et al. show their results (2021)."""

import colorsys

import cv2
import numpy as np

from ustoolkit.errors import ShapeError
from ustoolkit.inference.overlay import draw_outline, in_colour

# Far apart in hue and all bright, since they stand on black and on grey tissue.
CLASS_COLOURS = (
    (255, 170, 0),
    (70, 180, 255),
    (255, 90, 200),
    (90, 220, 110),
    (255, 240, 90),
    (165, 120, 255),
)
SMALLEST_SIDE = 160  # pixels; smaller images are enlarged until their caption fits
LARGEST_SIDE = 2000  # beyond which nothing is enlarged
_GAP = 6
_WHITE, _INK = 255, (40, 40, 40)


def draw_panel(image: np.ndarray, mask: np.ndarray, without_crf: np.ndarray | None = None) -> np.ndarray:
    """Draws an image beside its mask and beside the two fused, each with a caption above it.

    The mask's background is black and each class has a colour of its own, the same in every panel. In the fused
    picture it lies half transparent on the image, and outlined.

    Args:
        image: uint8 (height, width, 1 or 3).
        mask: uint8 (height, width), the predicted class indices, 0 background.
        without_crf: the same before the conditional random field, or None for no such picture; where it is given, it
            stands before the mask, and the captions say which is which.
    Returns:
        uint8 (height of the panel, width of the panel, 3): the pictures at the image's own size, or at the smallest
        whole multiple of it at which each side has `SMALLEST_SIDE` pixels and none over `LARGEST_SIDE`, on white.
    Raises:
        ShapeError: a mask is not of the image's height and width.
    """
    masks = {"mask": mask} if without_crf is None else {"without CRF": without_crf, "with CRF": mask}
    for given in masks.values():
        if given.shape != image.shape[:2]:
            raise ShapeError(
                f"the mask has shape {given.shape}, the image {image.shape}; expected the same height and width. "
                "Resize the mask to the image, with nearest neighbours."
            )
    times = max(1, min(-(-SMALLEST_SIDE // min(image.shape[:2])), LARGEST_SIDE // max(image.shape[:2])))
    plain = _enlarged(in_colour(image), times)
    coloured = {name: _coloured(_enlarged(given, times)) for name, given in masks.items()}
    pictures = {"image": plain, **coloured, "overlay": _fused(plain, _enlarged(mask, times))}
    height, width = plain.shape[:2]
    caption = max(18, round(min(width, height) / 17))
    canvas = np.full((caption + height + _GAP, len(pictures) * (width + _GAP) + _GAP, 3), _WHITE, np.uint8)
    for number, (name, picture) in enumerate(pictures.items()):
        left = _GAP + number * (width + _GAP)
        _write(canvas, name, left, caption)
        canvas[caption : caption + height, left : left + width] = picture
    return canvas


def class_colour(index: int) -> tuple[int, int, int]:
    """Red, green and blue, 0 to 255, of a class by its index from 1; no two of the classes 1 to 254 share one."""
    if index <= len(CLASS_COLOURS):
        return CLASS_COLOURS[index - 1]
    # Steps of the golden ratio around the circle of hues never come back to where they were.
    red, green, blue = colorsys.hsv_to_rgb(index * 0.6180339887 % 1, 0.75, 0.9)
    return round(255 * red), round(255 * green), round(255 * blue)


def _coloured(mask: np.ndarray) -> np.ndarray:
    colours = np.zeros((256, 3), np.uint8)
    for index in np.unique(mask[mask > 0]):
        colours[index] = class_colour(int(index))
    return colours[mask]


def _fused(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    blended = cv2.addWeighted(image, 0.5, _coloured(mask), 0.5, 0)
    canvas = np.where((mask > 0)[..., np.newaxis], blended, image)
    for index in np.unique(mask[mask > 0]):
        draw_outline(canvas, mask == index, class_colour(int(index)))
    return canvas


def _enlarged(pixels: np.ndarray, times: int) -> np.ndarray:
    return pixels.repeat(times, axis=0).repeat(times, axis=1)


def _write(canvas: np.ndarray, text: str, left: int, height: int) -> None:
    """Writes a caption into the first `height` rows of the canvas, from the column `left` on."""
    font = cv2.FONT_HERSHEY_SIMPLEX
    scale = cv2.getFontScaleFromHeight(font, round(0.48 * height))
    thickness = max(1, round(height / 20))
    cv2.putText(canvas, text, (left, round(0.66 * height)), font, scale, _INK, thickness, cv2.LINE_AA)
