"""Scores of a diagnosis for many weightings of the same images at once, as a bootstrap draws them."""

import math

import numpy as np

from ustoolkit.evaluation.calibration import reliability_bins, weighted_slope_intercept

RESAMPLES, SLOPE_RESAMPLES = 2000, 500
_BLOCK_SIZE = 2**20  # weights that are held at a time, 8 MB
_BINS = 10


def weighted_scores(
    truth: np.ndarray, probability: np.ndarray, called: np.ndarray, right: np.ndarray, weights: np.ndarray
) -> dict[str, np.ndarray]:
    """Scores of each weighting, but for the area under the ROC curve and the line of calibration.

    Args:
        truth: bool (n,), whether each image is positive.
        probability: float (n,), in [0, 1], of the positive label.
        called: bool (n,), whether each image is called positive.
        right: bool (n,), whether each image is given its own label.
        weights: float (weightings, n), 0 or more, how often each image counts.
    Returns:
        dict of float (weightings,): sensitivity, specificity, accuracy, balanced_accuracy, f1,
        positive_predictive_value, negative_predictive_value, pr_auc (average precision), brier and
        expected_calibration_error (ten bins). NaN where there is nothing to take a share of, and for pr_auc also
        without negatives.
    """
    true_positive, false_negative = weights @ (truth & called), weights @ (truth & ~called)
    false_positive, true_negative = weights @ (~truth & called), weights @ (~truth & ~called)
    total = weights.sum(axis=1)
    sensitivity = _share(true_positive, true_positive + false_negative)
    specificity = _share(true_negative, true_negative + false_positive)
    return {
        "sensitivity": sensitivity,
        "specificity": specificity,
        "accuracy": _share(weights @ right, total),
        "balanced_accuracy": (sensitivity + specificity) / 2,
        "f1": _share(2 * true_positive, 2 * true_positive + false_positive + false_negative),
        "positive_predictive_value": _share(true_positive, true_positive + false_positive),
        "negative_predictive_value": _share(true_negative, true_negative + false_negative),
        "pr_auc": _average_precision(truth, probability, weights),
        "brier": _share(weights @ (probability - truth) ** 2, total),
        "expected_calibration_error": _share(_bin_distances(truth, probability, weights), total),
    }


def bootstrap_intervals(
    truth: np.ndarray,
    probability: np.ndarray,
    called: np.ndarray,
    right: np.ndarray,
    members: np.ndarray,
    seed: int,
    confidence: float = 0.95,
) -> dict[str, tuple[float, float]]:
    """Percentile bootstrap intervals of the scores, drawing whole patients.

    See `bootstrap_interval` in `statistics` for the method. Resamples in which a score is undefined are left out. The
    calibration error of a resample is on average above that of the images, so that its interval lies high.

    Args:
        truth, probability, called, right: as `weighted_scores` takes them.
        members: int (n,), the number of each image's patient, from 0.
        seed: the same seed gives the same intervals.
        confidence: the share of intervals that should hold the true score, above 0 and below 1.
    Returns:
        dict of (low, high) for the scores of `weighted_scores` (2,000 resamples) and for calibration_slope and
        calibration_intercept (500). (NaN, NaN) where there are fewer than two patients, where the score is undefined
        in half of the resamples or more, and where it is the same in all, which says nothing of how far it may be off.
    """
    number = int(members.max()) + 1 if len(members) else 0
    generator = np.random.default_rng(seed)
    drawn: dict[str, list[np.ndarray]] = {}
    block = max(1, _BLOCK_SIZE // max(len(members), 1))
    lines_left = SLOPE_RESAMPLES
    for start in range(0, RESAMPLES if number > 1 else 0, block):
        rows = min(block, RESAMPLES - start)
        weights = generator.multinomial(number, np.full(number, 1 / number), size=rows)[:, members].astype(np.float64)
        scores = weighted_scores(truth, probability, called, right, weights)
        scores["calibration_slope"], scores["calibration_intercept"] = weighted_slope_intercept(
            truth, probability, weights[:lines_left]
        )
        lines_left = max(0, lines_left - rows)
        for name, values in scores.items():
            drawn.setdefault(name, []).append(values)
    return {name: _percentiles(np.concatenate(blocks), confidence) for name, blocks in drawn.items()}


def _percentiles(values: np.ndarray, confidence: float) -> tuple[float, float]:
    defined = values[~np.isnan(values)]
    # Sums in another order differ by rounding, which is no spread.
    if 2 * len(defined) <= len(values) or np.ptp(defined) < 1e-12:
        return math.nan, math.nan
    low, high = np.quantile(defined, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(len(whole), math.nan), where=whole > 0)


def _bin_distances(truth: np.ndarray, probability: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Of each weighting the distances of `expected_calibration_error`, times the images of each bin, added up."""
    in_bin = reliability_bins(probability, _BINS)[:, None] == np.arange(_BINS)
    return np.abs(weights @ (in_bin * (probability - truth)[:, None])).sum(axis=1)


def _average_precision(truth: np.ndarray, probability: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Precision at each threshold, weighed by the recall that it adds, as scikit-learn defines it."""
    order = np.argsort(-probability, kind="stable")
    # Images of the same probability are called together, so only the last of them is a threshold.
    last = np.flatnonzero(np.diff(probability[order], append=-1.0))
    called = np.cumsum(weights[:, order], axis=1)[:, last]
    found = np.cumsum(weights[:, order] * truth[order], axis=1)[:, last]
    added = np.diff(found, axis=1, prepend=0.0)
    precision = np.divide(found, called, out=np.zeros_like(found), where=called > 0)
    positives, negatives = weights @ truth, weights @ ~truth
    return _share((precision * added).sum(axis=1), np.where(negatives > 0, positives, 0.0))
