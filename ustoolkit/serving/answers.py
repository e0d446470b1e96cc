"""What the server says of one image: masks and pictures, outlines, sizes, and the diagnosis where there is one."""

import base64
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy import ndimage

from ustoolkit.data.annotations.labelme import labelme_content
from ustoolkit.data.annotations.outlines import outlines
from ustoolkit.data.image_files import encode_png
from ustoolkit.evaluation.measurements import Ends, measure_size
from ustoolkit.serving.served_model import ServedModel
from ustoolkit.serving.uploads import Upload

_SEVERAL = "Several regions were found; the diameters and the area are those of the largest."
_NO_LESION = "No lesion was found, so there is no diagnosis."
_NO_SPACING = "The distance of pixels is not known, so there are no sizes in mm. Give it as spacing_mm."
_EIGHT_CONNECTED = np.ones((3, 3))


def describe(model: ServedModel, upload: Upload, outputs: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The answer to one image, but for the time that it took.

    Args:
        model: that was asked.
        upload: the image, with the spacing to measure by.
        outputs: of the signature 'with_spacing', for this image alone: 'mask' (1, height, width), 'probability', …
    Returns:
        JSON-serialisable. Points are [x, y] in pixels, where whole numbers are the middles of pixels.
    """
    mask, warnings = outputs["mask"][0], list(upload.warnings)
    height, width = mask.shape
    found = bool(mask.any())
    polygons = [
        (model.classes[index], points) for index in range(1, len(model.classes)) for points in outlines(mask == index)
    ]
    if found and upload.spacing_mm is None:
        warnings.append(_NO_SPACING)
    measured = _measurements(mask, upload.spacing_mm, warnings) if found else None
    return {
        "model": {"name": model.name, "version": model.version, "task": model.task},
        "width": width,
        "height": height,
        "spacing_mm": upload.spacing_mm,
        "lesion_found": found,
        "image_png": _base64(encode_png(upload.pixels)),
        "mask_png": _base64(encode_png(mask * 255 if len(model.classes) == 2 else mask)),
        "probability_png": _probability_png(outputs["probability"][0]),
        "contours": [{"class": name, "points": [list(point) for point in points]} for name, points in polygons],
        "measurements": measured,
        "diagnosis": _diagnosis(model, outputs, found, warnings),
        "labelme": labelme_content(polygons, "image.png", height, width),
        "warnings": warnings,
        "notice": str(model.metadata.get("notice", "")),
    }


def _measurements(
    mask: np.ndarray, spacing_mm: tuple[float, float] | None, warnings: list[str]
) -> dict[str, float | list[list[float]] | None]:
    lesion = _largest_region(mask)
    if np.count_nonzero(lesion) < np.count_nonzero(mask):
        warnings.append(_SEVERAL)
    size = measure_size(lesion)
    in_mm = None if spacing_mm is None else measure_size(lesion, spacing_mm)
    # Where pixels are no squares, the longest line in mm may be another than in pixels: mm are what a user reads.
    drawn = in_mm or size
    return {
        "area_pixels": size.area,
        "area_mm2": in_mm.area if in_mm else None,
        "long_diameter_pixels": size.long_diameter,
        "long_diameter_mm": in_mm.long_diameter if in_mm else None,
        "short_diameter_pixels": size.short_diameter,
        "short_diameter_mm": in_mm.short_diameter if in_mm else None,
        "long_ends": _points(drawn.long_ends),
        "short_ends": _points(drawn.short_ends),
    }


def _largest_region(mask: np.ndarray) -> np.ndarray:
    """bool (height, width), the largest 8-connected region of any class; of equal ones the first."""
    largest, most = np.zeros(mask.shape, bool), 0
    for index in np.unique(mask[mask > 0]):
        regions, _ = ndimage.label(mask == index, structure=_EIGHT_CONNECTED)
        sizes = np.bincount(regions.ravel())[1:]
        if sizes.max() > most:
            largest, most = regions == sizes.argmax() + 1, sizes.max()
    return largest


def _diagnosis(
    model: ServedModel, outputs: Mapping[str, np.ndarray], found: bool, warnings: list[str]
) -> dict[str, Any] | None:
    classifier = model.metadata.get("classifier")
    if not classifier or "label_probability" not in outputs:
        return None
    if not found:
        warnings.append(_NO_LESION)
        return None
    return {
        "labels": list(classifier["labels"]),
        "label_probability": [float(share) for share in outputs["label_probability"][0]],
        "positive": classifier["positive"],
        "threshold": classifier["threshold"],
        "decision": outputs["decision"][0].decode("utf-8"),
        "note": _note(classifier),
    }


def _note(classifier: Mapping[str, Any]) -> str:
    temperature = classifier.get("temperature")
    if not isinstance(temperature, int | float) or not math.isfinite(temperature):
        return "The probability is not calibrated."
    return (
        f"The probability is calibrated (temperature {temperature:.2f}) on validation images, and holds for their "
        "share of labels."
    )


def _probability_png(probability: np.ndarray) -> str | None:
    """Of the lesion, 0 to 255; None for three classes or more, which have one each."""
    if probability.shape[-1] != 1:
        return None
    return _base64(encode_png(np.round(probability * 255).astype(np.uint8)))


def _points(ends: Ends) -> list[list[float]]:
    return [[column, row] for row, column in ends]


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")
