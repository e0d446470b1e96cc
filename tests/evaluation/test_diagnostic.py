import json
import math
import time

import numpy as np
import pytest
from hypothesis import given, strategies
from hypothesis import settings as hypothesis_settings
from scipy.special import expit
from scipy.stats import binomtest
from sklearn import metrics

from ustoolkit.errors import DataError, ShapeError
from ustoolkit.evaluation.calibration import calibration_slope_intercept, expected_calibration_error
from ustoolkit.evaluation.diagnostic import DIAGNOSTIC_SCORES, by_patient, diagnosis, operating_point
from ustoolkit.evaluation.roc import auc_interval
from ustoolkit.evaluation.weighted import weighted_scores
from ustoolkit.recipe.classification import DecisionSettings

LABELS = ["benign", "malignant"]
YOUDEN, HALF = DecisionSettings(), DecisionSettings(operating_point="half")


def sample(seed, n=120, decimals=2):
    generator = np.random.default_rng(seed)
    truth = (np.arange(n) % 3 == 0).astype(int)
    probability = np.round(expit(generator.normal(size=n) + 1.5 * truth - 1), decimals)
    return truth, np.column_stack([1 - probability, probability])


def sensitivity_wanted(share):
    return DecisionSettings(operating_point="sensitivity", sensitivity=share)


def rates(truth, probability, threshold):
    called = probability >= threshold
    return called[truth].mean(), (~called)[~truth].mean()


def test_operating_points_worked_by_hand():
    truth = np.array([0, 0, 1, 0, 1, 1], bool)
    probability = np.array([0.1, 0.2, 0.3, 0.4, 0.6, 0.8])
    # Above 0.4: 2/3 + 3/3; above 0.2: 3/3 + 2/3, as good and lower.
    assert operating_point(truth, probability, YOUDEN) == pytest.approx(0.25)
    assert operating_point(truth, probability, sensitivity_wanted(2 / 3)) == pytest.approx(0.5)
    assert operating_point(truth, probability, sensitivity_wanted(0.7)) == pytest.approx(0.25)
    assert operating_point(truth, probability, sensitivity_wanted(0.1)) == pytest.approx(0.7)
    assert operating_point(truth, probability, HALF) == 0.5


@given(strategies.integers(0, 2**31), strategies.floats(0.01, 1))
@hypothesis_settings(max_examples=40)
def test_no_threshold_is_better(seed, share):
    truth, probability = sample(seed, 40, decimals=1)
    truth, probability = truth == 1, probability[:, 1]
    others = np.linspace(0, 1.001, 400)
    youden = sum(rates(truth, probability, operating_point(truth, probability, YOUDEN)))
    assert youden >= max(sum(rates(truth, probability, other)) for other in others) - 1e-12
    chosen = operating_point(truth, probability, sensitivity_wanted(share))
    assert rates(truth, probability, chosen)[0] >= share - 1e-9
    higher = others[others > chosen]
    assert all(
        rates(truth, probability, other)[0] < share
        or (rates(truth, probability, other) == rates(truth, probability, chosen))
        for other in higher
    )
    assert chosen not in probability


def test_operating_point_of_scores_that_say_nothing():
    truth = np.array([True, False])
    for settings in (YOUDEN, sensitivity_wanted(0.9)):
        assert rates(truth, np.array([0.4, 0.4]), operating_point(truth, np.array([0.4, 0.4]), settings)) == (1, 0)
        assert operating_point(truth, np.zeros(2), settings) == 0
    # Between two neighbouring floats there is no number.
    close = np.array([np.nextafter(0.5, 1), 0.5])
    assert rates(truth, close, operating_point(truth, close, YOUDEN)) == (1, 1)


def test_operating_point_needs_both_classes_unless_it_is_fixed():
    for truth in (np.ones(3, bool), np.zeros(3, bool), np.zeros(0, bool)):
        with pytest.raises(DataError, match="operating_point=half"):
            operating_point(truth, np.full(len(truth), 0.5), YOUDEN)
        assert operating_point(truth, np.full(len(truth), 0.5), HALF) == 0.5


def test_patients_by_hand():
    truth = np.array([0, 1, 0, 0, 2, 1])
    probability = np.array([[0.5, 0.5, 0], [0.1, 0.9, 0], [0.9, 0.1, 0], [0.4, 0.4, 0.2], [0, 0, 1], [0, 1, 0]])
    patients, of_patients, means = by_patient(truth, probability, np.array(["b", "b", "b", "a", "a", "c"]))
    assert patients.tolist() == ["a", "b", "c"]
    assert of_patients.tolist() == [2, 0, 1]  # any positive image; else the most frequent label
    assert means == pytest.approx(np.array([[0.2, 0.2, 0.6], [0.5, 0.5, 0], [0, 1, 0]]))


