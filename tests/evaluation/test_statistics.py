import math

import numpy as np
import pytest
from hypothesis import given, settings, strategies

from ustoolkit.errors import ShapeError
from ustoolkit.evaluation import statistics
from ustoolkit.evaluation.statistics import bootstrap_interval, paired_difference, summarise

DEFINED = strategies.lists(strategies.floats(0, 1), min_size=2, max_size=20)


def test_covers_the_true_mean_as_often_as_it_says():
    generator = np.random.default_rng(2024)
    intervals = [
        bootstrap_interval(generator.normal(0.8, 0.1, size=60), resamples=500, seed=trial) for trial in range(400)
    ]
    covered = np.mean([low <= 0.8 <= high for low, high in intervals])
    assert 0.90 <= covered <= 0.98


def test_covers_the_true_mean_of_correlated_images_only_with_groups():
    generator = np.random.default_rng(7)
    patients = np.repeat(np.arange(40), 5)
    grouped, ungrouped = [], []
    for trial in range(300):
        values = 0.7 + generator.normal(0, 0.1, size=40)[patients] + generator.normal(0, 0.03, size=200)
        grouped.append(bootstrap_interval(values, patients, resamples=400, seed=trial))
        ungrouped.append(bootstrap_interval(values, resamples=400, seed=trial))
    assert all(whole[1] - whole[0] > 1.3 * (each[1] - each[0]) for whole, each in zip(grouped, ungrouped, strict=True))
    assert 0.90 <= np.mean([low <= 0.7 <= high for low, high in grouped]) <= 0.98
    assert np.mean([low <= 0.7 <= high for low, high in ungrouped]) < 0.80


def test_groups_of_different_sizes_are_weighted_by_their_images():
    # Drawing (a, a), (a, b), (b, a) or (b, b) gives the means 0, 0.25, 0.25 or 1: three of a and one of b.
    values, groups = [0.0, 0.0, 0.0, 1.0], ["a", "a", "a", "b"]
    generator = np.random.default_rng(0)
    means = statistics.resampled_means(np.array([0.0, 1.0]), np.array([3, 1]), 4000, generator)
    shares = {mean: np.mean(means == mean) for mean in (0.0, 0.25, 1.0)}
    assert shares == pytest.approx({0.0: 0.25, 0.25: 0.5, 1.0: 0.25}, abs=0.03)
    assert bootstrap_interval(values, groups) == (0.0, 1.0)


@given(DEFINED, strategies.integers(0, 2**31))
@settings(max_examples=30)
def test_lies_within_the_values_and_repeats(values, seed):
    low, high = bootstrap_interval(values, resamples=50, seed=seed)
    assert min(values) - 1e-12 <= low <= high <= max(values) + 1e-12
    assert (low, high) == bootstrap_interval(values, resamples=50, seed=seed)


@given(DEFINED)
@settings(max_examples=30)
def test_every_value_its_own_group_is_no_grouping(values):
    assert bootstrap_interval(values, range(len(values)), resamples=50) == bootstrap_interval(values, resamples=50)


@given(DEFINED)
@settings(max_examples=30)
def test_undefined_values_are_left_out_with_their_groups(values):
    with_holes = [math.nan, *values[:1], math.nan, *values[1:]]
    groups = ["gone", "0", "0", *(str(number) for number in range(1, len(values)))]
    assert bootstrap_interval(with_holes, resamples=50) == bootstrap_interval(values, resamples=50)
    assert bootstrap_interval(with_holes, groups, resamples=50) == bootstrap_interval(values, groups[2:], resamples=50)


def test_a_wider_confidence_is_a_wider_interval():
    values = np.random.default_rng(1).normal(size=40)
    narrow, wide = bootstrap_interval(values, confidence=0.5), bootstrap_interval(values, confidence=0.99)
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


def test_blocks_do_not_change_the_interval(monkeypatch):
    values = np.random.default_rng(1).normal(size=40)
    whole = bootstrap_interval(values, resamples=100)
    monkeypatch.setattr(statistics, "_BLOCK_SIZE", 120)
    assert bootstrap_interval(values, resamples=100) == whole


