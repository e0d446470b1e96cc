"""Augmentation in TensorFlow: NumPy's pixels for the same numbers, and the same result in any graph, order or batch."""

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from tests.data.augmentation import EVERYTHING, only, picture
from ustoolkit.data import native_scanner_changes as native
from ustoolkit.data import scanner_changes as scanner
from ustoolkit.data.augment_native import NativeAugmenter
from ustoolkit.data.imgaug_quick import iaa
from ustoolkit.data.keyed_draws import KeyedDraws

NAMES = tf.constant(["a", "b", "c", "d", "e", "f"])
sizes = pytest.mark.parametrize(("channels", "size"), [(1, (64, 64)), (1, (70, 45)), (3, (37, 81)), (3, (5, 3))])


def batch(channels, size=(64, 88), count=6):
    images, masks = zip(*(picture(channels, size, seed) for seed in range(count)), strict=True)
    return np.stack(images), np.stack(masks)


def drawn(*names_and_ranges):
    draws = KeyedDraws(0, 0, NAMES)
    return draws, np.stack([draws.uniform(*item).numpy() for item in names_and_ranges], axis=1)


def nearly_equal(found, expected):
    """The same but where a rounding falls the other way, as between OpenCV's integers and float32."""
    np.testing.assert_allclose(found, expected.astype(float), atol=1.01)


# --- the same numbers, the same pixels ---


@sizes
def test_coarser_is_that_of_numpy(channels, size):
    images, _ = batch(channels, size)
    draws, factors = drawn(("resolution 0", 1.0, 4.0), ("resolution 1", 1.0, 4.0))
    expected = [scanner.coarser(image, *pair) for image, pair in zip(images, factors, strict=True)]
    nearly_equal(native.coarser(tf.cast(images, tf.float32), 4.0, draws), np.stack(expected))


@sizes
@pytest.mark.parametrize("reach", [0.5, 2.0, 10.0])
def test_blur_is_that_of_numpy(channels, size, reach):
    images, _ = batch(channels, size)
    draws, deviations = drawn(("blur", 0.0, reach))
    expected = [scanner.blurred(image, float(one)) for image, (one,) in zip(images, deviations, strict=True)]
    nearly_equal(native.blurred(tf.cast(images, tf.float32), reach, draws), np.stack(expected))


@sizes
def test_shadow_is_that_of_numpy(channels, size):
    images, _ = batch(channels, size)
    draws, places = drawn(*((f"shadow {place}", *reach) for place, reach in enumerate(scanner.SHADOW)))
    expected = [
        scanner.shadowed(image, scanner.shadow_profile(size, *shape), loss)
        for image, (*shape, loss) in zip(images, places, strict=True)
    ]
    nearly_equal(native.shadowed(tf.cast(images, tf.float32), 1.0, draws), np.stack(expected))


@sizes
def test_gain_is_that_of_numpy(channels, size):
    images, _ = batch(channels, size)
    draws, ends = drawn(("gain top", 0.6, 1.4), ("gain bottom", 0.6, 1.4))
    expected = [scanner.amplified(image, *pair) for image, pair in zip(images, ends, strict=True)]
    nearly_equal(native.amplified(tf.cast(images, tf.float32), 0.4, draws), np.stack(expected))


@sizes
def test_gamma_contrast_and_offset_are_those_of_imgaug(channels, size):
    images, masks = batch(channels, size)
    settings = only(gamma=0.7, contrast=0.3, channel_shift=0.1)
    _, numbers = drawn(("contrast", 0.7, 1.3), ("channel shift", -26, 26), ("gamma", -0.7, 0.7))
    found, _ = NativeAugmenter(settings, 0)(images, masks, NAMES, 0)
    for image, (contrast, offset, octaves), one in zip(images, numbers, found.numpy(), strict=True):
        steps = [iaa.LinearContrast(float(contrast)), iaa.Add(int(np.rint(offset))), iaa.GammaContrast(2.0**octaves)]
        nearly_equal(one, iaa.Sequential(steps)(image=image))


@pytest.mark.parametrize(("channels", "size"), [(1, (64, 88)), (3, (81, 60))])
def test_image_and_mask_are_moved_as_imgaug_moves_them(channels, size):
    images, masks = batch(channels, size)
    settings = only(rotation_degrees=50, shift=0.2, shear_degrees=25, zoom=0.4)
    _, numbers = drawn(
        ("rotation", -50, 50), ("shear", -25, 25), ("zoom", -0.4, 0.4), ("shift x", -0.2, 0.2), ("shift y", -0.2, 0.2)
    )
    found, moved = NativeAugmenter(settings, 0)(images, masks, NAMES, 0)
    for number, (turn, shear, zoom, right, down) in enumerate(numbers.tolist()):
        affine = iaa.Affine(
            rotate=turn,
            shear=(shear, shear),
            scale=1 + zoom,
            translate_percent={"x": right, "y": down},
            backend="cv2",
            mode="constant",
        )
        # OpenCV places pixels in steps of 1/32: on noise, a step is a few grey values.
        assert np.abs(affine(image=images[number]).astype(int) - found[number].numpy()).mean() < 3
        nearest = affine(image=np.repeat((masks[number] == 1).astype(np.uint8)[..., np.newaxis] * 255, channels, -1))
        assert np.mean((nearest[..., 0] > 127) != (moved[number].numpy() == 1)) < 0.01


