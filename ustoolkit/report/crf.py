"""What the CRF changed: the two evaluations of one part, with and without it, image by image."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from pydantic import ValidationError

from ustoolkit.data.records import Records
from ustoolkit.errors import RunError
from ustoolkit.evaluation.statistics import PairedDifference, paired_difference
from ustoolkit.evaluation.tables import METRICS_FILE, PER_IMAGE_FILE, read_rows
from ustoolkit.recipe.settings import CrfSettings
from ustoolkit.report.cases import Case, draw_cases
from ustoolkit.report.contents import read_metrics
from ustoolkit.report.scores import ImageScore, image_scores
from ustoolkit.run import Run

ENDING = "-crf"  # of the name of the evaluation with the CRF
MOST_CASES = 2  # shown for better, and for worse; each is two pictures
_SIZES = ("small", "middle", "large")
_LESS_IS_BETTER = {"better": "worse", "worse": "better", "undecided": "undecided"}

Pair = tuple[ImageScore, ImageScore]  # one image without and with the CRF


def compare_crf(run: Run, part: str, records: Records) -> dict[str, Any] | None:
    """Sets an evaluation beside that of the same images with the CRF.

    Args:
        run: whose evaluations they are.
        part: the name of either.
        records: those that both were made on.
    Returns:
        None where one of the two is missing, or has no image. Where they cannot be compared, `warnings` alone.
        Otherwise also: name, with_name (of the evaluations), dice (`PairedDifference`, with minus without, of the mean
        over an image's classes), rows and pixel_rows (of the tables), sizes and size_name (Dice by thirds of lesion
        size), settings (names and values), tuned (a sentence), cases (better, worse: `Case` without and with).
    Raises:
        RunError: one of the evaluations, or what the run says of tuning, is damaged.
        RecordsError: the records do not hold an evaluated image.
    """
    name = part.removesuffix(ENDING)
    folders = run.evaluation(name), run.evaluation(name + ENDING)
    if not all((folder / file).is_file() for folder in folders for file in (METRICS_FILE, PER_IMAGE_FILE)):
        return None
    metrics = read_metrics(run, name), read_metrics(run, name + ENDING)
    tables = read_rows(folders[0]), read_rows(folders[1])
    if not all(tables):
        return None
    keys = [[(row["source_id"], row["class"]) for row in rows] for rows in tables]
    digests = [each["settings"].get("records_digest", records.digest) for each in metrics]
    if keys[0] != keys[1] or digests != [records.digest] * 2:
        again = f"Run 'ustoolkit evaluate {run.folder} --crf' again."
        return {"warnings": [f"The evaluations ‘{name}’ and ‘{name}{ENDING}’ are not of the same images. {again}"]}
    without, size_name = image_scores(tables[0], records.index)
    refined, _ = image_scores(tables[1], records.index)
    pairs = list(zip(without, refined, strict=True))
    crf = _evaluated_settings(run, metrics[1]["settings"])
    tuned, warnings = _on_tuning(run, crf)
    return {
        "warnings": [*_other_differences(metrics[0]["settings"], metrics[1]["settings"]), *warnings],
        "name": name,
        "with_name": name + ENDING,
        "dice": _dice_difference(pairs),
        "rows": [row for class_name in metrics[0]["classes"] for row in _class_rows(class_name, *tables)],
        "pixel_rows": _pixel_rows(metrics[0]["pixels"], metrics[1]["pixels"]),
        "missed": (sum(score.missed for score in without), sum(score.missed for score in refined)),
        "sizes": size_rows(pairs),
        "size_name": size_name,
        "settings": _settings_rows(crf),
        "tuned": tuned,
        "cases": _drawn(changed_most(pairs), records, run, name),
    }


def size_rows(pairs: Sequence[Pair]) -> list[dict[str, Any]]:
    """Dice without and with the CRF for a third of the images each, from the smallest lesions to the largest.

    Args:
        pairs: of all images.
    Returns:
        dicts of name, low and high (of the sizes), images, patients, without and refined (mean Dice) and difference;
        none where fewer than three images have a lesion and a Dice in both.
    """
    sized = [pair for pair in pairs if pair[0].size > 0 and not math.isnan(pair[0].dice + pair[1].dice)]
    if len(sized) < len(_SIZES):
        return []
    sized.sort(key=lambda pair: pair[0].size)
    rows = []
    for name, members in zip(_SIZES, np.array_split(np.arange(len(sized)), len(_SIZES)), strict=True):
        third = [sized[number] for number in members]
        rows.append(
            {
                "name": name,
                "low": third[0][0].size,
                "high": third[-1][0].size,
                "images": len(third),
                "patients": len({without.patient_id for without, _ in third}),
                "without": sum(without.dice for without, _ in third) / len(third),
                "refined": sum(refined.dice for _, refined in third) / len(third),
                "difference": _dice_difference(third),
            }
        )
    return rows


def changed_most(pairs: Sequence[Pair]) -> dict[str, list[Pair]]:
    """The images whose Dice the CRF changed most.

    Returns:
        'better' and 'worse', the largest change first, at most `MOST_CASES` each; images that it did not change, or
        whose Dice is undefined without or with it, are in neither.
    """
    better = [pair for pair in pairs if pair[1].dice > pair[0].dice]
    worse = [pair for pair in pairs if pair[1].dice < pair[0].dice]
    return {
        name: sorted(group, key=lambda pair: (-abs(pair[1].dice - pair[0].dice), pair[0].source_id))[:MOST_CASES]
        for name, group in (("better", better), ("worse", worse))
    }


def _drawn(groups: dict[str, list[Pair]], records: Records, run: Run, name: str) -> dict[str, list[tuple[Case, Case]]]:
    sides = []
    for side, evaluation in enumerate((name, name + ENDING)):
        scores = {group: [pair[side] for pair in pairs] for group, pairs in groups.items()}
        sides.append(draw_cases(scores, records, run.evaluation(evaluation) / "masks", len(run.classes)))
    return {group: list(zip(sides[0][group], sides[1][group], strict=True)) for group in groups}


def _dice_difference(pairs: Sequence[Pair]) -> PairedDifference:
    without, refined = ([[pair[side].dice for pair in pairs]] for side in (0, 1))
    return paired_difference(refined, without, groups=[pair[0].patient_id for pair in pairs])


def _class_rows(class_name: str, without: list[dict], refined: list[dict]) -> list[dict[str, Any]]:
    """Dice and HD95 of one class, and HD95 penalised, since HD95 alone looks better where lesions vanish."""
    first, second = ([row for row in rows if row["class"] == class_name] for rows in (without, refined))
    in_mm = all(math.isnan(row["hausdorff95_mm"]) == math.isnan(row["hausdorff95_pixel"]) for row in [*first, *second])
    ending, unit = ("_mm", "mm") if in_mm else ("_pixel", "pixels")
    rows = [{"name": "Dice", "unit": "", "class": class_name, **_compared("dice", first, second)}]
    for name, metric in (("HD95", "hausdorff95"), ("HD95, penalised", "hausdorff95_penalised")):
        row = {"name": name, "unit": unit, "class": class_name, **_compared(metric + ending, first, second)}
        row["verdict"] = _LESS_IS_BETTER[row["verdict"]]
        rows += [row] if row["difference"].images else []
    return rows


def _compared(column: str, first: list[dict], second: list[dict]) -> dict[str, Any]:
    """Means over the images on which a metric is defined in both evaluations, and their difference."""
    without, refined = (np.array([row[column] for row in rows]) for rows in (first, second))
    both = ~np.isnan(without + refined)
    difference = paired_difference([refined], [without], groups=[row["patient_id"] for row in first])
    return {
        "without": float(without[both].mean()) if both.any() else math.nan,
        "refined": float(refined[both].mean()) if both.any() else math.nan,
        "difference": difference,
        "verdict": difference.verdict,
    }


def _pixel_rows(without: dict[str, Any] | None, refined: dict[str, Any] | None) -> list[tuple[str, Any, Any]]:
    """Name and both values of the scores of all pixels together; none where an evaluation does not have them."""
    if without is None or refined is None:
        return []
    pairs = zip(without["iou"], refined["iou"], strict=False)
    return [
        *((f"IoU, {class_name}", before, after) for (class_name, before), (_, after) in pairs),
        ("Mean IoU", without["mean_iou"], refined["mean_iou"]),
        ("Pixel accuracy", without["pixel_accuracy"], refined["pixel_accuracy"]),
    ]


def _evaluated_settings(run: Run, settings: dict[str, Any]) -> CrfSettings:
    """The CRF that the evaluation says it was made with; an evaluation that does not say was made with the run's."""
    if not isinstance(settings.get("crf"), dict):
        return run.inference.crf
    try:
        return CrfSettings(**settings["crf"])
    except ValidationError as problem:
        raise RunError(
            f"{run.folder}: expected settings of a CRF in its evaluation, found something else "
            f"({problem.errors()[0]['msg']}). Run 'ustoolkit evaluate' again."
        ) from None