@pytest.mark.parametrize(
    ("values", "groups"),
    [
        ([], None),
        ([0.5], None),
        ([0.5, math.nan], None),
        ([0.1, 0.9], ["p", "p"]),
        ([0.1, math.nan], ["p", "q"]),
    ],
)
def test_fewer_than_two_groups_have_no_interval(values, groups):
    assert all(math.isnan(bound) for bound in bootstrap_interval(values, groups))


def test_wrong_input_is_refused():
    with pytest.raises(ShapeError, match=r"\(1,\).*\(2,\)"):
        bootstrap_interval([0.1, 0.2], ["p"])
    with pytest.raises(ShapeError, match=r"expected \(n,\)"):
        bootstrap_interval([[0.1, 0.2]])
    for wrong in ({"confidence": 95}, {"confidence": 0.0}, {"resamples": 0}):
        with pytest.raises(ValueError, match="confidence"):
            bootstrap_interval([0.1, 0.2], **wrong)


def test_summary_by_hand():
    summary = summarise([1.0, math.nan, 2.0, 6.0], groups=["p", "p", "q", "r"], seed=3)
    assert summary["mean"] == 3.0
    assert summary["median"] == 2.0
    assert summary["standard_deviation"] == pytest.approx(math.sqrt((4 + 1 + 9) / 2))
    assert (summary["count"], summary["undefined"]) == (3, 1)
    assert (summary["interval_low"], summary["interval_high"]) == bootstrap_interval(
        [1.0, 2.0, 6.0], ["p", "q", "r"], seed=3
    )


def test_summary_of_too_little():
    nothing = summarise([math.nan, math.nan])
    assert (nothing.pop("count"), nothing.pop("undefined")) == (0, 2)
    assert all(math.isnan(value) for value in nothing.values())
    single = summarise([0.5])
    assert single["mean"] == single["median"] == 0.5
    assert math.isnan(single["standard_deviation"]) and math.isnan(single["interval_low"])


def test_difference_by_hand():
    # Averages over seeds: first 0.5, 0.7; second 0.4, 0.4 and an image that is undefined in one seed of it.
    first = [[0.4, 0.6, 0.9], [0.6, 0.8, 0.9]]
    second = [[0.4, 0.4, math.nan]]
    difference = paired_difference(first, second, ["p", "q", "q"])
    assert difference.mean == pytest.approx(0.2) and (difference.images, difference.groups) == (2, 2)


def test_difference_draws_patients_and_seeds_as_by_hand():
    # One seed each, a patient of difference 0 and three images, one of 1: means 0, 0.25 (twice as often) and 1.
    generator = np.random.default_rng(0)
    drawn = statistics.resampled_differences(
        np.array([[0.0, 1.0]]), np.array([[0.0, 0.0]]), np.array([3, 1]), 4000, generator
    )
    shares = {mean: np.mean(drawn == mean) for mean in (0.0, 0.25, 1.0)}
    assert shares == pytest.approx({0.0: 0.25, 0.25: 0.5, 1.0: 0.25}, abs=0.03)
    # Patients alike, two seeds of 0 and 1: their mean has the variance s² / n = 0.5 / 2.
    drawn = statistics.resampled_differences(
        np.array([[0.0, 0.0], [1.0, 1.0]]), np.zeros((1, 2)), np.array([1, 1]), 4000, generator
    )
    assert np.mean(drawn) == pytest.approx(0.5, abs=0.03) and np.var(drawn) == pytest.approx(0.25, abs=0.02)


SCORES = strategies.integers(0, 2**31).map(
    lambda number: np.random.default_rng(number).uniform(size=(2 + number % 3, 12))
)


@given(SCORES)
@settings(max_examples=20, deadline=None)
def test_a_method_does_not_differ_from_itself(scores):
    difference = paired_difference(scores, scores)
    assert difference.mean == 0.0 and difference.interval_low <= 0.0 <= difference.interval_high
    assert difference.verdict == "undecided"


