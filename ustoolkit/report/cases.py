"""The best, the typical and the worst images of an evaluation, as pictures that stand inside a page."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from ustoolkit.data.image_files import read_mask
from ustoolkit.data.records import Records
from ustoolkit.data.sample import Sample
from ustoolkit.errors import DataError, RunError
from ustoolkit.files import safe_name
from ustoolkit.inference.overlay import draw_overlay
from ustoolkit.report.rendering import picture_address
from ustoolkit.report.scores import ImageScore

A_GROUP = 4
LONGEST_SIDE = 320  # pixels


@dataclass(frozen=True)
class Case:
    """An image shown in the report.

    Attributes:
        score: how it went.
        overlay: `data:` address of the image with both outlines.
        plain: `data:` address of the image alone.
        width, height: of both pictures, in pixels.
    """

    score: ImageScore
    overlay: str
    plain: str
    width: int
    height: int


def choose_cases(scores: Sequence[ImageScore], a_group: int = A_GROUP) -> dict[str, list[ImageScore]]:
    """Picks images by Dice; none is picked twice, and images without a defined Dice are not picked.

    Args:
        scores: of all images.
        a_group: the most images to pick for a group; fewer where there are not three times as many.
    Returns:
        'worst' (the lowest Dice first), 'median' (those around the median, the lower first), 'best' (the
        highest first); groups may be empty.
    """
    defined = [score for score in scores if not math.isnan(score.dice)]
    ranked = sorted(defined, key=lambda score: (score.dice, score.source_id))
    number = min(a_group, math.ceil(len(ranked) / 3))
    worst, rest = ranked[:number], ranked[number:]
    best = rest[max(0, len(rest) - number) :][::-1]
    rest = rest[: len(rest) - len(best)]
    start = max(0, (len(rest) - number + 1) // 2)
    return {"worst": worst, "median": rest[start : start + number], "best": best}


def draw_cases(
    groups: dict[str, list[ImageScore]], records: Records, masks: Path, num_classes: int
) -> dict[str, list[Case]]:
    """Draws the picked images with their outlines.

    Args:
        groups: as `choose_cases` gives them.
        records: that hold the images and the annotated masks.
        masks: the folder of predicted masks, of the evaluation.
        num_classes: how many classes there are, the background included.
    Returns:
        the same groups, drawn.
    Raises:
        RunError: a predicted mask is missing, damaged, or not of its image's size.
        RecordsError: a shard is damaged.
    """
    wanted = {score.source_id for scores in groups.values() for score in scores}
    samples = {sample.source_id: sample for sample in records.read(wanted)} if wanted else {}
    return {
        group: [_case(score, samples[score.source_id], masks, num_classes) for score in scores]
        for group, scores in groups.items()
    }


def _case(score: ImageScore, sample: Sample, masks: Path, num_classes: int) -> Case:
    prediction = read_prediction(masks / f"{safe_name(sample.source_id)}.png", sample, num_classes)
    size = shown_size(sample)
    image = cv2.resize(sample.image, size, interpolation=cv2.INTER_AREA)
    image = image[..., np.newaxis] if image.ndim == 2 else image
    # Outlines are drawn at the size shown, so that none gets thinner than a pixel.
    truth = None if sample.mask is None else cv2.resize(sample.mask, size, interpolation=cv2.INTER_NEAREST)
    prediction = cv2.resize(prediction, size, interpolation=cv2.INTER_NEAREST)
    overlay = draw_overlay(image, prediction, truth, thickness=2)
    return Case(score, picture_address(overlay), picture_address(image), *size)


def shown_size(sample: Sample, longest_side: int = LONGEST_SIDE) -> tuple[int, int]:
    """Width and height of the picture; where the spacing is known, lengths compare as they do in the body."""
    height, width = sample.image.shape[:2]
    if sample.spacing_mm:
        height, width = height * sample.spacing_mm[0], width * sample.spacing_mm[1]
    scale = longest_side / max(height, width)
    return max(1, round(width * scale)), max(1, round(height * scale))


def read_prediction(path: Path, sample: Sample, num_classes: int) -> np.ndarray:
    """A predicted mask, uint8 (height, width), class indices; `RunError` where it is not one of the sample's image."""
    remedy = "Run 'ustoolkit evaluate' again."
    try:
        prediction = read_mask(path, num_classes)
    except DataError as problem:
        raise RunError(f"{problem} {remedy}") from None
    if prediction.shape != sample.image.shape[:2]:
        height, width = sample.image.shape[:2]
        raise RunError(
            f"{path}: expected a mask of the image's {width} × {height} pixels, found "
            f"{prediction.shape[1]} × {prediction.shape[0]}. {remedy}"
        )
    return prediction
