"""Maps of what a decision comes from, on networks simple enough to say what the map must be."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from scipy.ndimage import gaussian_filter

from tests.models.networks import images_of, randomized, small
from ustoolkit.errors import DataError, RecipeError, RunError, ShapeError
from ustoolkit.explain.attribution import default_layer, grad_cam, integrated_gradients
from ustoolkit.explain.occlusion import fixed_score, occlusion
from ustoolkit.explain.target import LabelTarget, RegionTarget
from ustoolkit.models import build_model

layers = keras.layers


def _network(name: str, **settings) -> keras.Model:
    return randomized(build_model(small(name, **settings), 2))


def _smooth(count: int) -> np.ndarray:
    values = gaussian_filter(np.random.default_rng(2).normal(size=(count, 64, 64, 3)), (0, 3, 3, 0))
    return ((values - values.min()) / np.ptp(values) * 255).astype(np.float32)


def _linear(outputs: int = 1) -> tuple[keras.Model, np.ndarray]:
    """A network whose logits are sums of weighted pixels, and the weights (4, 5, 2, outputs)."""
    inputs = layers.Input((4, 5, 2), name="image")
    model = keras.Model(inputs, layers.Dense(outputs, name="sum")(layers.Flatten(name="flat")(inputs)))
    weights = np.random.default_rng(0).normal(size=(4, 5, 2, outputs)).astype(np.float32)
    model.get_layer("sum").set_weights([weights.reshape(40, outputs), np.full(outputs, 3, np.float32)])
    return model, weights


def _class_activation() -> tuple[keras.Model, np.ndarray, np.ndarray]:
    """1 × 1 convolution, the mean over the image, two labels; with both layers' weights."""
    inputs = layers.Input((6, 7, 1), name="image")
    features = layers.Conv2D(3, 1, activation="relu", name="features")(inputs)
    logits = layers.Dense(2, name="labels")(layers.GlobalAveragePooling2D(name="mean")(features))
    filters = np.array([[0.5, -1.0, 2.0], [0.0, 200.0, -100.0]], np.float32)  # slopes, offsets
    labels = np.array([[1.0, -1.0], [0.5, -2.0], [-0.25, -0.5]], np.float32)
    model = keras.Model(inputs, logits)
    model.get_layer("features").set_weights([filters[0].reshape(1, 1, 1, 3), filters[1]])
    model.get_layer("labels").set_weights([labels, np.zeros(2, np.float32)])
    return model, filters, labels


def _bright_finder() -> keras.Model:
    """Segments what is brighter than 128, by features of half the resolution: how bright, and how dark."""
    inputs = layers.Input((16, 16, 1), name="image")
    shades = layers.Conv2D(2, 1, activation="relu", name="shades")(inputs)
    coarse = layers.AveragePooling2D(2, name="coarse")(shades)
    fine = layers.UpSampling2D(2, name="fine")(coarse)
    model = keras.Model(inputs, layers.Conv2D(1, 1, name="logits")(fine))
    model.get_layer("shades").set_weights([np.array([[[[1, -1]]]], np.float32), np.array([-128, 128], np.float32)])
    model.get_layer("logits").set_weights([np.array([[[[0.1], [-0.1]]]], np.float32), np.zeros(1, np.float32)])
    return model


def _square() -> np.ndarray:
    image = np.full((1, 16, 16, 1), 20, np.float32)
    image[0, 4:8, 10:14] = 220
    return image


def test_a_label_is_a_logit_and_of_a_single_one_either_sign():
    many, one = np.array([[1.0, 5.0, 2.0], [4.0, 0.0, 3.0]]), np.array([[2.0], [-3.0]])
    np.testing.assert_array_equal(LabelTarget(2).score(many), [2, 3])
    np.testing.assert_array_equal(LabelTarget().score(many), [5, 4])
    np.testing.assert_array_equal(LabelTarget().score(many, decided_by=-many), [1, 0])
    np.testing.assert_array_equal(LabelTarget(1).score(one), [2, -3])
    np.testing.assert_array_equal(LabelTarget(0).score(one), [-2, 3])
    np.testing.assert_array_equal(LabelTarget().score(one), [2, 3])
    assert LabelTarget().score(one).dtype == np.float32


