"""Echo pattern, margin, shadow and texture, by drawings of which one is brighter, sharper or rougher."""

import numpy as np
import pytest
from scipy import ndimage

from tests.data.features.drawing import disc, ellipse, tissue
from ustoolkit.data.features import feature_names, lesion_features

BRIGHTNESS_COUNTS = {"contrast_ratio", "contrast_variation"}
MASK = disc(35, centre=(80, 100))


def measure(image, mask=MASK):
    return lesion_features(image, mask)


def test_a_darker_lesion():
    dark, same, bright = (measure(tissue(MASK, inside, grain=5)) for inside in (60, 120, 180))
    assert dark["contrast_darkness"] > 0.99 and bright["contrast_darkness"] < 0.01
    assert same["contrast_darkness"] == pytest.approx(0.5, abs=0.05)
    assert dark["contrast_difference"] == pytest.approx(-60 / 12, rel=0.25)
    assert bright["contrast_difference"] == pytest.approx(60 / 12, rel=0.25)
    assert dark["contrast_ratio"] == pytest.approx(np.log(64 / 124), abs=0.03)
    assert dark["contrast_black_share"] > 0.99 and dark["contrast_dark_tail"] < 0.01
    assert dark["margin_contrast"] > 4 and bright["margin_contrast"] < -4
    assert dark["margin_indistinct_share"] == 0 and same["margin_indistinct_share"] > 0.8


def test_the_chance_of_being_brighter_is_counted():
    """Stripes of 100 and 200 around, 200 inside: half of the pixels around are ties and half are darker."""
    image = np.where(MASK, 200, np.where(np.arange(200) % 80 < 40, 100, 200)[np.newaxis]).astype(np.uint8)[
        ..., np.newaxis
    ]
    around = image[60:100, :60].mean()  # left of the lesion alone
    assert 100 < around < 200
    assert 0 < measure(image)["contrast_darkness"] < 0.5


@pytest.mark.parametrize("gain, offset", [(1, 40), (1.5, 0), (0.6, 20)])
def test_brightness_and_gain_do_not_count(gain, offset):
    image = tissue(ellipse(25, 40), 50, 100, 12)
    changed = np.clip(np.rint(image * gain + offset), 0, 255).astype(np.uint8)
    found, other = (measure(pixels, ellipse(25, 40)) for pixels in (image, changed))
    for name in set(feature_names()) - BRIGHTNESS_COUNTS:
        assert other[name] == pytest.approx(found[name], abs=0.06, rel=0.06), name


@pytest.mark.parametrize("level, sign", [(200, 1), (40, -1)])
def test_the_band_below_tells_enhancement_from_shadow(level, sign):
    image = tissue(MASK)
    below = np.zeros_like(MASK)
    below[80:, 66:135] = True
    image[below & ~MASK] = tissue(MASK, around=level)[below & ~MASK]
    found, none = measure(image), measure(tissue(MASK))
    for name in ("shadow_near", "shadow_far", "shadow_to_above", "shadow_darkest_quarter", "shadow_brightest_quarter"):
        assert sign * found[name] > 3, name
        assert abs(none[name]) < 1.5, name
    assert (found["shadow_brightness"] > 0.95) if sign > 0 else (found["shadow_brightness"] < 0.05)
    assert found["shadow_enhancement_share"] == (sign > 0)
    assert none["shadow_brightness"] == pytest.approx(0.5, abs=0.05)


def test_sound_that_weakens_with_depth_everywhere_is_no_shadow():
    fading = tissue(MASK).astype(float) - np.linspace(-40, 60, 200)[:, np.newaxis, np.newaxis]
    found = measure(np.clip(fading, 0, 255).astype(np.uint8))
    assert abs(found["shadow_near"]) < 0.6 and abs(found["shadow_far"]) < 0.6
    assert found["shadow_to_above"] < -1


def test_edge_shadows():
    image = tissue(MASK)
    for columns in (slice(65, 82), slice(118, 135)):
        image[100:, columns] = tissue(MASK, around=50)[100:, columns]
    image[MASK] = tissue(MASK)[MASK]
    assert measure(image)["shadow_edges"] < -2
    assert abs(measure(tissue(MASK))["shadow_edges"]) < 0.7


def test_black_beside_the_scan_is_not_tissue():
    """Beyond column 150 there is no scan: the same lesion in a picture that ends there measures alike."""
    image = tissue(MASK)
    image[:, 150:] = 0
    found, cut = measure(image), measure(image[:, :150], MASK[:, :150])
    for name in ("contrast_darkness", "contrast_difference", "margin_contrast", "shadow_near"):
        assert found[name] == pytest.approx(cut[name], abs=0.35), name


def test_calipers_and_text_hardly_count():
    image = tissue(MASK)
    marked = image.copy()
    for row, column in ((80, 62), (80, 138), (42, 100), (118, 100)):  # crosses at the ends of the diameters
        marked[row - 3 : row + 4, column] = marked[row, column - 3 : column + 4] = 255
    marked[150:158, 20:60:4] = 255
    found, other = measure(image), measure(marked)
    for name in ("contrast_darkness", "contrast_difference", "margin_contrast", "margin_halo", "shadow_near"):
        assert other[name] == pytest.approx(found[name], abs=0.25), name


def test_a_blurred_margin():
    sharp = tissue(MASK, spread=6)
    blurred = np.where(MASK, 60, 120) * 1.0
    blurred = ndimage.gaussian_filter(blurred, 10) + np.random.default_rng(0).normal(0, 6, MASK.shape)
    found, other = measure(sharp), measure(blurred.astype(np.uint8)[..., np.newaxis])
    assert other["margin_sharpness"] < found["margin_sharpness"] - 0.2
    assert other["margin_step"] < found["margin_step"] and other["margin_step_lowest"] < found["margin_step_lowest"]


def test_a_halo():
    image = tissue(MASK)
    ring = ndimage.binary_dilation(MASK, iterations=12) & ~MASK
    image[ring] = tissue(MASK, around=190)[ring]
    assert measure(image)["margin_halo"] > 1 and abs(measure(tissue(MASK))["margin_halo"]) < 0.3


def test_spots_and_patches_inside():
    plain = tissue(MASK)
    spots, patches = plain.copy(), plain.copy()
    spots[65:95:8, 85:115:8] = spots[66:95:8, 85:115:8] = 250
    patches[MASK & (np.arange(200) > 100)] = tissue(MASK, inside=100)[MASK & (np.arange(200) > 100)]
    found = measure(plain)
    assert measure(spots)["contrast_bright_spots"] > found["contrast_bright_spots"] + 0.01
    assert measure(patches)["contrast_patchiness"] > found["contrast_patchiness"] + 0.5
    assert measure(patches)["contrast_spread"] > found["contrast_spread"] + 0.3


def test_layers_and_detail():
    layers = np.where(MASK, 0, 40) * np.sin(np.arange(200) / 2)[:, np.newaxis] + 110
    image = np.clip(layers + np.random.default_rng(0).normal(0, 5, MASK.shape), 0, 255).astype(np.uint8)[
        ..., np.newaxis
    ]
    found = measure(image)
    assert found["texture_layers"] > 0.4 > 0.2 > abs(found["texture_layers_inside"])
    assert found["texture_detail_middle"] < -1 and found["texture_difference_fine"] < -1
    turned = measure(np.ascontiguousarray(image.transpose(1, 0, 2)), np.ascontiguousarray(MASK.T))
    assert turned["texture_layers"] < -0.4
