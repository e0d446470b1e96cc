"""Area under the ROC curve: how sure it is, and whether one is larger than another; with any images a patient."""

import math
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm, rankdata

from ustoolkit.errors import DataError, ShapeError
from ustoolkit.evaluation.probabilities import checked_scores, group_members
from ustoolkit.evaluation.statistics import PairedDifference

# A variance this small is rounding: placements are multiples of half of 1 / images.
_NO_VARIANCE = 1e-14


def auc_covariance(
    truth: np.ndarray, scores: np.ndarray, groups: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Areas under the ROC curves of several methods on the same images, and their covariance.

    With one image a patient these are those of DeLong, DeLong and Clarke-Pearson, "Comparing the areas under two or
    more correlated receiver operating characteristic curves" (Biometrics, 1988), from ranks as in Sun and Xu, "Fast
    implementation of DeLong's algorithm" (IEEE Signal Processing Letters, 2014). With several, placements are summed
    over each patient first: Obuchowski, "Nonparametric analysis of clustered ROC curve data" (Biometrics, 1997).

    Args:
        truth: bool (n,), whether each image is positive.
        scores: float (methods, n), higher where an image is more likely positive.
        groups: (n,) str, the patient of each image, or None where every image stands for itself.
    Returns:
        float64 (methods,), in [0, 1], NaN where one of the classes is missing, and float64 (methods, methods), NaN
        where fewer than two patients have positive images or fewer than two have negative ones.
    Raises:
        ShapeError: not one score and one group for each image.
        DataError: a score is not finite.
    """
    scores = np.asarray(scores)
    if scores.ndim != 2:
        raise ShapeError(
            f"the scores have shape {scores.shape}; expected (methods, n). Give one row of scores for each method."
        )
    if not len(scores):
        raise DataError("there are no scores; expected one method or more. Give one row of scores for each method.")
    checked = [checked_scores(truth, row) for row in scores]
    truth, scores = checked[0][0], np.stack([row for _, row in checked])
    members, number = group_members(groups, len(truth))
    methods, positives = len(scores), int(truth.sum())
    negatives = len(truth) - positives
    if not positives or not negatives:
        return np.full(methods, math.nan), np.full((methods, methods), math.nan)
    of_positives, of_negatives = _placements(truth, scores)
    areas = of_positives.mean(axis=1)
    positive_sums = _sums_of_groups(of_positives - areas[:, None], members[truth], number)
    negative_sums = _sums_of_groups(of_negatives - areas[:, None], members[~truth], number)
    with_positives = len(np.unique(members[truth]))
    with_negatives = len(np.unique(members[~truth]))
    if with_positives < 2 or with_negatives < 2:
        return areas, np.full((methods, methods), math.nan)
    crossed = positive_sums @ negative_sums.T
    covariance = (
        _small_sample(with_positives) * (positive_sums @ positive_sums.T) / positives**2
        + _small_sample(with_negatives) * (negative_sums @ negative_sums.T) / negatives**2
        + _small_sample(number) * (crossed + crossed.T) / (positives * negatives)
    )
    return areas, covariance


def auc_interval(
    truth: np.ndarray, scores: np.ndarray, groups: np.ndarray | None = None, confidence: float = 0.95
) -> tuple[float, float, float]:
    """Area under the ROC curve with its interval, which is symmetric in the area's log odds.

    So it never leaves [0, 1], and holds the true area more often than one that is symmetric in the area itself where
    that is near 1: Pepe, "The Statistical Evaluation of Medical Tests for Classification and Prediction" (2003),
    section 5.2. The variance is that of `auc_covariance`.

    Args:
        truth: bool (n,), whether each image is positive.
        scores: float (n,), higher where an image is more likely positive.
        groups: (n,) str, the patient of each image, or None where every image stands for itself.
        confidence: the share of intervals that should hold the true area, above 0 and below 1.
    Returns:
        (area, low, high), in [0, 1]. The area is NaN where one of the classes is missing; low and high are NaN there,
        where a class has images of one patient only, and where the classes are divided perfectly, so that nothing
        in the sample says how far the area may be from 1.
    Raises:
        ShapeError: not one score and one group for each image.
        DataError: a score is not finite.
        ValueError: the confidence is not between 0 and 1.
    """
    deviations = _deviations(confidence)
    areas, covariance = auc_covariance(truth, np.asarray(scores)[None], groups)
    area, variance = float(areas[0]), float(covariance[0, 0])
    if not 0 < area < 1 or not variance > _NO_VARIANCE:
        return area, math.nan, math.nan
    centre, half = math.log(area / (1 - area)), deviations * math.sqrt(variance) / (area * (1 - area))
    low, high = (1 / (1 + math.exp(-min(max(end, -700), 700))) for end in (centre - half, centre + half))
    return area, low, high


@dataclass(frozen=True, kw_only=True)
class AucDifference(PairedDifference):
    """How much larger the area under one ROC curve is than that under another, on the same images.

    Attributes:
        mean: first area minus second; NaN where one of the classes is missing.
        interval_low, interval_high: of its 95 % interval; NaN where it is undefined.
        images, groups: how many images and patients it is from.
        p_value: of the two-sided test that the areas are equal; NaN where the interval is.
    """

    p_value: float


def compare_auc(
    truth: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    groups: np.ndarray | None = None,
    confidence: float = 0.95,
) -> AucDifference:
    """Difference of the areas under two ROC curves of the same images, with its test; see `auc_covariance`.

    Args:
        truth: bool (n,), whether each image is positive.
        first: float (n,), the scores of one method, higher where an image is more likely positive.
        second: float (n,), those of the other.
        groups: (n,) str, the patient of each image, or None where every image stands for itself.
        confidence: the share of intervals that should hold the true difference, above 0 and below 1.
    Returns:
        first minus second; its `verdict` is 'better' or 'worse' where the interval is above or below zero, else
        'undecided'. Two methods that order every pair of images alike differ by 0 with p = 1.
    Raises:
        ShapeError: not one score of each method and one group for each image.
        DataError: a score is not finite.
        ValueError: the confidence is not between 0 and 1.
    """
    deviations = _deviations(confidence)
    first, second = np.asarray(first), np.asarray(second)
    if first.shape != second.shape:
        raise ShapeError(
            f"the scores have shapes {first.shape} and {second.shape}; expected the same. "
            "Score both methods on the same images."
        )
    areas, covariance = auc_covariance(truth, np.stack([first, second]), groups)
    mean = float(areas[0] - areas[1])
    variance = float(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    low, high, p_value = math.nan, math.nan, math.nan
    if variance > _NO_VARIANCE:
        error = math.sqrt(variance)
        low, high = mean - deviations * error, mean + deviations * error
        p_value = float(2 * norm.sf(abs(mean) / error))
    elif not math.isnan(variance) and abs(mean) < math.sqrt(_NO_VARIANCE):
        mean, low, high, p_value = 0.0, 0.0, 0.0, 1.0
    return AucDifference(
        mean=mean,
        interval_low=low,
        interval_high=high,
        images=len(first),
        groups=group_members(groups, len(first))[1],
        p_value=p_value,
    )


def _placements(truth: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each positive the share of negatives below it, for each negative that of positives above; ties are half."""
    positives, negatives = scores[:, truth], scores[:, ~truth]
    ranks = rankdata(scores, axis=1)
    below = (ranks[:, truth] - rankdata(positives, axis=1)) / negatives.shape[1]
    above = 1 - (ranks[:, ~truth] - rankdata(negatives, axis=1)) / positives.shape[1]
    return below, above


def _sums_of_groups(values: np.ndarray, members: np.ndarray, number: int) -> np.ndarray:
    return np.stack([np.bincount(members, weights=row, minlength=number) for row in values])


def _small_sample(number: int) -> float:
    return number / (number - 1)


def _deviations(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence {confidence}: expected above 0 and below 1.")
    return float(norm.ppf((1 + confidence) / 2))
