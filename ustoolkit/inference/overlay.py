"""Contours on an image: truth red, prediction green, as in the lightweight paper's figures."""

import cv2
import numpy as np

TRUTH_COLOUR = (255, 64, 64)
PREDICTION_COLOUR = (64, 255, 96)


def draw_overlay(
    image: np.ndarray, prediction: np.ndarray | None, truth: np.ndarray | None = None, thickness: int = 0
) -> np.ndarray:
    """Draws the outlines of masks on an image.

    Args:
        image: uint8 (height, width, 1 or 3).
        prediction: uint8 (height, width), class indices, or None.
        truth: the same, or None; drawn below the prediction.
        thickness: of the lines, pixels; 0 for one that suits the image's size.
    Returns:
        uint8 (height, width, 3).
    """
    canvas = in_colour(image)
    for mask, colour in ((truth, TRUTH_COLOUR), (prediction, PREDICTION_COLOUR)):
        for index in np.unique(mask[mask > 0]) if mask is not None else ():
            draw_outline(canvas, mask == index, colour, thickness)
    return canvas


def in_colour(image: np.ndarray) -> np.ndarray:
    """A copy of an image to draw on.

    Args:
        image: uint8 (height, width, 1 or 3).
    Returns:
        uint8 (height, width, 3), C-contiguous; grey stays grey.
    """
    return np.repeat(image, 3, axis=2) if image.shape[2] == 1 else np.array(image, order="C")


def draw_outline(canvas: np.ndarray, region: np.ndarray, colour: tuple[int, int, int], thickness: int = 0) -> None:
    """Draws the outlines of a region, those of its holes too, on a canvas.

    Args:
        canvas: uint8 (height, width, 3), changed in place.
        region: bool (height, width).
        colour: red, green, blue, 0 to 255.
        thickness: of the lines, pixels; 0 for one that suits the canvas's size.
    """
    contours, _ = cv2.findContours(region.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(canvas, contours, -1, colour, thickness or max(1, round(max(canvas.shape[:2]) / 400)))
