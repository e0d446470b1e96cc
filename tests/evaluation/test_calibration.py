import math

import numpy as np
import pytest
from hypothesis import given, strategies
from hypothesis import settings as hypothesis_settings
from scipy.special import expit, softmax
from sklearn.calibration import calibration_curve
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from ustoolkit.errors import DataError, ShapeError
from ustoolkit.evaluation.calibration import (
    apply_temperature,
    brier_score,
    calibration_slope_intercept,
    expected_calibration_error,
    fit_temperature,
    reliability,
    weighted_slope_intercept,
)


def sample(seed, n=400, slope=1.0, intercept=0.0):
    """Truth drawn so that its log odds are slope × the predicted ones + intercept."""
    generator = np.random.default_rng(seed)
    odds = generator.normal(0, 1.5, size=n)
    return generator.random(n) < expit(slope * odds + intercept), expit(odds)


def rows(probability):
    return np.column_stack([1 - probability, probability])


def test_calibration_error_worked_by_hand():
    # Bins (0, 0.5] and (0.5, 1]: means 0.3 and 0.8, shares 1/2 and 1/2, so 2/4 × 0.2 + 2/4 × 0.3.
    truth, probability = np.array([0, 1, 1, 0]), np.array([0.1, 0.5, 0.7, 0.9])
    assert expected_calibration_error(truth, probability, bins=2) == pytest.approx(0.25)
    found = reliability(truth, probability, bins=2)
    assert found["mean_probability"] == pytest.approx([0.3, 0.8])
    assert found["share_positive"] == [0.5, 0.5] and found["count"] == [2, 2]
    assert brier_score(truth, probability) == pytest.approx((0.01 + 0.25 + 0.09 + 0.81) / 4)


@given(strategies.integers(0, 2**31), strategies.integers(1, 20))
@hypothesis_settings(max_examples=25)
def test_reliability_is_that_of_scikit_learn(seed, bins):
    truth, probability = sample(seed, 50)
    probability = np.round(probability, 1)  # many on the edges of bins
    shares, means = calibration_curve(truth, probability, n_bins=bins)
    found = reliability(truth, probability, bins)
    assert found["share_positive"] == pytest.approx(shares.tolist())
    assert found["mean_probability"] == pytest.approx(means.tolist())
    assert sum(found["count"]) == 50
    assert 0 <= expected_calibration_error(truth, probability, bins) <= 1


def test_extremes():
    truth = np.array([False, True, True])
    assert expected_calibration_error(truth, truth.astype(float)) == 0 == brier_score(truth, truth.astype(float))
    assert expected_calibration_error(truth, 1.0 - truth) == 1 == brier_score(truth, 1.0 - truth)
    assert brier_score(np.ones(3), np.full(3, 0.5)) == 0.25
    empty = np.array([], bool), np.array([])
    assert math.isnan(expected_calibration_error(*empty)) and math.isnan(brier_score(*empty))
    assert reliability(*empty) == {"mean_probability": [], "share_positive": [], "count": []}


@pytest.mark.parametrize(("slope", "intercept"), [(1, 0), (0.3, -1), (3, 2), (-1, 0.5)])
def test_slope_and_intercept_are_those_of_scikit_learn(slope, intercept):
    truth, probability = sample(2, slope=slope, intercept=intercept)
    odds = np.log(probability / (1 - probability))[:, None]
    model = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(odds, truth)
    assert calibration_slope_intercept(truth, probability) == pytest.approx(
        (model.coef_[0, 0], model.intercept_[0]), abs=1e-4
    )


def test_slope_and_intercept_come_back_from_many_images():
    truth, probability = sample(3, n=40_000, slope=0.6, intercept=-0.4)
    assert calibration_slope_intercept(truth, probability) == pytest.approx((0.6, -0.4), abs=0.05)


def test_weights_are_repeated_images():
    truth, probability = sample(4, 60)
    weights = np.random.default_rng(0).integers(0, 4, size=(3, 60))
    found = np.transpose(weighted_slope_intercept(truth, probability, weights.astype(float)))
    for line, repeats in zip(found, weights, strict=True):
        repeated = np.repeat(truth, repeats), np.repeat(probability, repeats)
        assert line == pytest.approx(calibration_slope_intercept(*repeated))


@pytest.mark.parametrize(
    ("truth", "probability"),
    [
        ([1, 1, 1], [0.2, 0.5, 0.7]),
        ([0, 0, 1, 1], [0.1, 0.2, 0.3, 0.4]),
        ([1, 1, 0, 0], [0.1, 0.2, 0.3, 0.4]),
        ([0, 0, 1, 1], [0.1, 0.2, 0.2, 0.4]),
        ([0, 1, 0, 1], [0.5] * 4),
        ([], []),
    ],
)
def test_no_line_where_the_likelihood_has_no_maximum(truth, probability):
    assert np.isnan(calibration_slope_intercept(np.array(truth), np.array(probability))).all()


