"""What holds for all measurements: names, order, neutral values, and errors that say what to do."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.features.drawing import disc, tissue
from ustoolkit.data.features import FEATURES, MEASUREMENTS, feature_names, lesion_features
from ustoolkit.errors import DataError


@st.composite
def drawings(draw):
    """A small picture, noisy, flat or black and white, and a mask of some pixels at least."""
    height, width = draw(st.integers(1, 20)), draw(st.integers(1, 20))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    mask = random.random((height, width)) < draw(st.sampled_from([0.0, 0.1, 0.5, 1.0]))
    mask[random.integers(height), random.integers(width)] = True
    low, high = draw(st.sampled_from([(0, 256), (0, 1), (77, 78), (255, 256), (0, 5)]))
    image = random.integers(low, high, (height, width, draw(st.sampled_from([1, 3])))).astype(np.uint8)
    return image, mask


@given(drawings())
@settings(max_examples=80)
def test_any_lesion_has_finite_measurements_in_order(drawing):
    found = lesion_features(*drawing)
    assert tuple(found) == feature_names()
    assert all(type(value) is float and math.isfinite(value) for value in found.values())


def test_names_are_of_their_family_and_explained():
    names = feature_names()
    assert len(set(names)) == len(names) and 40 <= len(names) <= 90
    for family, measurements in MEASUREMENTS.items():
        for name, (neutral, meaning) in measurements.items():
            assert name.startswith(f"{family}_") and meaning and math.isfinite(neutral)


@pytest.mark.parametrize("family", FEATURES)
def test_a_family_alone_is_the_same_as_among_the_others(family):
    image, mask = tissue(disc()), disc()
    whole, alone = lesion_features(image, mask), lesion_features(image, mask, [family])
    assert tuple(alone) == feature_names([family]) == tuple(MEASUREMENTS[family])
    assert alone == {name: whole[name] for name in alone}


def test_the_order_of_families_does_not_matter():
    assert feature_names(["texture", "shape"]) == feature_names(["shape", "texture"])


@pytest.mark.parametrize("family", ["margin", "contrast", "shadow", "texture"])
def test_flat_grey_gives_neutral_values(family):
    found = lesion_features(np.full((200, 200, 1), 90, np.uint8), disc(), [family])
    for name, (neutral, _) in MEASUREMENTS[family].items():
        if not name.startswith(("margin_radius", "margin_t", "margin_lob", "margin_ang", "margin_spi", "margin_cor")):
            assert found[name] == pytest.approx(neutral, abs=0.1) or name in _DEFINED_WHERE_FLAT, name


_DEFINED_WHERE_FLAT = {"contrast_black_share", "contrast_dark_tail", "contrast_ratio", "contrast_variation"} | {
    "texture_patterns_entropy"
}


def test_a_picture_that_ends_with_the_lesion_has_no_shadow():
    mask = disc(centre=(100, 100))[:141]
    found = lesion_features(tissue(mask), mask, ["shadow"])
    assert found == {name: neutral for name, (neutral, _) in MEASUREMENTS["shadow"].items()}


def test_the_largest_region_is_measured_without_holes():
    mask = disc(40)
    several = mask | disc(8, centre=(20, 20))
    several[95:105, 95:105] = False
    image = tissue(mask)
    alone, found = lesion_features(image, mask, ["shape"]), lesion_features(image, several, ["shape"])
    assert found == alone


def test_bool_bytes_and_grey_as_colour_measure_the_same():
    image, mask = tissue(disc()), disc()
    found = lesion_features(image, mask)
    assert lesion_features(image, mask.astype(np.uint8) * 255) == found
    assert lesion_features(np.repeat(image, 3, axis=2), mask) == found


def test_inputs_stay_as_they_are():
    image, mask = tissue(disc()), disc()
    before = image.copy(), mask.copy()
    lesion_features(image, mask)
    assert np.array_equal(image, before[0]) and np.array_equal(mask, before[1])


@pytest.mark.parametrize("shift", [(3, 0), (0, -3)])
def test_a_mask_a_little_aside_measures_alike(shift):
    image, mask = tissue(disc(), spread=10), disc()
    found, moved = lesion_features(image, mask), lesion_features(image, np.roll(mask, shift, (0, 1)))
    for name in ("contrast_darkness", "contrast_difference", "shadow_brightness", "shape_roundness", "margin_step"):
        assert moved[name] == pytest.approx(found[name], abs=0.1, rel=0.15), name


@pytest.mark.parametrize(
    "where", [np.s_[:, :], np.s_[700, 700], np.s_[1000, :], np.s_[:, 5], np.s_[1990:, 1990:], np.s_[:900, :700]]
)
def test_large_pictures(where):
    mask = np.zeros((2000, 2000), bool)
    mask[where] = True
    image = np.random.default_rng(0).integers(40, 200, (2000, 2000, 1)).astype(np.uint8)
    assert all(map(math.isfinite, lesion_features(image, mask).values()))


def test_what_is_wrong_is_said():
    image, mask = tissue(disc()), disc()
    with pytest.raises(DataError, match=r"found an empty mask\. Draw the lesion, or leave the image out"):
        lesion_features(image, np.zeros_like(mask))
    with pytest.raises(DataError, match=r"expected bool or uint8 \(200, 200\).*found bool \(199, 200\)"):
        lesion_features(image, mask[1:])
    with pytest.raises(DataError, match="found float64"):
        lesion_features(image, mask * 1.0)
    with pytest.raises(DataError, match=r"expected uint8 \(height, width, 1 or 3\), found uint8 \(200, 200\)"):
        lesion_features(image[..., 0], mask)
    with pytest.raises(DataError, match="expected some of shape, margin, contrast, shadow, texture, found 'colour'"):
        lesion_features(image, mask, ["shape", "colour"])
    with pytest.raises(DataError, match="found none"):
        feature_names([])
