import doctest
import math

import numpy as np
import pytest
from hypothesis import given, strategies
from scipy import ndimage
from scipy.spatial.distance import cdist

from tests.evaluation.masks import drawn, mask_pairs
from ustoolkit.errors import DataError, ShapeError
from ustoolkit.evaluation import surface
from ustoolkit.evaluation.surface import border_pixels, hausdorff95, hausdorff95_penalised, surface_distances

SPACINGS = strategies.tuples(strategies.floats(0.05, 5), strategies.floats(0.05, 5))
EMPTY = np.zeros((3, 4), bool)
DOT = drawn("""
    #...
    ....
    ....
""")


def square(row, column, side=4, size=32):
    mask = np.zeros((size, size), bool)
    mask[row : row + side, column : column + side] = True
    return mask


def by_brute_force(truth, prediction, spacing_mm):
    def border(mask):
        around = np.pad(mask, 1)
        return [
            (row, column)
            for row, column in np.argwhere(mask)
            if not (
                around[row, column + 1]
                and around[row + 2, column + 1]
                and around[row + 1, column]
                and around[row + 1, column + 2]
            )
        ]

    distances = cdist(np.array(border(truth)) * spacing_mm, np.array(border(prediction)) * spacing_mm)
    return max(np.percentile(distances.min(axis=axis), 95) for axis in (0, 1))


def by_distance_transform(truth, prediction, spacing_mm):
    """Both directed distances by the definition, over the whole image."""
    borders = [mask & ~ndimage.binary_erosion(mask) for mask in (truth, prediction)]
    maps = [ndimage.distance_transform_edt(~border, sampling=spacing_mm) for border in borders]
    return maps[1][borders[0]], maps[0][borders[1]]


def lesion(generator, height=90, width=130):
    """A wobbly ellipse, which may have a hole and run out of the image, and a stray pixel."""
    middle = generator.uniform(0.1, 0.9, 2) * (height, width)
    rows, columns = np.ogrid[:height, :width]
    down, across = rows - middle[0], 1.4 * (columns - middle[1])
    wobble = 1 + 0.3 * np.sin(3 * np.arctan2(down, across) + generator.uniform(0, 6))
    distance = np.hypot(down, across)
    mask = (distance < generator.uniform(6, 30) * wobble) & (distance > generator.uniform(-5, 4))
    mask[generator.integers(height), generator.integers(width)] = True
    return mask


def test_border_of_a_drawn_mask():
    mask = drawn("""
        ######.
        ######.
        #####..
        #####..
        .......
    """)
    border = drawn("""
        ######.
        #....#.
        #...#..
        #####..
        .......
    """)
    np.testing.assert_array_equal(border_pixels(mask), border)


def test_drawn_masks():
    # From the left dot to the right ones 2 and 3 → nearest 2; back: 2 and 3, whose 95th percentile is 2.95.
    truth = drawn("#....")
    prediction = drawn("..##.")
    assert hausdorff95(truth, prediction) == pytest.approx(2.95)


def test_the_larger_direction_counts_either_way_round():
    # Every pixel of the short line lies on the long one; back, the long one runs on by 1, 2, 3.
    short, long = drawn("##..."), drawn("#####")
    expected = np.percentile([0, 0, 1, 2, 3], 95)
    assert hausdorff95(short, long) == hausdorff95(long, short) == pytest.approx(expected)


def test_one_stray_pixel_in_a_hundred_is_forgiven():
    truth = square(0, 0, side=27)
    prediction = truth.copy()
    prediction[31, 31] = True
    assert hausdorff95(truth, prediction) == 0


def test_distances_run_to_the_outline_even_inside_the_other_mask():
    inner, outer = square(15, 15, side=1), square(10, 10, side=11)
    # Of the 40 pixels of the outer outline the four corners, a tenth of it, are farthest away: √50.
    assert hausdorff95(inner, outer) == pytest.approx(math.sqrt(50))


