"""A study's tables: rows to compute with as CSV, and Markdown to paste into a document."""

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ustoolkit.evaluation.statistics import PairedDifference, paired_difference
from ustoolkit.files import write_text
from ustoolkit.studies.comparison import CRF, Comparison
from ustoolkit.studies.scores import METRIC_NAMES, PIXEL_METRIC_NAMES, ArmScores, ScoredImages

SIZES = ("small", "medium", "large")
_PIXEL_HEADERS = ("IoU, background", "IoU, lesion", "IoU, mean", "Pixel accuracy")
Row = dict[str, Any]


def compare(comparison: Comparison, scores: Mapping[str, ArmScores], images: ScoredImages) -> list[Row]:
    """The rows of a comparison, one an arm.

    Args:
        comparison: which arms, and which of them is the baseline.
        scores: by arm; an arm without finished runs is missing.
        images: that they were scored on.
    Returns:
        dicts of label, arm, seeds (how many are finished), trainable_weights, multiply_adds, training_minutes (mean),
        for each metric its `_mean` and `_deviation` over seeds, of the mean over images or of what is counted over all
        pixels, and the paired difference of Dice from the baseline with its interval and verdict; NaN, None or '' where
        there is nothing to say.
    """
    everywhere = np.ones(len(images.source_ids), dtype=bool)
    rows = []
    for label, arm in comparison.arms:
        found = scores.get(arm)
        row: Row = {"label": label, "arm": arm, "seeds": len(found.seeds) if found else 0}
        row["trainable_weights"] = found.trainable_weights if found else None
        row["multiply_adds"] = found.multiply_adds if found else None
        row["training_minutes"] = _mean(found.minutes) if found else math.nan
        for metric in METRIC_NAMES:
            row.update(_over_seeds(metric, found, everywhere))
        for metric in PIXEL_METRIC_NAMES:
            row.update(_spread_of(metric, found.pixel_metrics[metric] if found else np.array([])))
        rows.append({**row, **_against_baseline(comparison, arm, scores, images, everywhere)})
    return rows


def compare_by_size(
    comparison: Comparison, scores: Mapping[str, ArmScores], images: ScoredImages
) -> tuple[list[Row], tuple[float, float]]:
    """The rows of a comparison for small, medium and large lesions, a third of the images each.

    Args:
        comparison, scores, images: as for `compare`. Images without lesion are left out.
    Returns:
        dicts of label, arm, seeds, size, images, Dice and its paired difference as in `compare`; and the lesion
        fractions up to which a lesion is small and medium, NaN where there is no lesion.
    """
    fractions = images.lesion_fractions
    lesions = fractions > 0
    low, high = np.quantile(fractions[lesions], [1 / 3, 2 / 3]) if lesions.any() else (math.nan, math.nan)
    chosen = (lesions & (fractions <= low), (fractions > low) & (fractions <= high), fractions > high)
    rows = []
    for label, arm in comparison.arms:
        found = scores.get(arm)
        for size, members in zip(SIZES, chosen, strict=True):
            row = {"label": label, "arm": arm, "seeds": len(found.seeds) if found else 0, "size": size}
            row |= {"images": int(members.sum()), **_over_seeds("dice", found, members)}
            rows.append({**row, **_against_baseline(comparison, arm, scores, images, members)})
    return rows, (float(low), float(high))


def format_table(comparison: Comparison, rows: Sequence[Row]) -> str:
    """`compare`'s rows as a Markdown table."""
    costs = any(row["multiply_adds"] is not None for row in rows)
    pixels = counts_pixels(rows)
    header = [comparison.title, "Seeds", "Weights", *(["Multiply-adds"] if costs else [])]
    header += ["Dice", "HD95", "HD95, penalised", *(_PIXEL_HEADERS if pixels else [])]
    header += ["Minutes", _against(comparison), "Verdict"]
    lines = []
    for row in rows:
        cells = [row["label"], str(row["seeds"]) if row["seeds"] else "missing", _whole(row["trainable_weights"])]
        cells += [_whole(row["multiply_adds"])] if costs else []
        cells += [_spread(row, "dice", 3), *(_spread(row, name, 1) for name in METRIC_NAMES[1:])]
        cells += [_spread(row, name, 3) for name in PIXEL_METRIC_NAMES] if pixels else []
        cells += [format_number(row["training_minutes"], 1), _difference(row), row["verdict"] or "–"]
        lines.append(cells)
    return markdown_table(header, lines)


def format_by_size(comparison: Comparison, rows: Sequence[Row], limits: tuple[float, float]) -> str:
    """`compare_by_size`'s rows as a Markdown table, an arm and size a line."""
    small, medium = (f"{100 * limit:.1f} %" for limit in limits)
    meaning = {"small": f"small, up to {small}", "medium": f"medium, up to {medium}", "large": f"large, over {medium}"}
    header = [comparison.title, "Lesion, share of the image", "Images", "Dice", _against(comparison), "Verdict"]
    lines = [
        [
            row["label"],
            meaning[row["size"]],
            str(row["images"]),
            _spread(row, "dice", 3) if row["seeds"] else "missing",
            _difference(row),
            row["verdict"] or "–",
        ]
        for row in rows
    ]
    return markdown_table(header, lines)


def counts_pixels(rows: Iterable[Row]) -> bool:
    """Whether any of `compare`'s rows has what is counted over all pixels."""
    return any(not math.isnan(row["mean_iou_mean"]) for row in rows)


