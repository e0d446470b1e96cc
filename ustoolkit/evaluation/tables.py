"""What an evaluation leaves behind: one row an image and class, and a summary of the rows."""

import csv
import io
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ustoolkit import files
from ustoolkit.errors import DataError, RunError
from ustoolkit.evaluation.confusion import agreement, format_agreement
from ustoolkit.evaluation.metrics import METRICS, Spacing
from ustoolkit.evaluation.overlap import check_shapes
from ustoolkit.evaluation.statistics import summarise

IDENTITY_COLUMNS = ("source_id", "patient_id", "label", "class")
COUNT_COLUMNS = ("truth_pixels", "predicted_pixels")
COLUMNS = (*IDENTITY_COLUMNS, *METRICS, *COUNT_COLUMNS)
PER_IMAGE_FILE = "per_image.csv"
METRICS_FILE = "metrics.json"

_REMEDY = "Run ustoolkit evaluate first."


def evaluate_image(
    truth: np.ndarray, prediction: np.ndarray, class_names: Sequence[str], spacing_mm: Spacing | None = None
) -> list[dict[str, Any]]:
    """Compares one predicted segmentation with its annotation, class by class.

    Args:
        truth: uint8 (height, width), the annotated class index of each pixel, 0 background.
        prediction: uint8 (height, width), the predicted class index.
        class_names: the name of each class index, the background's first.
        spacing_mm: (row, column) distance between pixel centres in millimetres, or None where unknown.
    Returns:
        One dict for each class but the background: class, every metric of `METRICS` on the binary mask of
        that class (NaN where undefined; those in mm also without a spacing), truth_pixels, predicted_pixels.
    Raises:
        ShapeError: truth and prediction differ in shape, or are not two-dimensional.
        DataError: a pixel holds an index that has no name.
    """
    truth, prediction = np.asarray(truth), np.asarray(prediction)
    check_shapes(truth, prediction)
    for name, mask in (("truth", truth), ("prediction", prediction)):
        if mask.size and not 0 <= mask.min() <= mask.max() < len(class_names):
            raise DataError(
                f"the {name} holds class indices {mask.min()} to {mask.max()}; expected 0 to "
                f"{len(class_names) - 1} for the classes {', '.join(class_names)}. "
                "Evaluate with the classes that the masks were drawn with."
            )
    rows = []
    for index, class_name in enumerate(class_names[1:], start=1):
        class_truth, class_prediction = truth == index, prediction == index
        measured = {name: metric(class_truth, class_prediction, spacing_mm) for name, metric in METRICS.items()}
        counts = (int(np.count_nonzero(class_truth)), int(np.count_nonzero(class_prediction)))
        rows.append({"class": class_name, **measured, **dict(zip(COUNT_COLUMNS, counts, strict=True))})
    return rows


def summarise_rows(
    rows: Iterable[dict[str, Any]], settings: dict[str, Any], confusion: np.ndarray | None = None
) -> dict[str, Any]:
    """Summarises rows over images, with intervals over patients, and all pixels together.

    Args:
        rows: dicts with the keys of `COLUMNS`.
        settings: what was evaluated and how, kept beside the numbers.
        confusion: int (classes, classes), the sum of `confusion_matrix` over the images, or None where it is unknown.
    Returns:
        {"settings", "images", "patients", "classes": {class: {metric: `statistics.summarise`}}}; the
        classes in the order in which they first appear. With a confusion matrix also "confusion": {"classes",
        "matrix", "iou", "mean_iou", "pixel_accuracy"}, of which "classes" are the names of its rows, where there is
        a row of the table for each but the background, and the last three are those of `confusion.agreement`.
    Raises:
        ShapeError: the confusion matrix is not square.
    """
    rows = list(rows)
    classes = {}
    for class_name in dict.fromkeys(row["class"] for row in rows):
        of_class = [row for row in rows if row["class"] == class_name]
        patients = [row["patient_id"] for row in of_class]
        classes[class_name] = {name: summarise([row[name] for row in of_class], groups=patients) for name in METRICS}
    summary = {
        "settings": settings,
        "images": len({row["source_id"] for row in rows}),
        "patients": len({row["patient_id"] for row in rows}),
        "classes": classes,
    }
    return summary if confusion is None else {**summary, "confusion": _confusion(confusion, list(classes))}


