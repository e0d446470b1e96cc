"""The command that puts a segmenter and classifiers together: diagnose."""

import argparse
from typing import TYPE_CHECKING, Any

from ustoolkit.commands.console import Outcome, warn
from ustoolkit.errors import RunError

if TYPE_CHECKING:
    from ustoolkit.inference.diagnose import Diagnoses

_SHOWN = 20  # images on a terminal; the table has all


def diagnose(options: argparse.Namespace) -> Outcome:
    """Finds, measures and judges the lesions of images."""
    from ustoolkit.files import check_replaceable

    check_replaceable(options.out, options.overwrite, owned_by="diagnoses.json")
    from ustoolkit.commands.classification import warn_of
    from ustoolkit.data.audit import listed
    from ustoolkit.inference.diagnose import RESEARCH_ONLY, diagnose_images
    from ustoolkit.inference.diagnosis import Diagnostician
    from ustoolkit.inference.fusion import load_classifier
    from ustoolkit.inference.segmenter import load_segmenters

    classifiers = [load_classifier(folder) for folder in options.classifier]
    if len({folder.resolve() for folder in options.classifier}) < len(classifiers):
        raise RunError("--classifier: a run is named twice, and would count twice. Name each once.")
    for classifier in classifiers:
        warn_of(classifier)
    diagnostician = Diagnostician(load_segmenters(options.segmenter), classifiers)
    result = diagnose_images(diagnostician, options.images, options.out, options.split, options.overwrite)
    if result.refused:
        warn(f"{len(result.refused)} images were refused:\n  " + "\n  ".join(result.refused))
    if result.learned_from:
        warn(
            f"{len(result.learned_from)} of the images were in the training or validation part of a classifier "
            f"({listed(result.learned_from)}); it knows them better than it knows new ones."
        )
    content = {
        "notice": RESEARCH_ONLY,
        "folder": str(options.out),
        "labels": diagnostician.labels,
        "threshold": diagnostician.threshold,
        "diagnoses": result.rows,
        "refused": result.refused,
        "learned_from": result.learned_from,
    }
    text = f"{_lines(result, diagnostician.labels[-1])}\n{_counts(result)}; panels and diagnoses.csv in {options.out}"
    return content, f"{text}\n{RESEARCH_ONLY}"


def _lines(result: "Diagnoses", positive: str) -> str:
    rows = [("image", "decision", f"probability of '{positive}'", "long × short diameter")]
    rows += [_row(row, positive) for row in result.rows[:_SHOWN]]
    widths = [min(40, max(len(row[column]) for row in rows)) for column in range(4)]
    lines = ["  ".join(f"{cell[:width]:{width}}" for cell, width in zip(row, widths, strict=True)) for row in rows]
    more = [f"… and {len(result.rows) - _SHOWN} more"] if len(result.rows) > _SHOWN else []
    return "\n".join([*(line.rstrip() for line in lines), *more])


def _row(row: dict[str, Any], positive: str) -> tuple[str, str, str, str]:
    if row["lesion_found"] == "no":
        return row["source_id"], "no lesion found", "", ""
    interval = "" if row["interval_low"] is None else f" ({row['interval_low']:.2f} to {row['interval_high']:.2f})"
    unit = "pixels" if row["long_diameter_mm"] is None else "mm"
    size = f"{row[f'long_diameter_{unit}']:.1f} × {row[f'short_diameter_{unit}']:.1f} {unit}"
    return row["source_id"], row["decision"], f"{row[f'probability_{positive}']:.2f}{interval}", size


def _counts(result: "Diagnoses") -> str:
    missed = sum(row["lesion_found"] == "no" for row in result.rows)
    without = f", {missed} without a lesion" if missed else ""
    return f"{len(result.rows)} image{'s' if len(result.rows) > 1 else ''}{without}"
