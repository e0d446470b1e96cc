import doctest
import math

import numpy as np
import pytest
from hypothesis import given
from sklearn.metrics import adjusted_rand_score

from tests.evaluation.masks import drawn, mask_pairs
from ustoolkit.errors import ShapeError
from ustoolkit.evaluation import overlap
from ustoolkit.evaluation.overlap import (
    adjusted_rand,
    dice,
    iou,
    pixel_accuracy,
    pixel_error,
    sensitivity,
    specificity,
)

MEASURES = [dice, iou, adjusted_rand, pixel_accuracy, pixel_error, sensitivity, specificity]

TRUTH = drawn("""
    .....
    .###.
    .###.
    .....
""")
PREDICTION = drawn("""
    ..##.
    ..##.
    .....
    .....
""")
EMPTY = np.zeros((4, 5), bool)
FULL = np.ones((4, 5), bool)


# By hand: TP 2, FP 2, FN 4, TN 12 of 20 pixels. Of 190 pairs of pixels, 1 + 1 + 6 + 66 = 74 are together in both masks,
# 15 + 91 = 106 in the truth and 6 + 120 = 126 in the prediction; by chance 106 * 126 / 190 would be in both.
@pytest.mark.parametrize(
    ("measure", "expected"),
    [
        (dice, 4 / 10),
        (iou, 2 / 8),
        (adjusted_rand, (74 - 106 * 126 / 190) / ((106 + 126) / 2 - 106 * 126 / 190)),
        (pixel_accuracy, 14 / 20),
        (pixel_error, 6 / 20),
        (sensitivity, 2 / 6),
        (specificity, 12 / 14),
    ],
)
def test_drawn_masks(measure, expected):
    assert measure(TRUTH, PREDICTION) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("measure", "both_empty", "truth_empty", "prediction_empty", "both_full"),
    [
        (dice, math.nan, 0.0, 0.0, 1.0),
        (iou, math.nan, 0.0, 0.0, 1.0),
        (adjusted_rand, 1.0, 0.0, 0.0, 1.0),
        (pixel_accuracy, 1.0, 14 / 20, 14 / 20, 1.0),
        (pixel_error, 0.0, 6 / 20, 6 / 20, 0.0),
        (sensitivity, math.nan, math.nan, 0.0, 1.0),
        (specificity, 1.0, 14 / 20, 1.0, math.nan),
    ],
)
def test_empty_and_full_masks(measure, both_empty, truth_empty, prediction_empty, both_full):
    assert measure(EMPTY, EMPTY) == pytest.approx(both_empty, nan_ok=True)
    assert measure(EMPTY, TRUTH) == pytest.approx(truth_empty, nan_ok=True)
    assert measure(TRUTH, EMPTY) == pytest.approx(prediction_empty, nan_ok=True)
    assert measure(FULL, FULL) == pytest.approx(both_full, nan_ok=True)


@given(mask_pairs())
def test_dice_follows_from_iou(pair):
    expected = 2 * iou(*pair) / (1 + iou(*pair))
    assert dice(*pair) == pytest.approx(expected, nan_ok=True)


@given(mask_pairs())
def test_overlap_is_symmetric(pair):
    truth, prediction = pair
    for measure in (dice, iou, adjusted_rand, pixel_accuracy, pixel_error):
        assert measure(truth, prediction) == pytest.approx(measure(prediction, truth), nan_ok=True)


@given(mask_pairs())
def test_specificity_is_the_sensitivity_of_the_background(pair):
    truth, prediction = pair
    assert specificity(truth, prediction) == pytest.approx(sensitivity(~truth, ~prediction), nan_ok=True)


@given(mask_pairs())
def test_adjusted_rand_is_that_of_scikit_learn(pair):
    assert adjusted_rand(*pair) == pytest.approx(adjusted_rand_score(pair[0].ravel(), pair[1].ravel()), abs=1e-12)


@pytest.mark.parametrize("truth", [EMPTY, FULL, TRUTH])
@pytest.mark.parametrize("prediction", [EMPTY, FULL, TRUTH, ~TRUTH, PREDICTION])
def test_adjusted_rand_of_empty_full_and_equal_masks(truth, prediction):
    assert adjusted_rand(truth, prediction) == pytest.approx(adjusted_rand_score(truth.ravel(), prediction.ravel()))


def test_adjusted_rand_counts_pairs_of_large_images():
    truth, prediction = np.zeros((4096, 4096), bool), np.zeros((4096, 4096), bool)
    truth[:2048], prediction[:, :2048] = True, True
    assert adjusted_rand(truth, prediction) == pytest.approx(0, abs=1e-6)
    assert adjusted_rand(truth, ~truth) == adjusted_rand(truth, truth) == 1


def test_as_discordant_as_two_divisions_can_be():
    quarters = np.array([[True, True], [False, False]])
    assert adjusted_rand(quarters, quarters.T) == -0.5


@given(mask_pairs())
def test_error_is_what_accuracy_leaves(pair):
    assert pixel_error(*pair) == pytest.approx(1 - pixel_accuracy(*pair))


@pytest.mark.parametrize("measure", MEASURES)
def test_no_pixels_is_undefined(measure):
    assert math.isnan(measure(np.zeros((0, 3), bool), np.zeros((0, 3), bool)))


def test_integer_masks_count_every_nonzero_pixel():
    assert dice(TRUTH.astype(np.uint8) * 255, PREDICTION.astype(np.uint8)) == pytest.approx(0.4)


@pytest.mark.parametrize("measure", MEASURES)
def test_wrong_shapes_are_named_with_a_remedy(measure):
    with pytest.raises(ShapeError, match=r"\(4, 5\).*\(5, 4\).*Resize the prediction"):
        measure(TRUTH, PREDICTION.T)
    with pytest.raises(ShapeError, match=r"\(4, 5, 1\).*one image and one class"):
        measure(TRUTH[..., None], PREDICTION[..., None])


def test_probabilities_are_refused():
    with pytest.raises(TypeError, match=r"prediction: .*float64.*Threshold"):
        dice(TRUTH, PREDICTION * 0.3)


def test_examples_in_the_docstrings():
    results = doctest.testmod(overlap)
    assert results.attempted and not results.failed
