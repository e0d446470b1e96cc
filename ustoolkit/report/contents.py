"""What a report says of the data, the training and the settings, gathered from a run folder."""

import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from ustoolkit.data.records import IndexRow, Records
from ustoolkit.errors import RunError
from ustoolkit.evaluation.tables import METRICS_FILE
from ustoolkit.files import read_json
from ustoolkit.report.scores import metric_rows
from ustoolkit.run import Run

# Not by `strftime`, whose names change with the machine's language.
_MONTHS = (
    *("January", "February", "March", "April", "May", "June", "July"),
    *("August", "September", "October", "November", "December"),
)
MOST_REFUSED = 100  # listed by name; the others are counted


def data_set(run: Run, records: Records) -> dict[str, Any]:
    """The data that the run was trained on.

    Args:
        run: whose manifest and split are told.
        records: the records of the report; where they are the run's own, they tell of patients and sizes too.
    Returns:
        counts (images, patients, unlabelled, by_label), labels, parts (a row each), facts about the images
        (None for other records), refused (the first `MOST_REFUSED`) and how many `more_refused`.
    """
    manifest = run.manifest
    own = records.digest == manifest["digest"]
    by_id = {row.source_id: row for row in records.index} if own else {}
    labels = [label for label in manifest["counts"]["by_label"] if label]
    refused = manifest["refused"]
    return {
        "counts": manifest["counts"],
        "classes": manifest["classes"][1:],
        "labels": labels,
        "parts": [_part_row(part, ids, by_id, labels) for part, ids in run.splits.items()],
        "facts": _image_facts(records.index) if own else None,
        "refused": refused[:MOST_REFUSED],
        "more_refused": max(0, len(refused) - MOST_REFUSED),
    }


def training(run: Run) -> list[tuple[str, str]]:
    """Names and values of how training went, those that the run knows."""
    state = run.state
    known = [
        ("Training time", _duration(state.get("training_seconds"))),
        ("Epochs", _text(state.get("epochs"))),
        ("Stopped because", _text(state.get("stopped_because"))),
        ("Best epoch", _text(state.get("best_epoch"))),
        ("Best validation Dice", _text(state.get("best_validation_dice"))),
        ("Trainable weights", _weights(state)),
        ("Seed", _text(state.get("seed"))),
        ("Devices", _text(state.get("replicas"))),
    ]
    return [(name, value) for name, value in known if value]


def _weights(state: Mapping[str, Any]) -> str:
    """How many there are, and how many of them learnt where not all did."""
    if "trainable_weights" not in state:
        return ""
    every, opened = state["trainable_weights"], state.get("open_weights", state["trainable_weights"])
    return f"{every:,}" if opened == every else f"{every:,}, of which {opened:,} learnt"


def provenance(run: Run) -> list[tuple[str, str]]:
    """Names and values of what is needed to make the run again, those that the run knows."""
    state, machine = run.state, run.state.get("machine", {})
    known = [
        ("Run folder", str(run.folder.resolve())),
        ("Records", _text(state.get("records"))),
        ("Records, SHA-256", _text(run.manifest.get("digest"))),
        ("Command", _text(state.get("command"))),
        ("Git revision", _text(state.get("git_revision"))),
        ("Machine", _text(machine.get("platform"))),
        ("Processor cores", _text(machine.get("cores"))),
        *sorted(state.get("versions", {}).items()),
    ]
    return [(name, value) for name, value in known if value]


def started(run: Run) -> str:
    """When training began, such as '3 May 2025, 14:05 UTC'; '' where the run does not say."""
    try:
        time = datetime.fromisoformat(run.state["started"])
    except (KeyError, TypeError, ValueError):
        return ""
    return f"{time.day} {_MONTHS[time.month - 1]} {time.year}, {time:%H:%M} {time.tzname() or ''}".strip()


def older_weights(run: Run, settings: dict[str, Any]) -> list[str]:
    """A warning where an evaluation is of other weights than the run has now, as when training went on.

    Args:
        run: whose evaluation it is.
        settings: of the evaluation; one that does not say of which epoch its weights were gives no warning.
    """
    scored, best = settings.get("epoch"), run.state.get("best_epoch")
    if scored == best or "epoch" not in settings:
        return []
    return [
        f"These are scores of epoch {scored}, and the run's best is now epoch {best}. Run 'ustoolkit evaluate' again."
    ]