# --- in any graph, order or batch ---


@pytest.mark.parametrize("channels", [1, 3])
def test_inside_a_dataset_the_pixels_are_those_of_eager_calls(channels):
    images, masks = batch(channels)
    augmenter = NativeAugmenter(EVERYTHING, 4)
    expected, moved = augmenter(images, masks, NAMES, 7)
    dataset = tf.data.Dataset.from_tensor_slices((images, masks, NAMES)).batch(6)
    found, found_masks = next(iter(dataset.map(lambda *items: augmenter(*items, 7))))
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(found_masks, moved)
    assert dataset.map(lambda *items: augmenter(*items, 7)).element_spec[0].shape.as_list() == [None, 64, 88, channels]


def test_an_epoch_may_be_a_tensor_so_that_one_graph_serves_all():
    images, masks = batch(1)
    augmenter = NativeAugmenter(EVERYTHING, 4)
    compiled = tf.function(augmenter)
    for epoch in (0, 1, 12):
        expected, _ = augmenter(images, masks, NAMES, epoch)
        np.testing.assert_array_equal(compiled(images, masks, NAMES, tf.constant(epoch, tf.int64))[0], expected)
    assert compiled.experimental_get_tracing_count() == 1


@pytest.mark.parametrize("channels", [1, 3])
def test_neither_order_nor_size_of_the_batch_matters(channels):
    images, masks = batch(channels)
    augmenter = NativeAugmenter(EVERYTHING, 4)
    expected, moved = (values.numpy() for values in augmenter(images, masks, NAMES, 1))
    order = [3, 0, 5, 1, 4, 2]
    found, found_masks = augmenter(images[order], masks[order], tf.gather(NAMES, order), 1)
    np.testing.assert_array_equal(found, expected[order])
    np.testing.assert_array_equal(found_masks, moved[order])
    for number in range(6):
        alone = slice(number, number + 1)
        found, found_masks = augmenter(images[alone], masks[alone], NAMES[alone], 1)
        np.testing.assert_array_equal(found, expected[alone])
        np.testing.assert_array_equal(found_masks, moved[alone])


def test_shapes_may_be_unknown_when_the_graph_is_made():
    images, masks = batch(3)
    augmenter = NativeAugmenter(EVERYTHING, 4)
    signature = [
        tf.TensorSpec([None, None, None, 3], tf.uint8),
        tf.TensorSpec([None, None, None], tf.uint8),
        tf.TensorSpec([None], tf.string),
    ]
    found, _ = tf.function(lambda *items: augmenter(*items, 0), input_signature=signature)(images, masks, NAMES)
    np.testing.assert_array_equal(found, augmenter(images, masks, NAMES, 0)[0])


def test_it_runs_in_a_data_service():
    images, masks = batch(1)
    augmenter = NativeAugmenter(EVERYTHING, 4)
    service = tf.data.experimental.service
    dispatcher = service.DispatchServer()
    worker = service.WorkerServer(service.WorkerConfig(dispatcher_address=dispatcher.target.split("://")[1]))
    dataset = tf.data.Dataset.from_tensors((images, masks, NAMES)).map(lambda *items: augmenter(*items, 7))
    dataset = dataset.apply(service.distribute("parallel_epochs", dispatcher.target))
    found, moved = next(iter(dataset))
    np.testing.assert_array_equal(found, augmenter(images, masks, NAMES, 7)[0])
    np.testing.assert_array_equal(moved, augmenter(images, masks, NAMES, 7)[1])
    del worker


def test_the_largest_strengths_that_settings_allow_are_carried_out():
    images, masks = batch(3, (7, 5))
    settings = EVERYTHING.model_copy(
        update={"gamma": 2, "gain": 0.99, "speckle": 1, "blur": 10, "shadow": 1, "resolution": 8, "zoom": 0.99}
    )
    for top in (slice(None), slice(0, 1)):
        found, moved = NativeAugmenter(settings, 0)(images[:, top], masks[:, top], NAMES, 0)
        assert found.shape == images[:, top].shape and moved.shape == masks[:, top].shape


# --- the numbers ---


def test_keyed_numbers_are_uniform_and_independent():
    names = tf.constant([f"case_{number:05d}" for number in range(4000)])
    columns = [
        KeyedDraws(seed, epoch, names).uniform(name, 0.0, 1.0).numpy()
        for seed, epoch, name in ((0, 0, "x"), (0, 0, "y"), (0, 1, "x"), (1, 0, "x"))
    ]
    for column in columns:
        assert stats.kstest(column, "uniform").pvalue > 1e-3
        assert abs(stats.pearsonr(column[1:], column[:-1]).statistic) < 0.06
    correlations = np.corrcoef(columns)[~np.eye(4, dtype=bool)]
    assert np.abs(correlations).max() < 0.06  # four standard errors


def test_keyed_bytes_are_all_as_likely_and_other_for_each_image():
    found = KeyedDraws(0, 0, NAMES).bytes("noise", (3, 50, 41)).numpy()
    assert found.shape == (6, 3, 50, 41) and found.dtype == np.uint8
    assert stats.chisquare(np.bincount(found.ravel(), minlength=256)).pvalue > 1e-3
    assert len({one.tobytes() for one in found}) == 6
    np.testing.assert_array_equal(found[2:3], KeyedDraws(0, 0, NAMES[2:3]).bytes("noise", (3, 50, 41)))
