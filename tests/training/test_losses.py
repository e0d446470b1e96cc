"""Losses against values worked out by hand, and properties that each must have."""

import numpy as np
import pytest
import tensorflow as tf
from scipy.ndimage import distance_transform_cdt, maximum_filter, minimum_filter

from ustoolkit.errors import DataError, RecipeError, ShapeError
from ustoolkit.recipe.training import LossSettings
from ustoolkit.training.class_weights import WEIGHTED_TERMS, balanced_weights, count_pixels, with_class_weights
from ustoolkit.training.losses import (
    LOSSES,
    boundary,
    cross_entropy,
    focal,
    over_scales,
    soft_dice,
    tversky,
    weighted_sum,
)
from ustoolkit.training.truth import closeness, half_resolution

CERTAIN = 50.0  # a logit whose sigmoid is 0 or 1 in single precision
DEFAULT = LossSettings()


def logits_of(mask: np.ndarray, num_classes: int = 2) -> np.ndarray:
    """Logits of a network that is certain of the mask."""
    if num_classes == 2:
        return np.where(mask[..., np.newaxis] > 0, CERTAIN, -CERTAIN).astype(np.float32)
    return (CERTAIN * np.eye(num_classes)[mask]).astype(np.float32)


def random_logits(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape, scale=3).astype(np.float32)


def drawn(*rows: str) -> np.ndarray:
    """A mask of one image, a digit a pixel."""
    return np.array([[[int(pixel) for pixel in row] for row in rows]], np.uint8)


MASK = drawn("0011", "0011", "0000", "0000")
SHIFTED = drawn("0110", "0110", "0000", "0000")
THREE = drawn("0011", "0011", "2200", "2200")
EMPTY, FULL = np.zeros_like(MASK), np.ones_like(MASK)
CORNER = drawn("1100000", "1100000", "1100000", "0000000", "0000000", "0000000", "0000000")
UNDECIDED = np.zeros((1, 4, 4, 1), np.float32)


class TestDice:
    def test_half_overlapping_squares(self):
        # 2 of 4 pixels shared: (2·2 + 1) / (4 + 4 + 1)
        np.testing.assert_allclose(soft_dice(logits_of(SHIFTED), MASK), [1 - 5 / 9], rtol=1e-6)


class TestTversky:
    def test_misses_weigh_by_their_own_number(self):
        found = drawn("0010", "0000", "0000", "0000")  # 1 right, 3 missed
        np.testing.assert_allclose(tversky(logits_of(found), MASK, DEFAULT), [1 - 1.5 / (1 + 3 * 0.7 + 0.5)], rtol=1e-6)

    def test_false_alarms_weigh_by_theirs(self):
        found = drawn("0111", "0111", "0000", "0000")  # 4 right, 2 too many
        np.testing.assert_allclose(tversky(logits_of(found), MASK, DEFAULT), [1 - 4.5 / (4 + 2 * 0.3 + 0.5)], rtol=1e-6)

    @pytest.mark.parametrize("mask", [MASK, EMPTY, FULL], ids=["lesion", "empty", "full"])
    @pytest.mark.parametrize("channels", [1, 3])
    def test_with_halves_it_is_dice(self, mask, channels):
        halves = LossSettings(tversky_false_positives=0.5, tversky_false_negatives=0.5)
        logits = random_logits(1, 4, 4, channels)
        np.testing.assert_allclose(tversky(logits, mask, halves), soft_dice(logits, mask), rtol=1e-5)