def test_a_region_is_where_the_network_finds_the_class_or_the_whole_image():
    one = np.array([[[2.0, -1.0], [3.0, -4.0]], [[-1.0, -1.0], [-1.0, -2.0]]])[..., np.newaxis]
    np.testing.assert_array_equal(RegionTarget().score(one), [5, -5])
    np.testing.assert_array_equal(RegionTarget().found(one), [True, False])
    np.testing.assert_array_equal(RegionTarget(0).score(one), [5, 5])
    many = np.concatenate([one, -one, np.zeros_like(one)], axis=-1)
    np.testing.assert_array_equal(RegionTarget(1).score(many), [5, 5])
    np.testing.assert_array_equal(RegionTarget(2).found(many), [False, False])
    mask = np.zeros((2, 2, 2), bool)
    mask[:, 0, 1] = True
    np.testing.assert_array_equal(RegionTarget(1, mask).score(many), [1, 1])
    np.testing.assert_array_equal(RegionTarget(1, mask & False).score(one), [0, -5])


def test_what_counts_does_not_depend_on_logits_outside_the_mask():
    mask = np.zeros((1, 64, 64), bool)
    mask[0, 10:20, 30:50] = True
    logits = tf.constant(images_of(1, 64, 64, 2))
    weighting = RegionTarget(1, mask).weighting(logits.numpy())
    with tf.GradientTape() as tape:
        tape.watch(logits)
        score = tf.reduce_sum(logits * weighting)
    np.testing.assert_array_equal(tape.gradient(score, logits), np.stack([0 * mask, mask], axis=-1))
    changed = np.where(mask[..., np.newaxis], logits, -7)
    np.testing.assert_array_equal(RegionTarget(1, mask).score(changed), RegionTarget(1, mask).score(logits.numpy()))


@pytest.mark.parametrize(
    ("target", "shape", "error", "said"),
    [
        (LabelTarget(), (1, 4, 4, 1), RunError, "RegionTarget"),
        (RegionTarget(), (1, 3), RunError, "LabelTarget"),
        (LabelTarget(2), (1, 1), RunError, "0 to 1, found 2"),
        (RegionTarget(3), (1, 4, 4, 3), RunError, "0 to 2, found 3"),
        (RegionTarget(1, np.ones((1, 8, 8), bool)), (1, 4, 4, 1), ShapeError, r"\(1, 4, 4\).*\(1, 8, 8\)"),
    ],
)
def test_a_target_that_does_not_fit_is_refused(target, shape, error, said):
    with pytest.raises(error, match=said):
        target.score(np.zeros(shape, np.float32))


def test_integrated_gradients_of_a_linear_network_are_weight_times_pixel():
    model, weights = _linear(3)
    images = images_of(3, 4, 5, 2)
    found = integrated_gradients(model, images, LabelTarget(2), steps=5)
    np.testing.assert_allclose(found.attributions, weights[..., 2] * images, rtol=1e-5, atol=1e-4)
    assert found.gaps.max() < 1e-5 and found.attributions.dtype == found.gaps.dtype == np.float32
    single, weights = _linear()
    baseline = np.full((4, 5, 2), 100, np.float32)
    found = integrated_gradients(single, images, LabelTarget(0), steps=2, baseline=baseline)
    np.testing.assert_allclose(found.attributions, -weights[..., 0] * (images - baseline), rtol=1e-5, atol=1e-4)


def test_integrated_gradients_keep_the_target_that_the_image_itself_has():
    """The nearer to black, the likelier is the other label; the path must not change sides."""
    inputs = layers.Input((2, 2, 1), name="image")
    model = keras.Model(inputs, layers.Dense(2, name="sum")(layers.Flatten(name="flat")(inputs)))
    model.get_layer("sum").set_weights([np.array([[0, 1]] * 4, np.float32), np.array([100, 0], np.float32)])
    images = np.full((1, 2, 2, 1), 50, np.float32)
    np.testing.assert_allclose(integrated_gradients(model, images, LabelTarget()).attributions, images, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "settings", "steps", "most"),
    [
        ("unet", {}, 64, 0.02),
        ("unet", {"pixel_normalization": "standardize"}, 256, 0.05),
        ("densenet161", {}, 32, 0.01),
    ],
)
def test_attributions_sum_to_what_the_score_gained(name, settings, steps, most):
    model, images = _network(name, **settings), _smooth(2)
    target = RegionTarget() if name == "unet" else LabelTarget()
    found = integrated_gradients(model, images, target, steps)
    assert found.gaps.max() < most
    logits, black = (model(values, training=False).numpy() for values in (images, 0 * images))
    gained = target.score(logits) - target.score(black, decided_by=logits)
    np.testing.assert_allclose(found.attributions.sum(axis=(1, 2, 3)), gained, rtol=1.1 * most)


def test_pixels_that_a_region_does_not_see_have_no_part_in_it():
    model, mask = _bright_finder(), np.zeros((1, 16, 16), bool)
    mask[0, 2:6, 4:8] = True  # whole squares of the pooling
    found = integrated_gradients(model, images_of(1, 16, 16, 1), RegionTarget(1, mask), steps=4)
    np.testing.assert_array_equal(found.attributions[..., 0] != 0, mask)


