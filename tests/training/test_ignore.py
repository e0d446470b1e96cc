"""Pixels that are ignored: losses, their gradients and the Dice to watch by are those of the image cut to the rest."""

import numpy as np
import pytest
import tensorflow as tf
from scipy.ndimage import distance_transform_cdt, maximum_filter, minimum_filter

from ustoolkit.errors import DataError
from ustoolkit.recipe.data_set import IGNORE
from ustoolkit.recipe.training import LossSettings
from ustoolkit.training.class_weights import balanced_weights, count_pixels, with_class_weights
from ustoolkit.training.losses import LOSSES, boundary, cross_entropy, hard_dice, over_scales, soft_dice, tversky
from ustoolkit.training.truth import closeness, half_resolution

HEIGHT, WIDTH = 8, 10  # of the image within 12 × 16
GARBAGE = [0.0, 1e4, -1e30, np.inf, -np.inf, np.nan]


def drawn(*rows: str) -> np.ndarray:
    """A mask of one image, a digit a pixel and a dot where it is ignored."""
    return np.array([[[IGNORE if pixel == "." else int(pixel) for pixel in row] for row in rows]], np.uint8)


def settings_of(channels: int) -> LossSettings:
    """Such that all that a loss can do is done."""
    weights = (0.5, 2.0, 3.0)[: max(2, channels)]
    return LossSettings(terms=dict.fromkeys(LOSSES, 1.0), class_weights=weights, boundary_pixels=4, focal_gamma=0.5)


def image(channels: int) -> tuple[np.ndarray, np.ndarray]:
    """Logits and mask of an image with classes up to its right and lower edge."""
    rng = np.random.default_rng(channels)
    mask = np.zeros((1, HEIGHT, WIDTH), np.uint8)
    mask[:, 4:, 6:] = 1
    mask[:, :2, :4] = max(1, channels - 1)
    return rng.normal(size=(1, HEIGHT, WIDTH, channels), scale=3).astype(np.float32), mask


def padded(logits: np.ndarray, mask: np.ndarray, garbage: float) -> tuple[np.ndarray, np.ndarray]:
    margins = [(0, 0), (0, 4), (0, 6)]
    return (
        np.pad(logits, [*margins, (0, 0)], constant_values=garbage),
        np.pad(mask, margins, constant_values=IGNORE),
    )


def value_and_gradient(loss, logits, mask):
    logits = [tf.constant(each) for each in logits] if isinstance(logits, list) else tf.constant(logits)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        values = loss(logits, tf.constant(mask))
    gradient = tape.gradient(values, logits)
    return values.numpy(), [each.numpy() for each in gradient] if isinstance(gradient, list) else gradient.numpy()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", LOSSES)
