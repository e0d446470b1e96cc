import doctest
import math

import numpy as np
import pytest
from hypothesis import given

from tests.evaluation.masks import drawn, mask_pairs
from ustoolkit.errors import ShapeError
from ustoolkit.evaluation import overlap
from ustoolkit.evaluation.overlap import dice, iou, pixel_accuracy, sensitivity, specificity

MEASURES = [dice, iou, pixel_accuracy, sensitivity, specificity]

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


# By hand: TP 2, FP 2, FN 4, TN 12 of 20 pixels.
@pytest.mark.parametrize(
    ("measure", "expected"),
    [(dice, 4 / 10), (iou, 2 / 8), (pixel_accuracy, 14 / 20), (sensitivity, 2 / 6), (specificity, 12 / 14)],
)
def test_drawn_masks(measure, expected):
    assert measure(TRUTH, PREDICTION) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("measure", "both_empty", "truth_empty", "prediction_empty", "both_full"),
    [
        (dice, math.nan, 0.0, 0.0, 1.0),
        (iou, math.nan, 0.0, 0.0, 1.0),
        (pixel_accuracy, 1.0, 14 / 20, 14 / 20, 1.0),
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
    for measure in (dice, iou, pixel_accuracy):
        assert measure(truth, prediction) == pytest.approx(measure(prediction, truth), nan_ok=True)


@given(mask_pairs())
def test_specificity_is_the_sensitivity_of_the_background(pair):
    truth, prediction = pair
    assert specificity(truth, prediction) == pytest.approx(sensitivity(~truth, ~prediction), nan_ok=True)


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