class TestCrossEntropy:
    def test_of_the_undecided_is_log_two(self):
        np.testing.assert_allclose(cross_entropy(UNDECIDED, MASK, DEFAULT), [np.log(2)], rtol=1e-6)

    def test_of_three_undecided_classes_is_log_three(self):
        undecided = np.zeros((1, 4, 4, 3), np.float32)
        np.testing.assert_allclose(cross_entropy(undecided, MASK, DEFAULT), [np.log(3)], rtol=1e-6)

    def test_weighs_every_pixel_by_its_class(self):
        # 12 pixels of background and 4 of lesion, over 16 pixels
        weights = LossSettings(class_weights=(0.5, 3.0))
        expected = (12 * 0.5 + 4 * 3.0) / 16 * np.log(2)
        np.testing.assert_allclose(cross_entropy(UNDECIDED, MASK, weights), [expected], rtol=1e-6)

    def test_weighs_three_classes(self):
        # 8, 4 and 4 pixels
        weights = LossSettings(class_weights=(0.5, 1.0, 4.0))
        undecided = np.zeros((1, 4, 4, 3), np.float32)
        expected = (8 * 0.5 + 4 * 1.0 + 4 * 4.0) / 16 * np.log(3)
        np.testing.assert_allclose(cross_entropy(undecided, THREE, weights), [expected], rtol=1e-6)


class TestFocal:
    def test_of_the_undecided(self):
        np.testing.assert_allclose(focal(UNDECIDED, MASK, DEFAULT), [0.25 * np.log(2)], rtol=1e-6)

    def test_of_three_undecided_classes(self):
        undecided = np.zeros((1, 4, 4, 3), np.float32)
        np.testing.assert_allclose(focal(undecided, MASK, DEFAULT), [4 / 9 * np.log(3)], rtol=1e-6)

    @pytest.mark.parametrize("gamma", [0.5, 1.0, 3.0])
    def test_of_nine_tenths_right(self, gamma):
        logits = np.full((1, 4, 4, 1), np.log(9), np.float32)
        expected = 0.1**gamma * -np.log(0.9)
        np.testing.assert_allclose(focal(logits, FULL, LossSettings(focal_gamma=gamma)), [expected], rtol=1e-5)

    @pytest.mark.parametrize("channels", [1, 3])
    @pytest.mark.parametrize("weights", ["equal", (0.5, 2.0, 3.0)])
    def test_without_gamma_it_is_cross_entropy(self, channels, weights):
        weights = weights if weights == "equal" else weights[: max(2, channels)]
        settings = LossSettings(focal_gamma=0.0, class_weights=weights)
        logits = random_logits(1, 4, 4, channels)
        np.testing.assert_allclose(focal(logits, MASK, settings), cross_entropy(logits, MASK, settings), rtol=1e-6)