def _settings_rows(crf: CrfSettings) -> list[tuple[str, str]]:
    smoothness = f"{crf.smoothness_deviation:g} pixels" if crf.smoothness_deviation else "that of appearance"
    return [
        ("Appearance, weight ω1", f"{crf.appearance_weight:g}"),
        ("Appearance, deviation of position σp", f"{crf.position_deviation:g} pixels"),
        ("Appearance, deviation of intensity σI", f"{crf.intensity_deviation:g}, of values from 0 to 255"),
        ("Smoothness, weight ω2", f"{crf.smoothness_weight:g}"),
        ("Smoothness, deviation of position", smoothness),
        ("Iterations", f"{crf.iterations}"),
    ]


def _on_tuning(run: Run, crf: CrfSettings) -> tuple[str, list[str]]:
    """A sentence on where the settings come from, and what is wrong with that."""
    if crf.model_copy(update={"enabled": True}) != run.inference.crf.model_copy(update={"enabled": True}):
        warning = "The CRF was evaluated with other settings than the run has now."
        return "They are not those of the run.", [f"{warning} Run 'ustoolkit evaluate {run.folder} --crf' again."]
    if not run.tuned["inference"].get("crf"):
        return "They were not tuned: they are the recipe’s.", []
    evidence = run.tuned["evidence"].get("crf", {})
    before, after = evidence.get("dice_without_crf"), evidence.get("dice_tuned")
    how = gain = ""
    if {"trials", "images"} <= set(evidence):
        how = f" in {evidence['trials']} trials on {evidence['images']} images"
    if isinstance(before, float) and isinstance(after, float):
        gain = f", where they took the mean Dice from {before:.3f} to {after:.3f}; chosen there, they flatter there"
    return f"They were tuned on the validation part{how}{gain}.", []


def _other_differences(without: dict[str, Any], refined: dict[str, Any]) -> list[str]:
    keys = [key for key in {**without, **refined} if key != "crf" and without.get(key) != refined.get(key)]
    if not keys:
        return []
    return [f"The two evaluations differ in more than the CRF: {', '.join(keys)}. Make both anew."]
