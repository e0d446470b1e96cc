"""What a page says of a classifier's scores: in sentences, as a table, and by group of images."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ustoolkit.data.records import IndexRow
from ustoolkit.evaluation.diagnosis_tables import Probabilities
from ustoolkit.evaluation.diagnostic import diagnosis
from ustoolkit.evaluation.subgroups import LABEL, ImageFacts, subgroups
from ustoolkit.report.subgroup_table import grouping_name

# Name and meaning of each score, for readers who are not of the trade; {positive} is the label that is looked for.
EXPLANATIONS = {
    "roc_auc": (
        "ROC AUC",
        "Of one image with {positive} and one without, both drawn at random, how often the first is given the higher "
        "probability: 1 always, 0.5 as chance would. It does not depend on the operating point.",
    ),
    "sensitivity": ("Sensitivity", "Share of the {positive} that is called so at the operating point. Low: missed."),
    "specificity": (
        "Specificity",
        "Share of all others that is not called {positive} at the operating point. Low: false alarms.",
    ),
    "positive_predictive_value": (
        "Positive predictive value",
        "Of those called {positive}, the share that is. It holds only where {positive} is as frequent as here.",
    ),
    "negative_predictive_value": (
        "Negative predictive value",
        "Of those not called {positive}, the share that is not. It too depends on how frequent {positive} is.",
    ),
    "accuracy": ("Accuracy", "Share that is called by its own label. High by itself where one label is rare."),
    "balanced_accuracy": ("Balanced accuracy", "Mean of sensitivity and specificity; 0.5 is chance."),
    "f1": ("F1", "Harmonic mean of sensitivity and positive predictive value."),
    "pr_auc": (
        "PR AUC",
        "Average precision: the positive predictive value, averaged over the sensitivities that thresholds reach.",
    ),
    "brier": ("Brier score", "Mean squared distance of the probability from what was true. 0 is perfect."),
    "expected_calibration_error": (
        "Calibration error",
        "How far probabilities lie from the share that is {positive}, on average over ten bins. 0 is perfect; on few "
        "images it is never 0.",
    ),
    "calibration_slope": (
        "Calibration slope",
        "1 where probabilities are as spread as they should be; below 1 they are too extreme, above 1 too timid.",
    ),
    "calibration_intercept": (
        "Calibration intercept",
        "0 where probabilities are at the right height, for a slope of 1; below 0 they are too high.",
    ),
}
_PARTS = {
    "test": "that training never saw",
    "validation": "that chose the best epoch and the operating point, so that the scores flatter it",
    "train": "that it was trained on, so that the scores flatter it",
    "all": "that include those of training, so that the scores flatter it",
}


def summary_sentences(tables: Mapping[str, Any]) -> dict[str, str]:
    """What came out, in words.

    Args:
        tables: the scores of an evaluation, as `read_diagnosis` gives them.
    Returns:
        'lede' (how well the label is told), 'decision' (what the operating point does) and 'calibration' (what the
        probabilities are worth).
    """
    scores, settings, labels = tables["by_image"], tables["settings"], tables["labels"]
    positive, others = labels[-1], " or ".join(labels[:-1])
    counts, area = scores["counts"], scores["roc_auc"]
    own = settings.get("own_records", True)
    seen = _PARTS.get(settings["part"], "") if own else "of other records, which training never saw"
    counted = f"On {_counted(counts['images'], 'image')} of {_counted(counts['patients'], 'patient')} {seen}"
    if area["value"] is None:
        lede = f"{counted}, only one label occurs, so that nothing says how well {positive} is told from {others}."
    else:
        lede = (
            f"{counted}, {positive} was told from {others} with an area under the ROC curve of {in_words(area)}: of "
            f"100 pairs of one each, {_of_hundred(area['value'])} stood in the right order."
        )
    return {"lede": lede, "decision": _on_decision(scores, positive), "calibration": _on_calibration(scores)}


def score_rows(tables: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row for each score that is defined by image or by patient: key, name, and image and patient, its entries."""
    units = tables["by_image"], tables["by_patient"]
    return [
        {"key": key, "name": name, "image": units[0][key], "patient": units[1][key]}
        for key, (name, _) in EXPLANATIONS.items()
        if any(unit.get(key, {}).get("value") is not None for unit in units)
    ]


