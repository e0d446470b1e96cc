"""Shape and outline, by figures whose measures are known."""

import numpy as np
import pytest

from tests.data.features.drawing import disc, ellipse, polar, square, star, tissue
from ustoolkit.data.features import feature_names, lesion_features

OUTLINE = (
    *(name for name in feature_names(["shape"]) if "relative" not in name and name != "shape_depth"),
    *("margin_radius_spread", "margin_spikes", "margin_turning", "margin_tangent_entropy", "margin_corners"),
)


def measure(mask):
    return lesion_features(tissue(mask), mask, ["shape", "margin"])


def test_a_disc():
    found = measure(disc())
    assert found["shape_depth_to_width"] == pytest.approx(1, abs=0.01)
    assert found["shape_roundness"] == pytest.approx(1, abs=0.02)
    assert found["shape_solidity"] == pytest.approx(1, abs=0.01)
    assert found["shape_convexity"] == pytest.approx(1, abs=0.01)
    assert found["shape_rectangularity"] == pytest.approx(np.pi / 4, abs=0.01)
    assert found["shape_elongation"] == pytest.approx(1, abs=0.01)
    assert found["shape_uprightness"] == pytest.approx(0, abs=0.01)
    assert found["shape_relative_width"] == pytest.approx(81 / 200)
    assert found["shape_relative_depth"] == pytest.approx(0.5, abs=0.01)
    assert found["shape_depth"] == pytest.approx(np.log1p(60 / (40 * np.sqrt(np.pi))), abs=0.01)
    assert found["margin_radius_spread"] == pytest.approx(0, abs=0.01)
    assert found["margin_turning"] == pytest.approx(1, abs=0.01) and found["margin_spikes"] == 0
    assert found["shape_concavities"] == found["margin_corners"] == 0
    assert found["shape_ellipse_misfit"] < 0.02 and found["shape_left_right_asymmetry"] < 0.05


@pytest.mark.parametrize("half_height, half_width", [(25, 50), (50, 25), (30, 40)])
def test_an_ellipse_of_known_axes(half_height, half_width):
    found = measure(ellipse(half_height, half_width))
    assert found["shape_depth_to_width"] == pytest.approx(half_height / half_width, rel=0.02)
    assert found["shape_elongation"] == pytest.approx(
        min(half_height, half_width) / max(half_height, half_width), rel=0.02
    )
    squares = half_height**2, half_width**2  # a variance is a quarter of the squared half axis
    assert found["shape_uprightness"] == pytest.approx((squares[0] - squares[1]) / sum(squares), abs=0.01)
    assert found["shape_ellipse_misfit"] < 0.02 and found["shape_solidity"] > 0.99


def test_a_square():
    found = measure(square())
    assert found["shape_rectangularity"] == pytest.approx(1, abs=0.02)
    assert found["shape_roundness"] == pytest.approx(np.pi / 4, abs=0.03)  # corners are rounded by 0.015 sides
    assert found["margin_spikes"] == 4
    assert found["margin_tangent_entropy"] < measure(disc())["margin_tangent_entropy"]


@pytest.mark.parametrize("spikes", [5, 7, 10])
def test_a_star_has_its_spikes_and_their_harmonic(spikes):
    found, round_one = measure(star(spikes)), measure(disc())
    assert found["margin_spikes"] == spikes
    band = next(name for name, most in (("angularity", 9), ("spiculation", 24)) if spikes + 1 <= most)
    assert found[f"margin_{band}"] > round_one[f"margin_{band}"] + 2
    assert found["margin_radius_spread"] == pytest.approx(0.25 / np.sqrt(2), abs=0.03)
    assert found["shape_solidity"] < 0.85 and found["margin_turning"] > 1.8


def test_deeper_spikes_are_rougher():
    shallow, deep = (measure(star(9, depth)) for depth in (0.05, 0.2))
    for name in ("margin_spiculation", "margin_radius_roughness", "shape_concavities", "margin_turning_fine"):
        assert deep[name] > shallow[name]
    assert deep["shape_convexity"] < shallow["shape_convexity"]


def test_a_notch_is_as_deep_as_it_was_cut():
    mask = square(80)
    mask[90:110, 60:90] = False  # 30 of 80 pixels
    found = measure(mask)
    assert found["shape_concavity_depth"] == pytest.approx(30 / np.sqrt(mask.sum()), abs=0.03)
    assert found["shape_left_right_asymmetry"] > 0.08 and found["shape_top_bottom_asymmetry"] < 0.03


def test_a_lesion_that_widens_downwards():
    rows, columns = np.mgrid[:200, :200]
    mask = (rows >= 60) & (rows < 140) & (np.abs(columns - 100) <= (rows - 40) / 3)
    assert measure(mask)["shape_lower_to_upper_width"] > 0.4
    assert measure(mask[::-1])["shape_lower_to_upper_width"] < -0.4


@pytest.mark.parametrize("scale", [0.5, 2, 3])
@pytest.mark.parametrize(
    "draw", [lambda s: ellipse(25 * s, 45 * s, round(200 * s)), lambda s: star(6, 0.2, 45 * s, round(200 * s))]
)
def test_zoom_does_not_count(draw, scale):
    found, zoomed = measure(draw(1)), measure(draw(scale))
    for name in OUTLINE:
        assert zoomed[name] == pytest.approx(found[name], abs=0.05, rel=0.05), name


def test_an_outline_mirrored_left_to_right_measures_the_same():
    mask = polar(lambda angle: 45 + 8 * np.cos(3 * angle + 0.5) + 5 * np.sin(5 * angle))
    image = tissue(mask)
    found, mirrored = (lesion_features(*pair) for pair in ((image, mask), (image[:, ::-1], mask[:, ::-1])))
    for name, value in found.items():
        assert mirrored[name] == pytest.approx(value, abs=0.03, rel=0.03), name
