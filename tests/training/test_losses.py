"""Losses against values worked out by hand, and properties that each must have."""

import numpy as np
import pytest
import tensorflow as tf

from ustoolkit.training.losses import LOSSES, cross_entropy, soft_dice, weighted_sum

CERTAIN = 50.0  # a logit whose sigmoid is 0 or 1 in single precision


def logits_of(mask: np.ndarray, num_classes: int = 2) -> np.ndarray:
    """Logits of a network that is certain of the mask."""
    if num_classes == 2:
        return np.where(mask[..., np.newaxis] > 0, CERTAIN, -CERTAIN).astype(np.float32)
    return (CERTAIN * np.eye(num_classes)[mask]).astype(np.float32)


MASK = np.array([[[0, 0, 1, 1], [0, 0, 1, 1], [0, 0, 0, 0], [0, 0, 0, 0]]], np.uint8)
SHIFTED = np.array([[[0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]]], np.uint8)
EMPTY = np.zeros_like(MASK)


def test_dice_of_half_overlapping_squares():
    # 2 of 4 pixels shared: (2·2 + 1) / (4 + 4 + 1)
    np.testing.assert_allclose(soft_dice(logits_of(SHIFTED), MASK), [1 - 5 / 9], rtol=1e-6)


def test_cross_entropy_of_the_undecided_is_log_two():
    np.testing.assert_allclose(cross_entropy(np.zeros((1, 4, 4, 1), np.float32), MASK), [np.log(2)], rtol=1e-6)


def test_cross_entropy_of_three_undecided_classes_is_log_three():
    np.testing.assert_allclose(cross_entropy(np.zeros((1, 4, 4, 3), np.float32), MASK), [np.log(3)], rtol=1e-6)


def test_the_sum_is_the_sum():
    logits = np.random.default_rng(0).normal(size=(2, 4, 4, 1)).astype(np.float32)
    masks = np.concatenate([MASK, SHIFTED])
    both = weighted_sum({"dice": 2.0, "cross_entropy": 0.5})(logits, masks)
    np.testing.assert_allclose(both, 2 * soft_dice(logits, masks) + 0.5 * cross_entropy(logits, masks), rtol=1e-6)


@pytest.mark.parametrize("name", LOSSES)
class TestEveryLoss:
    """One contract for every entry of the registry."""

    @pytest.mark.parametrize("num_classes", [2, 3])
    @pytest.mark.parametrize("mask", [MASK, EMPTY], ids=["lesion", "empty"])
    def test_certain_and_right_costs_nothing(self, name, mask, num_classes):
        np.testing.assert_allclose(LOSSES[name](logits_of(mask, num_classes), mask), [0], atol=1e-6)

    def test_being_wrong_costs_more_than_being_undecided(self, name):
        undecided = np.zeros((1, 4, 4, 1), np.float32)
        wrong, unsure = LOSSES[name](logits_of(1 - MASK), MASK), LOSSES[name](undecided, MASK)
        assert float(wrong[0]) > float(unsure[0]) > 0

    def test_one_value_an_image_whatever_else_is_in_the_batch(self, name):
        logits = np.random.default_rng(0).normal(size=(3, 4, 4, 1)).astype(np.float32)
        masks = np.concatenate([MASK, SHIFTED, EMPTY])
        alone = [float(LOSSES[name](logits[i : i + 1], masks[i : i + 1])[0]) for i in range(3)]
        np.testing.assert_allclose(LOSSES[name](logits, masks), alone, rtol=1e-6)

    @pytest.mark.parametrize("dtype", [tf.float16, tf.bfloat16, tf.float32])
    def test_value_and_gradient_stay_finite_at_the_extremes(self, name, dtype):
        logits = tf.Variable(tf.cast(logits_of(1 - MASK) * 1000, dtype))
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(LOSSES[name](logits, MASK))
        assert loss.dtype == tf.float32
        assert np.isfinite(loss.numpy())
        assert np.isfinite(tf.cast(tape.gradient(loss, logits), tf.float32)).all()