@pytest.mark.parametrize("shift", [0, 1, 2, 4, 9, 20])
def test_a_square_moved_sideways_is_that_far_off(shift):
    # Of 12 border pixels the 4 of the leading side are the whole shift away, and none is farther.
    assert hausdorff95(square(5, 5), square(5, 5 + shift)) == shift


def test_anisotropic_spacing_has_rows_first():
    assert hausdorff95(square(5, 5), square(15, 5), (0.2, 0.1)) == pytest.approx(2.0)
    assert hausdorff95(square(5, 5), square(5, 15), (0.2, 0.1)) == pytest.approx(1.0)


@given(mask_pairs(may_be_empty=False), SPACINGS)
def test_equals_brute_force(pair, spacing_mm):
    assert hausdorff95(*pair, spacing_mm) == pytest.approx(by_brute_force(*pair, spacing_mm))


@pytest.mark.parametrize("seed", range(5))
def test_equals_brute_force_on_larger_blobs(seed):
    generator = np.random.default_rng(seed)
    rows, columns = np.mgrid[:90, :70]
    truth, prediction = (
        np.hypot(rows - row, (columns - column) / 1.3) < radius
        for row, column, radius in generator.uniform((20, 20, 5), (60, 50, 40), size=(2, 3))
    )
    assert hausdorff95(truth, prediction, (0.3, 0.7)) == pytest.approx(by_brute_force(truth, prediction, (0.3, 0.7)))


@given(mask_pairs(may_be_empty=False), SPACINGS)
def test_distances_are_those_of_the_distance_transform(pair, spacing_mm):
    found, expected = surface_distances(*pair, spacing_mm), by_distance_transform(*pair, spacing_mm)
    for ours, transformed in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, transformed, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("spacing_mm", [(1.0, 1.0), (0.1, 0.1), (0.07, 0.23)])
@pytest.mark.parametrize("seed", range(8))
def test_lesions_are_as_far_apart_as_by_the_distance_transform(seed, spacing_mm):
    generator = np.random.default_rng(seed)
    truth, prediction = lesion(generator), lesion(generator)
    expected = by_distance_transform(truth, prediction, spacing_mm)
    for ours, transformed in zip(surface_distances(truth, prediction, spacing_mm), expected, strict=True):
        np.testing.assert_allclose(ours, transformed, rtol=1e-12, atol=1e-12)
    larger = max(np.percentile(directed, 95) for directed in expected)
    assert hausdorff95(truth, prediction, spacing_mm) == pytest.approx(larger, rel=1e-12)


def test_distances_come_by_rows_from_each_side():
    truth = drawn("""
        #....
        .....
        ....#
    """)
    prediction = drawn("""
        .....
        #....
        .....
    """)
    from_truth, from_prediction = surface_distances(truth, prediction, (3.0, 1.0))
    np.testing.assert_allclose(from_truth, [3, 5])  # the second is 3 mm down and 4 mm across
    np.testing.assert_allclose(from_prediction, [3])


@pytest.mark.parametrize("filled", [0.02, 0.3, 0.7])
@pytest.mark.parametrize("spacing_mm", [(1.0, 1.0), (0.07, 0.23)])
def test_distances_are_the_same_by_tree_and_by_transform(monkeypatch, filled, spacing_mm):
    truth, prediction = np.random.default_rng(3).random((2, 60, 80)) < filled
    found = []
    for dense in (0.0, 1.0):
        monkeypatch.setattr(surface, "_DENSE", dense)
        found.append(np.concatenate(surface_distances(truth, prediction, spacing_mm)))
    np.testing.assert_allclose(*found, rtol=1e-12)
    assert found[0].max() > 0


@pytest.mark.parametrize("empty", [(EMPTY, EMPTY), (DOT, EMPTY), (EMPTY, DOT), (EMPTY[:0], EMPTY[:0])])
def test_nothing_is_no_distance_away(empty):
    assert [directed.shape for directed in surface_distances(*empty)] == [(0,), (0,)]