class TestBoundary:
    def test_closeness_around_a_lesion_in_the_corner(self):
        in_quarters = [
            [3, 4, 4, 3, 2, 1, 0],
            [3, 4, 4, 3, 2, 1, 0],
            [4, 4, 4, 3, 2, 1, 0],
            [4, 4, 4, 3, 2, 1, 0],
            [3, 3, 3, 3, 2, 1, 0],
            [2, 2, 2, 2, 2, 1, 0],
            [1, 1, 1, 1, 1, 1, 0],
        ]
        np.testing.assert_array_equal(closeness(CORNER, 4)[0], np.array(in_quarters) / 4)

    def test_with_a_reach_of_one_only_the_two_sides_are_close(self):
        np.testing.assert_array_equal(closeness(drawn("000111"), 1)[0], [[0, 0, 1, 1, 0, 0]])

    def test_two_lesion_classes_that_touch_have_an_outline_between_them(self):
        np.testing.assert_array_equal(closeness(drawn("11122222"), 2)[0], [[0, 0.5, 1, 1, 0.5, 0, 0, 0]])

    @pytest.mark.parametrize("value", [0, 1, 2])
    def test_the_border_of_the_image_is_no_outline(self, value):
        assert not np.any(closeness(np.full((2, 5, 6), value, np.uint8), 3))

    @pytest.mark.parametrize("reach", [1, 4, 50])
    def test_closeness_follows_the_chessboard_distance(self, reach):
        rng = np.random.default_rng(reach)
        mask = maximum_filter((rng.random((60, 70)) > 0.998) * rng.integers(1, 4, (60, 70)), size=5).astype(np.uint8)
        touches = maximum_filter(mask, 3, mode="nearest") != minimum_filter(mask, 3, mode="nearest")
        distance = distance_transform_cdt(~touches, "chessboard")
        np.testing.assert_allclose(closeness(mask[None], reach)[0], np.maximum(0, 1 - distance / reach), atol=1e-6)

    def test_of_the_undecided(self):
        # the drawn closeness adds up to 102 quarters on 49 pixels
        settings = LossSettings(boundary_weight=2.0, boundary_pixels=4)
        expected = (1 + 2 * 102 / 4 / 49) * np.log(2)
        undecided = np.zeros((1, 7, 7, 1), np.float32)
        np.testing.assert_allclose(boundary(undecided, CORNER, settings), [expected], rtol=1e-6)

    def test_class_weights_multiply(self):
        # the line of six pixels: closeness 1 on both sides of the middle, so pixels weigh 1 1 3 | 3 1 1
        settings = LossSettings(boundary_weight=2.0, boundary_pixels=1, class_weights=(0.5, 4.0))
        undecided = np.zeros((1, 1, 6, 1), np.float32)
        expected = (0.5 * 5 + 4.0 * 5) / 6 * np.log(2)
        np.testing.assert_allclose(boundary(undecided, drawn("000111"), settings), [expected], rtol=1e-6)

    @pytest.mark.parametrize("channels", [1, 3])
    def test_without_weight_it_is_cross_entropy(self, channels):
        settings = LossSettings(boundary_weight=0.0)
        logits = random_logits(1, 4, 4, channels)
        np.testing.assert_allclose(boundary(logits, MASK, settings), cross_entropy(logits, MASK, settings), rtol=1e-6)


