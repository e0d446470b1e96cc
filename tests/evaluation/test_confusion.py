"""Confusion matrices, by hand and beside scikit-learn, and the scores of all pixels together."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn import metrics

from ustoolkit.errors import DataError, ShapeError
from ustoolkit.evaluation.confusion import agreement, confusion_matrix, format_agreement
from ustoolkit.evaluation.overlap import iou, pixel_accuracy

TRUTH = np.array([[0, 0, 1, 1], [0, 2, 2, 255]], np.uint8)
PREDICTION = np.array([[0, 1, 1, 0], [0, 2, 1, 2]], np.uint8)
PAIRS = st.tuples(st.integers(1, 9), st.integers(1, 9)).flatmap(
    lambda shape: st.tuples(*(arrays(np.uint8, shape, elements=st.integers(0, 3)) for _ in range(2)))
)


def test_counted_by_hand():
    """Rows are the truth: of three background pixels one was called class 1; the unknown pixel counts nowhere."""
    matrix = confusion_matrix(TRUTH, PREDICTION, 3)
    assert matrix.dtype == np.int64
    assert matrix.tolist() == [[2, 1, 0], [1, 1, 0], [0, 1, 1]]


def test_scores_by_hand():
    scores = agreement(np.array([[2, 1, 0], [1, 1, 0], [0, 1, 1]]))
    assert scores["iou"] == pytest.approx([2 / 4, 1 / 4, 1 / 2])
    assert scores["mean_iou"] == pytest.approx(5 / 12)
    assert scores["pixel_accuracy"] == pytest.approx(4 / 7)


def test_a_class_that_is_nowhere_is_left_out_of_the_mean():
    scores = agreement(np.array([[6, 0, 2], [0, 0, 0], [0, 0, 2]]))
    assert scores["iou"] == pytest.approx([6 / 8, math.nan, 2 / 4], nan_ok=True)
    assert scores["mean_iou"] == pytest.approx(5 / 8)


def test_a_class_that_is_only_predicted_scores_nothing():
    assert agreement(np.array([[3, 1], [0, 0]]))["iou"] == [0.75, 0.0]


def test_nothing_counted_is_undefined():
    unknown = np.full((2, 2), 255, np.uint8)
    scores = agreement(confusion_matrix(unknown, np.zeros((2, 2), np.uint8), 2))
    assert all(math.isnan(value) for value in (*scores["iou"], scores["mean_iou"], scores["pixel_accuracy"]))


@given(PAIRS)
def test_equal_to_scikit_learn_and_to_the_scores_of_binary_masks(pair):
    truth, prediction = pair
    matrix = confusion_matrix(truth, prediction, 4)
    expected = metrics.confusion_matrix(truth.ravel(), prediction.ravel(), labels=range(4))
    np.testing.assert_array_equal(matrix, expected)
    scores = agreement(matrix)
    for index in range(4):
        assert scores["iou"][index] == pytest.approx(iou(truth == index, prediction == index), nan_ok=True)
    binary = agreement(confusion_matrix(truth > 0, prediction > 0, 2))
    assert binary["pixel_accuracy"] == pytest.approx(pixel_accuracy(truth > 0, prediction > 0))


@given(PAIRS)
def test_images_add_up_and_swapping_turns_the_matrix(pair):
    truth, prediction = pair
    whole = confusion_matrix(truth, prediction, 4)
    halves = [confusion_matrix(truth[rows], prediction[rows], 4) for rows in (slice(None, 3), slice(3, None))]
    np.testing.assert_array_equal(whole, sum(halves))
    np.testing.assert_array_equal(confusion_matrix(prediction, truth, 4), whole.T)
    assert whole.sum() == truth.size


def test_the_printed_form_of_the_paper():
    """The figures that Li et al. print."""
    scores = {"iou": [0.94472, 0.27231], "mean_iou": 0.60849, "pixel_accuracy": 0.94584}
    assert format_agreement(scores) == (
        "Intersection over Union for each class:\n"
        "  class 0: 0.9447\n"
        "  class 1: 0.2723\n"
        "mean Intersection over Union: 0.6085\n"
        "Pixel Accuracy: 0.9458"
    )


@pytest.mark.parametrize("missing", [None, math.nan])
def test_what_is_undefined_is_printed_as_a_dash(missing):
    text = format_agreement({"iou": [1.0, missing], "mean_iou": missing, "pixel_accuracy": missing})
    assert text.splitlines()[1:] == [
        "  class 0: 1.0000",
        "  class 1: -",
        "mean Intersection over Union: -",
        "Pixel Accuracy: -",
    ]


def test_wrong_masks_are_refused():
    with pytest.raises(ShapeError, match=r"\(2, 4\).*\(4, 2\)"):
        confusion_matrix(TRUTH, PREDICTION.T, 3)
    with pytest.raises(DataError, match="the truth holds class indices 0 to 2; expected 0 to 1"):
        confusion_matrix(TRUTH, PREDICTION, 2)
    with pytest.raises(DataError, match="the prediction holds class indices 3 to 3; expected 0 to 2"):
        confusion_matrix(TRUTH, np.full_like(TRUTH, 3), 3)
    with pytest.raises(DataError, match="the prediction holds float32"):
        confusion_matrix(TRUTH, PREDICTION.astype(np.float32), 3)
    with pytest.raises(ShapeError, match=r"\(2, 3\)"):
        agreement(np.zeros((2, 3), int))