@given(SCORES, SCORES)
@settings(max_examples=20, deadline=None)
def test_swapped_methods_swap_the_sign(first, second):
    groups = np.arange(12) // 2
    there, back = paired_difference(first, second, groups), paired_difference(second, first, groups)
    width = there.interval_high - there.interval_low
    assert there.mean == pytest.approx(-back.mean)
    assert there.interval_low == pytest.approx(-back.interval_high, abs=0.15 * width)
    assert there.interval_high == pytest.approx(-back.interval_low, abs=0.15 * width)


@given(SCORES, SCORES, strategies.randoms(use_true_random=False))
@settings(max_examples=20, deadline=None)
def test_the_order_of_images_does_not_matter(first, second, random):
    order = random.sample(range(12), 12)
    groups = np.arange(12) // 3
    given_order = paired_difference(first, second, groups)
    shuffled = paired_difference(first[:, order], second[:, order], groups[order])
    assert shuffled.mean == pytest.approx(given_order.mean)
    assert shuffled.interval_low == pytest.approx(given_order.interval_low)
    assert shuffled.interval_high == pytest.approx(given_order.interval_high)


@given(SCORES, strategies.floats(-0.5, 0.5))
@settings(max_examples=20, deadline=None)
def test_a_shift_of_all_scores_shifts_the_interval(scores, shift):
    plain, moved = paired_difference(scores, scores), paired_difference(scores + shift, scores)
    assert moved.interval_low == pytest.approx(plain.interval_low + shift)
    assert moved.interval_high == pytest.approx(plain.interval_high + shift)


@pytest.mark.parametrize(("seeds", "seed_deviation"), [(1, 0.0), (3, 0.0), (3, 0.01), (5, 0.01)])
def test_covers_the_true_difference(seeds, seed_deviation):
    generator = np.random.default_rng(seeds)
    patients, held, narrow = np.repeat(np.arange(60), 2), 0, 0
    for trial in range(200):
        images = generator.normal(0.8, 0.1, 60)[patients]
        liked = generator.normal(0.02, 0.05, 60)[patients]  # by the first method, patient by patient
        first, second = (
            images + effect + generator.normal(0, seed_deviation, (seeds, 1)) + generator.normal(0, 0.03, (seeds, 120))
            for effect in (liked, 0.0)
        )
        difference = paired_difference(first, second, patients, resamples=300, seed=trial)
        held += difference.interval_low <= 0.02 <= difference.interval_high
        one = paired_difference(
            first.mean(axis=0)[None], second.mean(axis=0)[None], patients, resamples=300, seed=trial
        )
        narrow += one.interval_low <= 0.02 <= one.interval_high
    assert 0.87 <= held / 200 <= 0.99
    assert seed_deviation == 0.0 or narrow < held, "seeds drawn too must hold the truth more often"


def test_an_interval_away_from_zero_decides():
    scores = np.random.default_rng(0).uniform(size=(1, 20))
    assert paired_difference(scores + 0.1, scores).verdict == "better"
    assert paired_difference(scores, scores + 0.1).verdict == "worse"


def test_difference_of_too_little():
    nothing = paired_difference([[math.nan]], [[0.5]])
    assert math.isnan(nothing.mean) and (nothing.images, nothing.groups, nothing.verdict) == (0, 0, "undecided")
    one = paired_difference([[0.5, 0.7]], [[0.1, 0.1]], ["p", "p"])
    assert one.mean == pytest.approx(0.5) and math.isnan(one.interval_low) and one.verdict == "undecided"


def test_difference_of_other_images_is_refused():
    with pytest.raises(ShapeError, match="same images"):
        paired_difference([[0.1, 0.2]], [[0.1]])
    with pytest.raises(ShapeError, match="same images"):
        paired_difference(np.zeros((0, 2)), [[0.1, 0.2]])
    with pytest.raises(ShapeError, match="groups"):
        paired_difference([[0.1, 0.2]], [[0.1, 0.3]], ["p"])
    with pytest.raises(ValueError, match="confidence"):
        paired_difference([[0.1]], [[0.2]], confidence=95)