class TestEveryLoss:
    @pytest.mark.parametrize("garbage", GARBAGE)
    def test_is_that_of_the_image_without_its_padding(self, name, channels, garbage):
        def loss(logits, mask):
            return LOSSES[name](logits, mask, settings_of(channels))

        expected, pull = value_and_gradient(loss, *image(channels))
        found, gradient = value_and_gradient(loss, *padded(*image(channels), garbage))
        np.testing.assert_allclose(found, expected, rtol=2e-6)
        inside = gradient[:, :HEIGHT, :WIDTH].copy()
        np.testing.assert_allclose(inside, pull, rtol=1e-4, atol=1e-7)
        assert np.abs(inside).min() > 0
        gradient[:, :HEIGHT, :WIDTH] = 0
        assert not gradient.any()  # exactly 0 under the padding, and no NaN

    def test_scattered_pixels_have_neither_effect_nor_gradient(self, name, channels):
        logits, mask = image(channels)
        ignored = np.random.default_rng(0).random(mask.shape) < 0.4
        mask[ignored] = IGNORE
        results = []
        for garbage in (3.0, np.nan):
            logits[ignored] = garbage
            results.append(value_and_gradient(lambda *pair: LOSSES[name](*pair, settings_of(channels)), logits, mask))
        (one, gradient), (other, again) = results
        assert np.isfinite(one).all() and one == other
        np.testing.assert_array_equal(gradient, again)
        assert not gradient[ignored].any() and gradient[~ignored].all()

    @pytest.mark.parametrize("dtype", [tf.float16, tf.bfloat16, tf.float32], ids=lambda dtype: dtype.name)
    def test_an_image_wholly_ignored_is_nothing_and_leaves_the_others_alone(self, name, channels, dtype):
        logits, mask = image(channels)
        logits = tf.cast(logits, dtype)
        both = tf.concat([tf.fill(logits.shape, tf.constant(np.nan, dtype)), logits], 0)
        masks = np.concatenate([np.full_like(mask, IGNORE), mask])
        values, gradient = value_and_gradient(lambda *pair: LOSSES[name](*pair, settings_of(channels)), both, masks)
        assert values[0] == 0 and not gradient[0].any()
        np.testing.assert_allclose(values[1:], LOSSES[name](logits, mask, settings_of(channels)), rtol=1e-6)

    def test_the_same_in_a_graph_of_unknown_sizes(self, name, channels):
        shapes = [tf.TensorSpec([None, None, None, channels]), tf.TensorSpec([None, None, None], tf.uint8)]
        graph = tf.function(lambda *pair: LOSSES[name](*pair, settings_of(channels)), input_signature=shapes)
        logits, mask = padded(*image(channels), np.nan)
        np.testing.assert_allclose(graph(logits, mask), LOSSES[name](logits, mask, settings_of(channels)), rtol=1e-6)


class TestByHand:
    MASK = drawn("0011", "0011", "..00", "....")  # 6 pixels of background and 4 of lesion count
    UNDECIDED = np.zeros((1, 4, 4, 1), np.float32)

    def test_cross_entropy_divides_by_the_pixels_that_count(self):
        weights = LossSettings(class_weights=(0.5, 3.0))
        expected = (6 * 0.5 + 4 * 3.0) / 10 * np.log(2)
        np.testing.assert_allclose(cross_entropy(self.UNDECIDED, self.MASK, weights), [expected], rtol=1e-6)

    def test_boundary_stresses_no_border_of_the_ignored(self):
        settings = LossSettings(boundary_weight=2.0, boundary_pixels=1)
        near = np.array([[0, 1, 1, 0], [0, 1, 1, 1], [0, 0, 1, 1]])  # pixels that touch another class
        expected = (10 + 2 * near.sum()) / 10 * np.log(2)
        np.testing.assert_allclose(boundary(self.UNDECIDED, self.MASK, settings), [expected], rtol=1e-6)

    def test_dice_and_tversky_leave_them_out_of_their_sums(self):
        # probability a half everywhere: overlap 2 of 4 lesion pixels, 5 of 10 predicted
        np.testing.assert_allclose(soft_dice(self.UNDECIDED, self.MASK), [1 - 5 / (5 + 4 + 1)], rtol=1e-6)
        expected = 1 - 2.5 / (2 + 0.3 * 3 + 0.7 * 2 + 0.5)
        np.testing.assert_allclose(tversky(self.UNDECIDED, self.MASK, LossSettings()), [expected], rtol=1e-6)


