"""Both engines of augmentation: what each promises, and that they draw from the same distributions."""

import numpy as np
import pytest
from scipy import stats

from tests.data.augmentation import ENGINES, EVERYTHING, GEOMETRY, INTENSITIES, SIZE, only, picture
from ustoolkit.recipe.data_set import IGNORE

COUNT = 400
LEAST_P = 1e-3  # under equal distributions one comparison in a thousand would fall below; the seed is fixed

engines = pytest.mark.parametrize("draw", ENGINES.values(), ids=ENGINES)
both_channels = pytest.mark.parametrize("channels", [1, 3])


# --- what each promises ---


@engines
@both_channels
@pytest.mark.parametrize(("name", "reach"), INTENSITIES.items())
def test_grey_values_change_and_the_mask_does_not(draw, channels, name, reach):
    image, mask = picture(channels)
    images, masks = draw(only(**{name: reach}), image, mask, 12)
    assert (masks == mask).all()
    assert images.shape == (12, *image.shape) and images.dtype == masks.dtype == np.uint8
    changed = [not np.array_equal(found, image) for found in images]
    assert np.mean(changed) > (0.4 if name == "shadow" else 0.7)  # a weak blur rounds to nothing


@engines
@pytest.mark.parametrize(("name", "reach"), INTENSITIES.items())
def test_the_three_channels_of_a_grey_image_stay_alike(draw, name, reach):
    image, mask = picture(1)
    images, _ = draw(only(**{name: reach}), np.repeat(image, 3, -1), mask, 8)
    assert (images == images[..., :1]).all()
    np.testing.assert_array_equal(images[..., :1], draw(only(**{name: reach}), image, mask, 8)[0])


@engines
@both_channels
@pytest.mark.parametrize(("name", "reach"), GEOMETRY.items())
def test_image_and_mask_move_together_and_classes_are_not_mixed(draw, channels, name, reach):
    _, mask = picture()
    mask[mask == 2] = IGNORE
    image = np.repeat(mask[..., np.newaxis], channels, -1)
    images, masks = draw(only(**{name: reach}), image, mask, 12)
    assert set(np.unique(masks)) <= {0, 1, IGNORE}
    # The image is interpolated, so it may differ at edges.
    assert np.mean(np.abs(images[..., 0].astype(int) - masks) > 128) < 0.01
    assert np.mean([np.array_equal(found, mask) for found in masks]) < 0.8


@engines
@both_channels
def test_what_is_off_changes_nothing(draw, channels):
    image, mask = picture(channels)
    images, masks = draw(only(probability=0.5), image, mask, 3)
    assert (images == image).all() and (masks == mask).all()
    images, masks = draw(only(probability=0, **{k: v for k, v in GEOMETRY.items() if "flip" not in k}), image, mask, 9)
    assert (images == image).all() and (masks == mask).all()


@engines
@both_channels
def test_the_same_key_gives_the_same_and_another_something_else(draw, channels):
    image, mask = picture(channels)
    images, masks = draw(EVERYTHING, image, mask, 5, epoch=2)
    again, same = draw(EVERYTHING, image, mask, 5, epoch=2)
    np.testing.assert_array_equal(images, again)
    np.testing.assert_array_equal(masks, same)
    others, _ = draw(EVERYTHING, image, mask, 5, epoch=3)
    assert not any(np.array_equal(one, other) for one, other in zip(images, others, strict=True))
    assert len({found.tobytes() for found in images}) == 5


@engines
@pytest.mark.parametrize(("name", "axis"), [("horizontal_flip", 1), ("vertical_flip", 0)])
def test_flips_turn_that_share_of_images_over(draw, name, axis):
    image, mask = picture(3)
    images, masks = draw(only(**{name: 0.3}), image, mask, COUNT)
    turned = [np.array_equal(found, np.flip(image, axis)) for found in images]
    assert all(np.array_equal(found, mask) != over for found, over in zip(masks, turned, strict=True))
    assert np.mean(turned) == pytest.approx(0.3, abs=0.07)  # three standard errors


@engines
def test_that_share_of_images_is_moved(draw):
    image, mask = picture()
    images, _ = draw(only(probability=0.3, rotation_degrees=30), image, mask, COUNT)
    assert np.mean([not np.array_equal(found, image) for found in images]) == pytest.approx(0.3, abs=0.07)


@engines
@pytest.mark.parametrize("name", ["gain", "speckle", "resolution"])
def test_scanners_change_that_share_of_images(draw, name):
    image, mask = picture()
    images, _ = draw(only(scanner_probability=0.3, **{name: INTENSITIES[name]}), image, mask, COUNT)
    assert np.mean([not np.array_equal(found, image) for found in images]) == pytest.approx(0.3, abs=0.07)


@engines
def test_each_of_a_scanner_s_changes_is_drawn_by_itself(draw):
    image, mask = np.full((*SIZE, 1), 128, np.uint8), np.zeros(SIZE, np.uint8)
    images, _ = draw(only(scanner_probability=0.5, gain=0.4, speckle=0.4), image, mask, COUNT)
    graded = np.abs(images[:, 0].mean(axis=(1, 2)) - images[:, -1].mean(axis=(1, 2))) > 12
    rough = np.abs(np.diff(images[..., 0].astype(float), axis=2)).mean(axis=(1, 2)) > 1
    for one in (graded, ~graded):
        assert 0.35 < rough[one].mean() < 0.65


# --- the same distributions ---


def bar():
    """An elongated blob across the middle, whose moments tell how it was moved."""
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]] - np.reshape(np.array(SIZE) - 1, (2, 1, 1)) / 2
    return (255 * np.exp(-0.5 * ((columns / 9) ** 2 + (rows / 3) ** 2)))[..., np.newaxis].astype(np.uint8)


