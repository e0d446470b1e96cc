"""What a report says of scores: an image at a time, by group, and in a sentence."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ustoolkit.data.records import IndexRow
from ustoolkit.errors import RecordsError
from ustoolkit.evaluation.statistics import summarise

# Name and meaning of each metric, for readers who are not of the trade.
EXPLANATIONS: dict[str, tuple[str, str]] = {
    "dice": (
        "Dice",
        "How far two outlines cover the same area: twice the shared area over the sum of both areas. 1 means "
        "identical, 0 means that they do not touch. Two equal circles score 0.87 where one is shifted by a "
        "tenth of the diameter, and 0.39 where it is shifted by half.",
    ),
    "iou": (
        "IoU",
        "The shared area over the area that either outline covers (Jaccard index). It ranks images as Dice "
        "does, and is never the higher of the two.",
    ),
    "adjusted_rand": (
        "Adjusted Rand",
        "Of all pairs of pixels, how many both outlines put on one side or both put apart, corrected for chance: 1 "
        "means identical, 0 what chance would give. It counts the background too.",
    ),
    "pixel_accuracy": (
        "Pixel accuracy",
        "Share of all pixels that were classified correctly. Most pixels are background, so it stays high "
        "even where the lesion is missed; read it beside Dice, never alone.",
    ),
    "pixel_error": (
        "Pixel error",
        "Share of all pixels that were classified falsely, 1 less pixel accuracy. 0 is perfect.",
    ),
    "sensitivity": (
        "Sensitivity",
        "Share of the annotated lesion that the prediction covers. Low: lesion is left out.",
    ),
    "specificity": (
        "Specificity",
        "Share of the background that the prediction leaves alone. Low: too much is marked.",
    ),
    "hausdorff95": (
        "HD95",
        "The distance that 95 % of each outline keeps to the other (95 % Hausdorff distance): how far the "
        "outline is off where it is nearly at its worst. 0 is perfect. Undefined where one of the outlines "
        "is missing.",
    ),
    "hausdorff95_penalised": (
        "HD95, penalised",
        "The same, but a lesion wholly missed, or marked where there is none, counts as the whole image "
        "diagonal, so that predicting nothing never looks good.",
    ),
}
_UNITS = {"_mm": "mm", "_pixel": "pixels"}


@dataclass(frozen=True)
class ImageScore:
    """How one image went, all classes together.

    Attributes:
        source_id, patient_id, label: as in `Sample`.
        dice: mean over the classes where it is defined; NaN where it is in none.
        distance: the largest 95 % Hausdorff distance of its classes; NaN where it is undefined in all.
        unit: of the distance, 'mm' or 'pixels'.
        size: of the annotated lesion, in the unit of `size_name`; 0 where none is annotated.
        missed: whether a lesion is annotated and none of it was predicted.
        invented: whether a lesion was predicted where none is annotated.
        sensitivity: share of the annotated lesion that was predicted, the mean over the classes; NaN where none is.
        area_ratio: predicted over annotated area, all classes together; NaN where nothing is annotated.
    """

    source_id: str
    patient_id: str
    label: str
    dice: float
    distance: float
    unit: str
    size: float
    missed: bool
    invented: bool
    sensitivity: float = math.nan
    area_ratio: float = math.nan


def image_scores(rows: Iterable[dict[str, Any]], index: Iterable[IndexRow]) -> tuple[list[ImageScore], str]:
    """Gathers the rows of an evaluation by image.

    Args:
        rows: as `evaluation.tables.read_rows` gives them.
        index: of the records that were evaluated.
    Returns:
        a score for each image in the order of the rows, and what their `size` measures: 'lesion diameter, mm'
        (of the circle of its area) where every image has a pixel spacing, else 'lesion area, % of the image'.
    Raises:
        RecordsError: the records do not hold an image of the rows.
    """
    known = {row.source_id: row for row in index}
    by_image: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_image.setdefault(row["source_id"], []).append(row)
    for source_id in by_image:
        if source_id not in known:
            raise RecordsError(
                f"the records do not hold '{source_id}', which was evaluated. Name the records that the "
                "evaluation was made on, or run 'ustoolkit evaluate' again."
            )
    in_mm = all(known[source_id].spacing_mm for source_id in by_image)
    scores = [_image_score(of_image, known[source_id], in_mm) for source_id, of_image in by_image.items()]
    return scores, "lesion diameter, mm" if in_mm else "lesion area, % of the image"


def metric_rows(summaries: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """The score table of one class.

    Args:
        summaries: by metric, as in `metrics.json`.
    Returns:
        the summaries with `key`, `name` and `unit` ('' for none); metrics defined on no image are left out.
    """
    return [{"key": key, **_named(key), **values} for key, values in summaries.items() if values["count"]]


def group_row(name: str, scores: Sequence[ImageScore]) -> dict[str, Any]:
    """The table row of a group of images.

    Returns:
        dict of name, images, patients, dice (a summary), distance (the median HD95; NaN where units differ), its unit,
        and missed (how many lesions were).
    """
    patients = [score.patient_id for score in scores]
    units = {score.unit for score in scores}
    distances = [score.distance for score in scores] if len(units) == 1 else []
    return {
        "name": name,
        "images": len(scores),
        "patients": len(set(patients)),
        "dice": summarise([score.dice for score in scores], groups=patients),
        "distance": summarise(distances)["median"],
        "unit": min(units),
        "missed": sum(score.missed for score in scores),
    }


def labels_of(scores: Sequence[ImageScore]) -> list[str]:
    """The labels that occur, in the order of the alphabet, '' (no label) last."""
    return sorted({score.label for score in scores}, key=lambda label: (not label, label))


def summary_sentences(metrics: dict[str, Any], scores: Sequence[ImageScore], part: str) -> tuple[str, str]:
    """What came out, in words.

    Args:
        metrics: the content of `metrics.json`.
        scores: of its images.
        part: 'train', 'validation', 'test' or 'all', as the evaluation was asked for.
    Returns:
        the result, and what else a reader must know about it.
    """
    own = metrics["settings"].get("own_records", True)
    seen = {
        "test": "that training never saw",
        "validation": "that chose the best epoch, so that the scores flatter the network",
        "train": "that the network was trained on, so that the scores flatter it",
        "all": "that include those of training, so that the scores flatter the network",
    }.get(part, "")
    seen = "of other records, which training never saw" if not own else seen
    classes = metrics["classes"]
    parts = [
        f"{_interval(summaries['dice'])}{f' for {name}' if len(classes) > 1 else ''}"
        for name, summaries in classes.items()
        if summaries["dice"]["count"]
    ]
    counted = f"{_counted(metrics['images'], 'image')} of {_counted(metrics['patients'], 'patient')}"
    if not parts:
        return f"On {counted} {seen}, nothing was annotated and nothing predicted.", ""
    result = (
        f"On {counted} {seen}, the predicted outline overlapped the annotated one with a mean Dice of "
        f"{' and '.join(parts)}."
    )
    return result, " ".join(_on_misses(scores))


def _on_misses(scores: Sequence[ImageScore]) -> list[str]:
    annotated = [score for score in scores if score.size > 0]
    missed = sum(score.missed for score in annotated)
    invented = sum(score.invented for score in scores)
    sentences = []
    if missed:
        share = _share(missed, len(annotated))
        sentences.append(f"The lesion was missed altogether on {_counted(missed, 'image')} ({share}).")
    elif annotated:
        sentences.append("Some of the lesion was found on every image that has one.")
    if invented:
        sentences.append(f"On {_counted(invented, 'image')} without a lesion, one was predicted.")
    return sentences


def _image_score(rows: list[dict[str, Any]], known: IndexRow, in_mm: bool) -> ImageScore:
    pixels = sum(row["truth_pixels"] for row in rows)
    predicted = sum(row["predicted_pixels"] for row in rows)
    column = "hausdorff95_mm" if known.spacing_mm else "hausdorff95_pixel"
    distances = _defined(rows, column)
    dice, covered = _defined(rows, "dice"), _defined(rows, "sensitivity")
    if in_mm and known.spacing_mm:
        size = math.sqrt(4 / math.pi * pixels * math.prod(known.spacing_mm))
    else:
        size = 100 * pixels / (known.height * known.width)
    return ImageScore(
        source_id=known.source_id,
        patient_id=known.patient_id,
        label=known.label,
        dice=sum(dice) / len(dice) if dice else math.nan,
        distance=max(distances, default=math.nan),
        unit="mm" if known.spacing_mm else "pixels",
        size=size,
        missed=pixels > 0 and bool(dice) and max(dice) == 0,
        invented=pixels == 0 and predicted > 0,
        sensitivity=sum(covered) / len(covered) if covered else math.nan,
        area_ratio=predicted / pixels if pixels else math.nan,
    )


def _defined(rows: Iterable[dict[str, Any]], column: str) -> list[float]:
    return [row[column] for row in rows if not math.isnan(row[column])]


def _named(key: str) -> dict[str, str]:
    for ending, unit in _UNITS.items():
        if key.endswith(ending):
            return {"name": _name(key.removesuffix(ending)), "unit": unit}
    return {"name": _name(key), "unit": ""}


def _name(key: str) -> str:
    return EXPLANATIONS[key][0] if key in EXPLANATIONS else key.replace("_", " ").capitalize()


def _interval(summary: dict[str, Any]) -> str:
    low, high = summary["interval_low"], summary["interval_high"]
    if low is None or high is None or math.isnan(low) or math.isnan(high):
        return f"{summary['mean']:.2f}"
    return f"{summary['mean']:.2f} (95 % interval {low:.2f} to {high:.2f})"


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _share(number: int, total: int) -> str:
    percent = 100 * number / total
    return f"{percent:.0f} %" if percent >= 1 else "under 1 %"
