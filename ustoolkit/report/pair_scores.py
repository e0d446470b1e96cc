"""Two runs on the same images: which images both scored, and how far their scores are apart, with intervals."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ustoolkit.data.records import IndexRow, Records
from ustoolkit.errors import RecordsError, RunError
from ustoolkit.evaluation import LOWER_IS_BETTER
from ustoolkit.evaluation.paired_tests import holm, signed_rank_test
from ustoolkit.evaluation.statistics import PairedDifference, paired_difference
from ustoolkit.evaluation.subgroups import ImageFacts, subgroups
from ustoolkit.evaluation.tables import read_rows
from ustoolkit.report.contents import read_metrics
from ustoolkit.report.evaluated import check_evaluated
from ustoolkit.report.scores import ImageScore, image_scores
from ustoolkit.report.subgroup_table import grouping_name
from ustoolkit.run import Run

_OVERLAPS = ("dice", "iou", "sensitivity", "specificity")
_DISTANCES = ("hausdorff95", "hausdorff95_penalised")
_OTHERS = ("pixel_error", "adjusted_rand")
_OPPOSITE = {"better": "worse", "worse": "better"}
SIGNIFICANT = 0.05  # below which a corrected p value decides


@dataclass(frozen=True)
class Side:
    """One of the two runs.

    Attributes:
        run: it.
        part: name of its evaluation.
        settings: of the evaluation.
        rows: of its images, by source id.
    """

    run: Run
    part: str
    settings: Mapping[str, Any]
    rows: Mapping[str, list[dict[str, Any]]]


@dataclass(frozen=True)
class Pairs:
    """What both runs scored.

    Attributes:
        index: of the images in common, in the order of the records.
        scores: of each run, in the order of the index.
        size_name: what a score's size measures.
        left_out: how many images of each run the other did not score.
    """

    index: list[IndexRow]
    scores: tuple[list[ImageScore], list[ImageScore]]
    size_name: str
    left_out: tuple[int, int]

    @property
    def patients(self) -> list[str]:
        """The patient of each image."""
        return [row.patient_id for row in self.index]

    @property
    def dice(self) -> np.ndarray:
        """Float64 (2, images), the mean over an image's classes; NaN where it is undefined."""
        return np.array([[score.dice for score in scores] for scores in self.scores])


def read_side(run: Run, part: str) -> Side:
    """Reads a run's evaluation.

    Raises:
        RunError: there is none, it is damaged, or the run classifies.
    """
    if run.recipe.classifies:
        raise RunError(
            f"{run.folder}: expected a run that segments, found one that classifies. Two classifiers are set side by "
            "side by 'ustoolkit compare'."
        )
    check_evaluated(run, part)
    settings = read_metrics(run, part)["settings"]
    rows: dict[str, list[dict[str, Any]]] = {}
    for row in read_rows(run.evaluation(part)):
        rows.setdefault(row["source_id"], []).append(row)
    return Side(run, part, settings, rows)


def pair_images(first: Side, other: Side, records: Records) -> Pairs:
    """The images that both runs scored.

    Args:
        first, other: the two.
        records: those that the first was evaluated on. Where the other was evaluated on others, an image is the same
            where its name, its pixels and the size of its lesion are.
    Raises:
        RunError: they have no image in common.
        RecordsError: the records do not hold an image that was evaluated, or the other run's are gone.
    """
    same = _same_images(other, records)
    wanted = first.rows.keys() & other.rows.keys() & same
    if not wanted:
        parts = {first.settings.get("part", first.part), other.settings.get("part", other.part)}
        raise RunError(
            f"{other.run.folder}: expected scores of images that {first.run.folder} scored too, found none of its "
            f"{len(other.rows)} among those {len(first.rows)}. Train both on one split and evaluate both on one part "
            f"of it (here: {', '.join(sorted(map(str, parts)))})."
        )
    index = [row for row in records.index if row.source_id in wanted]
    both = [
        image_scores([row for known in index for row in side.rows[known.source_id]], records.index)
        for side in (first, other)
    ]
    left_out = len(first.rows) - len(wanted), len(other.rows) - len(wanted)
    return Pairs(index, (both[0][0], both[1][0]), both[0][1], left_out)


