"""Oversampling is imbalanced-learn's Borderline-SMOTE2 on pixels, and says where it cannot be done."""

import collections

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from imblearn.over_sampling import BorderlineSMOTE

from ustoolkit.data.oversample import oversample, refuse_no_border, refuse_too_few
from ustoolkit.errors import RecordsError


def overlapping(counts, seed=0, shape=(4, 5, 1)):
    """Noise, a little brighter from class to class, so that many images lie on a border."""
    source = np.random.default_rng(seed)
    names = [name for name, count in counts.items() for _ in range(count)]
    order = source.permutation(len(names))
    labels = [names[position] for position in order]
    brightness = {name: 100 + 4 * number for number, name in enumerate(counts)}
    pixels = [np.clip(source.normal(brightness[label], 40, shape), 0, 255).astype(np.uint8) for label in labels]
    return np.array(pixels), labels


@pytest.mark.parametrize("counts", [{"benign": 40, "malignant": 15}, {"a": 40, "b": 12, "c": 25}])
@pytest.mark.parametrize("channels", [1, 3])
def test_it_is_imbalanced_learns_on_flattened_pixels(counts, channels):
    pixels, labels = overlapping(counts, shape=(4, 5, channels))
    found, found_labels, synthetic = oversample(pixels, labels, seed=3)
    sampler = BorderlineSMOTE(kind="borderline-2", random_state=3)
    flat, expected_labels = sampler.fit_resample(pixels.reshape(len(pixels), -1).astype(float), labels)
    assert found_labels == list(expected_labels)
    # theirs in double precision, ours in single: a half may round the other way
    difference = np.abs(found.reshape(len(found), -1) - np.clip(flat, 0, 255))
    assert difference.max() <= 0.501
    assert synthetic.sum() == len(found) - len(pixels) > 0


@given(st.integers(20, 40), st.integers(6, 19), st.integers(0, 5))
@settings(deadline=None, max_examples=25)
def test_classes_are_equal_afterwards_and_what_was_there_stays_first(many, few, seed):
    pixels, labels = overlapping({"benign": many, "malignant": few}, seed)
    try:
        found, found_labels, synthetic = oversample(pixels, labels, seed)
    except RecordsError as problem:
        assert "no image lies on the border" in str(problem)
        return
    assert collections.Counter(found_labels) == {"benign": many, "malignant": many}
    assert found.dtype == np.uint8 and found.shape == (2 * many, 4, 5, 1)
    np.testing.assert_array_equal(found[: len(pixels)], pixels)
    assert found_labels[: len(labels)] == labels
    assert synthetic.tolist() == [False] * (many + few) + [True] * (many - few)
    assert set(found_labels[len(labels) :]) == {"malignant"}


def test_a_synthetic_image_lies_between_a_minority_image_and_another():
    pixels, labels = overlapping({"benign": 20, "malignant": 8})
    found, _, synthetic = oversample(pixels, labels)
    real = pixels.reshape(len(pixels), -1).astype(float)
    minority = real[[label == "malignant" for label in labels]]
    for made in found[synthetic].reshape(synthetic.sum(), -1).astype(float):
        distances = []
        for start in minority:
            towards = real - start
            length = np.maximum((towards**2).sum(axis=1), 1e-9)
            share = np.clip((towards @ (made - start)) / length, 0, 1)
            distances.append(np.abs(start + share[:, np.newaxis] * towards - made).max(axis=1).min())
        assert min(distances) <= 1.0  # pixels are rounded


def test_the_seed_decides():
    pixels, labels = overlapping({"benign": 30, "malignant": 10})
    first, second, other = (oversample(pixels, labels, seed)[0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, second)
    assert (first != other).any()


def test_equal_classes_stay_as_they_are():
    pixels, labels = overlapping({"benign": 12, "malignant": 12})
    found, found_labels, synthetic = oversample(pixels, labels)
    np.testing.assert_array_equal(found, pixels)
    assert found_labels == labels and not synthetic.any()


@pytest.mark.parametrize(
    ("counts", "answer"),
    [
        ({"benign": 30, "malignant": 5}, "class 'malignant'.*needs at least 6 training images, found 5.*augment"),
        ({"benign": 30, "malignant": 1}, "needs at least 6 training images, found 1"),
        ({"benign": 30}, "at least 2 classes to balance, found benign"),
    ],
)
def test_too_few_images_are_answered(counts, answer):
    with pytest.raises(RecordsError, match=answer):
        oversample(*overlapping(counts))


def test_a_class_that_is_too_small_is_told_where_it_was_counted_and_what_to_do():
    refuse_too_few({"benign": 6, "malignant": 6})
    with pytest.raises(RecordsError, match=r"'b': .*at least 6 .*, found 0 in fold 2 of 5\. Add images, or wait\.$"):
        refuse_too_few({"a": 6, "b": 0}, "in fold 2 of 5", "wait")


def test_only_a_smaller_class_that_got_nothing_has_no_border():
    refuse_no_border({"a": 9, "b": 9, "c": 6}, {"a": 9, "b": 9, "c": 9})
    with pytest.raises(RecordsError, match=r"class 'c': no image lies on the border .*begins\. Wait\.$"):
        refuse_no_border({"a": 9, "b": 7, "c": 6}, {"a": 9, "b": 9, "c": 6}, "wait")


def test_classes_without_a_border_are_answered():
    dark, light = np.zeros((20, 4, 4, 1), np.uint8), np.full((12, 4, 4, 1), 255, np.uint8)
    with pytest.raises(RecordsError, match="class 'light': no image lies on the border"):
        oversample(np.concatenate([dark, light]), ["dark"] * 20 + ["light"] * 12)