def other_evaluations(run: Run, shown: str) -> list[dict[str, Any]]:
    """The run's evaluations but the one that is shown, each as `read_metrics` gives it, with its `name`.

    Raises:
        RunError: one of them is damaged.
    """
    folder = run.evaluation(shown).parent
    paths = sorted(path for path in folder.glob(f"*/{METRICS_FILE}") if path.parent.name != shown)
    return [{"name": path.parent.name, **read_metrics(run, path.parent.name)} for path in paths]


def read_metrics(run: Run, name: str) -> dict[str, Any]:
    """The content of an evaluation's `metrics.json`, prepared for the page.

    Returns:
        that, with the summaries of each class as rows under `tables`, and under `pixels` the scores of all pixels
        together: iou (name and value of each class), mean_iou, pixel_accuracy; None where the evaluation has none.
    Raises:
        RunError: it is missing or damaged.
    """
    path = run.evaluation(name) / METRICS_FILE
    if not path.is_file():
        found = sorted(other.parent.name for other in path.parent.parent.glob(f"*/{METRICS_FILE}"))
        there = f"only {', '.join(found)}" if found else "none"
        raise RunError(
            f"{run.folder}: expected an evaluation '{name}', found {there}. "
            f"Run 'ustoolkit evaluate {run.folder}' first."
        )
    remedy = "Run 'ustoolkit evaluate' again."
    metrics = read_json(path, RunError, remedy)
    try:
        tables = [
            {"name": class_name, "rows": metric_rows(summaries), "undefined": _undefined(summaries)}
            for class_name, summaries in metrics["classes"].items()
        ]
        needed = {key: metrics[key] for key in ("settings", "images", "patients")}
        for summaries in metrics["classes"].values():
            for key in ("dice", "hausdorff95_pixel", "hausdorff95_mm"):
                summaries[key]["count"]  # the page shows these without asking
        return {**metrics, **needed, "tables": tables, "pixels": _pixels(run, metrics.get("confusion"))}
    except (KeyError, TypeError, AttributeError) as problem:
        raise RunError(f"{path}: expected a summary of metrics, found something else ({problem}). {remedy}") from None


def _pixels(run: Run, confusion: dict[str, Any] | None) -> dict[str, Any] | None:
    if confusion is None:
        return None
    named = list(zip(run.classes, confusion["iou"], strict=False))
    return {"iou": named, "mean_iou": confusion["mean_iou"], "pixel_accuracy": confusion["pixel_accuracy"]}


def _undefined(summaries: dict[str, dict[str, Any]]) -> list[str]:
    return [key for key, values in summaries.items() if not values["count"]]


def _part_row(
    part: str, source_ids: Sequence[str], by_id: dict[str, IndexRow], labels: Sequence[str]
) -> dict[str, Any]:
    rows = [by_id[source_id] for source_id in source_ids if source_id in by_id]
    by_label = Counter(row.label for row in rows)
    return {
        "name": part,
        "images": len(source_ids),
        "patients": len({row.patient_id for row in rows}) if by_id else None,
        "by_label": [by_label[label] if by_id else None for label in labels],
    }


def _image_facts(index: Sequence[IndexRow]) -> list[tuple[str, str]]:
    fractions = [100 * row.lesion_fraction for row in index if row.lesion_fraction]
    facts = [
        ("Width", _range([row.width for row in index], "pixels")),
        ("Height", _range([row.height for row in index], "pixels")),
        ("Lesion, share of the image", _range(fractions, "%")),
        (
            "Pixel spacing",
            _range([1000 * spacing for row in index for spacing in row.spacing_mm or ()], "µm") or "unknown",
        ),
    ]
    return [(name, value) for name, value in facts if value]


def _range(values: Sequence[float], unit: str) -> str:
    if not values:
        return ""
    low, middle, high = min(values), statistics.median(values), max(values)
    if low == high:
        return f"{_short(low)} {unit}"
    return f"{_short(low)} to {_short(high)} {unit}, median {_short(middle)}"


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 or float(value).is_integer() else f"{value:.2g}"


def _duration(seconds: float | None) -> str:
    if seconds is None or not math.isfinite(seconds):
        return ""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{seconds:.1f} s"


def _text(value: Any) -> str:
    return "" if value is None else str(value)
