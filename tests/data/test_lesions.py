"""Where the lesion to classify is: the annotated one, a named box, or no lesion at all but the whole image."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ustoolkit.data.lesions import known_lesions, lesion_mask
from ustoolkit.data.sample import Sample
from ustoolkit.errors import DataError
from ustoolkit.recipe.classification import RegionSettings

TRUTH, BOX, IMAGE = (RegionSettings(source=source) for source in ("truth", "box", "image"))


def sample(mask=None, **attributes):
    return Sample("scan 7", np.zeros((6, 10, 1), np.uint8), mask, "benign", "patient 7", attributes=attributes)


def test_all_classes_of_a_mask_are_one_lesion():
    mask = np.zeros((6, 10), np.uint8)
    mask[1, 2], mask[3, 4] = 1, 2
    for region in (TRUTH, IMAGE):
        found = lesion_mask(sample(mask), region)
        assert found.dtype == np.uint8 and np.argwhere(found == 1).tolist() == [[1, 2], [3, 4]] and found.sum() == 2


@pytest.mark.parametrize(("mask", "found"), [(None, "found none"), (np.zeros((6, 10), np.uint8), "an empty one")])
def test_a_lesion_that_is_not_drawn_is_answered_and_the_whole_image_needs_none(mask, found):
    with pytest.raises(DataError, match=rf"^scan 7: .*{found}.*'image' or 'predicted'"):
        lesion_mask(sample(mask), TRUTH)
    whole = lesion_mask(sample(mask), IMAGE)
    assert whole.shape == (6, 10) and not whole.any()


@pytest.mark.parametrize("box", [[2, 1, 3, 4], "[2, 1, 3, 4]", "2;1;3;4", (2.2, 0.9, 3.1, 4.0), "(2, 1, 3, 4)"])
def test_a_box_is_left_top_width_height(box):
    found = lesion_mask(sample(lesion_box=box), BOX)
    rows, columns = np.nonzero(found)
    assert (columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1) == (2, 1, 3, 4)
    assert found.sum() == 12 and found.dtype == np.uint8


@given(*(st.integers(-20, 20) for _ in range(4)))
def test_of_a_box_what_lies_in_the_picture_counts(left, top, width, height):
    expected = [
        [left <= column < left + width and top <= row < top + height for column in range(10)] for row in range(6)
    ]
    given_box = sample(lesion_box=[left, top, width, height])
    if np.any(expected):
        np.testing.assert_array_equal(lesion_mask(given_box, BOX), expected)
    else:
        with pytest.raises(DataError, match="within 10 × 6 pixels"):
            lesion_mask(given_box, BOX)


@pytest.mark.parametrize(
    "box", [None, "", "left", [1, 2, 3], [1, 2, 3, 4, 5], [0, 0, float("nan"), 3], [0, 0, 0, 0], {"left": 1}, 7, "1 2"]
)
def test_a_box_that_is_none_is_answered_with_what_was_found(box):
    given_box = sample() if box is None else sample(lesion_box=box)
    with pytest.raises(
        DataError, match=r"^scan 7: .*'lesion_box'.*left, top, width and height.*box_attribute"
    ) as found:
        lesion_mask(given_box, BOX)
    assert repr(box) in str(found.value)


def test_a_box_far_too_large_is_the_whole_picture():
    assert lesion_mask(sample(lesion_box=[-1e30, -1e30, 1e31, 1e31]), BOX).all()


def test_the_finder_goes_through_samples_one_after_another():
    taken = []

    def samples():
        for number in range(3):
            taken.append(number)
            yield sample(np.full((6, 10), 1 + number, np.uint8))

    masks = known_lesions(TRUTH)(samples())
    assert next(masks).all() and taken == [0]
    assert len(list(masks)) == 2