def write_tables(
    folder: Path | str,
    rows: Iterable[dict[str, Any]],
    settings: dict[str, Any],
    confusion: np.ndarray | None = None,
) -> dict[str, Any]:
    """Writes `per_image.csv` and `metrics.json`, each at once.

    Args:
        folder: where to; made where it does not exist.
        rows: those of `evaluate_image`, each with source_id, patient_id and label besides.
        settings: what was evaluated and how; JSON-serialisable.
        confusion: int (classes, classes), the sum of `confusion_matrix` over the images, or None where it is unknown.
    Returns:
        what `metrics.json` holds (see `summarise_rows`), there with null for NaN.
    Raises:
        OutputError: the folder cannot be written to.
        ShapeError: the confusion matrix is not square.
    """
    rows = list(rows)
    metrics = summarise_rows(rows, settings, confusion)
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows({column: _cell(value) for column, value in row.items()} for row in rows)
    files.write_text(Path(folder) / PER_IMAGE_FILE, text.getvalue())
    files.write_json(Path(folder) / METRICS_FILE, metrics)
    return metrics


def read_rows(path: Path | str) -> list[dict[str, Any]]:
    """Reads `per_image.csv` back.

    Args:
        path: the file, or the folder that holds it.
    Returns:
        The rows as they were given to `write_tables`: metrics as float, NaN for an empty cell, and for a metric that
        the table is too old to have; pixel counts as int.
    Raises:
        RunError: there is no such file, or it is not what `write_tables` writes.
    """
    path = Path(path)
    path = path / PER_IMAGE_FILE if path.is_dir() else path
    try:
        lines = list(csv.reader(io.StringIO(path.read_bytes().decode("utf-8"), newline=""), strict=True))
    except FileNotFoundError:
        raise RunError(f"{path}: no such file. {_REMEDY}") from None
    except (OSError, UnicodeDecodeError, csv.Error) as problem:
        raise RunError(f"{path}: expected a table of metrics, found something else ({problem}). {_REMEDY}") from None
    # A table written before some metrics were there has no column of them.
    expected = [column for column in COLUMNS if column not in METRICS or (lines and column in lines[0])]
    if not lines or lines[0] != expected:
        raise RunError(
            f"{path}: expected the columns {', '.join(COLUMNS)}, "
            f"found {', '.join(lines[0]) if lines else 'none'}. {_REMEDY}"
        )
    columns = tuple(lines[0])
    return [_parsed(cells, columns, f"{path}, row {number}") for number, cells in enumerate(lines[1:], start=1)]


def format_summary(metrics: dict[str, Any]) -> str:
    """Sets the summary as plain text for the terminal, a block for each class.

    Args:
        metrics: what `write_tables` returns, or what `metrics.json` holds.
    Returns:
        Aligned lines of metric, mean ± standard deviation, 95 % interval over patients, and the number of
        images on which the metric is undefined; then, where the metrics hold a confusion matrix, the scores of all
        pixels together. A dash stands for what is not defined.
    """
    blocks = [f"{metrics['images']} images of {metrics['patients']} patients"]
    for class_name, summaries in metrics["classes"].items():
        table = [(class_name, "mean ± sd", "95 % interval", "undefined")]
        for name, summary in summaries.items():
            average = _pair(summary["mean"], "±", summary["standard_deviation"])
            interval = _pair(summary["interval_low"], "to", summary["interval_high"])
            table.append((name, average, interval, str(summary["undefined"])))
        widths = [max(len(cell) for cell in column) for column in zip(*table, strict=True)]
        blocks.append("\n".join(_aligned(cells, widths) for cells in table))
    if "confusion" in metrics:
        blocks.append(format_agreement(metrics["confusion"]))
    return "\n\n".join(blocks)


def _confusion(matrix: np.ndarray, lesion_classes: list[str]) -> dict[str, Any]:
    matrix = np.asarray(matrix)
    names = {"classes": ["background", *lesion_classes]} if len(matrix) == len(lesion_classes) + 1 else {}
    return {**names, "matrix": matrix.tolist(), **agreement(matrix)}


def _cell(value: Any) -> Any:
    if isinstance(value, float | np.floating):
        return "" if math.isnan(value) else repr(float(value))
    return value


def _parsed(cells: list[str], columns: Sequence[str], place: str) -> dict[str, Any]:
    if len(cells) != len(columns):
        raise RunError(f"{place}: expected {len(columns)} cells, found {len(cells)}. {_REMEDY}")
    row: dict[str, Any] = {**dict.fromkeys(COLUMNS, ""), **dict(zip(columns, cells, strict=True))}
    for column in (*METRICS, *COUNT_COLUMNS):
        number = int if column in COUNT_COLUMNS else float
        try:
            row[column] = math.nan if row[column] == "" and number is float else number(row[column])
        except ValueError:
            raise RunError(f"{place}: expected a number as {column}, found {row[column]!r}. {_REMEDY}") from None
    return row


def _pair(first: float | None, between: str, second: float | None) -> str:
    return _number(first) if _number(first) == "-" else f"{_number(first)} {between} {_number(second)}"


def _number(value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.3f}"


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = [
        cell.rjust(width) if column else cell.ljust(width)
        for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return "  ".join([first, *others])
