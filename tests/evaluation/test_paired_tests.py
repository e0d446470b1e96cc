import math

import numpy as np
import pytest
from hypothesis import given, settings, strategies

from ustoolkit.errors import ShapeError
from ustoolkit.evaluation.paired_tests import holm, signed_rank_test

SCORES = strategies.lists(
    strategies.tuples(strategies.integers(0, 8), strategies.integers(0, 8), strategies.integers(0, 5)),
    min_size=2,
    max_size=25,
)
P_VALUES = strategies.lists(strategies.floats(0, 1) | strategies.just(math.nan), max_size=12)


def compared(first, second, groups=None):
    return signed_rank_test([first], [second], groups)


# Differences +1, +2, -3, +4: ranks 1, 2, 4 are for and 3 against, so that the effect is (7 - 3) / 10. Of the 16 ways to
# give four signs, those whose smaller sum of ranks is 3 or less are {}, {1}, {2}, {3}, {1, 2} on either side: 10 of 16.
def test_four_patients_by_hand():
    found = compared([2, 4, 1, 9], [1, 2, 4, 5])
    assert found.effect_size == pytest.approx(0.4)
    assert found.p_value == pytest.approx(10 / 16)
    assert found.patients == 4


def test_higher_in_all_patients():
    found = compared([2, 3, 4, 5, 6, 7], [1, 1, 1, 1, 1, 1])
    assert found.effect_size == 1 and found.p_value == pytest.approx(2 / 2**6)


# By patient: p +2 (of +1 and +3), q -1, r +4; image by image there would be four differences.
def test_images_of_a_patient_count_once():
    found = compared([1, 3, 0, 4], [0, 0, 1, 0], ["p", "p", "q", "r"])
    alone = compared([2, 0, 4], [0, 1, 0])
    assert found == alone and found.patients == 3
    assert found.effect_size == pytest.approx((5 - 1) / 6)


def test_seeds_are_averaged_first_and_undefined_images_left_out():
    first = [[1.0, 4.0, 6.0, math.nan], [3.0, 4.0, 8.0, 9.0]]
    found = signed_rank_test(first, [[0.0, 5.0, 1.0, 0.0]])
    assert found == compared([2, 4, 7], [0, 5, 1])
    assert found.patients == 3


@settings(deadline=None)
@given(SCORES)
def test_swapping_flips_the_sign_alone(drawn):
    first, second, groups = zip(*drawn, strict=True)
    one, other = compared(first, second, groups), compared(second, first, groups)
    assert one.effect_size == pytest.approx(-other.effect_size, nan_ok=True)
    assert one.p_value == pytest.approx(other.p_value, nan_ok=True)
    assert one.patients == other.patients == len(set(groups))
    if one.patients > 1:
        assert 0 <= one.p_value <= 1 and -1 <= one.effect_size <= 1


@settings(deadline=None)
@given(SCORES, strategies.floats(0.1, 1.0))
def test_shifting_and_scaling_both_changes_nothing(drawn, factor):
    first, second, groups = (np.array(values, float) for values in zip(*drawn, strict=True))
    one, other = compared(first, second, groups), compared(factor * first + 3, factor * second + 3, groups)
    assert one.p_value == pytest.approx(other.p_value, nan_ok=True)
    assert one.effect_size == pytest.approx(other.effect_size, nan_ok=True)


def test_no_difference_is_p_one_and_no_effect():
    found = compared([0.1, 0.2, 0.3], [0.1, 0.2, 0.3])
    assert (found.p_value, found.effect_size, found.patients) == (1, 0, 3)
    cancelled = compared([1, 0, 1, 0], [0, 1, 0, 1], ["p", "p", "q", "q"])
    assert (cancelled.p_value, cancelled.effect_size) == (1, 0)


def test_rounding_is_no_difference():
    thirds = np.array([[0.1, 0.1], [0.2, 0.2], [0.3, 0.3]])  # whose mean is not exactly 0.2
    found = signed_rank_test(thirds, [[0.2, 0.2]])
    assert (found.p_value, found.effect_size) == (1, 0)


@pytest.mark.parametrize(
    ("first", "groups"), [([], None), ([1.0], None), ([1.0, 2.0], ["p", "p"]), ([1.0, math.nan], None)]
)
def test_fewer_than_two_patients_are_undefined(first, groups):
    found = compared(first, np.zeros(len(first)), groups)
    assert math.isnan(found.p_value) and math.isnan(found.effect_size)
    assert found.patients == min(len(first), 1)


def test_a_true_difference_is_found_and_none_is_rarely_claimed():
    draws = np.random.default_rng(0)
    claimed = [compared(draws.normal(size=30), draws.normal(size=30)).p_value < 0.05 for _ in range(400)]
    assert 0.02 < np.mean(claimed) < 0.09
    assert compared(draws.normal(1, 1, 60), draws.normal(0, 1, 60)).p_value < 0.01


def test_shapes_that_do_not_fit_are_said():
    with pytest.raises(ShapeError, match=r"\(1, 2\) and \(1, 3\).*same images"):
        compared([1, 2], [1, 2, 3])
    with pytest.raises(ShapeError, match=r"\(3,\).*patient of each image"):
        compared([1, 2], [1, 2], ["p", "q", "r"])
    with pytest.raises(ShapeError):
        signed_rank_test(np.zeros((0, 2)), np.zeros((1, 2)))


# Four tests: 0.005 * 4, 0.01 * 3, 0.03 * 2, and 0.04 * 1, which is less than the one before.
def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.01, math.nan, 0.02]) == pytest.approx([0.02, math.nan, 0.02], nan_ok=True)
    assert holm([0.9, 0.8]) == pytest.approx([1, 1])
    assert holm([]).shape == (0,)


@given(P_VALUES)
def test_holm_lies_between_none_and_bonferroni_and_keeps_the_order(values):
    values = np.array(values, float)
    corrected = holm(values)
    defined = ~np.isnan(values)
    np.testing.assert_array_equal(np.isnan(corrected), ~defined)
    assert (corrected[defined] >= values[defined]).all()
    assert (corrected[defined] <= np.minimum(values[defined] * defined.sum(), 1) + 1e-12).all()
    order = np.argsort(values[defined])
    assert (np.diff(corrected[defined][order]) >= 0).all()


def test_what_is_no_p_value_is_said():
    with pytest.raises(ValueError, match="expected 0 to 1"):
        holm([0.5, 1.5])
    with pytest.raises(ShapeError, match="one for each test"):
        holm([[0.5]])