def group_rows(
    found: Probabilities, index: Mapping[str, IndexRow], threshold: float, labels: Sequence[str]
) -> list[dict[str, Any]]:
    """Scores by size of the lesion and by every attribute that divides the images.

    Args:
        found: of images.
        index: rows of the records, by source id.
        threshold: the operating point.
        labels: the positive one last.
    Returns:
        dicts of grouping, group, images, patients, positives, and roc_auc, sensitivity and specificity, each of value,
        interval_low and interval_high, None where undefined; none where nothing divides the images.
    """
    rows = [index[name] for name in found.names]
    facts = [ImageFacts(row.label, row.lesion_fraction, row.attributes) for row in rows]
    truth = np.array([labels.index(label) for label in found.truth])
    patients = np.array(found.patients)
    scored = []
    for grouping in subgroups(facts):
        if grouping.name == LABEL:  # of images of one label there is nothing to tell apart
            continue
        for name, members in grouping.groups.items():
            of_group = diagnosis(truth[members], found.probability[members], threshold, labels, patients[members])
            row = {
                "grouping": grouping_name(grouping),
                "group": name,
                "positives": int((truth[members] == len(labels) - 1).sum()),
            }
            row |= {key: of_group["counts"][key] for key in ("images", "patients")}
            scored.append({**row, **{key: of_group[key] for key in ("roc_auc", "sensitivity", "specificity")}})
    return scored


def in_words(entry: Mapping[str, float | None], digits: int = 2) -> str:
    """A score with its interval, as '0.91 (95 % interval 0.86 to 0.94)'; '–' where it is undefined."""
    if entry["value"] is None:
        return "–"
    if entry["interval_low"] is None:
        return f"{entry['value']:.{digits}f}"
    low, high = (f"{entry[key]:.{digits}f}" for key in ("interval_low", "interval_high"))
    return f"{entry['value']:.{digits}f} (95 % interval {low} to {high})"


def _on_decision(scores: Mapping[str, Any], positive: str) -> str:
    counts, sentences = scores["counts"], []
    positives = counts["true_positive"] + counts["false_negative"]
    negatives = counts["true_negative"] + counts["false_positive"]
    if positives:
        sentences.append(
            f"it found {counts['true_positive']} of {_counted(positives, f'{positive} image')}, a sensitivity of "
            f"{in_words(scores['sensitivity'])}"
        )
    if negatives:
        sentences.append(
            f"raised a false alarm on {counts['false_positive']} of {_counted(negatives, 'other image')}, a "
            f"specificity of {in_words(scores['specificity'])}"
        )
    return f"At its operating point, a probability of {scores['threshold']:.2f}, {', and '.join(sentences)}."


def _on_calibration(scores: Mapping[str, Any]) -> str:
    error, slope = scores["expected_calibration_error"]["value"], scores["calibration_slope"]
    parts = []
    if error is not None:
        parts.append(f"Its probabilities lie {error:.2f} off the shares that were true, on average.")
    if slope["value"] is None:
        return " ".join(parts)
    low, high = (math.nan if slope[key] is None else slope[key] for key in ("interval_low", "interval_high"))
    if low > 1:
        meaning = "they are too timid, and could be nearer to 0 and 1"
    elif high < 1:
        meaning = "they are too extreme, nearer to 0 and 1 than they should be"
    elif math.isnan(low):
        meaning = "there are too few images to say whether that is far from 1"
    else:
        meaning = "its interval holds 1, so that nothing here says that they are too extreme or too timid"
    return " ".join([*parts, f"The calibration slope is {in_words(slope)}: {meaning}."])


def _of_hundred(area: float) -> str:
    pairs = round(100 * area)
    return "all" if pairs == 100 and area == 1 else f"{min(pairs, 99)}"


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
