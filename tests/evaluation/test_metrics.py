"""What every entry of METRICS promises; a new metric is tested by its line in the dictionary."""

import math

import numpy as np
import pytest
from hypothesis import given, strategies

from tests.evaluation.masks import mask_pairs
from ustoolkit.errors import ShapeError
from ustoolkit.evaluation import LOWER_IS_BETTER, METRICS

DISTANCES = [name for name in METRICS if name.endswith(("_pixel", "_mm"))]
SPACINGS = strategies.none() | strategies.tuples(strategies.floats(0.05, 5), strategies.floats(0.05, 5))


@pytest.mark.parametrize("name", METRICS)
@given(pair=mask_pairs(), spacing_mm=SPACINGS)
def test_is_a_float_within_bounds_or_nan(name, pair, spacing_mm):
    before = [mask.copy() for mask in pair]
    value = METRICS[name](*pair, spacing_mm)
    assert type(value) is float
    lowest = -0.5 if name == "adjusted_rand" else 0
    assert math.isnan(value) or lowest <= value <= (math.inf if name in DISTANCES else 1)
    assert math.isfinite(value) or math.isnan(value)
    for mask, copy in zip(pair, before, strict=True):
        np.testing.assert_array_equal(mask, copy)


@pytest.mark.parametrize("name", METRICS)
@given(pair=mask_pairs(may_be_empty=False))
def test_identical_masks_are_perfect(name, pair):
    truth = pair[0]
    value = METRICS[name](truth, truth.copy(), (0.1, 0.2))
    said = f"{name}: 1 is expected for equal masks, or 0 and the name in LOWER_IS_BETTER"
    assert value == (0 if name in LOWER_IS_BETTER else 1) or (name == "specificity" and truth.all()), said


@pytest.mark.parametrize("name", METRICS)
@given(pair=mask_pairs(), spacing_mm=SPACINGS)
def test_mirroring_both_masks_changes_nothing(name, pair, spacing_mm):
    mirrored = [mask[::-1, ::-1] for mask in pair]
    assert METRICS[name](*mirrored, spacing_mm) == pytest.approx(METRICS[name](*pair, spacing_mm), nan_ok=True)


@pytest.mark.parametrize("name", METRICS)
@given(pair=mask_pairs())
def test_only_millimetres_need_the_spacing(name, pair):
    spaced, unspaced = METRICS[name](*pair, (1.0, 1.0)), METRICS[name](*pair, None)
    if name.endswith("_mm"):
        assert math.isnan(unspaced)
        in_pixels = METRICS[name.removesuffix("_mm") + "_pixel"](*pair, None)
        assert spaced == pytest.approx(in_pixels, nan_ok=True)
    else:
        assert spaced == pytest.approx(unspaced, nan_ok=True)
        assert METRICS[name](*pair, (0.3, 0.7)) == pytest.approx(unspaced, nan_ok=True)


def test_what_is_better_lower_is_a_metric():
    assert set(METRICS) > LOWER_IS_BETTER, "`METRICS` of evaluation/metrics.py lacks what `LOWER_IS_BETTER` names"


@pytest.mark.parametrize("name", METRICS)
def test_shapes_must_agree(name):
    with pytest.raises(ShapeError):
        METRICS[name](np.ones((3, 4), bool), np.ones((4, 3), bool), (1.0, 1.0))


def test_what_is_nearer_to_the_truth_is_better():
    truth = np.zeros((20, 20), bool)
    truth[5:12, 5:12] = True
    near, far = np.roll(truth, 1, axis=1), np.roll(truth, 4, axis=1)
    for name, metric in METRICS.items():
        better, worse = metric(truth, near, (0.1, 0.1)), metric(truth, far, (0.1, 0.1))
        assert better < worse if name in LOWER_IS_BETTER else better > worse, name
