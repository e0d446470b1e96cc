"""A classifier's evaluation as one page: how well it tells, what it decides, where it is wrong, and its settings."""

from pathlib import Path
from typing import Any

from ustoolkit.data.records import Records
from ustoolkit.errors import RecordsError, RunError
from ustoolkit.evaluation.diagnosis_tables import Probabilities, read_diagnosis, read_probabilities
from ustoolkit.files import write_text
from ustoolkit.inference.overlay import TRUTH_COLOUR
from ustoolkit.report import figures
from ustoolkit.report.attribute_texts import attribute_texts
from ustoolkit.report.classifier_cases import decided_images, shown_mistakes, thumbnails
from ustoolkit.report.classifier_figures import auc_curve, probability_histogram
from ustoolkit.report.classifier_scores import EXPLANATIONS, group_rows, score_rows, summary_sentences
from ustoolkit.report.classifier_subject import Subject
from ustoolkit.report.diagnosis_plots import scored
from ustoolkit.report.diagnostic_figures import FIGURES, page_plot
from ustoolkit.report.rendering import css, render_page

REPORT_FILE = "report.html"
_UNITS = {"by_image": "image", "by_patient": "patient"}


def write_classifier_page(folder: Path | str, records: Records | None = None, part: str = "test") -> Path:
    """Writes `report.html` of a run that classifies, or of a fusion, into its folder.

    The page needs nothing beside it. It holds images of the part that it shows: as confidential as they are.

    Args:
        folder: of the run or fusion, evaluated.
        records: those that the evaluation was made on; None for where it says that they were.
        part: the evaluation to show, a folder's name in `evaluation/`, such as 'test' or 'test-by-fast'.
    Returns:
        the page's path.
    Raises:
        RunError: the part was not evaluated, or the folder is damaged.
        RecordsError: the records are missing, damaged, or not those that were evaluated.
        OutputError: the page cannot be written.
    """
    subject = Subject(Path(folder))
    subject.check_evaluated(part)
    evaluation = subject.evaluation(part)
    tables, found = read_diagnosis(evaluation), read_probabilities(evaluation, "image")
    records = records or _evaluated_records(subject, tables["settings"])
    index = {row.source_id: row for row in records.index}
    _check_same(records, tables, found, evaluation)
    labels, threshold = tables["labels"], tables["settings"]["threshold"]
    decided = decided_images(found, labels)
    page = render_page(
        "classifier.html",
        name=subject.name,
        subject=subject,
        part=part,
        tables=tables,
        labels=labels,
        positive=labels[-1],
        threshold=threshold,
        sentences=summary_sentences(tables),
        looked_at=_looked_at(tables["settings"]),
        scores=score_rows(tables),
        explanations=[(name, text.format(positive=labels[-1])) for name, text in EXPLANATIONS.values()],
        confusions=[_confusion(tables[key], labels, unit) for key, unit in _UNITS.items()],
        curves=_curves(evaluation),
        histogram=probability_histogram(
            found.probability[:, -1], [labels.index(label) for label in found.truth], threshold, labels[-1]
        ),
        legend=[(min(number, figures.SERIES), label) for number, label in enumerate(labels, start=1)],
        groups=group_rows(found, index, threshold, labels),
        decided=decided,
        attributes=attribute_texts([index[name] for name in found.names]),
        wrong=sum(bool(each.kind) for each in decided),
        thumbnails=thumbnails(decided, records),
        mistakes=shown_mistakes(decided, records),
        truth_colour=css(TRUTH_COLOUR),
        others=[(name, read_diagnosis(subject.evaluation(name))) for name in subject.evaluations if name != part],
        training_plots=_training_plots(subject),
    )
    path = subject.folder / REPORT_FILE
    write_text(path, page)
    return path


def _evaluated_records(subject: Subject, settings: dict[str, Any]) -> Records:
    folder = Path(settings["records"]) if "records" in settings else subject.records
    if not folder.is_dir():
        raise RecordsError(
            f"{subject.folder}: expected the records that were evaluated in {folder}, found nothing there. Say where "
            "they are now, with --records DIR."
        )
    return Records(folder)


def _check_same(records: Records, tables: dict[str, Any], found: Probabilities, evaluation: Path) -> None:
    known = {row.source_id for row in records.index}
    if tables["settings"].get("records_digest", records.digest) != records.digest or not known.issuperset(found.names):
        raise RecordsError(
            f"{records.folder}: the evaluation {evaluation} was made on other records. Name those, or run "
            "'ustoolkit evaluate' again."
        )
    unknown = next((label for label in (*found.truth, *found.called) if label not in tables["labels"]), "")
    if unknown:
        raise RunError(
            f"{evaluation}: expected the labels {', '.join(tables['labels'])}, found '{unknown}'. Run 'ustoolkit "
            "evaluate' again."
        )


def _looked_at(settings: dict[str, Any]) -> str:
    """A sentence on what of each image was classified."""
    source, missed = settings.get("lesions", "truth"), settings.get("lesions_missed", [])
    if source == "image":
        return "It looks at the whole image."
    if source == "box":
        return "It looks at the box that the data set names in each image."
    if source == "truth":
        return (
            "It was given the annotated outline of each lesion. At use the outline comes from a segmenter, and scores "
            "may be lower: ‘ustoolkit evaluate RUN --segmenter SEGMENTER’ says by how much."
        )
    text = f"The lesions are those that the segmenter ‘{source}’ found."
    if missed:
        text += f" On {len(missed)} images it found none; what it held most likely was taken for one."
    return text


def _confusion(scores: dict[str, Any], labels: list[str], unit: str) -> dict[str, Any]:
    """A matrix for the page: a row for each label that is true, with its cells and their share of the row."""
    rows = []
    for number, cells in enumerate(scores["confusion"]):
        total = sum(cells)
        shares = [(count, 100 * count / total if total else None, place == number) for place, count in enumerate(cells)]
        rows.append((labels[number], shares, total))
    return {"unit": unit, "rows": rows, "counts": scores["counts"]}


def _curves(evaluation: Path) -> list[str]:
    """ROC, precision-recall and reliability, by image and by patient; none where there is one label only."""
    curves = {f"by {unit}": scored(evaluation, unit) for unit in _UNITS.values()}
    if any(curve.truth.all() == curve.truth.any() for curve in curves.values()):
        return []
    return [page_plot(kind, curves) for kind in FIGURES]


def _training_plots(subject: Subject) -> list[tuple[str, str]]:
    history = subject.run.read_history() if subject.run else []
    plots = [("loss", figures.loss_curves(history)), ("auc", auc_curve(history))] if history else []
    return [(name, plot) for name, plot in plots if plot]