def test_a_line_where_classes_hardly_overlap():
    truth, probability = np.array([0, 0, 0, 1, 0, 1, 1, 1]), np.array([0, 0.1, 0.2, 0.399, 0.4, 0.8, 0.9, 1])
    slope, intercept = calibration_slope_intercept(truth, probability)
    odds = np.log(np.clip(probability, 1e-12, 1 - 1e-12) / np.clip(1 - probability, 1e-12, 1 - 1e-12))
    residual = truth - expit(slope * odds + intercept)
    assert residual.sum() == pytest.approx(0, abs=1e-6) and residual @ odds == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_temperature_comes_back(temperature):
    generator = np.random.default_rng(6)
    logits = generator.normal(0, 2, size=(20_000, 3))
    right = softmax(logits, axis=1)
    truth = (generator.random((20_000, 1)) > right.cumsum(axis=1)).sum(axis=1).clip(max=2)
    overconfident = softmax(logits * temperature, axis=1)
    found = fit_temperature(overconfident, truth)
    assert found == pytest.approx(temperature, rel=0.05)
    assert apply_temperature(overconfident, temperature) == pytest.approx(right, abs=1e-3)  # p < 1e-12 counts as 1e-12


def test_no_other_temperature_has_a_lower_loss():
    truth, probability = sample(7, 80, slope=0.5)
    best = fit_temperature(rows(probability), truth.astype(int))
    losses = [
        log_loss(truth, apply_temperature(rows(probability), value)) for value in (best, *np.geomspace(0.05, 20, 50))
    ]
    assert losses[0] <= min(losses) + 1e-12


@given(strategies.integers(0, 2**31), strategies.floats(0.05, 20))
@hypothesis_settings(max_examples=25)
def test_temperature_keeps_order_and_sums(seed, temperature):
    _, probability = sample(seed, 30)
    changed = apply_temperature(rows(probability), temperature)
    assert changed.sum(axis=1) == pytest.approx(1)
    # Far below 1, neighbours may become equal but for rounding.
    assert (np.diff(changed[np.argsort(probability), 1]) >= -1e-12).all()
    assert ((changed[:, 1] > 0.5) == (probability > 0.5)).all()
    assert apply_temperature(rows(probability), 1) == pytest.approx(rows(probability))


def test_temperature_at_its_bounds():
    truth = np.array([0, 0, 1, 1])
    assert fit_temperature(rows(np.array([0.3, 0.4, 0.6, 0.7])), truth) == pytest.approx(0.05)
    assert fit_temperature(rows(np.array([0.7, 0.6, 0.4, 0.3])), truth) == pytest.approx(20)
    assert fit_temperature(np.full((4, 2), 0.5), truth) == 1
    assert apply_temperature(np.array([[0.0, 1.0]]), 2).sum() == pytest.approx(1)


def test_where_labels_are_divided_the_order_of_other_images_is_kept():
    odds = np.concatenate([np.linspace(-6, -1, 10), np.linspace(1, 6, 10)])
    temperature = fit_temperature(rows(expit(odds)), (odds > 0).astype(int))
    assert 0.05 < temperature < 1
    calibrated = apply_temperature(rows(expit(np.linspace(-8, 8, 200))), temperature)[:, 1]
    assert (np.diff(calibrated) > 0).all()
    assert fit_temperature(rows(np.array([0.0, 0.4, 0.6, 1.0])), np.array([0, 0, 1, 1])) == 1


def test_messages_name_what_is_wrong():
    with pytest.raises(DataError, match=r"one label only.*calibration=off"):
        fit_temperature(np.full((3, 2), 0.5), np.ones(3, int))
    with pytest.raises(DataError, match=r"add up to 1\.5"):
        fit_temperature(np.full((3, 3), 0.5), np.array([0, 1, 2]))
    with pytest.raises(DataError, match="label indices from 0 to 1"):
        fit_temperature(np.full((2, 2), 0.5), np.array([0, 2]))
    with pytest.raises(ShapeError, match="a label index for each image"):
        fit_temperature(np.full((2, 2), 0.5), np.array([0]))
    with pytest.raises(ShapeError, match="two labels or more"):
        apply_temperature(np.ones(4), 1)
    for temperature in (0, -1, math.nan, math.inf):
        with pytest.raises(DataError, match="above 0"):
            apply_temperature(np.full((2, 2), 0.5), temperature)
    with pytest.raises(DataError, match="expected 0 to 1"):
        brier_score(np.array([0, 1]), np.array([-3, 2.0]))
    with pytest.raises(DataError, match="not finite"):
        expected_calibration_error(np.array([0, 1]), np.array([0.5, np.nan]))
    with pytest.raises(DataError, match="not all numbers"):
        brier_score(np.array([0, 1]), np.array(["a", "b"]))
    with pytest.raises(ValueError, match="bins"):
        reliability(np.array([0, 1]), np.array([0.5, 0.6]), bins=0)