@pytest.mark.parametrize("name", LOSSES)
class TestEveryLoss:
    """One contract for every entry of the registry."""

    @pytest.mark.parametrize("num_classes", [2, 3])
    @pytest.mark.parametrize("mask", [MASK, EMPTY, FULL], ids=["lesion", "empty", "full"])
    def test_certain_and_right_costs_nothing(self, name, mask, num_classes):
        np.testing.assert_allclose(LOSSES[name](logits_of(mask, num_classes), mask, DEFAULT), [0], atol=1e-6)

    @pytest.mark.parametrize("channels", [1, 3])
    @pytest.mark.parametrize("mask", [MASK, EMPTY, FULL], ids=["lesion", "empty", "full"])
    def test_any_other_prediction_costs_something(self, name, mask, channels):
        losses = [float(LOSSES[name](random_logits(1, 4, 4, channels, seed=s), mask, DEFAULT)[0]) for s in range(5)]
        assert min(losses) > 0 and np.isfinite(losses).all()

    def test_being_wrong_costs_more_than_being_undecided(self, name):
        wrong, unsure = LOSSES[name](logits_of(1 - MASK), MASK, DEFAULT), LOSSES[name](UNDECIDED, MASK, DEFAULT)
        assert float(wrong[0]) > float(unsure[0]) > 0

    def test_every_pixel_is_pulled_to_its_truth(self, name):
        logits = tf.constant(random_logits(1, 4, 4, 1))
        with tf.GradientTape() as tape:
            tape.watch(logits)
            loss = LOSSES[name](logits, MASK, DEFAULT)
        gradient = tape.gradient(loss, logits).numpy()[..., 0]
        assert (gradient[MASK == 1] < 0).all() and (gradient[MASK == 0] > 0).all()

    @pytest.mark.parametrize("class_weights", ["equal", (0.5, 3.0)])
    def test_one_logit_is_the_difference_of_two(self, name, class_weights):
        settings = LossSettings(class_weights=class_weights)
        two = random_logits(1, 4, 4, 2)
        one = two[..., 1:] - two[..., :1]
        np.testing.assert_allclose(LOSSES[name](one, MASK, settings), LOSSES[name](two, MASK, settings), rtol=1e-5)

    @pytest.mark.parametrize("channels", [1, 3])
    def test_weights_of_one_are_equal_weights(self, name, channels):
        ones = LossSettings(class_weights=(1.0,) * max(2, channels))
        logits = random_logits(1, 4, 4, channels)
        np.testing.assert_allclose(LOSSES[name](logits, MASK, ones), LOSSES[name](logits, MASK, DEFAULT), rtol=1e-6)

    def test_class_weights_change_what_says_so(self, name):
        logits, heavy = random_logits(1, 4, 4, 1), LossSettings(class_weights=(0.5, 9.0))
        changes = not np.allclose(LOSSES[name](logits, MASK, heavy), LOSSES[name](logits, MASK, DEFAULT))
        assert changes == (name in WEIGHTED_TERMS)

    def test_one_value_an_image_whatever_else_is_in_the_batch(self, name):
        logits = random_logits(3, 4, 4, 1)
        masks = np.concatenate([MASK, SHIFTED, EMPTY])
        alone = [float(LOSSES[name](logits[i : i + 1], masks[i : i + 1], DEFAULT)[0]) for i in range(3)]
        np.testing.assert_allclose(LOSSES[name](logits, masks, DEFAULT), alone, rtol=1e-6)

    @pytest.mark.parametrize("channels", [1, 3])
    def test_the_same_in_a_graph_of_unknown_sizes(self, name, channels):
        shapes = [tf.TensorSpec([None, None, None, channels]), tf.TensorSpec([None, None, None], tf.uint8)]
        graph = tf.function(lambda logits, mask: LOSSES[name](logits, mask, DEFAULT), input_signature=shapes)
        logits = random_logits(1, 4, 4, channels)
        np.testing.assert_allclose(graph(logits, MASK), LOSSES[name](logits, MASK, DEFAULT), rtol=1e-6)

    @pytest.mark.parametrize("gamma", [0.5, 2.0])
    @pytest.mark.parametrize("size", [0.0, 1e4, 6e4])
    @pytest.mark.parametrize("dtype", [tf.float16, tf.bfloat16, tf.float32], ids=lambda dtype: dtype.name)
    @pytest.mark.parametrize("channels", [1, 3])
    def test_value_and_gradient_stay_finite_at_the_extremes(self, name, channels, dtype, size, gamma):
        settings = LossSettings(focal_gamma=gamma, class_weights=(0.01, 100.0, 1.0)[: max(2, channels)])
        truths = np.concatenate([MASK, EMPTY, FULL] * 2)
        beliefs = np.concatenate([MASK, EMPTY, FULL, 1 - MASK, FULL, EMPTY])  # all right, then all wrong
        signs = np.where(beliefs[..., None] == 1, 1.0, -1.0) if channels == 1 else 2.0 * np.eye(channels)[beliefs] - 1
        logits = tf.cast(signs * size, dtype)
        with tf.GradientTape() as tape:
            tape.watch(logits)
            loss = LOSSES[name](logits, truths, settings)
        assert loss.dtype == tf.float32
        assert np.isfinite(loss).all() and (loss.numpy() >= 0).all()
        assert np.isfinite(tf.cast(tape.gradient(loss, logits), tf.float32)).all()


@pytest.mark.parametrize("name", sorted(WEIGHTED_TERMS))
class TestClassWeights:
    def test_balanced_must_be_numbers_by_now(self, name):
        with pytest.raises(ValueError, match="with_class_weights"):
            LOSSES[name](UNDECIDED, MASK, LossSettings(class_weights="balanced"))

    @pytest.mark.parametrize(("channels", "weights"), [(1, (1.0, 2.0, 3.0)), (3, (1.0, 2.0))])
    def test_one_is_wanted_for_every_class(self, name, channels, weights):
        with pytest.raises(RecipeError, match=f"expected {max(2, channels)} numbers.*found {len(weights)}"):
            LOSSES[name](np.zeros((1, 4, 4, channels), np.float32), MASK, LossSettings(class_weights=weights))


