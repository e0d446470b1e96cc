"""A study's tables of segmentation: rows to compute with, and lines to read."""

import math
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

import numpy as np

from ustoolkit.evaluation.statistics import PairedDifference, paired_difference
from ustoolkit.studies.comparison import CRF, Comparison
from ustoolkit.studies.scores import METRIC_NAMES, PIXEL_METRIC_NAMES, ArmScores, ScoredImages
from ustoolkit.studies.table_files import Row, format_interval, format_spread

SIZES = ("small", "medium", "large")
HEADERS = {
    "dice": "Dice",
    "hausdorff95_pixel": "HD95",
    "hausdorff95_penalised_pixel": "HD95, penalised",
    "pixel_error": "Pixel error",
    "adjusted_rand": "Adjusted Rand",
}
_LISTED = 6
UNFINISHED = "unfinished"
_DIGITS = {"dice": 3, "pixel_error": 4, "adjusted_rand": 3}
_PIXEL_HEADERS = ("IoU, background", "IoU, lesion", "IoU, mean", "Pixel accuracy")


def compare(comparison: Comparison, scores: Mapping[str, ArmScores], images: ScoredImages) -> list[Row]:
    """The rows of a comparison, one an arm.

    Args:
        comparison: which arms, and which of them is the baseline.
        scores: by arm; an arm without finished runs is missing.
        images: that they were scored on.
    Returns:
        dicts of label, arm, seeds and runs (how many are finished), trainable_weights, open_weights (None where all
        are), multiply_adds, for each metric its `_mean` and `_deviation` over runs, of the mean over the images of a
        run or of what is counted over all its pixels, and the paired difference of Dice from the baseline with its
        interval and verdict; NaN, None or '' where there is nothing to say.
    """
    everywhere = np.ones(len(images.source_ids), dtype=bool)
    rows = []
    for label, arm in comparison.arms:
        found = scores.get(arm)
        row: Row = {"label": label, "arm": arm, **_counts(found)}
        row["trainable_weights"] = found.trainable_weights if found else None
        row["open_weights"] = found.open_weights if found else None
        row["multiply_adds"] = found.multiply_adds if found else None
        for metric in METRIC_NAMES:
            row.update(spread_of(metric, found.run_means[metric] if found else np.array([])))
        for metric in PIXEL_METRIC_NAMES:
            row.update(spread_of(metric, found.pixel_metrics[metric] if found else np.array([])))
        rows.append({**row, **_against_baseline(comparison, arm, scores, images, everywhere)})
    return rows


def compare_by_size(
    comparison: Comparison, scores: Mapping[str, ArmScores], images: ScoredImages
) -> tuple[list[Row], tuple[float, float]]:
    """The rows of a comparison for small, medium and large lesions, a third of the images each.

    Args:
        comparison, scores, images: as for `compare`. Images without lesion are left out.
    Returns:
        dicts of label, arm, seeds, runs, size, images, Dice and its paired difference as in `compare`; and the lesion
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
            row = {"label": label, "arm": arm, **_counts(found), "size": size}
            tested = int((members & found.scored).sum()) if found else 0
            row |= {"images": tested, **_over_seeds("dice", found, members)}
            rows.append({**row, **_against_baseline(comparison, arm, scores, images, members)})
    return rows, (float(low), float(high))


def comparison_lines(comparison: Comparison, rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """`compare`'s rows as the header and the lines of a table."""
    costs = any(row["multiply_adds"] is not None for row in rows)
    opened = any(row["open_weights"] not in (None, row["trainable_weights"]) for row in rows)
    pixels = comparison.pixels and counts_pixels(rows)
    header = [comparison.title, "Runs", "Weights", *(["Learning"] if opened else [])]
    header += ["Multiply-adds"] if costs else []
    header += [HEADERS[name] for name in comparison.metrics] + [*(_PIXEL_HEADERS if pixels else [])]
    several = len(rows) > 1
    header += [_against(comparison), "Verdict"] if several else []
    lines = []
    for row in rows:
        cells = [row["label"], str(row["runs"]) if row["runs"] else "missing", _whole(row["trainable_weights"])]
        cells += [_whole(row["open_weights"] or row["trainable_weights"])] if opened else []
        cells += [_whole(row["multiply_adds"])] if costs else []
        cells += [format_spread(row, name, _DIGITS.get(name, 1)) for name in comparison.metrics]
        cells += [format_spread(row, name, 3) for name in PIXEL_METRIC_NAMES] if pixels else []
        cells += [format_interval(row), row["verdict"] or "–"] if several else []
        lines.append(cells)
    return header, lines


def size_lines(
    comparison: Comparison, rows: Sequence[Row], limits: tuple[float, float]
) -> tuple[list[str], list[list[str]]]:
    """`compare_by_size`'s rows as the header and the lines of a table, an arm and size a line."""
    small, medium = (f"{100 * limit:.1f} %" for limit in limits)
    meaning = {"small": f"small, up to {small}", "medium": f"medium, up to {medium}", "large": f"large, over {medium}"}
    header = [comparison.title, "Lesion, share of the image", "Images", "Dice", _against(comparison), "Verdict"]
    lines = [
        [
            row["label"],
            meaning[row["size"]],
            str(row["images"]),
            format_spread(row, "dice", 3) if row["runs"] else "missing",
            format_interval(row),
            row["verdict"] or "–",
        ]
        for row in rows
    ]
    return header, lines


