"""The figures of classification in the lymph-node study: ROC curves and bars, as its paper has them."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from ustoolkit.report.diagnostic_figures import ScoredImages, roc_figure
from ustoolkit.report.study_bars import bar_figure
from ustoolkit.studies.classification_arms import LESION_FEATURES, NetworkArm
from ustoolkit.studies.classification_rows import PRINTED_SCORES
from ustoolkit.studies.classification_scores import ClassifierScores, read_classifiers
from ustoolkit.studies.results import Results

_SCORES = dict(zip(PRINTED_SCORES, ("sensitivity", "specificity", "accuracy", "ROC AUC"), strict=True))
_CURVES = {  # short, so that a legend holds them whole
    LESION_FEATURES.name: "lesion features",
    "fusion-bottleneck": "bottleneck, fused",
    "fusion-fine-tuning": "fine-tuned, fused",
    "fusion-all-equal": "all, fused equally",
    "fusion-all-simplex": "all, validated",
}


def classification_plots(results: Results, networks: Sequence[NetworkArm]) -> dict[str, Figure]:
    """Bars of each network's scores without SMOTE, and ROC curves by patient of what was fused, and of lesion features.

    Args:
        results: of the study.
        networks: its arms.
    """
    rows = [row for row in results.tables.get("networks", ()) if row["seeds"] and not row["smote"]]
    figures = {}
    if rows:
        labels = {each.name: each.label for each in networks}
        series = {
            label: ([row[f"{name}_mean"] for row in rows], [row[f"{name}_deviation"] for row in rows])
            for name, label in _SCORES.items()
        }
        figures["classifiers"] = bar_figure([labels[row["arm"]] for row in rows], series, "score by image")
    done = [run for run in results.planned if run.arm.name in _CURVES and run.name in results.finished]
    runs = read_classifiers(done)
    if runs:
        figures["roc"] = roc_figure({label: _averaged(runs[arm]) for arm, label in _CURVES.items() if arm in runs})
    return figures


def _averaged(runs: Sequence[ClassifierScores]) -> ScoredImages:
    """Probabilities by patient, averaged over seeds."""
    scored = [run.by["patient"] for run in runs]
    probability = np.mean([each.probability for each in scored], axis=0)
    return ScoredImages(scored[0].positive, probability, groups=scored[0].patients)
