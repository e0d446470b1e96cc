"""The picture of a diagnosis: what can be read off it, at every size of image."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ustoolkit.errors import ShapeError
from ustoolkit.evaluation.measurements import measure_size
from ustoolkit.inference.diagnosis import Diagnosis
from ustoolkit.inference.diagnosis_panel import LARGEST_SIDE, SMALLEST_SIDE, draw_diagnosis

IMAGE = np.full((300, 560, 1), 90, np.uint8)
MASK = np.zeros((300, 560), np.uint8)
MASK[100:180, 200:360] = 1
FIVE = SimpleNamespace(labels=["benign", "malignant"], threshold=0.5, members=5)
ORANGE, BLUE, TRACK = (196, 78, 0), (0, 104, 170), (228, 231, 236)


def found(mask, probability, decision, lowest=None, highest=None, spacing=None):
    size = measure_size(mask)
    return Diagnosis(mask, size, spacing and measure_size(mask, spacing), probability, lowest, highest, decision)


def pixels_of(panel, colour):
    return int((panel == np.array(colour)).all(-1).sum())


def bar(panel):
    """The row of the panel with most of the bar: its columns."""
    row = panel[np.argmax((panel == np.array(TRACK)).all(-1).sum(1))]
    return np.flatnonzero((row == TRACK).all(-1)), row


@pytest.mark.parametrize("probability", [0.1, 0.37, 0.8])
def test_the_bar_is_as_long_as_the_probability(probability):
    decision = "malignant" if probability >= 0.5 else "benign"
    panel = draw_diagnosis(IMAGE, found(MASK, probability, decision), "a", FIVE)
    _, row = bar(panel)
    colour = ORANGE if decision == "malignant" else BLUE
    filled = np.flatnonzero((row == colour).all(-1))
    assert (filled[-1] - filled[0] + 1) / 440 == pytest.approx(probability, abs=0.01)
    assert pixels_of(panel, BLUE if colour == ORANGE else ORANGE) == 0


def test_an_interval_and_the_millimetres_change_the_panel():
    alone = draw_diagnosis(IMAGE, found(MASK, 0.8, "malignant"), "a", FIVE)
    several = draw_diagnosis(IMAGE, found(MASK, 0.8, "malignant", 0.6, 0.9), "a", FIVE)
    with_mm = draw_diagnosis(IMAGE, found(MASK, 0.8, "malignant", spacing=(0.1, 0.1)), "a", FIVE)
    assert (alone != several).any() and (alone != with_mm).any()
    np.testing.assert_array_equal(alone[24:324, 24:584], several[24:324, 24:584])


def test_outline_and_diameters_lie_on_the_lesion():
    panel = draw_diagnosis(IMAGE, found(MASK, 0.8, "malignant"), "a", FIVE)
    picture = panel[24:324, 24:584]
    changed = (picture != 90).any(-1)
    assert changed[100:180, 200:360].any()
    changed[85:195, 185:375] = False
    assert not changed.any()
    assert pixels_of(picture, (240, 228, 66)) > 300


def test_without_a_lesion_nothing_is_drawn_on_the_image():
    panel = draw_diagnosis(IMAGE, Diagnosis(np.zeros_like(MASK)), "a", FIVE)
    assert (panel[24:324, 24:584] == 90).all()
    assert pixels_of(panel, TRACK) == pixels_of(panel, ORANGE) == pixels_of(panel, BLUE) == 0
    assert (panel[:, 610:] < 60).any()


@settings(max_examples=25)
@given(
    st.sampled_from([(1, 1), (3, 200), (200, 3), (64, 48), (700, 900), (2600, 1400)]),
    st.sampled_from([1, 3]),
    st.floats(0, 1),
    st.text(max_size=80),
)
def test_any_size_and_any_name(size, channels, probability, name):
    image = np.zeros((*size, channels), np.uint8)
    mask = np.ones(size, np.uint8)
    panel = draw_diagnosis(image, found(mask, probability, "benign", 0.0, 1.0), name, FIVE)
    assert panel.dtype == np.uint8 and panel.ndim == 3 and panel.shape[2] == 3
    longer = min(max(*size, SMALLEST_SIDE), LARGEST_SIDE)
    assert longer < max(panel.shape) < 3 * longer


def test_a_mask_of_another_size_is_refused():
    with pytest.raises(ShapeError, match="same height and width"):
        draw_diagnosis(IMAGE, found(MASK[:-1], 0.5, "benign"), "a", FIVE)
