"""A run's report: one page that holds everything, to open from disk, print, or send."""

import math
from pathlib import Path
from typing import Any

from ustoolkit.data.records import Records, records_of
from ustoolkit.errors import RecordsError, RunError
from ustoolkit.evaluation.statistics import summarise
from ustoolkit.evaluation.tables import read_rows
from ustoolkit.files import write_text
from ustoolkit.inference.overlay import PREDICTION_COLOUR, TRUTH_COLOUR
from ustoolkit.recipe import dump_toml
from ustoolkit.report import contents, figures
from ustoolkit.report.audit_findings import audit_findings
from ustoolkit.report.cases import choose_cases, draw_cases
from ustoolkit.report.crf import compare_crf
from ustoolkit.report.explanation_section import explanation_section
from ustoolkit.report.image_section import image_section
from ustoolkit.report.readings import readings
from ustoolkit.report.rendering import css, render_page
from ustoolkit.report.scores import EXPLANATIONS, ImageScore, image_scores, labels_of, summary_sentences
from ustoolkit.report.subgroup_table import image_groupings, subgroup_tables
from ustoolkit.run import Run

REPORT_FILE = "report.html"


def write_report(run: Run, records: Records | None = None, part: str = "test", audit: Path | None = None) -> Path:
    """Writes a run's `report.html`: scores, all images, data, curves and settings in one page.

    Where the part was evaluated with a CRF too, as `<part>-crf`, the page compares the two; where the run was explained
    into its own folder, it shows that; where an audit lies in the run's folder or beside the records, its findings.
    The page needs nothing beside it. It holds images of the part that it shows: as confidential as they are.

    Args:
        run: a run that was evaluated.
        records: those that the evaluation was made on; None for where it says that they were.
        part: the evaluation to show in full, a folder's name in the run's `evaluation/`; the others are
            summed up.
        audit: file or folder of an audit of the data set, where it lies elsewhere.
    Returns:
        the page's path.
    Raises:
        RunError: the part was not evaluated, or its files are damaged.
        RecordsError: the records are missing, damaged, or not those that were evaluated.
        DataError: the audit is missing or none.
        OutputError: the page cannot be written.
    """
    if run.recipe.classifies:
        raise RunError(
            f"{run.folder}: expected a run that segments, found one that classifies, whose page is another. Write that "
            f"with 'ustoolkit report {run.folder}'."
        )
    metrics = contents.read_metrics(run, part)
    records = records or _evaluated_records(run, metrics["settings"])
    _check_same(records, metrics["settings"], run, part)
    rows = read_rows(run.evaluation(part))
    if not rows:
        raise RunError(f"{run.evaluation(part)}: the evaluation holds no image. Run 'ustoolkit evaluate' again.")
    scores, size_name = image_scores(rows, records.index)
    found = audit_findings(run, records, scores, audit)
    crf = compare_crf(run, part, records)
    groupings = image_groupings(scores, records.index)
    page = render_page(
        REPORT_FILE,
        name=run.folder.resolve().name,
        part=part,
        recipe=run.recipe,
        recipe_toml=dump_toml(run.recipe),
        started=contents.started(run),
        status=run.state.get("status", ""),
        warnings=[*run.state.get("warnings", []), *contents.older_weights(run, metrics["settings"])],
        sentences=summary_sentences(metrics, scores, metrics["settings"].get("part", part)),
        headline=_headline(scores),
        metrics=metrics,
        data=contents.data_set(run, records),
        groups=subgroup_tables(scores, groupings),
        readings=readings(scores),
        explanations=EXPLANATIONS.values(),
        score_plots=_score_plots(scores, size_name),
        training_plots=_training_plots(run),
        cases=draw_cases(choose_cases(scores), records, run.evaluation(part) / "masks", len(run.classes)),
        colours={"truth": css(TRUTH_COLOUR), "prediction": css(PREDICTION_COLOUR)},
        crf=crf,
        audit=found,
        explanation=explanation_section(run),
        others=contents.other_evaluations(run, part),
        training=contents.training(run),
        provenance=contents.provenance(run),
        **image_section(run, part, records, scores, size_name, groupings, crf, found),
    )
    path = run.folder / REPORT_FILE
    write_text(path, page)
    return path


def _evaluated_records(run: Run, settings: dict[str, Any]) -> Records:
    if settings.get("own_records", True):
        return records_of(run)
    return Records(settings["records"])


def _check_same(records: Records, settings: dict[str, Any], run: Run, part: str) -> None:
    if settings.get("records_digest", records.digest) != records.digest:
        raise RecordsError(
            f"{records.folder}: the evaluation '{part}' of {run.folder} was made on other records. Name "
            "those, or run 'ustoolkit evaluate' again."
        )


def _headline(scores: list[ImageScore]) -> dict[str, Any]:
    units = {score.unit for score in scores}
    distances = [score.distance for score in scores] if len(units) == 1 else []
    return {
        "dice": summarise([score.dice for score in scores], groups=[score.patient_id for score in scores]),
        "distance": summarise(distances)["median"],
        "unit": min(units),
        "missed": sum(score.missed for score in scores),
        "annotated": sum(score.size > 0 for score in scores),
    }


def _score_plots(scores: list[ImageScore], size_name: str) -> dict[str, Any]:
    """The plots of the scores, what the colours in them mean, and how many images they leave out."""
    labels = labels_of(scores)
    measured = [score for score in scores if not math.isnan(score.dice)]
    sized = [score for score in measured if score.size > 0]
    histogram = by_size = ""
    if measured:
        groups = [labels.index(score.label) for score in measured]
        histogram = figures.dice_histogram([score.dice for score in measured], groups)
    if sized:
        by_size = figures.dice_by_size(
            [score.size for score in sized],
            [score.dice for score in sized],
            [labels.index(score.label) for score in sized],
            size_name,
        )
    return {
        "histogram": histogram,
        "by_size": by_size,
        "size_name": size_name,
        "legend": _legend(labels),
        "trend": len(sized) >= figures.FEWEST_FOR_TREND,
        "without_dice": len(scores) - len(measured),
        "without_size": len(measured) - len(sized),
    }


def _legend(labels: list[str]) -> list[tuple[int, str]]:
    """Number of the colour and name of each label; those that share the last colour are named together."""
    if not any(labels):
        return []
    names = [label or "no label" for label in labels]
    own, shared = names[: figures.SERIES - 1], names[figures.SERIES - 1 :]
    return list(enumerate([*own, *([", ".join(shared)] if shared else [])], start=1))


def _training_plots(run: Run) -> list[tuple[str, str]]:
    """Name and plot of each curve; none where the run has no history."""
    history = run.read_history()
    if not history:
        return []
    return [
        ("loss", figures.loss_curves(history)),
        ("dice", figures.validation_curve(history)),
        ("rate", figures.rate_curve(history, logarithmic=run.recipe.training.schedule == "plateau")),
    ]