def test_one_image_a_patient_changes_nothing():
    truth, probability = sample(1)
    patients = np.array([f"{number:03}" for number in range(len(truth))])
    names, of_patients, means = by_patient(truth, probability, patients)
    assert (names == patients).all() and (of_patients == truth).all() and means == pytest.approx(probability)


@pytest.mark.parametrize("seed", range(4))
def test_values_are_those_of_scikit_learn(seed):
    truth, probability = sample(seed)
    scores, called = probability[:, 1], probability[:, 1] >= 0.4
    found = diagnosis(truth, probability, 0.4, LABELS)
    expected = {
        "sensitivity": metrics.recall_score(truth, called),
        "specificity": metrics.recall_score(1 - truth, ~called),
        "accuracy": metrics.accuracy_score(truth, called),
        "balanced_accuracy": metrics.balanced_accuracy_score(truth, called),
        "f1": metrics.f1_score(truth, called),
        "positive_predictive_value": metrics.precision_score(truth, called),
        "negative_predictive_value": metrics.precision_score(1 - truth, ~called),
        "roc_auc": metrics.roc_auc_score(truth, scores),
        "pr_auc": metrics.average_precision_score(truth, scores),
        "brier": metrics.brier_score_loss(truth, scores),
        "expected_calibration_error": expected_calibration_error(truth, scores),
        "calibration_slope": calibration_slope_intercept(truth, scores)[0],
        "calibration_intercept": calibration_slope_intercept(truth, scores)[1],
    }
    assert {name: found[name]["value"] for name in DIAGNOSTIC_SCORES} == pytest.approx(expected)
    assert found["confusion"] == metrics.confusion_matrix(truth, called).tolist()
    counts = found["counts"]
    assert [[counts["true_negative"], counts["false_positive"]]] == found["confusion"][:1]
    assert [[counts["false_negative"], counts["true_positive"]]] == found["confusion"][1:]
    assert (counts["images"], counts["patients"], found["threshold"]) == (120, 120, 0.4)
    for name in DIAGNOSTIC_SCORES:
        assert found[name]["interval_low"] < found[name]["interval_high"], name
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_weights_are_repeated_images():
    truth, probability = sample(5, 50, decimals=1)
    truth, scores = truth == 1, probability[:, 1]
    called = scores >= 0.5
    weights = np.random.default_rng(0).integers(0, 4, size=(6, 50))
    found = weighted_scores(truth, scores, called, called == truth, weights.astype(float))
    for row, repeats in enumerate(weights):
        repeated = [np.repeat(values, repeats) for values in (truth, scores, called, called == truth)]
        again = weighted_scores(*repeated, np.ones((1, repeats.sum())))
        assert {name: values[row] for name, values in found.items()} == pytest.approx(
            {name: values[0] for name, values in again.items()}
        )
        assert found["pr_auc"][row] == pytest.approx(metrics.average_precision_score(*repeated[:2]))


def test_area_has_the_interval_of_patients():
    truth, probability = sample(2)
    groups = np.repeat([f"{number}" for number in range(30)], 4)
    found = diagnosis(truth, probability, 0.5, LABELS, groups)
    expected = auc_interval(truth == 1, probability[:, 1], groups)
    assert tuple(found["roc_auc"].values()) == pytest.approx(expected)
    assert found["counts"]["patients"] == 30


def test_images_said_twice_make_no_interval_narrower():
    truth, probability = sample(3)
    groups = np.arange(120).astype(str)
    once = diagnosis(truth, probability, 0.5, LABELS, groups)
    twice = diagnosis(np.tile(truth, 2), np.tile(probability, (2, 1)), 0.5, LABELS, np.tile(groups, 2))
    for name in DIAGNOSTIC_SCORES:
        assert twice[name] == pytest.approx(once[name]), name


def test_intervals_hold_the_true_rates_as_often_as_they_say():
    generator, held = np.random.default_rng(8), []
    truth = (np.arange(90) % 3 == 0).astype(int)
    for seed in range(80):
        right = generator.random(90) < np.where(truth == 1, 0.8, 0.7)
        positive = np.where(right, truth, 1 - truth) * 0.8 + 0.1
        found = diagnosis(truth, np.column_stack([1 - positive, positive]), 0.5, LABELS, seed=seed)
        for name, rate in (("sensitivity", 0.8), ("specificity", 0.7)):
            held.append(found[name]["interval_low"] - 1e-9 <= rate <= found[name]["interval_high"] + 1e-9)
    assert 0.88 <= np.mean(held) <= 0.99