@pytest.mark.parametrize("channels", [1, 3])
def test_at_two_scales_the_loss_is_that_of_the_image_without_its_padding(channels):
    loss = over_scales(settings_of(channels))
    full, mask = image(channels)
    half = np.random.default_rng(9).normal(size=(1, HEIGHT // 2, WIDTH // 2, channels)).astype(np.float32)
    expected, _ = value_and_gradient(loss, [full, half], mask)
    full, mask = padded(full, mask, np.nan)
    half = np.pad(half, [(0, 0), (0, 2), (0, 3), (0, 0)], constant_values=np.nan)
    found, gradients = value_and_gradient(loss, [full, half], mask)
    np.testing.assert_allclose(found, expected, rtol=2e-6)
    for gradient, height, width in zip(gradients, (HEIGHT, HEIGHT // 2), (WIDTH, WIDTH // 2), strict=True):
        assert gradient[:, :height, :width].all()
        gradient[:, :height, :width] = 0
        assert not gradient.any()


class TestTruth:
    def test_half_resolution_asks_the_pixels_that_count(self):
        blocks = drawn("0.1...0.", "0...01..")  # 0 0; 1 alone; 0 1, a tie; 0 alone
        np.testing.assert_array_equal(half_resolution(blocks, 2)[0], [[0, 1, 1, 0]])
        np.testing.assert_array_equal(half_resolution(drawn("..21", "..1."), 3)[0], [[IGNORE, 1]])

    def test_closeness_sees_no_outline_where_the_padding_begins(self):
        for value in (0, 1, 2):
            mask = np.full((1, 9, 9), value, np.uint8)
            mask[:, np.tri(9, k=-2, dtype=bool)] = IGNORE
            assert not np.any(closeness(mask, 5))

    def test_closeness_does_not_reach_across_ignored_pixels_to_a_class_that_does_not_touch(self):
        np.testing.assert_array_equal(closeness(drawn("000.111"), 2)[0], [[0] * 7])

    @pytest.mark.parametrize("reach", [1, 4, 50])
    def test_closeness_follows_the_chessboard_distance(self, reach):
        rng = np.random.default_rng(reach)
        mask = maximum_filter((rng.random((60, 70)) > 0.998) * rng.integers(1, 4, (60, 70)), size=5).astype(int)
        ignored = maximum_filter(rng.random((60, 70)) > 0.997, size=7)
        highest = maximum_filter(np.where(ignored, -1, mask), 3, mode="nearest")
        lowest = minimum_filter(np.where(ignored, 999, mask), 3, mode="nearest")
        distance = distance_transform_cdt(ignored | (highest == lowest), "chessboard")
        found = closeness(np.where(ignored, IGNORE, mask)[None], reach)[0]
        np.testing.assert_allclose(found, np.maximum(0, 1 - distance / reach), atol=1e-6)


class TestClassWeights:
    def test_ignored_pixels_are_not_counted(self):
        mask = drawn("0011", "0022", "..01", "....")
        np.testing.assert_array_equal(count_pixels([mask, tf.constant(mask), mask.astype(np.int64)], 3), [15, 9, 6])
        np.testing.assert_array_equal(count_pixels([drawn("..")], 2), [0, 0])

    def test_balanced_weights_do_not_know_of_the_padding(self):
        _, mask = image(3)
        settings = LossSettings(terms={"focal": 1.0}, class_weights="balanced")
        ready = with_class_weights(settings, [padded(*image(3), 0.0)[1]], 3)
        assert ready.class_weights == balanced_weights(np.bincount(mask.ravel()))

    @pytest.mark.parametrize("value", [3, 254, 256, -1])
    def test_any_other_value_is_no_class(self, value):
        with pytest.raises(DataError, match=rf"mask 0.*{value}"):
            count_pixels([np.array([[0, IGNORE, value]])], 3)


class TestHardDice:
    @pytest.mark.parametrize("garbage", GARBAGE)
    @pytest.mark.parametrize("channels", [1, 3])
    def test_is_that_of_the_image_without_its_padding(self, channels, garbage):
        logits, mask = image(channels)
        expected = hard_dice(logits, mask)
        assert 0 < float(expected[0]) < 1
        np.testing.assert_allclose(hard_dice(*padded(logits, mask, garbage)), expected, rtol=1e-6)

    def test_a_lesion_only_predicted_under_the_padding_is_none(self):
        np.testing.assert_array_equal(hard_dice(np.full((1, 1, 4, 1), 9.0, np.float32), drawn("....")), [1.0])
