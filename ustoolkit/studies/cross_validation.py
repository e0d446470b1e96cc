"""Any recipes, each trained once a fold by patient and seed, so that every image is tested on: a study as asked."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ustoolkit.data.records import Records
from ustoolkit.errors import RecipeError, RunError
from ustoolkit.evaluation.subgroups import ImageFacts, subgroups
from ustoolkit.files import safe_name
from ustoolkit.recipe import load_recipe
from ustoolkit.studies.classification_scores import UNITS, ClassifierScores, read_classifiers, spread
from ustoolkit.studies.classification_tables import about_runs
from ustoolkit.studies.comparison import Arm, Comparison, Study, Table
from ustoolkit.studies.run_sets import RunSet, read_run_set
from ustoolkit.studies.set_comparison import format_subgroups, subgroup_rows
from ustoolkit.studies.set_pages import SUBGROUPS_FILE, about, on_what
from ustoolkit.studies.stages import FinishedRuns
from ustoolkit.studies.table_files import Row, format_spread, write_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ustoolkit.studies.results import Results

_NAME = "cross-validation"
_SEGMENTED = ("dice", "hausdorff95_pixel", "hausdorff95_penalised_pixel", "pixel_error", "adjusted_rand")
_CLASSIFIED = {
    "roc_auc": "ROC AUC",
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
    "accuracy": "Accuracy",
    "brier": "Brier score",
}


def cross_validation(recipes: Sequence[str], folds: int, preview: bool = False) -> Study:
    """A study with one arm for each recipe.

    Args:
        recipes: names of shipped ones, or paths; all segment, or all classify.
        folds: how many.
        preview: whether they are previews.
    Returns:
        the study; of recipes that segment the others are compared with the first.
    Raises:
        RecipeError: one cannot be read, two have one name, or some segment and others classify.
        RunError: fewer than two folds.
    """
    if folds < 2:
        raise RunError(f"--folds {folds}: expected 2 or more. Leave it out for 5; one split is for 'ustoolkit train'.")
    loaded = {recipe: load_recipe(recipe, preview=preview) for recipe in recipes}
    names = {recipe: safe_name(found.name) for recipe, found in loaded.items()}
    if len(set(names.values())) < len(recipes):
        raise RecipeError(f"{', '.join(recipes)}: two of these have the same name. Give each its own, name = '…'.")
    if len({found.classifies for found in loaded.values()}) > 1:
        first, *others = loaded
        other = next(name for name in others if loaded[name].classifies != loaded[first].classifies)
        kinds = ("classifies", "segments") if loaded[other].classifies else ("segments", "classifies")
        raise RecipeError(f"'{other}' {kinds[0]} and '{first}' {kinds[1]}. Cross-validate one kind at a time.")
    arms = tuple(Arm(names[recipe], recipe) for recipe in recipes)
    lines = tuple((arm.name, arm.name) for arm in arms)
    classify = next(iter(loaded.values())).classifies
    return Study(
        name=_NAME,
        description="recipes over folds by patient",
        arms=arms,
        comparisons=() if classify else (Comparison("scores", "Recipe", lines, by_size=True, metrics=_SEGMENTED),),
        folds=folds,
        seeds=1,
        tabulate=tabulate_folds if classify else None,
        draw=partial(_draw, arms=tuple(arm.name for arm in arms)),
    )


def tabulate_folds(finished: FinishedRuns) -> list[Table]:
    """The scores of classifiers, mean and deviation over folds and seeds.

    Raises:
        RunError: an evaluation is damaged.
    """
    scores = read_classifiers(finished.runs)
    names = dict.fromkeys([*scores, *(name.rpartition("/")[0] for name in finished.missing)])
    rows = [row for name in names for row in _rows(name, scores)]
    if not rows:
        return []
    header = ["Recipe", "By", "Runs", *_CLASSIFIED.values()]
    lines = [
        [row["arm"], row["unit"], str(row["runs"]) if row["runs"] else "missing"]
        + [format_spread(row, name) for name in _CLASSIFIED]
        for row in rows
    ]
    about_folds = (
        "Scores of each run on the images, or the patients, of its fold; then mean ± standard deviation over runs, one "
        "a seed and fold. Sensitivity, specificity and accuracy are at the threshold that each run found on its "
        "validation part."
    )
    return [Table("scores", "Scores", rows, header, lines, "\n\n".join([about_folds, *about_runs(finished)]))]


def check_groups(records: Path, by: Sequence[str]) -> None:
    """Checks that images can be divided as asked, before anything is trained.

    Args:
        records: folder of the records.
        by: as for `write_subgroups`.
    Raises:
        DataError: no image has an attribute that is named.
        RecordsError: they cannot be read.
    """
    if by:
        index = Records(records).index
        subgroups([ImageFacts(row.label, row.lesion_fraction, row.attributes) for row in index], by)


def write_subgroups(out: Path, runs: Mapping[str, Sequence[Path]], by: Sequence[str] = ()) -> str:
    """Writes the table of groups of images, of all folds together, and a figure of it.

    Args:
        out: folder of the study.
        runs: by arm, its run folders, all of them finished.
        by: 'label', 'size' or names of attributes; none for all that divide the images.
    Returns:
        the table as Markdown; '' without arms, or where nothing divides the images.
    Raises:
        DataError: no image has an attribute that is named.
        RunError: an evaluation is damaged.
    """
    from ustoolkit.report.figure_files import write_figure
    from ustoolkit.report.study_figures import IntervalRow, interval_figure

    sets = {name: read_run_set(out / "runs" / name, runs=folders) for name, folders in runs.items()}
    rows = subgroup_rows(sets, by) if sets else []
    if not rows:
        return ""
    series = (lambda row: row["set"]) if len(sets) > 1 else (lambda row: "")
    drawn = [
        IntervalRow(f"{row['grouping']}: {row['group']}", row["mean"], row["mean_low"], row["mean_high"], series(row))
        for row in rows
    ]
    header, lines = format_subgroups(rows)
    for ending in (".png", ".svg"):
        write_figure(
            out / f"{SUBGROUPS_FILE}{ending}", interval_figure(drawn, header[-1] if len(sets) == 1 else "mean")
        )
    page = "\n\n".join([_on_what(sets), *about(rows, sets).splitlines()])
    return write_table(out / SUBGROUPS_FILE, "Groups of images", rows, header, lines, page)


def _on_what(sets: Mapping[str, RunSet]) -> str:
    if len(sets) > 1:
        return on_what(sets, {})
    only = next(iter(sets.values()))
    return f"{len(only.source_ids):,} images of {len(set(only.patient_ids.tolist())):,} patients."


def _rows(name: str, scores: Mapping[str, Sequence[ClassifierScores]]) -> list[Row]:
    runs = scores.get(name, ())
    rows = []
    for unit in UNITS:
        row: Row = {"arm": name, "unit": unit, "runs": len(runs)}
        for score in _CLASSIFIED:
            mean, deviation = spread(run.metrics[unit].get(score, float("nan")) for run in runs)
            row |= {f"{score}_mean": mean, f"{score}_deviation": deviation}
        rows.append(row)
    return rows


def _draw(results: "Results", arms: Sequence[str]) -> "dict[str, Figure]":
    from ustoolkit.studies.figures import curve_plot, difference_plot

    if results.study.tabulate:
        return {}
    return {
        **difference_plot(results, "scores", "difference in Dice from the first"),
        **curve_plot(results, [(name, name) for name in arms]),
    }