def test_a_perfect_rate_is_not_certain():
    truth = np.array([0] * 10 + [1] * 6)
    positive = np.where(truth == 1, 0.9, 0.1)
    groups = np.array([f"n{number}" for number in range(10)] + ["a", "a", "b", "b", "c", "d"])
    found = diagnosis(truth, np.column_stack([1 - positive, positive]), 0.5, LABELS, groups)
    low = binomtest(4, 4).proportion_ci().low  # four patients, not six images
    assert found["sensitivity"] == {"value": 1, "interval_low": pytest.approx(low), "interval_high": 1}
    low = binomtest(10, 10).proportion_ci().low
    assert found["specificity"] == {"value": 1, "interval_low": pytest.approx(low), "interval_high": 1}
    unsure = {"value": 1, "interval_low": None, "interval_high": None}
    assert found["roc_auc"] == found["pr_auc"] == found["f1"] == unsure
    assert found["calibration_slope"]["value"] is None
    wrong = diagnosis(1 - truth, np.column_stack([1 - positive, positive]), 0.5, LABELS)
    assert wrong["sensitivity"]["value"] == wrong["sensitivity"]["interval_low"] == 0
    assert wrong["sensitivity"]["interval_high"] == pytest.approx(binomtest(0, 10).proportion_ci().high)


def test_one_class_leaves_the_rest_undefined():
    found = diagnosis(np.zeros(8, int), np.full((8, 2), 0.5), 0.6, LABELS)
    undefined = {"value": None, "interval_low": None, "interval_high": None}
    for name in ("sensitivity", "balanced_accuracy", "f1", "positive_predictive_value", "roc_auc", "pr_auc"):
        assert found[name] == undefined, name
    assert found["specificity"]["value"] == 1 and found["brier"]["value"] == 0.25
    only_positive = diagnosis(np.ones(8, int), np.full((8, 2), 0.5), 0.6, LABELS)
    assert only_positive["pr_auc"] == undefined and only_positive["sensitivity"]["value"] == 0
    alone = diagnosis(np.array([1]), np.array([[0.2, 0.8]]), 0.5, LABELS)
    assert alone["sensitivity"]["value"] == 1 and alone["brier"]["interval_low"] is None


def test_more_than_two_labels():
    truth = np.array([0, 1, 2, 2])
    probability = np.array([[0.6, 0.3, 0.1], [0.5, 0.2, 0.3], [0.3, 0.5, 0.2], [0.1, 0.1, 0.8]])
    found = diagnosis(truth, probability, 0.15, ["benign", "normal", "malignant"])
    assert found["accuracy"]["value"] == 0.5  # of the most probable label
    assert found["sensitivity"]["value"] == 1 and found["specificity"]["value"] == 0.5
    assert found["confusion"] == [[1, 0, 0], [1, 0, 0], [0, 1, 1]]
    assert found["roc_auc"]["value"] == pytest.approx(3 / 4)
    assert found["labels"] == ["benign", "normal", "malignant"]


def test_repeats_and_is_quick():
    truth, probability = sample(4, 500)
    start = time.process_time()
    first = diagnosis(truth, probability, 0.5, LABELS, seed=3)
    assert time.process_time() - start < 4  # 0.3 s on an idle core
    assert diagnosis(truth, probability, 0.5, LABELS, seed=3) == first
    assert diagnosis(truth, probability, 0.5, LABELS, seed=4) != first


def test_messages_name_what_is_wrong():
    truth, probability = sample(0, 9)
    with pytest.raises(ShapeError, match="3 labels"):
        diagnosis(truth, probability, 0.5, ["a", "b", "c"])
    with pytest.raises(DataError, match="no images"):
        diagnosis(np.array([], int), np.empty((0, 2)), 0.5, LABELS)
    for threshold in (math.nan, 1.5, -0.1):
        with pytest.raises(DataError, match="threshold"):
            diagnosis(truth, probability, threshold, LABELS)
    with pytest.raises(DataError, match="logits"):
        diagnosis(truth, probability * 8, 0.5, LABELS)
    with pytest.raises(ShapeError, match="patient of each image"):
        by_patient(truth, probability, np.array(["a"]))
    with pytest.raises(ShapeError, match="same images"):
        by_patient(truth[1:], probability, np.array(["a"] * 9))