class TestBalancedWeights:
    def test_of_one_lesion_pixel_in_four(self):
        np.testing.assert_allclose(balanced_weights([30, 10]), [40 / (2 * 30), 40 / (2 * 10)])

    def test_every_class_counts_the_same_and_pixels_weigh_one_on_average(self):
        counts = np.array([90_000, 700, 3, 12_345])
        weighted = counts * balanced_weights(counts)
        np.testing.assert_allclose(weighted, counts.sum() / 4)

    def test_a_class_that_does_not_occur_weighs_one_and_leaves_the_average(self):
        weights = balanced_weights(np.array([30, 0, 10]))
        assert weights[1] == 1.0
        np.testing.assert_allclose(30 * weights[0] + 10 * weights[2], 40)

    def test_without_a_pixel_all_weigh_one(self):
        assert balanced_weights([0, 0]) == (1.0, 1.0)

    @pytest.mark.parametrize("counts", [[], [3, -1], [[1, 2], [3, 4]]])
    def test_what_is_no_count_is_refused(self, counts):
        with pytest.raises(DataError, match="count_pixels"):
            balanced_weights(counts)


class TestWithClassWeights:
    @pytest.mark.parametrize("name", LOSSES)
    def test_makes_every_loss_ready(self, name):
        settings = with_class_weights(LossSettings(terms={name: 1.0}, class_weights="balanced"), [MASK, MASK], 2)
        assert np.isfinite(weighted_sum(settings)(UNDECIDED, MASK)).all()

    def test_puts_numbers_for_balanced_and_keeps_the_rest(self):
        settings = LossSettings(terms={"dice": 1.0, "focal": 2.0}, class_weights="balanced", focal_gamma=3.0)
        ready = with_class_weights(settings, iter([THREE]), 3)
        assert ready == settings.model_copy(update={"class_weights": (16 / 24, 16 / 12, 16 / 12)})

    @pytest.mark.parametrize("settings", [DEFAULT, LossSettings(class_weights="balanced")])
    def test_goes_through_no_mask_in_vain(self, settings):
        masks = iter([MASK])
        assert with_class_weights(settings, masks, 2) == settings and next(masks) is MASK

    def test_another_number_of_weights_is_refused(self):
        with pytest.raises(RecipeError, match=r"expected 3 numbers.*found 2"):
            with_class_weights(LossSettings(terms={"boundary": 1.0}, class_weights=(1.0, 2.0)), [], 3)


class TestCountPixels:
    def test_over_arrays_and_tensors_single_and_batched(self):
        counts = count_pixels(iter([MASK, tf.constant(THREE), THREE[0], MASK > 0]), 4)
        np.testing.assert_array_equal(counts, [12 + 8 + 8 + 12, 4 + 4 + 4 + 4, 8, 0])

    def test_of_nothing(self):
        np.testing.assert_array_equal(count_pixels([], 2), [0, 0])

    @pytest.mark.parametrize(
        ("mask", "said"),
        [(THREE, "0 to 2"), (np.array([[-1, 0]]), "-1 to 0"), (np.array([[0.5]]), "float64")],
        ids=["too large", "negative", "no index"],
    )
    def test_what_is_no_class_is_refused_with_its_place(self, mask, said):
        with pytest.raises(DataError, match=f"mask 1.*{said}"):
            count_pixels([MASK, mask], 2)


class TestWeightedSum:
    def test_is_the_sum(self):
        logits, masks = random_logits(2, 4, 4, 1), np.concatenate([MASK, SHIFTED])
        settings = LossSettings(terms={"dice": 2.0, "focal": 0.5}, focal_gamma=1.0, class_weights=(1.0, 3.0))
        expected = 2 * soft_dice(logits, masks) + 0.5 * focal(logits, masks, settings)
        np.testing.assert_allclose(weighted_sum(settings)(logits, masks), expected, rtol=1e-6)