def grey(value):
    return np.full((*SIZE, 1), value, np.uint8)


def moments(images):
    """Centre (x, y), fraction of the side from the middle, and covariance of grey values' places."""
    weights = images[..., 0] / images.sum(axis=(1, 2, 3))[:, None, None]
    x, y = np.arange(SIZE[1]) - (SIZE[1] - 1) / 2, np.arange(SIZE[0]) - (SIZE[0] - 1) / 2
    centres = np.einsum("nij,j->n", weights, x), np.einsum("nij,i->n", weights, y)
    dx, dy = x[None, None] - centres[0][:, None, None], y[None, :, None] - centres[1][:, None, None]
    spread = [np.sum(weights * product, axis=(1, 2)) for product in (dx * dx, dx * dy, dy * dy)]
    return centres[0] / SIZE[1], centres[1] / SIZE[0], spread


def turn(images):
    """Degrees, clockwise as seen."""
    xx, xy, yy = moments(images)[2]
    return np.degrees(0.5 * np.arctan2(2 * xy, xx - yy))


def size(images):
    """Linear, relative to the bar's own."""
    (xx, xy, yy), (own_xx, own_xy, own_yy) = moments(images)[2], moments(bar()[np.newaxis].astype(float))[2]
    return ((xx * yy - xy**2) / (own_xx * own_yy - own_xy**2)) ** 0.25


def gamma(images):
    return np.log2(np.log(images[:, 0, 0, 0] / 255) / np.log(128 / 255))


def roughness(axis):
    return lambda images: np.abs(np.diff(images[..., 0].astype(float), axis=1 + axis)).mean(axis=(1, 2))


def correlation(axis):
    def measure(images):
        values = images[..., 0] - images[..., 0].mean(axis=(1, 2), keepdims=True)
        ahead = np.roll(values, 1, 1 + axis)
        return (values * ahead).mean(axis=(1, 2)) / np.maximum((values**2).mean(axis=(1, 2)), 1e-9)

    return measure


def shadow_start(images):
    return np.argmax(images.min(axis=(2, 3)) < 198, axis=1)


# Change; image; what is measured; its range, where it can be told exactly.
MEASURED = {
    "rotation": ({"rotation_degrees": 40}, bar, turn, (-40, 40)),
    "shift across": ({"shift": 0.15}, bar, lambda images: moments(images)[0], (-0.15, 0.15)),
    "shift down": ({"shift": 0.15}, bar, lambda images: moments(images)[1], (-0.15, 0.15)),
    "zoom": ({"zoom": 0.3}, bar, size, (0.7, 1.3)),
    "shear, turning": ({"shear_degrees": 20}, bar, turn, None),
    "shear, stretching": ({"shear_degrees": 20}, bar, lambda images: moments(images)[2][0], None),
    "contrast": ({"contrast": 0.4}, lambda: grey(227), lambda images: (images[:, 0, 0, 0] - 127.0) / 100, None),
    "channel shift": ({"channel_shift": 0.2}, lambda: grey(128), lambda images: images[:, 0, 0, 0] - 128.0, (-51, 51)),
    "gamma": ({"gamma": 0.8}, lambda: grey(128), gamma, (-0.8, 0.8)),
    "gain, top": ({"gain": 0.4}, lambda: grey(100), lambda images: images[:, 0, 0, 0] / 100, (0.6, 1.4)),
    "gain, bottom": ({"gain": 0.4}, lambda: grey(100), lambda images: images[:, -1, 0, 0] / 100, (0.6, 1.4)),
    "speckle": ({"speckle": 0.4}, lambda: grey(100), lambda images: images.std(axis=(1, 2, 3)) / 100, None),
    "speckle, axial": ({"speckle": 0.4}, lambda: grey(100), correlation(0), None),
    "speckle, lateral": ({"speckle": 0.4}, lambda: grey(100), correlation(1), None),
    "blur": ({"blur": 2.0}, lambda: picture()[0], roughness(0), None),
    "resolution, axial": ({"resolution": 3.0}, lambda: picture()[0], roughness(0), None),
    "resolution, lateral": ({"resolution": 3.0}, lambda: picture()[0], roughness(1), None),
    "shadow": ({"shadow": 0.7}, lambda: grey(200), lambda images: images.min(axis=(1, 2, 3)), None),
    "shadow, start": ({"shadow": 0.7}, lambda: grey(200), shadow_start, None),
    "shadow, area": ({"shadow": 0.7}, lambda: grey(200), lambda images: (images < 180).mean(axis=(1, 2, 3)), None),
}


@pytest.mark.parametrize(("change", "image", "measure", "limits"), MEASURED.values(), ids=MEASURED)
def test_both_engines_draw_from_the_same_distribution(change, image, measure, limits):
    image, mask = image(), np.zeros(SIZE, np.uint8)
    measured = [measure(draw(only(**change), image, mask, COUNT)[0]) for draw in ENGINES.values()]
    assert stats.ks_2samp(*measured).pvalue > LEAST_P
    assert min(np.unique(values).size for values in measured) > 20  # each is drawn, none is fixed
    if limits:
        low, high = limits
        slack = 0.03 * (high - low)
        for values in measured:
            assert low - slack <= values.min() <= low + slack and high - slack <= values.max() <= high + slack
            uniform = stats.uniform(low, high - low)
            assert stats.kstest(values, uniform.cdf).statistic < 0.1


def test_a_difference_of_a_third_would_be_seen():
    image, mask = bar(), np.zeros(SIZE, np.uint8)
    few, more = (
        turn(draw(only(rotation_degrees=reach), image, mask, COUNT)[0])
        for draw, reach in zip(ENGINES.values(), (30, 40), strict=True)
    )
    assert stats.ks_2samp(few, more).pvalue < LEAST_P
