import math

import numpy as np
import pytest
from hypothesis import given, strategies
from hypothesis import settings as hypothesis_settings
from sklearn.metrics import roc_auc_score

from ustoolkit.errors import DataError, ShapeError
from ustoolkit.evaluation.roc import auc_covariance, auc_interval, compare_auc


def placements(truth, scores):
    """Straight from the definition: each positive against each negative."""
    wins = np.sign(scores[truth][:, None] - scores[~truth]) / 2 + 0.5
    return wins.mean(axis=1), wins.mean(axis=0)


def delong(truth, scores):
    of_positives, of_negatives = zip(*(placements(truth, row) for row in scores), strict=True)
    return np.cov(of_positives) / truth.sum() + np.cov(of_negatives) / (~truth).sum()


def obuchowski(truth, scores, groups):
    """Variance of one area, by the sums over patients as the paper prints them."""
    of_positives, of_negatives = placements(truth, scores)
    area, m, n = of_positives.mean(), truth.sum(), (~truth).sum()
    patients = sorted(set(groups))
    first = [sum(of_positives[groups[truth] == name] - area) for name in patients]
    second = [sum(of_negatives[groups[~truth] == name] - area) for name in patients]
    with_positives, with_negatives = len(set(groups[truth])), len(set(groups[~truth]))
    s10 = with_positives / ((with_positives - 1) * m) * sum(value**2 for value in first)
    s01 = with_negatives / ((with_negatives - 1) * n) * sum(value**2 for value in second)
    s11 = len(patients) / (len(patients) - 1) * sum(a * b for a, b in zip(first, second, strict=True))
    return s10 / m + s01 / n + 2 * s11 / (m * n)


def sample(seed, n=60, ties=True):
    generator = np.random.default_rng(seed)
    truth = np.arange(n) % 3 == 0
    scores = generator.normal(size=(2, n)) + truth
    return truth, np.round(scores, 1) if ties else scores


def test_worked_by_hand():
    # Positives 3 and 1 against negatives 2, 0, 1: 3 beats all, 1 beats one and ties one.
    truth, scores = np.array([True, True, False, False, False]), np.array([3, 1, 2, 0, 1.0])
    areas, covariance = auc_covariance(truth, [scores])
    assert areas[0] == pytest.approx((1 + 0.5) / 2)
    # placements: positives 1, 1/2 (variance 1/8); negatives 1/2, 1, 3/4 (variance 1/16)
    assert covariance[0, 0] == pytest.approx(1 / 8 / 2 + 1 / 16 / 3)


@pytest.mark.parametrize("seed", range(5))
def test_equals_the_definition_and_scikit_learn(seed):
    truth, scores = sample(seed)
    areas, covariance = auc_covariance(truth, scores)
    assert areas == pytest.approx([roc_auc_score(truth, row) for row in scores])
    assert covariance == pytest.approx(delong(truth, scores))
    assert auc_covariance(truth, scores, [f"patient {number}" for number in range(60)])[1] == pytest.approx(covariance)


@pytest.mark.parametrize("seed", range(5))
def test_clustered_equals_the_definition(seed):
    truth, scores = sample(seed)
    groups = np.random.default_rng(seed).integers(0, 20, 60).astype(str)
    covariance = auc_covariance(truth, scores, groups)[1]
    assert np.diag(covariance) == pytest.approx([obuchowski(truth, row, groups) for row in scores])
    # Var(a − b) is the same whether by the covariance or by the placements' difference.
    total = auc_covariance(truth, scores, groups)[1].sum()
    assert total >= 0 and covariance == pytest.approx(covariance.T)


@given(strategies.integers(0, 2**31))
@hypothesis_settings(max_examples=25)
def test_only_the_order_of_the_scores_counts(seed):
    truth, scores = sample(seed)
    first, second = auc_interval(truth, scores[0]), auc_interval(truth, np.exp(scores[0]))
    assert first == pytest.approx(second)
    area, low, high = first
    assert 0 <= low <= area <= high <= 1
    flipped = auc_interval(truth, -scores[0])
    assert flipped == pytest.approx((1 - area, 1 - high, 1 - low))


def test_images_said_twice_make_no_interval_narrower():
    truth, scores = sample(3, ties=False)
    groups = np.arange(60).astype(str)
    once = auc_interval(truth, scores[0], groups)
    twice = auc_interval(np.tile(truth, 2), np.tile(scores[0], 2), np.tile(groups, 2))
    assert twice == pytest.approx(once)
    ungrouped = auc_interval(np.tile(truth, 2), np.tile(scores[0], 2))
    assert ungrouped[2] - ungrouped[1] < 0.8 * (once[2] - once[1])