def test_grad_cam_is_the_class_activation_map():
    model, filters, labels = _class_activation()
    images = images_of(3, 6, 7, 1)
    features = np.maximum(images * filters[0] + filters[1], 0)
    for label in (0, None):
        expected = np.maximum(features @ labels[:, 0], 0)
        expected /= expected.max(axis=(1, 2), keepdims=True)
        np.testing.assert_allclose(grad_cam(model, images, LabelTarget(label)), expected, atol=1e-5)
    assert default_layer(model) == "features"


def test_grad_cam_is_zero_where_nothing_speaks_for_the_label():
    model, _, _ = _class_activation()
    maps = grad_cam(model, images_of(2, 6, 7, 1), LabelTarget(1))
    np.testing.assert_array_equal(maps, np.zeros((2, 6, 7), np.float32))


def test_grad_cam_of_a_segmentation_lies_on_what_it_was_set_to_find():
    model, image = _bright_finder(), _square()
    assert default_layer(model) == "coarse"
    inside = image[..., 0] > 128
    found = grad_cam(model, image, RegionTarget())
    assert found.shape == (1, 16, 16) and found.max() == 1
    np.testing.assert_array_equal(grad_cam(model, image, RegionTarget(), "shades") > 0, inside)
    assert found[inside].min() > 0.5 and found[inside].sum() > 0.6 * found.sum()
    dark = grad_cam(model, image, RegionTarget(0), "shades")
    np.testing.assert_array_equal(dark, ~inside)


def test_layers_within_a_backbone_can_be_looked_at():
    model, images = _network("densenet161"), _smooth(1)
    early = grad_cam(model, images, LabelTarget(), "denseblock1_denselayer1_conv2")
    assert early.shape == (1, 64, 64) and not np.array_equal(early, grad_cam(model, images, LabelTarget()))


def test_a_layer_stands_for_its_activation_and_maps_are_the_same_each_time():
    inputs = layers.Input((8, 8, 1), name="image")
    current = layers.Conv2D(4, 3, padding="same", name="convolution")(inputs)
    current = layers.ReLU(name="activation")(layers.BatchNormalization(name="norm")(current))
    model = randomized(keras.Model(inputs, layers.Conv2D(1, 1, name="logits")(current)))
    images = images_of(1, 8, 8, 1)
    maps = [grad_cam(model, images, RegionTarget(), name) for name in ("convolution", "activation", "activation")]
    _, bias = model.get_layer("logits").get_weights()
    expected = np.maximum(model(images, training=False).numpy()[..., 0] - bias, 0)
    np.testing.assert_allclose(maps[0], expected / expected.max(), atol=1e-5)
    np.testing.assert_array_equal(maps[0], maps[1])
    np.testing.assert_array_equal(maps[1], maps[2])


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("unet", "encoder2_activation2"),
        ("fcn_8s", "block5_pool"),
        ("fcn_32s_fc", "fc7"),
        pytest.param("deeplab_v3_plus", "pyramid", marks=pytest.mark.slow),
        pytest.param("deeplab_v2", "bottleneck_block_16", marks=pytest.mark.slow),
        pytest.param("vgg16", "block5_pool", marks=pytest.mark.slow),
    ],
)
def test_every_family_can_be_explained(name, layer):
    model, images = _network(name), _smooth(1)
    target = LabelTarget() if name == "vgg16" else RegionTarget()
    assert default_layer(model) == layer
    maps = grad_cam(model, images, target)
    assert maps.shape == (1, 64, 64) and np.isfinite(maps).all() and maps.min() >= 0 and maps.max() in (0, 1)
    found = integrated_gradients(model, images, target, steps=2)
    assert np.isfinite(found.attributions).all() and found.attributions.any()


def test_a_score_of_one_pixel_is_found_by_covering_it():
    images = images_of(2, 8, 9, 2)
    falls = occlusion(lambda values: values[:, 3, 4, 1], images, patch=2, stride=1, value=0)
    expected = np.zeros((8, 9))
    # Each pixel is covered by four patches; of these so many also cover the pixel that counts.
    expected[2:5, 3:6] = np.outer([1, 2, 1], [1, 2, 1]) / 4
    np.testing.assert_allclose(falls, expected * images[:, 3, 4, 1, np.newaxis, np.newaxis], rtol=1e-6)


