"""What each score says of the images, in words and by example, for readers who do not work with scores."""

import math
from collections.abc import Iterable, Sequence

import numpy as np

from ustoolkit.evaluation.statistics import summarise
from ustoolkit.report.scores import ImageScore

_FEWEST_FOR_A_TENTH = 20  # images; below it one in ten says little
_ABOUT_RIGHT = (0.8, 1.25)  # predicted over annotated area: a quarter too much, or as much too little


def readings(scores: Sequence[ImageScore]) -> list[tuple[str, str]]:
    """What is asked of an outline, and how this network's answer reads.

    Args:
        scores: of all images.
    Returns:
        question and answer of each score that is defined on some image; intervals are of 95 %, over whole patients.
    """
    answers = [
        ("Do the outlines agree?", _on_overlap(scores)),
        ("How much of the lesion is found?", _on_coverage(scores)),
        ("Are lesions drawn too large or too small?", _on_area(scores)),
        ("How far off is the outline?", _on_distance(scores)),
        ("Are lesions missed?", _on_missed(scores)),
    ]
    return [(question, answer) for question, answer in answers if answer]


def _on_overlap(scores: Sequence[ImageScore]) -> str:
    values = _defined(score.dice for score in scores)
    if not values.size:
        return ""
    mean = values.mean()
    sentences = [
        f"Mean Dice {mean:.2f}{_interval([score.dice for score in scores], scores)}: two outlines of equal size with "
        f"that Dice share {100 * mean:.0f} % of their area.",
        f"Half of the images reach {np.median(values):.2f} or more.",
    ]
    if values.size >= _FEWEST_FOR_A_TENTH:
        sentences.append(f"One image in ten stays below {np.quantile(values, 0.1):.2f}.")
    return " ".join(sentences)


def _on_coverage(scores: Sequence[ImageScore]) -> str:
    values = [score.sensitivity for score in scores]
    defined = _defined(values)
    if not defined.size:
        return ""
    covered = f"On average {100 * defined.mean():.0f} % of the annotated lesion is marked"
    return f"{covered}{_interval(values, scores, percent=True)}; the rest is left out."


def _on_area(scores: Sequence[ImageScore]) -> str:
    ratios = _defined(score.area_ratio for score in scores)
    if not ratios.size:
        return ""
    low, high = _ABOUT_RIGHT
    smaller, larger = int((ratios < low).sum()), int((ratios > high).sum())
    right = ratios.size - smaller - larger
    return (
        f"The predicted area is {np.median(ratios):.2f} times the annotated one on the median image. It is within "
        f"{low:.2f} to {high:.2f} times on {right:,} of {ratios.size:,} images, smaller on {smaller:,}, larger on "
        f"{larger:,}."
    )


def _on_distance(scores: Sequence[ImageScore]) -> str:
    units = {score.unit for score in scores}
    values = _defined(score.distance for score in scores)
    if len(units) != 1 or not values.size:
        return ""
    unit = min(units)
    text = f"On half of the images 95 % of the outline lies within {np.median(values):.1f} {unit} of the annotated one"
    if values.size >= _FEWEST_FOR_A_TENTH:
        text += f"; on one in ten some of it is more than {np.quantile(values, 0.9):.1f} {unit} off"
    left_out = len(scores) - values.size
    return f"{text}." + (f" {left_out:,} images without one of the outlines have no distance." if left_out else "")


def _on_missed(scores: Sequence[ImageScore]) -> str:
    annotated = [score for score in scores if score.size > 0]
    if not annotated:
        return ""
    missed = [float(score.missed) for score in annotated]
    if not any(missed):
        return f"No: each of the {len(annotated):,} lesions was marked in part at least."
    share = _interval(missed, annotated, percent=True)
    elsewhere = sum(score.missed and score.area_ratio > 0 for score in annotated)
    return (
        f"{int(sum(missed)):,} of {len(annotated):,} were not touched by the prediction, "
        f"{100 * np.mean(missed):.1f} %{share}; on {elsewhere:,} of these something else was marked."
    )


def _interval(values: Sequence[float], scores: Sequence[ImageScore], percent: bool = False) -> str:
    """An interval in brackets; '' where there is none, as for one patient."""
    summary = summarise(values, groups=[score.patient_id for score in scores])
    low, high = summary["interval_low"], summary["interval_high"]
    if math.isnan(low):
        return ""
    return f" ({100 * low:.1f} to {100 * high:.1f} %)" if percent else f" ({low:.2f} to {high:.2f})"


def _defined(values: Iterable[float]) -> np.ndarray:
    found = np.fromiter(values, float)
    return found[~np.isnan(found)]