@given(mask_pairs(may_be_empty=False))
def test_how_a_mask_lies_in_memory_does_not_matter(pair):
    truth, prediction = pair
    mirrored = hausdorff95(truth[::-1, ::-1], prediction[::-1, ::-1])
    turned = hausdorff95(truth.T, np.asfortranarray(prediction).T)
    apart = hausdorff95(*(np.repeat(mask, 2, axis=1)[:, ::2] for mask in pair))
    read_only = hausdorff95(*(np.frombuffer(mask.tobytes(), bool).reshape(mask.shape) for mask in pair))
    assert [mirrored, turned, apart, read_only] == pytest.approx(4 * [hausdorff95(*pair)])


@given(mask_pairs(may_be_empty=False))
def test_the_margin_around_the_masks_does_not_matter(pair):
    around = [np.pad(mask, ((3, 1), (0, 5))) for mask in pair]
    assert hausdorff95(*around) == pytest.approx(hausdorff95(*pair))


@given(mask_pairs(may_be_empty=False), strategies.floats(0.01, 100))
def test_scales_with_the_spacing(pair, scale):
    assert hausdorff95(*pair, (2 * scale, 3 * scale)) == pytest.approx(scale * hausdorff95(*pair, (2, 3)))


@given(mask_pairs(), SPACINGS)
def test_symmetric_and_within_the_image(pair, spacing_mm):
    truth, prediction = pair
    diagonal = math.hypot(truth.shape[0] * spacing_mm[0], truth.shape[1] * spacing_mm[1])
    for measure in (hausdorff95, hausdorff95_penalised):
        forth, back = measure(truth, prediction, spacing_mm), measure(prediction, truth, spacing_mm)
        assert forth == pytest.approx(back, nan_ok=True)
        assert math.isnan(forth) or 0 <= forth <= diagonal


@given(mask_pairs(may_be_empty=False))
def test_predicting_nothing_never_pays(pair):
    truth, prediction = pair
    nothing = np.zeros_like(truth)
    assert hausdorff95_penalised(truth, nothing) > hausdorff95_penalised(truth, prediction)


@pytest.mark.parametrize(
    ("truth", "prediction", "plain", "penalised"),
    [
        (EMPTY, EMPTY, math.nan, math.nan),
        (DOT, EMPTY, math.nan, 5.0),
        (EMPTY, DOT, math.nan, 5.0),
        (DOT, DOT, 0.0, 0.0),
    ],
)
def test_empty_masks(truth, prediction, plain, penalised):
    # The image has 3 rows and 4 columns, so its diagonal is 5 pixels.
    assert hausdorff95(truth, prediction) == pytest.approx(plain, nan_ok=True)
    assert hausdorff95_penalised(truth, prediction) == pytest.approx(penalised, nan_ok=True)
    assert hausdorff95_penalised(truth, prediction, (0.1, 0.1)) == pytest.approx(penalised / 10, nan_ok=True)


def test_the_penalty_keeps_to_anisotropic_spacing():
    assert hausdorff95_penalised(DOT, EMPTY, (4.0, 1.25)) == pytest.approx(13.0)  # 12 mm high, 5 mm wide


@pytest.mark.parametrize("measure", [hausdorff95, hausdorff95_penalised, surface_distances])
def test_wrong_input_is_refused(measure):
    with pytest.raises(ShapeError, match=r"\(3, 4\).*\(4, 3\)"):
        measure(DOT, DOT.T)
    for spacing_mm in [(0.0, 1.0), (1.0, -1.0), (math.nan, 1.0), (1.0, 1.0, 1.0)]:
        with pytest.raises(DataError, match="two positive numbers"):
            measure(DOT, DOT, spacing_mm)
        with pytest.raises(DataError, match="two positive numbers"):
            measure(DOT, EMPTY, spacing_mm)


def test_examples_in_the_docstrings():
    results = doctest.testmod(surface)
    assert not results.failed