def test_patches_reach_the_border_and_the_mean_hides_nothing_in_an_even_image():
    images = np.zeros((1, 7, 7, 1), np.float32)
    images[0, 6, 6] = 49
    falls = occlusion(lambda values: values[:, 6, 6, 0], images, patch=3, stride=3)
    np.testing.assert_allclose(falls[0, 4:, 4:], np.outer([0.5, 0.5, 1], [0.5, 0.5, 1]) * 48)
    even = np.full((1, 7, 7, 1), 30, np.float32)
    np.testing.assert_allclose(occlusion(lambda values: values.sum(axis=(1, 2, 3)), even, 3, 2), 0, atol=1e-3)


def test_scores_are_asked_for_in_bounded_batches():
    asked = []

    def score(values):
        asked.append(len(values))
        return values.mean(axis=(1, 2, 3))

    occlusion(score, images_of(3, 64, 64, 1), patch=4, stride=3)
    assert 3 < max(asked) <= 64 and all(count % 3 == 0 for count in asked)
    assert sum(asked) == 3 * (1 + 21 * 21)


def test_a_fixed_score_keeps_each_images_own_label():
    model, weights = _linear(2)
    images = images_of(3, 4, 5, 2)
    logits = model(images).numpy()
    score = fixed_score(model, LabelTarget(), images)
    np.testing.assert_allclose(score(images), logits.max(axis=1), rtol=1e-6)
    twice = score(np.concatenate([0 * images, images]))
    np.testing.assert_allclose(twice, [3, 3, 3, *logits.max(axis=1)], rtol=1e-6)
    falls = occlusion(score, images, patch=1, stride=1, value=0)
    chosen = weights[..., logits.argmax(axis=1)].transpose(3, 0, 1, 2)
    np.testing.assert_allclose(falls, (chosen * images).sum(axis=-1), rtol=1e-3, atol=1e-2)


def test_covering_what_a_segmentation_found_lowers_its_score_there():
    model, image = _bright_finder(), _square()
    falls = occlusion(fixed_score(model, RegionTarget(), image), image, patch=2, stride=2)
    inside = image[0, ..., 0] > 128
    assert falls[0][inside].min() > 0
    np.testing.assert_array_equal(falls[0][~inside], 0)


def test_layers_that_cannot_be_looked_at_are_refused_with_others_to_choose():
    model, _, _ = _class_activation()
    images = images_of(1, 6, 7, 1)
    with pytest.raises(RunError, match=r"'labels'.*before the output, such as features"):
        grad_cam(model, images, LabelTarget(), "labels")
    with pytest.raises(RunError, match="features"):
        grad_cam(model, images, LabelTarget(), "feature")
    inputs = layers.Input((6, 7, 1), name="image")
    first = layers.Conv2D(2, 1, name="first")(inputs)
    stopped = layers.Lambda(tf.stop_gradient, name="stopped")(first)
    logits = layers.Conv2D(1, 1, name="second")(stopped)
    with pytest.raises(RunError, match=r"'first'.*no gradient.*second"):
        grad_cam(keras.Model(inputs, logits), images, RegionTarget(), "first")
    with pytest.raises(RunError, match="occlusion"):
        integrated_gradients(keras.Model(inputs, logits), images, RegionTarget())


def test_images_and_settings_that_do_not_fit_are_refused():
    model, _ = _linear()
    images = images_of(1, 4, 5, 2)
    with pytest.raises(ShapeError, match=r"\(n, 4, 5, 2\).*\(1, 4, 5, 1\)"):
        grad_cam(model, images[..., :1], LabelTarget())
    with pytest.raises(ShapeError, match="images for the network"):
        integrated_gradients(model, images[0], LabelTarget())
    with pytest.raises(DataError, match="not finite"):
        integrated_gradients(model, images * np.nan, LabelTarget())
    with pytest.raises(DataError, match="found none"):
        integrated_gradients(model, images[:0], LabelTarget())
    with pytest.raises(ShapeError, match="baseline"):
        integrated_gradients(model, images, LabelTarget(), baseline=np.zeros((3, 3)))
    with pytest.raises(RecipeError, match="1 step"):
        integrated_gradients(model, images, LabelTarget(), steps=0)
    for patch, stride in ((0, 1), (5, 1), (2, 3), (2, 0)):
        with pytest.raises(RecipeError, match=r"patch|stride"):
            occlusion(lambda values: values[:, 0, 0, 0], images, patch, stride)
    with pytest.raises(ShapeError, match="score"):
        occlusion(lambda values: values[:, 0, 0], images, 2, 1)
    with pytest.raises(ShapeError, match="value"):
        occlusion(lambda values: values[:, 0, 0, 0], images, 2, 1, value=(1, 2, 3))
