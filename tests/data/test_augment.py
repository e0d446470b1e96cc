"""Augmentation by imgaug: imgaug's pixels to the bit, and changes that look like another scanner's."""

import hashlib

import numpy as np
import pytest
from scipy import ndimage

from tests.data.augmentation import EVERYTHING, INTENSITIES, SIZE, by_imgaug, only, picture
from ustoolkit.data import scanner_changes as scanner
from ustoolkit.data.augment import Augmenter
from ustoolkit.data.imgaug_quick import iaa
from ustoolkit.recipe import load_recipe
from ustoolkit.recipe.augmentation import AugmentationSettings

PUBLISHED = {
    "default": AugmentationSettings(),
    "fastest": load_recipe("fastest").augmentation,
    "some moved": AugmentationSettings(probability=0.4, vertical_flip=0.5),
    "shear alone": only(shear_degrees=40),
    "far": AugmentationSettings(rotation_degrees=180, shift=0.5, shear_degrees=60, zoom=0.9),
}


def plain_imgaug(settings):
    """The steps as imgaug's own documentation would have them."""
    steps = [iaa.Fliplr(settings.horizontal_flip)] if settings.horizontal_flip else []
    steps += [iaa.Flipud(settings.vertical_flip)] if settings.vertical_flip else []
    affine = iaa.Affine(
        rotate=(-settings.rotation_degrees, settings.rotation_degrees),
        translate_percent=dict.fromkeys("xy", (-settings.shift, settings.shift)),
        shear=(-settings.shear_degrees, settings.shear_degrees),
        scale=(1 - settings.zoom, 1 + settings.zoom),
        mode="constant",
        backend="cv2",
    )
    steps.append(affine if settings.probability == 1 else iaa.Sometimes(settings.probability, affine))
    if settings.contrast:
        steps.append(iaa.LinearContrast((1 - settings.contrast, 1 + settings.contrast)))
    if settings.channel_shift:
        steps.append(iaa.Add((round(-255 * settings.channel_shift), round(255 * settings.channel_shift))))
    return iaa.Sequential(steps)


@pytest.mark.parametrize("settings", PUBLISHED.values(), ids=PUBLISHED)
@pytest.mark.parametrize(("channels", "size"), [(1, (48, 64)), (3, (61, 37))])
def test_pixels_are_those_of_imgaug_called_plainly(settings, channels, size):
    from imgaug.augmentables.segmaps import SegmentationMapsOnImage

    image, mask = picture(channels, size)
    sequence, augmenter = plain_imgaug(settings), Augmenter(settings, seed=5)
    for number in range(25):
        key = hashlib.blake2b(f"5/3/{number}".encode(), digest_size=4).digest()
        sequence.seed_(int.from_bytes(key, "little"))
        segmentation = SegmentationMapsOnImage(mask[..., np.newaxis].astype(np.int32), shape=image.shape)
        expected, moved = sequence(image=image, segmentation_maps=segmentation)
        found, found_mask = augmenter(image, mask, str(number), 3)
        np.testing.assert_array_equal(found, expected)
        np.testing.assert_array_equal(found_mask, moved.get_arr()[..., 0])
        assert found.dtype == found_mask.dtype == np.uint8


@pytest.mark.parametrize(
    ("name", "reach"), [item for item in INTENSITIES.items() if item[0] not in ("contrast", "channel_shift")]
)
def test_a_new_change_leaves_the_draws_of_the_others_as_they_were(name, reach):
    image, mask = picture()
    settings = AugmentationSettings(), AugmentationSettings(**{name: reach})
    (images, masks), (changed, same) = (by_imgaug(one, image, mask, 10) for one in settings)
    np.testing.assert_array_equal(masks, same)
    assert not np.array_equal(images, changed)


def test_what_comes_back_is_a_copy():
    image, mask = picture()
    for settings in (only(), only(horizontal_flip=1), only(shadow=1e-9), EVERYTHING):
        found, moved = Augmenter(settings, 0)(image, mask, "a", 0)
        assert not np.shares_memory(found, image) and not np.shares_memory(moved, mask)
        assert found.flags["C_CONTIGUOUS"] and moved.flags["C_CONTIGUOUS"]


# --- what a scanner does ---


@pytest.mark.parametrize("cell", [(1.0, 1.0), (1.5, 3.0), (3.0, 3.0)])
def test_speckle_is_rayleigh_and_as_wide_as_asked(cell):
    pattern = scanner.speckle_pattern((400, 400), cell, np.random.Generator(np.random.SFC64(0)))
    assert pattern.mean() == pytest.approx(0, abs=0.03) and pattern.std() == pytest.approx(1, abs=0.02)
    amplitude = pattern * scanner.RAYLEIGH_DEVIATION + scanner.RAYLEIGH_MEAN
    assert amplitude.min() >= 0
    # Of a Rayleigh amplitude: P(A > a) = exp(-a² / 2).
    for level in (0.5, 1.0, 2.0):
        assert np.mean(amplitude > level) == pytest.approx(np.exp(-(level**2) / 2), abs=0.02)
    intensity = amplitude**2
    for axis, width in enumerate(cell):
        ahead = np.roll(intensity, 1, axis)
        found = np.corrcoef(ahead.ravel(), intensity.ravel())[0, 1]
        # The echoes' correlation is a Gaussian √2 as wide as the cell; the intensity's is its square, so as wide.
        expected = np.exp(-0.5 * (scanner.WIDTH_PER_DEVIATION / width) ** 2)
        assert found == pytest.approx(expected, abs=0.06)