def test_covers_the_true_area_as_often_as_it_says():
    from scipy.stats import norm

    generator, covered, clustered, unclustered = np.random.default_rng(1), [], [], []
    truth = np.arange(80) % 4 == 0
    area = norm.cdf(1.8 / math.sqrt(2))
    for _ in range(400):
        _, low, high = auc_interval(truth, generator.normal(size=80) + 1.8 * truth)
        covered.append(low <= area <= high)
    assert 0.92 <= np.mean(covered) <= 0.98
    patients, of_patients = np.repeat(np.arange(60), 4), np.repeat(np.arange(60) % 2 == 0, 4)
    area = norm.cdf(1 / math.sqrt(2 * 1.25))
    for _ in range(300):
        scores = generator.normal(size=60)[patients] + 0.5 * generator.normal(size=240) + of_patients
        for results, groups in ((clustered, patients), (unclustered, None)):
            _, low, high = auc_interval(of_patients, scores, groups)
            results.append(low <= area <= high)
    assert 0.91 <= np.mean(clustered) <= 0.98
    assert np.mean(unclustered) < 0.8


def test_undefined_where_the_sample_says_nothing():
    scores = np.array([0.1, 0.2, 0.3, 0.9])
    assert np.isnan(auc_interval(np.ones(4, bool), scores)).all()
    assert np.isnan(auc_interval(np.array([], bool), np.array([]))).all()
    area, low, high = auc_interval(np.array([0, 0, 1, 1]), scores)
    assert area == 1 and math.isnan(low) and math.isnan(high)
    area, low, _ = auc_interval(np.array([0, 1, 0, 0]), scores)
    assert area == pytest.approx(1 / 3) and math.isnan(low)
    assert math.isnan(auc_interval(np.array([0, 1, 0, 1]), scores, ["a", "b", "a", "b"])[1])


def test_comparison_is_of_pairs():
    truth, scores = sample(7, ties=False)
    covariance = delong(truth, scores)
    variance = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    found = compare_auc(truth, *scores)
    assert found.mean == pytest.approx(roc_auc_score(truth, scores[0]) - roc_auc_score(truth, scores[1]))
    assert found.interval_high - found.interval_low == pytest.approx(2 * 1.959964 * math.sqrt(variance), rel=1e-6)
    back = compare_auc(truth, *scores[::-1])
    assert (back.mean, back.p_value) == pytest.approx((-found.mean, found.p_value))
    assert (found.images, found.groups) == (60, 60)


def test_verdict_follows_the_interval():
    truth, scores = sample(9, n=300, ties=False)
    noise = np.random.default_rng(0).normal(size=300)
    found = compare_auc(truth, scores[0] + 2 * truth, noise)
    assert found.verdict == "better" and found.p_value < 1e-6
    assert compare_auc(truth, noise, scores[0] + 2 * truth).verdict == "worse"
    same = compare_auc(truth, scores[0], 3 * scores[0] + 1)
    assert (same.mean, same.interval_low, same.interval_high, same.p_value) == (0, 0, 0, 1)
    assert same.verdict == "undecided"
    one_class = compare_auc(np.ones(300, bool), *scores)
    assert math.isnan(one_class.mean) and math.isnan(one_class.p_value) and one_class.verdict == "undecided"


def test_equal_methods_are_told_apart_as_rarely_as_stated():
    generator, truth, p_values = np.random.default_rng(5), np.arange(100) % 2 == 0, []
    for _ in range(400):
        common = generator.normal(size=100) + truth
        p_values.append(compare_auc(truth, *(common + 0.7 * generator.normal(size=(2, 100)))).p_value)
    assert 0.02 <= np.mean(np.array(p_values) < 0.05) <= 0.09


def test_messages_name_what_is_wrong():
    truth, scores = sample(1)
    with pytest.raises(ShapeError, match="expected the same"):
        compare_auc(truth, scores[0], scores[1][:5])
    with pytest.raises(ShapeError, match="patient of each image"):
        auc_interval(truth, scores[0], ["a"])
    with pytest.raises(ShapeError, match="positive label's score"):
        auc_interval(truth, scores[0][:9])
    with pytest.raises(DataError, match="1 of 60 scores are not finite"):
        auc_interval(truth, np.where(np.arange(60) == 4, np.nan, scores[0]))
    with pytest.raises(DataError, match="0 and 1"):
        auc_interval(truth + 1, scores[0])
    with pytest.raises(ShapeError, match="one row of scores"):
        auc_covariance(truth, scores[0])
    with pytest.raises(DataError, match="one method or more"):
        auc_covariance(truth, np.empty((0, 60)))
    with pytest.raises(ValueError, match="confidence"):
        auc_interval(truth, scores[0], confidence=1)
