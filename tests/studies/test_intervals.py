"""How sure scores of classifiers are, against scikit-learn, DeLong and what comes out by hand."""

import math

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from tests.studies.classifiers import scored
from ustoolkit.evaluation.calibration import brier_score, calibration_slope_intercept
from ustoolkit.evaluation.roc import auc_interval
from ustoolkit.studies.classification_intervals import (
    AucStatistic,
    estimate,
    estimate_auc,
    estimate_brier,
    estimate_effect,
    estimate_slope,
)


def drawn(seed, images=200, per_patient=2, shift=1.0):
    """Images of patients of one truth each, with ties."""
    generator = np.random.default_rng(seed)
    patients = [f"p{number // per_patient}" for number in range(images)]
    positive = (np.arange(images) // per_patient) % 3 == 0
    own = np.repeat(generator.normal(size=images // per_patient), per_patient)
    logits = shift * positive + 0.7 * own + 0.7 * generator.normal(size=images)
    return scored(positive, np.round(1 / (1 + np.exp(-logits)), 2), patients)


def test_areas_of_weighted_patients_are_those_of_scikit_learn():
    found = drawn(0)
    patients = sorted(set(found.patients))
    weights = np.random.default_rng(1).integers(0, 4, size=(5, len(patients))).astype(float)
    areas = AucStatistic([(1.0, found)], patients)(weights)
    for area, row in zip(areas, weights, strict=True):
        of_images = row[[patients.index(name) for name in found.patients]]
        assert area == pytest.approx(roc_auc_score(found.positive, found.probability, sample_weight=of_images))


def test_a_draw_without_one_of_the_classes_has_no_area():
    found = scored([1, 0], [0.9, 0.1])
    areas = AucStatistic([(1.0, found)], found.names)(np.array([[1.0, 1.0], [2.0, 0.0], [0.0, 2.0]]))
    assert areas[0] == 1.0 and np.isnan(areas[1:]).all()


def test_one_seed_has_about_the_interval_of_obuchowski():
    found = drawn(3, images=600)
    area, low, high = auc_interval(found.positive, found.probability, found.patients)
    mine = estimate_auc([found])
    assert mine.mean == pytest.approx(area) and mine.groups == 300 and mine.images == 600
    assert mine.interval_high - mine.interval_low == pytest.approx(high - low, rel=0.15)


def test_seeds_that_differ_widen_the_interval():
    alike = estimate_auc([drawn(0)] * 3)
    apart = estimate_auc([drawn(0, shift=shift) for shift in (0.0, 1.0, 2.0)])
    assert alike.mean == pytest.approx(estimate_auc([drawn(0)]).mean)
    assert apart.interval_high - apart.interval_low > 1.5 * (alike.interval_high - alike.interval_low)


def test_an_arm_against_itself_differs_by_nothing():
    terms = [[(1.0, drawn(seed)), (-1.0, drawn(seed))] for seed in range(2)]
    found = estimate_effect(terms)
    assert found.mean == found.interval_low == found.interval_high == 0 and found.verdict == "undecided"


def test_seeds_are_drawn_in_pairs():
    # Each seed gains alike, however far seeds are apart: 0.5 of area, on every patient.
    positive = [1, 0] * 10
    right, tied = scored(positive, [0.9, 0.1] * 10), scored(positive, [0.5] * 20)
    wrong = scored(positive, [0.1, 0.9] * 10)
    found = estimate_effect([[(1.0, right), (-1.0, tied)], [(1.0, tied), (-1.0, wrong)]])
    assert (found.mean, found.interval_low, found.interval_high) == pytest.approx((0.5, 0.5, 0.5))
    assert found.verdict == "better"


def shifted_mean(values, shift):
    return lambda weights: (weights @ values) / weights.sum(axis=1) + shift


def test_an_interval_holds_the_truth_as_often_as_it_says():
    # Patients and seeds both vary, as much as a study of three seeds has it.
    generator, hits = np.random.default_rng(0), 0
    for _ in range(200):
        patients, seeds = generator.normal(size=40), generator.normal(size=3) * 0.15
        found = estimate([shifted_mean(patients, seed) for seed in seeds], 40, 40, resamples=400)
        hits += found.interval_low <= 0 <= found.interval_high
    assert 0.85 <= hits / 200 <= 0.99


def test_brier_score_and_slope_are_those_of_one_run_at_a_time():
    runs = [drawn(seed) for seed in range(3)]
    brier, slope = estimate_brier(runs), estimate_slope(runs)
    assert brier.mean == pytest.approx(np.mean([brier_score(run.positive, run.probability) for run in runs]))
    slopes = [calibration_slope_intercept(run.positive, run.probability)[0] for run in runs]
    assert slope.mean == pytest.approx(np.mean(slopes))
    assert brier.interval_low < brier.mean < brier.interval_high
    assert slope.interval_low < slope.mean < slope.interval_high


def test_one_patient_or_one_class_says_nothing():
    assert math.isnan(estimate_auc([scored([1, 0], [0.9, 0.1], ["p", "p"])]).interval_low)
    assert math.isnan(estimate_auc([scored([1, 1], [0.9, 0.1])]).mean)
    assert math.isnan(estimate_slope([scored([1, 0], [0.9, 0.1])]).mean)
