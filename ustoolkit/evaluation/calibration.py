"""Whether probabilities mean what they say, and one number that mends them."""

import math

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import expit, log_softmax, softmax
from sklearn.metrics import brier_score_loss

from ustoolkit.errors import DataError
from ustoolkit.evaluation.probabilities import (
    SMALLEST_PROBABILITY,
    checked_labels,
    checked_probability,
    checked_rows,
    log_odds,
)

LOWEST_TEMPERATURE, HIGHEST_TEMPERATURE = 0.05, 20.0
_SUREST = 20.0  # log odds that a low temperature may lead to; far above, 1 and what is near it would be one number
_NEWTON_STEPS = 60
_LONGEST_STEP = 2.0  # of Newton's method; a whole step overshoots where the classes nearly part
_CONVERGED = 1e-9


def reliability(truth: np.ndarray, probability: np.ndarray, bins: int = 10) -> dict[str, list]:
    """How often images are positive that are given about the same probability, in bins of equal width.

    A probability on the edge of two bins counts in the lower one, as in Guo et al. (2017) and scikit-learn.

    Args:
        truth: bool (n,), whether each image is positive.
        probability: float (n,), in [0, 1], of the positive label.
        bins: how many, 1 or more.
    Returns:
        dict of lists, an item for each bin that has images, in rising order: mean_probability (float), share_positive
        (float) and count (int).
    Raises:
        ShapeError: not one probability for each image.
        DataError: a probability is not between 0 and 1.
        ValueError: no bins.
    """
    truth, probability = checked_probability(truth, probability)
    members = reliability_bins(probability, bins)
    counts = np.bincount(members, minlength=bins)
    filled = counts > 0
    means = np.bincount(members, weights=probability, minlength=bins)[filled] / counts[filled]
    shares = np.bincount(members, weights=truth, minlength=bins)[filled] / counts[filled]
    return {"mean_probability": means.tolist(), "share_positive": shares.tolist(), "count": counts[filled].tolist()}


def reliability_bins(probability: np.ndarray, bins: int) -> np.ndarray:
    """The bin of equal width that each probability (n,) lies in, int (n,) from 0; see `reliability`."""
    if bins < 1:
        raise ValueError(f"bins {bins}: expected 1 or more.")
    return np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], probability)


def expected_calibration_error(truth: np.ndarray, probability: np.ndarray, bins: int = 10) -> float:
    """Mean distance over images between the probability of a bin and the share of positive images in it.

    After Naeini, Cooper and Hauskrecht, "Obtaining well calibrated probabilities using Bayesian binning" (AAAI,
    2015), of the positive label's probability. It is not zero for a perfect method on few images, since shares vary.

    Args:
        truth: bool (n,), whether each image is positive.
        probability: float (n,), in [0, 1], of the positive label.
        bins: how many of equal width.
    Returns:
        float in [0, 1]; NaN without images.
    Raises:
        ShapeError: not one probability for each image.
        DataError: a probability is not between 0 and 1.
        ValueError: no bins.
    """
    of_bins = reliability(truth, probability, bins)
    counts = np.asarray(of_bins["count"])
    if not counts.size:
        return math.nan
    distances = np.abs(np.subtract(of_bins["mean_probability"], of_bins["share_positive"]))
    return float(np.average(distances, weights=counts))


def brier_score(truth: np.ndarray, probability: np.ndarray) -> float:
    """Mean squared distance of the probability from what was true: Brier (Monthly Weather Review, 1950).

    Args:
        truth: bool (n,), whether each image is positive.
        probability: float (n,), in [0, 1], of the positive label.
    Returns:
        float in [0, 1], lower is better; NaN without images.
    Raises:
        ShapeError: not one probability for each image.
        DataError: a probability is not between 0 and 1.
    """
    truth, probability = checked_probability(truth, probability)
    return float(brier_score_loss(truth, probability, pos_label=True)) if truth.size else math.nan


def calibration_slope_intercept(truth: np.ndarray, probability: np.ndarray) -> tuple[float, float]:
    """Slope and intercept of the truth's log odds over the predicted ones; 1 and 0 where probabilities are right.

    A slope below 1 says that probabilities are too extreme, an intercept below 0 (with slope 1) that they are too
    high. Both are fitted together, by logistic regression without a penalty: Cox, "Two further applications of a
    model for binary regression" (Biometrika, 1958). Probabilities of 0 and 1 count as 1e-12 away from there.

    Args:
        truth: bool (n,), whether each image is positive.
        probability: float (n,), in [0, 1], of the positive label.
    Returns:
        (slope, intercept); (NaN, NaN) where a class is missing or one threshold divides the classes, so that the
        likelihood has no maximum.
    Raises:
        ShapeError: not one probability for each image.
        DataError: a probability is not between 0 and 1.
    """
    truth, probability = checked_probability(truth, probability)
    slopes, intercepts = weighted_slope_intercept(truth, probability, np.ones((1, len(truth))))
    return float(slopes[0]), float(intercepts[0])


