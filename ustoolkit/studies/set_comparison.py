"""Sets of runs against the first of them, metric by metric and group by group: rows to compute with."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from ustoolkit.errors import RunError
from ustoolkit.evaluation import LOWER_IS_BETTER
from ustoolkit.evaluation.paired_tests import PairedTest, holm, signed_rank_test
from ustoolkit.evaluation.roc import auc_covariance, compare_auc
from ustoolkit.evaluation.statistics import PairedDifference, paired_difference
from ustoolkit.evaluation.subgroups import subgroups
from ustoolkit.recipe.validation import nearest
from ustoolkit.report.scores import EXPLANATIONS
from ustoolkit.studies.run_evaluations import BRIER
from ustoolkit.studies.run_sets import RunSet, shared_images
from ustoolkit.studies.table_files import Row, format_number

DEFAULT_METRICS = ("dice", "hausdorff95_penalised_pixel", "pixel_error", "adjusted_rand")
AUC = "roc_auc"
_UNITS = {"_pixel": " (pixels)", "_mm": " (mm)"}
SIGNIFICANT = 0.05  # below which a corrected p value decides


def lower_is_better(metric: str) -> bool:
    """Whether a metric is an error or a distance."""
    return metric in LOWER_IS_BETTER or metric == BRIER


def metrics_of(sets: Mapping[str, RunSet], asked: Sequence[str] = ()) -> tuple[str, ...]:
    """The metrics to compare sets by.

    Args:
        sets: of one kind.
        asked: names; none for `DEFAULT_METRICS`, or of classifiers the Brier score, those that every set has.
    Raises:
        RunError: there is no metric of a name, or a set does not have it.
    """
    known = list(next(iter(sets.values())).metrics)
    absent = {
        metric: name
        for metric in known
        for name, each in reversed(list(sets.items()))
        if not np.isfinite(each.metrics[metric]).any(axis=1).all()
    }
    for metric in asked:
        if metric not in known:
            raise RunError(f"'{metric}': there is no such metric of these runs. {nearest(metric, known)}")
        if metric in absent:
            raise RunError(
                f"{sets[absent[metric]].evaluations[0]}: expected '{metric}', found it on no image. Run 'ustoolkit "
                "evaluate' again where the evaluation is older than the metric; millimetres need a pixel spacing."
            )
    defaults = [metric for metric in (*DEFAULT_METRICS, BRIER) if metric in known and metric not in absent]
    return tuple(dict.fromkeys(asked)) or tuple(defaults)


def compare_sets(sets: Mapping[str, RunSet], metrics: Sequence[str] = ()) -> list[Row]:
    """Every other set against the first, by each metric.

    Args:
        sets: by name, two or more, on the same images (`shared_images`).
        metrics: as for `metrics_of`. Sets of classifiers are compared by the area under the ROC curve besides, of
            probabilities averaged over seeds.
    Returns:
        dicts of set, against, metric, unit ('image', or 'patient' for areas of patients' mean probabilities), better
        ('higher' or 'lower'), seeds, images and patients (defined in both), mean and mean_against (over these images),
        difference (the set less the first) with interval_low and interval_high (95 %, over patients and seeds; an
        area's is over patients), p_value (of Wilcoxon's test; an area's of DeLong's), p_holm (corrected over all rows),
        effect_size (`PairedTest`; NaN for areas), and the verdicts by_interval and by_p: 'better', 'worse' or
        'undecided', '' where undefined.
    Raises:
        RunError: as for `metrics_of`.
    """
    (first_name, first), *others = sets.items()
    rows = []
    for name, other in others:
        names = {"set": name, "against": first_name}
        if other.kind == "classification":
            rows += [names | _areas(other, first, unit) for unit in ("image", "patient")]
        for metric in metrics_of(sets, metrics):
            found, baseline = other.metrics[metric], first.metrics[metric]
            both = ~(np.isnan(found).any(axis=0) | np.isnan(baseline).any(axis=0))
            means = {"mean": _mean(found[:, both]), "mean_against": _mean(baseline[:, both])}
            identity = {"metric": metric, "unit": "image", **_seeds(other), "better": _better(metric)}
            rows.append(names | identity | _difference(found, baseline, first.patient_ids) | means)
    return _judged([_ordered(row) for row in rows])


def subgroup_rows(sets: Mapping[str, RunSet], by: Sequence[str] = (), metrics: Sequence[str] = ()) -> list[Row]:
    """Each set in each group of images, and every other set against the first there.

    Args:
        sets: by name, one or more; what not all of them scored is left out.
        by: as for `evaluation.subgroups.subgroups`: 'label', 'size', names of attributes; none for all there are.
        metrics: as for `metrics_of`; none for the first of its default ones alone.
    Returns:
        dicts of grouping, group, metric, better, set, against ('' for the first set), seeds, images and patients (of
        the group, where the metric is defined in all sets), mean with mean_low and mean_high (95 %, over patients and
        seeds), and as in `compare_sets` difference, interval_low, interval_high, p_value, p_holm (over all rows of
        this table), effect_size, by_interval and by_p, NaN and '' for the first set. None where nothing divides the
        images.
    Raises:
        DataError: no image has an attribute that is named.
        RunError: the sets have no image in common, or as for `metrics_of`.
    """
    shared, _ = shared_images(sets)
    (first_name, first), *_ = shared.items()
    chosen = metrics_of(shared, metrics)[: None if metrics else 1]
    rows = []
    for grouping in subgroups(first.facts, by):
        for group, members in grouping.groups.items():
            patients = first.patient_ids[members]
            for metric in chosen:
                defined = np.all([~np.isnan(each.metrics[metric][:, members]).any(0) for each in shared.values()], 0)
                baseline = np.where(defined, first.metrics[metric][:, members], np.nan)
                for name, each in shared.items():
                    found = np.where(defined, each.metrics[metric][:, members], np.nan)
                    alone = paired_difference(found, np.zeros_like(found[:1]), patients)
                    row: Row = {"grouping": grouping.name, "group": group, "metric": metric, "better": _better(metric)}
                    row |= {"set": name, "against": "" if each is first else first_name, **_seeds(each)}
                    against = _difference(found, baseline, patients) if each is not first else _nothing()
                    row |= {**against, "images": alone.images, "patients": alone.groups, "mean": alone.mean}
                    rows.append({**row, "mean_low": alone.interval_low, "mean_high": alone.interval_high})
    return _judged([_ordered(row) for row in rows])


def format_comparison(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """`compare_sets`'s rows to read: header and lines of a table."""
    header = ["Set", "Metric", "Images", "Mean", "Mean of the first", "Difference (95 % interval)"]
    header += ["p", "p, corrected", "Effect", "By interval", "By corrected p"]
    lines = []
    for row in rows:
        name = metric_name(row["metric"]) + (", by patient" if row["unit"] == "patient" else "")
        means = [format_number(row[key], _digits(row["metric"])) for key in ("mean", "mean_against")]
        lines.append([row["set"], name, f"{row['images']:,}", *means, *_difference_cells(row)])
    return header, lines


def format_subgroups(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """`subgroup_rows`'s rows to read: header and lines of a table, without differences where there is one set."""
    several = any(row["against"] for row in rows)
    metrics = len({row["metric"] for row in rows}) > 1
    header = ["Group", *(["Metric"] if metrics else []), *(["Set"] if several else []), "Images", "Patients"]
    header += (
        ["Mean (95 % interval)" if metrics else f"{metric_name(rows[0]['metric'])} (95 % interval)"] if rows else []
    )
    if several:
        header += ["Difference from the first", "p", "p, corrected", "Effect", "By interval", "By corrected p"]
    lines = []
    for row in rows:
        cells = [f"{row['grouping']}: {row['group']}", *([metric_name(row["metric"])] if metrics else [])]
        cells += [*([row["set"]] if several else []), f"{row['images']:,}", f"{row['patients']:,}"]
        cells.append(_with_interval(row, "mean", "mean_low", "mean_high"))
        lines.append(cells + (_difference_cells(row) if several else []))
    return header, lines


def metric_name(metric: str) -> str:
    """A metric's name to read, with its unit."""
    names = {AUC: "ROC AUC", BRIER: "Brier score"}
    ending = next((ending for ending in _UNITS if metric.endswith(ending)), "")
    key = metric.removesuffix(ending)
    name = names.get(key) or (EXPLANATIONS[key][0] if key in EXPLANATIONS else key.replace("_", " "))
    return name + _UNITS.get(ending, "")


def _difference_cells(row: Row) -> list[str]:
    cells = [_with_interval(row, "difference", "interval_low", "interval_high", "+")]
    cells += [_probability(row["p_value"]), _probability(row["p_holm"]), format_number(row["effect_size"], 2, "+")]
    return cells + [row[key] or "–" for key in ("by_interval", "by_p")]


def _with_interval(row: Row, value: str, low: str, high: str, sign: str = "") -> str:
    found, *ends = (format_number(row[key], _digits(row["metric"]), sign) for key in (value, low, high))
    return found if math.isnan(row[low]) else f"{found} ({ends[0]} to {ends[1]})"


def _probability(value: float) -> str:
    return "< 0.001" if value < 0.001 else format_number(value, 3)


def _digits(metric: str) -> int:
    if metric.endswith(tuple(_UNITS)):
        return 1 if metric.endswith("_pixel") else 2
    return 4 if metric in ("pixel_error", AUC, BRIER) else 3


def _areas(other: RunSet, first: RunSet, unit: str) -> Row:
    """Areas under the ROC curves of probabilities averaged over seeds, and their difference."""
    patients, truth = first.patient_ids, first.truth
    probabilities = [each.probability.mean(axis=0) for each in (other, first)]
    if unit == "patient":
        patients, members, counts = np.unique(patients, return_inverse=True, return_counts=True)
        truth = np.bincount(members, weights=truth) > 0
        probabilities = [np.bincount(members, weights=values) / counts for values in probabilities]
    found = compare_auc(truth, probabilities[0], probabilities[1], patients)
    areas, _ = auc_covariance(truth, np.stack(probabilities), patients)
    row: Row = {"metric": AUC, "unit": unit, "better": "higher", **_seeds(other)}
    row |= {"mean": float(areas[0]), "mean_against": float(areas[1])}
    numbers = _numbers(found, PairedTest(found.p_value, math.nan, found.groups))
    return row | numbers | {"images": len(first.truth)}


def _difference(found: np.ndarray, baseline: np.ndarray, patients: np.ndarray) -> Row:
    return _numbers(
        paired_difference(found, baseline, patients),
        signed_rank_test(found, baseline, patients),
    )


def _nothing() -> Row:
    return _numbers(PairedDifference(math.nan, math.nan, math.nan, 0, 0), PairedTest(math.nan, math.nan, 0))


def _numbers(difference: PairedDifference, test: PairedTest) -> Row:
    return {
        "images": difference.images,
        "patients": difference.groups,
        "difference": difference.mean,
        "interval_low": difference.interval_low,
        "interval_high": difference.interval_high,
        "p_value": test.p_value,
        "effect_size": test.effect_size,
    }


def _judged(rows: Sequence[Row]) -> list[Row]:
    """The rows with corrected p values and verdicts."""
    corrected = holm([row["p_value"] for row in rows])
    return [{**row, "p_holm": float(p), **_verdicts(row, float(p))} for row, p in zip(rows, corrected, strict=True)]


def _verdicts(row: Row, corrected: float) -> Row:
    """What the interval says, and what the corrected p value does; lower values are better where the row says so."""
    better = -1 if row["better"] == "lower" else 1
    low, high = sorted(better * row[key] for key in ("interval_low", "interval_high"))
    by_interval = by_p = ""
    if not math.isnan(low):
        by_interval = PairedDifference(math.nan, low, high, 0, 0).verdict
    if not math.isnan(corrected):
        # The test is of ranks, whose direction may be another than the mean's.
        direction = better * (row["difference"] if math.isnan(row["effect_size"]) else row["effect_size"])
        by_p = "undecided" if corrected >= SIGNIFICANT or not direction else "better" if direction > 0 else "worse"
    return {"by_interval": by_interval, "by_p": by_p}


_ORDER = (
    *("grouping", "group", "set", "against", "metric", "unit", "better", "seeds", "images", "patients"),
    *("mean", "mean_low", "mean_high", "mean_against", "difference", "interval_low", "interval_high"),
    *("p_value", "effect_size"),
)


def _ordered(row: Row) -> Row:
    return {key: row[key] for key in _ORDER if key in row}


def _seeds(each: RunSet) -> Row:
    return {"seeds": len(each.seeds)}


def _better(metric: str) -> str:
    return "lower" if lower_is_better(metric) else "higher"


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else math.nan
