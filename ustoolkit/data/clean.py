"""Preparation of an image as in Li et al. 2021: crop to the scan, low-pass, no small bright objects, opening.

The paper (Ultrasonic Image Processing Based on DeepLab Network) prints the low-pass's standard deviation, and neither
the area nor the radius; those defaults are ours. See docs/cleaning.md.
"""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
from skimage.morphology import area_opening

from ustoolkit.data.field_of_view import Area, locate_scan, told_field_of_view
from ustoolkit.data.overlays import coloured
from ustoolkit.data.sample import Sample
from ustoolkit.recipe.data_set import CleanSettings

_FRINGE = 2  # pixels around a coloured mark that smoothing and JPEG have tinted
_BOXES = frozenset({"lesion_box", "box", "bbox", "bounding_box"})
_NEAR_FLOW = 0.1  # of the shorter side: how far from colour Doppler its small spots lie


def clean_sample(sample: Sample, settings: CleanSettings) -> Sample:
    """A sample with its image cleaned, and its mask and boxes moved with the crop.

    Args:
        sample: left as it is.
        settings: which steps, and how strong.
    Returns:
        the sample; where it was cropped, `attributes['cropped_to']` is the [x, y, width, height] that was kept.
    """
    image = list(clean_steps(sample, settings))[-1][1]
    if image.shape == sample.image.shape:
        return replace(sample, image=image)
    (top, bottom, left, right), _ = scan_of(sample)
    mask = sample.mask if sample.mask is None else np.ascontiguousarray(sample.mask[top:bottom, left:right])
    attributes = moved_boxes(sample.attributes, left, top)
    attributes.pop("ultrasound_regions", None)  # in pixels of the whole screen, with places of its texts and scales
    if "field_of_view" in attributes:
        attributes["field_of_view"] = [0, 0, right - left, bottom - top]
    attributes["cropped_to"] = [left, top, right - left, bottom - top]
    return replace(sample, image=image, mask=mask, attributes=attributes)


def clean_steps(sample: Sample, settings: CleanSettings) -> Iterator[tuple[str, np.ndarray]]:
    """Yields the image as it came, under '', then after each step that is asked for: uint8 (height, width, 1 or 3)."""
    image = sample.image
    yield "", image
    if "crop" in settings.steps:
        image = crop_to_scan(image, *scan_of(sample))
        yield "crop", image
    if "colours" in settings.steps:
        image = paint_over_colours(image, settings.coloured_mark_pixels)
        yield "colours", image
    if "smooth" in settings.steps:
        image = low_pass(image, settings.smoothing_pixels)
        yield "smooth", image
    if "bright" in settings.steps:
        image = remove_bright_objects(image, settings.smallest_bright_pixels)
        yield "bright", image
    if "open" in settings.steps:
        image = open_grey(image, settings.opening_radius_pixels)
        yield "open", image


def scan_of(sample: Sample) -> tuple[Area, np.ndarray]:
    """Where a sample's scan is, as its source told it or else as it looks, and the text beside it.

    Returns:
        top, bottom, left, right in pixels, grown where need be until all that is annotated lies within; and the
        pixels of the text, bool (height, width).
    """
    found, text = locate_scan(sample.image)
    top, bottom, left, right = told_field_of_view(sample.attributes, *sample.image.shape[:2]) or found
    if sample.mask is not None and sample.mask.any():
        rows, columns = (np.flatnonzero(sample.mask.any(axis=axis)) for axis in (1, 0))
        top, bottom = min(top, int(rows[0])), max(bottom, int(rows[-1]) + 1)
        left, right = min(left, int(columns[0])), max(right, int(columns[-1]) + 1)
    return (top, bottom, left, right), text


