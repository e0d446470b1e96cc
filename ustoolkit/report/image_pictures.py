"""The pictures of all images of a page, small and encoded once: image, outlines, probability."""

import base64
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from ustoolkit.data.records import Records
from ustoolkit.data.sample import Sample
from ustoolkit.errors import RunError
from ustoolkit.files import safe_name
from ustoolkit.inference.lesion_probability import PROBABILITY_FOLDER
from ustoolkit.progress import progress
from ustoolkit.report.cases import LONGEST_SIDE, read_prediction, shown_size
from ustoolkit.report.outlines import class_outlines
from ustoolkit.report.scores import ImageScore

MOST_AT_FULL_SIZE = 500  # images; of more each gets smaller, so that the page does not grow
_SMALLEST_SIDE = 96  # pixels
_PROBABILITY_SIDE = 128  # pixels
_IMAGE_QUALITY, _PROBABILITY_QUALITY = 80, 80  # of WebP


def image_pictures(
    scores: Sequence[ImageScore], records: Records, evaluation: Path, num_classes: int, other: Path | None = None
) -> list[dict[str, Any]]:
    """What a page needs to draw each image and what was found on it.

    Args:
        scores: of the images, in the order of the result.
        records: that hold the images and the annotated masks.
        evaluation: folder with the predicted masks, and perhaps probabilities.
        num_classes: how many classes there are, the background included.
        other: another evaluation of the same images, as with the CRF.
    Returns:
        JSON-serialisable dicts of width and height (pixels), image (WebP in base64), truth, prediction and other (a
        path for each class, see `outlines`; other only where it is asked for), probability (WebP in base64, where the
        evaluation kept it) and width_mm (where the spacing is known).
    Raises:
        RunError: a mask or a probability is damaged, or a mask is missing.
        RecordsError: a shard is damaged.
    """
    places = {score.source_id: number for number, score in enumerate(scores)}
    longest = longest_side(len(scores))
    pictures: list[dict[str, Any]] = [{}] * len(scores)
    for sample in progress(records.read(places), "drawing", total=len(places)):
        found = _picture(sample, evaluation, num_classes, longest)
        if other is not None:
            found["other"] = _predicted(sample, other, num_classes, (found["width"], found["height"]))
        pictures[places[sample.source_id]] = found
    return pictures


def longest_side(images: int) -> int:
    """Pixels of the longer side of each picture on a page of so many images."""
    if images <= MOST_AT_FULL_SIZE:
        return LONGEST_SIDE
    return max(_SMALLEST_SIDE, round(LONGEST_SIDE * math.sqrt(MOST_AT_FULL_SIZE / images)))


def _picture(sample: Sample, evaluation: Path, num_classes: int, longest: int) -> dict[str, Any]:
    size = shown_size(sample, longest)
    truth = np.zeros(sample.image.shape[:2], np.uint8) if sample.mask is None else sample.mask
    picture: dict[str, Any] = {
        "width": size[0],
        "height": size[1],
        "image": _webp(cv2.resize(sample.image, size, interpolation=cv2.INTER_AREA), _IMAGE_QUALITY),
        "truth": class_outlines(truth, num_classes, size),
        "prediction": _predicted(sample, evaluation, num_classes, size),
    }
    probability = _probability(evaluation / PROBABILITY_FOLDER / f"{safe_name(sample.source_id)}.png", size)
    width_mm = round(sample.image.shape[1] * sample.spacing_mm[1], 2) if sample.spacing_mm else None
    known = {"probability": probability, "width_mm": width_mm}
    return {**picture, **{name: value for name, value in known.items() if value is not None}}


def _predicted(sample: Sample, evaluation: Path, num_classes: int, size: tuple[int, int]) -> list[str]:
    mask = read_prediction(evaluation / "masks" / f"{safe_name(sample.source_id)}.png", sample, num_classes)
    return class_outlines(mask, num_classes, size)


def _probability(path: Path, size: tuple[int, int]) -> str | None:
    """None where it was not kept, as by evaluations of earlier versions."""
    if not path.is_file():
        return None
    try:
        values = np.asarray(Image.open(path).convert("L"))
    except (OSError, UnidentifiedImageError, ValueError) as problem:
        raise RunError(
            f"{path}: expected a picture of probabilities, found something else ({problem}). Run 'ustoolkit evaluate' "
            "again."
        ) from None
    scale = min(1.0, _PROBABILITY_SIDE / max(size))
    small = max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
    return _webp(cv2.resize(values, small, interpolation=cv2.INTER_AREA), _PROBABILITY_QUALITY)


def _webp(pixels: np.ndarray, quality: int) -> str:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "WEBP", quality=quality, method=4)
    return base64.b64encode(stream.getvalue()).decode()