def counts_pixels(rows: Iterable[Row]) -> bool:
    """Whether any of `compare`'s rows has what is counted over all pixels."""
    return any(not math.isnan(row["mean_iou_mean"]) for row in rows)


def explain(
    images: ScoredImages,
    seeds: int,
    missing: Mapping[str, str],
    preview: bool,
    left_out: Mapping[str, str] = MappingProxyType({}),
    pixels: bool = False,
    folds: int = 0,
    differences: bool = True,
    by_size: bool = False,
) -> str:
    """What a reader must know of the tables: on what, what the numbers mean, what is missing.

    Args:
        images: the test part, of all folds together.
        seeds: how many are asked for.
        missing: by run of the arms in the table, why it is not there.
        preview: whether these are previews.
        left_out: names of the arms in the table that are not trained, and the option that would name their records.
        pixels: whether the table holds what is counted over all pixels.
        folds: how many there are; 0 for one split.
        differences: whether the table holds those of Dice from a baseline.
        by_size: whether the table is by size of the lesion.
    """
    patients = len(set(images.patient_ids.tolist()))
    repeated = f"{seeds} seed{'s' if seeds > 1 else ''}"
    of_what = ("mean over a run's images", "runs, one a seed" + (" and fold" if folds else ""))
    if by_size:
        of_what = ("mean over the images", "seeds")
    lines = [
        f"Test part: {len(images.source_ids)} images of {patients} patients"
        + (f", each tested in one of {folds} folds by patient" if folds else "")
        + f"; {repeated}.",
        f"Scores of images: {of_what[0]}, then mean ± standard deviation over {of_what[1]}. HD95 (95 % "
        "Hausdorff distance, pixels) is over images where a lesion is annotated and one is predicted; the penalised "
        "one counts the image's diagonal where only one of them is.",
    ]
    if pixels:
        lines.append(
            "IoU (intersection over union) and pixel accuracy: over all pixels of the test part together, so that "
            "large images and large lesions count more; mean ± standard deviation over runs."
        )
    if differences:
        lines.append(
            "Dice against the first line, or the baseline above: difference of the images' Dice, averaged over seeds "
            "and over all images that both scored, with a 95 % interval that draws patients and, where arms have "
            "several, seeds; one seed does not show what another would do (bootstrap; not corrected for the number of "
            "comparisons). Undecided: the interval holds zero. Unfinished: folds are missing, so that the means beside "
            "it may be of other images."
        )
    if preview:
        lines.append(
            "Previews: small images, fewer filters, groups of channels narrower alike, short training. They are to try "
            "the study with, not to judge the methods by."
        )
    lines += [*not_trained(left_out), *not_there(missing)]
    return "\n\n".join(lines)


def not_trained(left_out: Mapping[str, str]) -> list[str]:
    """A sentence for each option that would name records: which arms are left out for want of them."""
    return [
        f"Not trained: {', '.join(name for name in left_out if left_out[name] == option)}. They need {option}."
        for option in dict.fromkeys(left_out.values())
    ]


def not_there(missing: Mapping[str, str]) -> list[str]:
    """A sentence that names the runs which are missing and says why, the first where there are many."""
    if not missing:
        return []
    # What failed first, since what is not trained yet may be nearly all.
    reasons = sorted(missing.items(), key=lambda item: item[1] != "failed")
    more = f"; … ({len(reasons)} in all)" if len(reasons) > _LISTED else ""
    return ["Missing: " + "; ".join(f"{name} ({why})" for name, why in reasons[:_LISTED]) + f"{more}."]


def _counts(found: ArmScores | None) -> Row:
    return {"seeds": len(found.seeds) if found else 0, "runs": len(found.run_means["dice"]) if found else 0}


def _over_seeds(metric: str, found: ArmScores | None, members: np.ndarray) -> Row:
    means = np.array([_mean(values) for values in found.metrics[metric][:, members]]) if found else np.array([])
    return spread_of(metric, means)


def spread_of(metric: str, means: np.ndarray) -> Row:
    """Mean and standard deviation (ddof 1) of what is defined of float (runs,), as `_mean` and `_deviation`."""
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
        own, theirs = (each.metrics["dice"][:, members] for each in (found, baseline))
        if arm.removesuffix(CRF) == other.removesuffix(CRF):
            # Of the same runs, so that seeds are drawn in pairs: how runs differ is no part of what the CRF changes.
            own, theirs = own - theirs, np.zeros_like(theirs[:1])
        difference = paired_difference(own, theirs, groups=images.patient_ids[members])
        verdict = "" if math.isnan(difference.interval_low) else difference.verdict
        if not (found.scored & baseline.scored)[members].all():
            verdict = UNFINISHED  # the means beside it are of other images
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


def _whole(value: int | None) -> str:
    return "–" if value is None else f"{value:,}"