def metric_rows(first: Side, other: Side, pairs: Pairs) -> list[dict[str, Any]]:
    """Scores of both and their differences, as `ustoolkit compare` gives them: means over an image's classes.

    Returns:
        dicts of metric, lower (whether less is better), first and other (means over the images where the metric is
        defined in both), difference (`PairedDifference`, other less first), verdict (by its interval, of the other),
        p_holm (Wilcoxon's test, corrected over the rows), effect_size and verdict_by_p; a metric that is defined on
        no image in common is left out.
    """
    ending = "_mm" if all(row.spacing_mm for row in pairs.index) else "_pixel"
    metrics = [*_OVERLAPS, *(f"{name}{ending}" for name in _DISTANCES), *_OTHERS]
    rows = []
    for metric in metrics:
        values = [_values(side, pairs.index, metric) for side in (first, other)]
        both = ~np.isnan(values[0] + values[1])
        if not both.any():
            continue
        difference = paired_difference(values[1:], values[:1], pairs.patients)
        test = signed_rank_test(values[1:], values[:1], pairs.patients)
        lower = metric in LOWER_IS_BETTER
        row: dict[str, Any] = {"metric": metric, "lower": lower, "difference": difference, "test": test}
        row |= {"first": float(values[0][both].mean()), "other": float(values[1][both].mean())}
        rows.append({**row, "verdict": _turned(difference.verdict, lower)})
    for row, p in zip(rows, holm([row["test"].p_value for row in rows]), strict=True):
        row |= {"p_holm": float(p), "verdict_by_p": _verdict_by_p(row, float(p))}
    return rows


def group_rows(pairs: Pairs) -> list[dict[str, Any]]:
    """Dice of both by label, size of the lesion and every attribute that divides the images.

    Returns:
        dicts of grouping, group, images, patients, first and other (means over the images where Dice is defined in
        both), difference (other less first) and its verdict; none where nothing divides the images.
    """
    facts = [ImageFacts(row.label, row.lesion_fraction, row.attributes) for row in pairs.index]
    patients, dice = np.array(pairs.patients), pairs.dice
    rows = []
    for grouping in subgroups(facts):
        for name, members in grouping.groups.items():
            chosen = members & ~np.isnan(dice.sum(axis=0))
            if not chosen.any():
                continue
            difference = paired_difference(dice[1:, chosen], dice[:1, chosen], patients[chosen])
            row = {
                "grouping": grouping_name(grouping),
                "group": name,
                "images": int(chosen.sum()),
                "difference": difference,
            }
            means = {"first": float(dice[0, chosen].mean()), "other": float(dice[1, chosen].mean())}
            rows.append({**row, **means, "patients": difference.groups, "verdict": difference.verdict})
    return rows


def dice_difference(pairs: Pairs) -> PairedDifference:
    """Dice of the other less that of the first, image by image."""
    return paired_difference(pairs.dice[1:], pairs.dice[:1], pairs.patients)


def seen_in_training(side: Side, index: Iterable[IndexRow]) -> int:
    """How many of some images a run was trained on or chose its best epoch by."""
    trained_on = side.run.trained_on
    return sum(row.sha256 in trained_on for row in index)


def _same_images(other: Side, records: Records) -> set[str]:
    """Names of the images of some records that are what the other run scored under that name."""
    if other.settings.get("records_digest", records.digest) == records.digest:
        return {row.source_id for row in records.index}
    try:
        others = {row.source_id: row for row in Records(other.settings["records"]).index}
    except (KeyError, RecordsError):
        raise RecordsError(
            f"{other.run.folder}: it was evaluated on other records, which are not found any more, so that nothing "
            f"says whether their images are those of {records.folder}. Evaluate both runs on the same records."
        ) from None
    return {row.source_id for row in records.index if _is_same(row, others.get(row.source_id))}


def _is_same(row: IndexRow, other: IndexRow | None) -> bool:
    return other is not None and (row.sha256, row.lesion_fraction) == (other.sha256, other.lesion_fraction)


def _values(side: Side, index: Sequence[IndexRow], metric: str) -> np.ndarray:
    """Float64 (images,), the mean over the classes of an image where the metric is defined, else NaN."""
    return np.array([_mean([row[metric] for row in side.rows[known.source_id]]) for known in index])


def _mean(values: Sequence[float]) -> float:
    defined = [value for value in values if not math.isnan(value)]
    return float(np.mean(defined)) if defined else math.nan


def _turned(verdict: str, lower: bool) -> str:
    return _OPPOSITE.get(verdict, verdict) if lower else verdict


def _verdict_by_p(row: Mapping[str, Any], corrected: float) -> str:
    effect = row["test"].effect_size
    if math.isnan(corrected):
        return ""
    if corrected >= SIGNIFICANT or not effect:
        return "undecided"
    return _turned("better" if effect > 0 else "worse", row["lower"])