class TestHalfResolution:
    def test_most_of_each_block_wins_and_the_lesion_at_a_tie(self):
        # a quarter, half and three quarters of a block
        mask = drawn("00011011", "00001001")
        np.testing.assert_array_equal(half_resolution(mask, 2)[0], [[0, 0, 1, 1]])

    def test_of_three_classes_the_most_frequent_wins_even_without_a_majority(self):
        blocks = drawn("011202", "002110")  # 0 0 0 1; 1 1 2 2, a tie; 0 0 1 2
        np.testing.assert_array_equal(half_resolution(blocks, 3)[0], [[0, 2, 0]])

    def test_a_line_one_pixel_wide_stays(self):
        np.testing.assert_array_equal(half_resolution(drawn("0100", "0100", "0100", "0100"), 2)[0], [[1, 0], [1, 0]])


class TestOverScales:
    SETTINGS = LossSettings(
        terms={"dice": 1.0, "boundary": 0.5}, class_weights=(0.5, 2.0), boundary_pixels=5, scale_weights=(0.8, 0.3)
    )

    def test_one_head_is_the_plain_sum(self):
        logits = random_logits(1, 4, 4, 1)
        expected = weighted_sum(self.SETTINGS)(logits, MASK)
        np.testing.assert_array_equal(over_scales(self.SETTINGS)([logits], MASK), expected)
        np.testing.assert_array_equal(over_scales(self.SETTINGS)(tf.constant(logits), MASK), expected)

    def test_two_heads_are_weighed_and_the_half_one_sees_the_outline_half_as_far(self):
        mask = drawn(*["00000000"] * 2, *["00001111"] * 4, *["00000000"] * 2)
        halved = drawn("0000", "0011", "0011", "0000")
        full, half = random_logits(1, 8, 8, 1), random_logits(1, 4, 4, 1, seed=1)
        near = self.SETTINGS.model_copy(update={"boundary_pixels": 3})
        expected = 0.8 * weighted_sum(self.SETTINGS)(full, mask) + 0.3 * weighted_sum(near)(half, halved)
        np.testing.assert_allclose(over_scales(self.SETTINGS)([full, half], mask), expected, rtol=1e-6)

    @pytest.mark.parametrize("num_classes", [2, 3])
    def test_certain_and_right_at_both_scales_costs_nothing(self, num_classes):
        mask = np.repeat(np.repeat(MASK if num_classes == 2 else THREE, 2, 1), 2, 2)
        heads = [logits_of(mask, num_classes), logits_of(mask[:, ::2, ::2], num_classes)]
        settings = LossSettings(terms=dict.fromkeys(LOSSES, 1.0))
        np.testing.assert_allclose(over_scales(settings)(heads, mask), [0], atol=1e-6)

    def test_both_heads_learn_in_a_graph(self):
        loss = tf.function(over_scales(LossSettings(terms=dict.fromkeys(LOSSES, 1.0))))
        heads = [tf.constant(random_logits(2, 8, 8, 1)), tf.constant(random_logits(2, 4, 4, 1))]
        mask = tf.constant(np.repeat(np.repeat(np.concatenate([MASK, EMPTY]), 2, 1), 2, 2))
        with tf.GradientTape() as tape:
            tape.watch(heads)
            values = loss(heads, mask)
        assert values.shape == (2,)
        assert all(np.abs(gradient).max() > 0 for gradient in tape.gradient(values, heads))

    @pytest.mark.parametrize(
        ("sizes", "said"),
        [((8,), "full head"), ((4, 4), "half head"), ((4, 2, 1), "found 3"), ((), "found 0")],
        ids=["not the mask's", "not half", "three heads", "none"],
    )
    def test_heads_of_another_size_or_number_are_refused(self, sizes, said):
        heads = [np.zeros((1, size, size, 1), np.float32) for size in sizes]
        with pytest.raises(ShapeError, match=said):
            over_scales(DEFAULT)(heads, MASK)