def crop_to_scan(image: np.ndarray, area: Area, text: np.ndarray | None = None) -> np.ndarray:
    """The part of a screen that is the scan.

    Args:
        image: uint8 (height, width, 1 or 3).
        area: top, bottom, left, right in pixels.
        text: bool (height, width), what to paint over in the screen's grey: text in the corners beside a sector.
    Returns:
        uint8 (bottom - top, right - left, 1 or 3).
    """
    top, bottom, left, right = area
    cropped = image[top:bottom, left:right].copy()
    if text is not None:
        letters = text[top:bottom, left:right]
        if letters.any():
            cropped[letters] = np.median(cropped[letters], axis=0)  # between letters there is more screen than ink
    return cropped


def paint_over_colours(image: np.ndarray, thickest: int = 6) -> np.ndarray:
    """Paints over coloured marks (calipers, dotted lines, letters) with what lies around them; colour Doppler stays.

    Args:
        image: uint8 (height, width, 1 or 3).
        thickest: pixels; a coloured region in which a disc of more fits is Doppler, and stays with all colour near it.
    Returns:
        uint8 of the same shape; the same values where nothing is coloured.
    """
    colour = coloured(image).astype(np.uint8)
    if not colour.any():
        return image
    flow = cv2.morphologyEx(colour, cv2.MORPH_OPEN, _disc(thickest + 1))
    near = round(_NEAR_FLOW * min(colour.shape))
    flow = cv2.dilate(flow, np.ones((2 * near + 1, 2 * near + 1), np.uint8))
    _, parts = cv2.connectedComponents(colour)
    parts[np.isin(parts, np.unique(parts[flow > 0]))] = 0
    marks = cv2.dilate((parts > 0).astype(np.uint8), _disc(2 * _FRINGE + 1))
    return cv2.inpaint(image, marks, 3, cv2.INPAINT_TELEA) if marks.any() else image


def low_pass(image: np.ndarray, deviation: float = 2.0) -> np.ndarray:
    """Gaussian low-pass.

    Args:
        image: uint8 (height, width, 1 or 3).
        deviation: standard deviation in pixels; the paper's is 2.
    """
    return cv2.GaussianBlur(image, (0, 0), deviation).reshape(image.shape)


def remove_bright_objects(image: np.ndarray, area: int = 100) -> np.ndarray:
    """Grey-scale area opening: lowers each bright object of less than an area to the brightest grey around it.

    Args:
        image: uint8 (height, width, 1 or 3); channels one by one.
        area: pixels.
    """
    area = min(area, image[..., 0].size)
    around = np.pad(image, ((1, 1), (1, 1), (0, 0)))  # scikit-image fails on a side of one or two pixels
    channels = [area_opening(around[..., channel], area)[1:-1, 1:-1] for channel in range(image.shape[2])]
    return np.stack(channels, axis=-1)


def open_grey(image: np.ndarray, radius: int = 2) -> np.ndarray:
    """Grey-scale opening: bright parts that a disc does not fit into are lowered to what lies around them.

    Args:
        image: uint8 (height, width, 1 or 3); channels one by one.
        radius: of the disc, pixels.
    """
    return cv2.morphologyEx(image, cv2.MORPH_OPEN, _disc(2 * radius + 1)).reshape(image.shape)


def moved_boxes(attributes: dict[str, Any], left: int, top: int) -> dict[str, Any]:
    """Attributes whose boxes [x, y, width, height] count from a crop's corner; text such as '[91,24,103,79]' too.

    A box is what is called lesion_box, box, bbox or bounding_box, in any case.

    Args:
        attributes: of a sample.
        left, top: of the crop, pixels.
    """
    moved = dict(attributes)
    for name, value in attributes.items():
        if name.lower() not in _BOXES:
            continue
        try:
            x, y, width, height = json.loads(value) if isinstance(value, str) else value
            box = [x - left, y - top, width, height]
        except (TypeError, ValueError):
            continue  # no box of this form, so nothing that is known to move
        moved[name] = json.dumps(box) if isinstance(value, str) else box
    return moved


def _disc(diameter: int) -> np.ndarray:
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (diameter, diameter))