def weighted_slope_intercept(
    truth: np.ndarray, probability: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """As `calibration_slope_intercept`, for many weightings of the same images at once.

    Args:
        truth: bool (n,), whether each image is positive.
        probability: float (n,), in [0, 1], of the positive label.
        weights: float (weightings, n), 0 or more, how often each image counts.
    Returns:
        slopes and intercepts, float (weightings,) each, NaN where they do not exist.
    """
    x = log_odds(probability)
    slopes, intercepts = np.full((2, len(weights)), math.nan)
    solvable = _overlaps(x, truth, weights)
    if not solvable.any():
        return slopes, intercepts
    centre, spread = float(x.mean()), float(x.std())
    line, converged = _newton((x - centre) / spread, truth.astype(float), weights[solvable])
    line[~converged] = math.nan
    slopes[solvable] = line[:, 1] / spread
    intercepts[solvable] = line[:, 0] - line[:, 1] * centre / spread
    return slopes, intercepts


def fit_temperature(probability: np.ndarray, truth: np.ndarray) -> float:
    """The temperature T at which softmax(log p / T) gives the truth its highest likelihood.

    After Guo et al., "On calibration of modern neural networks" (ICML, 2017). Above 1 it makes probabilities milder,
    below 1 more extreme. It changes neither the order of the images of two labels nor which label is most likely. So
    that this holds of rounded numbers too, none of these images is made surer than log odds of 20.

    Args:
        probability: float (n, labels), each row adding up to 1, on images that were not trained on.
        truth: int (n,), the index of each image's label.
    Returns:
        float from 0.05, or more where some images are sure already, to 20; a bound where the likelihood rises up to
        it, as it does where every image is given its own label; 1 where no temperature is better, as for uniform
        probabilities.
    Raises:
        ShapeError: not one label for each image.
        DataError: all images are of one label, or a probability is not valid.
    """
    probability = checked_rows(probability)
    truth = checked_labels(truth, *probability.shape)
    if len(np.unique(truth)) < 2:
        raise DataError(
            "the images that the temperature is fitted on have one label only; expected two or more. Make the "
            "validation part larger, or set classification.decision.calibration=off."
        )
    logarithms, rows = _logarithms(probability), np.arange(len(truth))

    def negative_log_likelihood(log_temperature: float) -> float:
        return -float(log_softmax(logarithms / math.exp(log_temperature), axis=1)[rows, truth].mean())

    lowest = min(1.0, max(LOWEST_TEMPERATURE, float(np.ptp(logarithms, axis=1).max()) / _SUREST))
    bounds = math.log(lowest), math.log(HIGHEST_TEMPERATURE)
    # The search stops just short of a bound, so the bounds are looked at as well.
    found = float(minimize_scalar(negative_log_likelihood, bounds=bounds, method="bounded", options={"xatol": 1e-7}).x)
    best = min((found, *bounds), key=negative_log_likelihood)
    gain = negative_log_likelihood(0.0) - negative_log_likelihood(best)
    return float(np.clip(math.exp(best), lowest, HIGHEST_TEMPERATURE)) if gain > 1e-12 else 1.0


def apply_temperature(probability: np.ndarray, temperature: float) -> np.ndarray:
    """softmax(log p / temperature), which is p itself at 1; a probability below 1e-12 counts as 1e-12.

    Args:
        probability: float (n, labels), each row adding up to 1.
        temperature: above 0.
    Returns:
        float64 (n, labels), each row adding up to 1.
    Raises:
        ShapeError: not two dimensions, or fewer than two labels.
        DataError: a probability is not valid, or the temperature is not above 0.
    """
    if not (math.isfinite(temperature) and temperature > 0):
        raise DataError(f"the temperature is {temperature}; expected above 0. Fit it on the validation part again.")
    return softmax(_logarithms(checked_rows(probability)) / temperature, axis=1)


def _logarithms(probability: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(probability, SMALLEST_PROBABILITY))


def _overlaps(x: np.ndarray, truth: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """bool (weightings,): whether no threshold divides the classes, nor one value that both share."""
    used = weights > 0

    def extremes(members: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        low = np.where(used[:, members], x[members], math.inf).min(axis=1, initial=math.inf)
        return low, np.where(used[:, members], x[members], -math.inf).max(axis=1, initial=-math.inf)

    (negative_low, negative_high), (positive_low, positive_high) = extremes(~truth), extremes(truth)
    # A class without images has the extremes inf and -inf, and fails as a divided one does.
    return (negative_high > positive_low) & (positive_high > negative_low)


def _newton(x: np.ndarray, truth: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Logistic regressions of truth on x: float (weightings, 2), intercept first, and which have converged.

    scikit-learn fits one at a time; this fits all resamples of a bootstrap together, some hundred times as fast.
    """
    line, step = np.zeros((2, len(weights), 2))
    for _ in range(_NEWTON_STEPS):
        probability = expit(line[:, :1] + line[:, 1:] * x)
        residual = weights * (truth - probability)
        curvature = weights * probability * (1 - probability)
        gradient = np.stack([residual.sum(axis=1), residual @ x], axis=1)
        of_ones, of_x, of_squares = curvature.sum(axis=1), curvature @ x, curvature @ x**2
        determinant = np.maximum(of_ones * of_squares - of_x**2, 1e-300)
        step[:, 0] = (of_squares * gradient[:, 0] - of_x * gradient[:, 1]) / determinant
        step[:, 1] = (of_ones * gradient[:, 1] - of_x * gradient[:, 0]) / determinant
        length = np.abs(step).max(axis=1)
        line = line + step * (_LONGEST_STEP / np.maximum(length, _LONGEST_STEP))[:, None]
        if (length < _CONVERGED).all():
            break
    return line, length < 1e-6