def explain(
    images: ScoredImages,
    seeds: int,
    missing: Mapping[str, str],
    preview: bool,
    left_out: Sequence[str] = (),
    pixels: bool = False,
) -> str:
    """What a reader must know of the tables: on what, what the numbers mean, what is missing.

    Args:
        images: the test part.
        seeds: how many are asked for.
        missing: by run of the arms in the table, why it is not there.
        preview: whether these are previews.
        left_out: names of the arms in the table that are not trained, for want of records to pre-train on.
        pixels: whether the table holds what is counted over all pixels.
    """
    patients = len(set(images.patient_ids.tolist()))
    lines = [
        f"Test part: {len(images.source_ids)} images of {patients} patients; {seeds} seed{'s' if seeds > 1 else ''}.",
        "Dice and HD95 (95 % Hausdorff distance, pixels): mean over images, then mean ± standard deviation over seeds. "
        "HD95 is over images where a lesion is annotated and one is predicted; the penalised one counts the image's "
        "diagonal where only one of them is.",
    ]
    if pixels:
        lines.append(
            "IoU (intersection over union) and pixel accuracy: over all pixels of the test part together, so that "
            "large images and large lesions count more; mean ± standard deviation over seeds."
        )
    lines += [
        "Dice against the first line, or the baseline above: difference of the images' Dice, averaged over seeds, "
        "with a 95 % interval that draws "
        + ("patients and seeds" if seeds > 1 else "patients; one seed does not show what another would do")
        + " (bootstrap; not corrected for the number of comparisons). Undecided: the interval holds zero.",
        "Minutes of training are those of the machine, with the runs beside it.",
    ]
    if preview:
        lines.append(
            "Previews: small images, fewer filters, groups of channels narrower alike, short training. They are to try "
            "the study with, not to judge the methods by."
        )
    if left_out:
        lines.append(f"Not trained: {', '.join(left_out)}. They need --pretraining-records.")
    if missing:
        lines.append("Missing: " + "; ".join(f"{name} ({why})" for name, why in missing.items()) + ".")
    return "\n\n".join(lines)


def write_csv(path: Path, rows: Sequence[Row]) -> None:
    """Writes rows with all their digits, an empty cell where there is no value.

    Raises:
        OutputError: the folder cannot be written to.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: "" if _undefined(value) else value for key, value in row.items()} for row in rows)
    write_text(path, text.getvalue())


def _over_seeds(metric: str, found: ArmScores | None, members: np.ndarray) -> Row:
    means = np.array([_mean(values) for values in found.metrics[metric][:, members]]) if found else np.array([])
    return _spread_of(metric, means)


def _spread_of(metric: str, means: np.ndarray) -> Row:
    defined = means[~np.isnan(means)]
    deviation = float(defined.std(ddof=1)) if defined.size > 1 else math.nan
    return {f"{metric}_mean": _mean(means), f"{metric}_deviation": deviation}


def _against_baseline(
    comparison: Comparison, arm: str, scores: Mapping[str, ArmScores], images: ScoredImages, members: np.ndarray
) -> Row:
    other = comparison.baseline_of(arm)
    found, baseline = scores.get(arm), scores.get(other)
    difference, verdict = PairedDifference(math.nan, math.nan, math.nan, 0, 0), ""
    if arm == other:
        verdict = "baseline"
    elif found and baseline:
        dice = [each.metrics["dice"][:, members] for each in (found, baseline)]
        if arm.removesuffix(CRF) == other.removesuffix(CRF):
            # Of the same runs, so that seeds are drawn in pairs: how runs differ is no part of what the CRF changes.
            dice = [dice[0] - dice[1], np.zeros_like(dice[1][:1])]
        difference = paired_difference(*dice, groups=images.patient_ids[members])
        verdict = difference.verdict if difference.images else ""
    return {
        "difference": difference.mean,
        "interval_low": difference.interval_low,
        "interval_high": difference.interval_high,
        "images_compared": difference.images,
        "patients_compared": difference.groups,
        "verdict": verdict,
    }


def _against(comparison: Comparison) -> str:
    """Heading of the differences, which says what from."""
    if not comparison.baselines:
        return "Dice against the first"
    labels = [label for label, arm in comparison.arms if comparison.baseline_of(arm) == arm]
    return "Dice against its baseline" if len(labels) > 1 else f"Dice against {labels[0]}"


def _mean(values: np.ndarray) -> float:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else math.nan


def _undefined(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _whole(value: int | None) -> str:
    return "–" if value is None else f"{value:,}"


def format_number(value: float, digits: int, sign: str = "") -> str:
    """A number for a table, with a real minus; '–' for NaN.

    Args:
        value: to write.
        digits: after the point.
        sign: '+' to write that of positive numbers too.
    """
    return "–" if math.isnan(value) else f"{value:{sign}.{digits}f}".replace("-", "−")


def _spread(row: Row, metric: str, digits: int) -> str:
    mean, deviation = row[f"{metric}_mean"], row[f"{metric}_deviation"]
    return format_number(mean, digits) + ("" if math.isnan(deviation) else f" ± {format_number(deviation, digits)}")


def _difference(row: Row) -> str:
    if math.isnan(row["difference"]):
        return "–"
    low, high = (format_number(row[key], 3, "+") for key in ("interval_low", "interval_high"))
    return f"{format_number(row['difference'], 3, '+')} ({low} to {high})"


def markdown_table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table, its first column to the left and the others to the right."""
    rule = ["---", *["---:" for _ in header[1:]]]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (header, rule, *lines))