def test_speckle_of_one_half_reaches_black_only_beyond_that_of_echoes():
    pattern = scanner.speckle_pattern((200, 200), (1.0, 2.0), np.random.Generator(np.random.SFC64(1)))
    grey = np.full((200, 200, 1), 100, np.uint8)
    assert scanner.speckled(grey, pattern, 0.3).std() == pytest.approx(30, rel=0.03)
    assert scanner.speckled(grey, pattern, 0.3).min() > 40 and scanner.speckled(grey, pattern, 1.0).min() == 0


@pytest.mark.parametrize(("axial", "lateral"), [(1, 1), (2, 1), (1, 4), (2, 4)])
def test_coarser_averages_over_cells_along_either_axis(axial, lateral):
    image = picture(size=(64, 64))[0]
    found = scanner.coarser(image, axial, lateral).astype(float)
    cells = ndimage.uniform_filter(image[..., 0].astype(float), (axial, lateral), mode="nearest")
    means = cells[axial // 2 :: axial, lateral // 2 :: lateral]
    zoomed = ndimage.zoom(means, (axial, lateral), order=1, mode="nearest", grid_mode=True)
    np.testing.assert_allclose(found[..., 0], zoomed, atol=1.6)  # rounded twice, and in OpenCV's integers


@pytest.mark.parametrize("deviation", [0.6, 1.5, 5.0])
def test_blur_is_a_gaussian_of_that_deviation(deviation):
    image = ndimage.gaussian_filter(picture(size=(80, 80))[0][..., 0].astype(float), 2)
    image = (255 * (image - image.min()) / np.ptp(image)).astype(np.uint8)
    expected = ndimage.gaussian_filter(image.astype(float), deviation, mode="mirror", truncate=3)
    found = scanner.blurred(image[..., np.newaxis], deviation)[..., 0]
    np.testing.assert_allclose(found, expected, atol=0.6)


def test_gain_is_a_ramp_along_the_depth():
    grey = np.full((51, 20, 3), 100, np.uint8)
    found = scanner.amplified(grey, 0.5, 1.5)
    np.testing.assert_array_equal(found[:, 7, 1], np.rint(np.linspace(50, 150, 51)).astype(np.uint8))
    assert (found == found[:, :1, :1]).all()
    assert scanner.amplified(np.full((9, 9, 1), 250, np.uint8), 1.5, 1.5).max() == 255


def test_a_shadow_runs_along_the_beam_from_its_start_to_the_bottom_and_its_edges_are_soft():
    profile = scanner.shadow_profile((200, 300), start=0.4, centre=0.75, half_width=0.1, spread=0.5, edge=1.0)
    assert profile.min() == 0 and profile.max() == pytest.approx(1, abs=1e-3)
    assert not profile[:80].any() and profile[82:].any(axis=1).all()
    assert np.abs(np.diff(profile[-1])).max() < 0.1
    # From the middle of the probe, the beam diverges by 1 + 0.5 (1 - 0.4) at the bottom.
    columns = (np.arange(300) + 0.5) / 300
    centre = (columns * profile[-1]).sum() / profile[-1].sum()
    assert centre == pytest.approx(0.5 + 0.25 * 1.3, abs=0.01)
    width = (profile[-1] > 0.5).sum() / 300
    assert width == pytest.approx(0.2 * 1.3, abs=0.01)
    straight = scanner.shadow_profile((200, 300), 0.4, 0.75, 0.1, 0.0, 1.0)
    assert (straight[150:] == straight[150]).all()


def test_a_shadow_takes_that_share_of_the_grey_value():
    grey = np.full((*SIZE, 3), 200, np.uint8)
    profile = scanner.shadow_profile(SIZE, 0.2, 0.5, 0.2, 0.2, 0.8)
    found = scanner.shadowed(grey, profile, 0.6)
    assert found.min() == 80 and found.max() == 200
    np.testing.assert_allclose(found[..., 2], 200 * (1 - 0.6 * profile), atol=0.51)


def test_the_largest_strengths_that_settings_allow_are_carried_out():
    settings = AugmentationSettings(
        gamma=2, gain=0.99, speckle=1, blur=10, shadow=1, resolution=8, rotation_degrees=180, shift=1, zoom=0.99
    )
    for size in (SIZE, (7, 5), (1, 9)):
        image, _ = picture(3, size)
        images, masks = by_imgaug(settings, image, np.ones(size, np.uint8), 20)
        assert images.shape == (20, *size, 3) and images.dtype == np.uint8 and set(np.unique(masks)) <= {0, 1}
