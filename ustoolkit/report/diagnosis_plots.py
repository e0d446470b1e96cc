"""Plots of an evaluation of a classifier, as files beside its tables."""

from pathlib import Path

import numpy as np

from ustoolkit.evaluation.diagnosis_tables import read_diagnosis, read_probabilities
from ustoolkit.report.diagnostic_figures import FIGURES, ScoredImages
from ustoolkit.report.figure_files import write_figure


def scored(folder: Path, unit: str) -> ScoredImages:
    """What an evaluation's curve is drawn from.

    Args:
        folder: of the evaluation.
        unit: 'image' or 'patient'.
    Raises:
        RunError: a table is missing or damaged.
    """
    tables, found = read_diagnosis(folder), read_probabilities(folder, unit)
    positive = np.array([label == tables["labels"][-1] for label in found.truth])
    threshold = float(tables["settings"]["threshold"])
    return ScoredImages(positive, found.probability[:, -1], threshold, np.array(found.patients))


def write_plots(folder: Path) -> list[Path]:
    """Writes ROC, precision-recall and reliability plots, by image and by patient in one, as PNG.

    Where a part has images of one label only there are no curves to draw.

    Args:
        folder: of an evaluation that `ustoolkit.inference.classify` wrote.
    Returns:
        the files.
    """
    curves = {f"by {unit}": scored(folder, unit) for unit in ("image", "patient")}
    if any(len(set(curve.truth.tolist())) < 2 for curve in curves.values()):
        return []
    written = []
    for kind, (draw, _) in FIGURES.items():
        written.append(folder / f"{kind}.png")
        write_figure(written[-1], draw(curves))
    return written
