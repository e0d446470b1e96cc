"""Panels: what stands where, in which colours, for grey and coloured images of every size."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ustoolkit.data.phantom import phantom_samples
from ustoolkit.errors import ShapeError
from ustoolkit.inference.panel import CLASS_COLOURS, LARGEST_SIDE, SMALLEST_SIDE, class_colour, draw_panel

GREY = np.full((200, 240, 1), 100, np.uint8)
MASK = np.zeros((200, 240), np.uint8)
MASK[40:90, 60:120] = 1


def pictures(panel, count, size):
    """The pictures of a panel, cut out: they stand at its bottom, evenly spaced."""
    height, width = size
    gap = (panel.shape[1] - count * width) // (count + 1)
    bottom = panel.shape[0] - gap
    lefts = [gap + number * (width + gap) for number in range(count)]
    return [panel[bottom - height : bottom, left : left + width] for left in lefts]


def test_image_mask_and_both_fused():
    panel = draw_panel(GREY, MASK)
    assert panel.dtype == np.uint8
    image, mask, fused = pictures(panel, 3, (200, 240))
    assert (image == 100).all()
    assert (mask[MASK == 0] == 0).all() and (mask[MASK == 1] == CLASS_COLOURS[0]).all()
    assert (fused[MASK == 0] == 100).all()
    assert tuple(fused[40, 80]) == CLASS_COLOURS[0]
    np.testing.assert_allclose(fused[60, 80], (np.array(CLASS_COLOURS[0]) + 100) / 2, atol=1)


def test_with_and_without_the_crf():
    before = np.roll(MASK, 50, axis=1)
    image, without, refined, fused = pictures(draw_panel(GREY, MASK, before), 4, (200, 240))
    assert (image == 100).all()
    assert ((without > 0).any(-1) == (before > 0)).all()
    assert ((refined > 0).any(-1) == (MASK > 0)).all()
    assert (fused[MASK == 0] == 100).all()


def test_captions_stand_above_each_picture_and_gaps_are_white():
    panel = draw_panel(GREY, MASK, MASK)
    strip = panel[: panel.shape[0] - 206]
    for left in range(6, panel.shape[1] - 6, 246):
        assert (strip[:, left : left + 240] < 128).any()
        assert (panel[:, left - 6 : left - 1] == 255).all()
    assert (strip[-1] == 255).all()


def test_colours_stay_and_the_image_is_not_drawn_on():
    image = np.zeros((200, 240, 3), np.uint8)
    image[...] = (10, 120, 240)
    kept = image.copy()
    assert (pictures(draw_panel(image, MASK), 3, (200, 240))[0] == (10, 120, 240)).all()
    np.testing.assert_array_equal(image, kept)


def test_small_images_are_enlarged_pixel_by_pixel():
    sample = next(iter(phantom_samples(1, seed=3, size=(64, 80))))
    panel = draw_panel(sample.image, sample.mask)
    times = -(-SMALLEST_SIDE // 64)
    image, mask, _ = pictures(panel, 3, (64 * times, 80 * times))
    np.testing.assert_array_equal(image[::times, ::times, :1], sample.image[..., :1])
    assert ((mask[::times, ::times] > 0).any(-1) == (sample.mask > 0)).all()


def test_an_empty_mask_leaves_the_image_as_it_is():
    image, mask, fused = pictures(draw_panel(GREY, 0 * MASK), 3, (200, 240))
    assert not mask.any()
    np.testing.assert_array_equal(image, fused)


def test_no_two_classes_share_a_colour():
    colours = [class_colour(index) for index in range(1, 255)]
    assert len(set(colours)) == len(colours)
    assert all(max(colour) >= 200 for colour in colours)
    drawn = pictures(draw_panel(GREY, (np.arange(200 * 240) % 5).reshape(200, 240).astype(np.uint8)), 3, (200, 240))
    assert len(np.unique(drawn[1].reshape(-1, 3), axis=0)) == 5


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 300), st.integers(1, 300), st.sampled_from([1, 3]), st.booleans())
def test_every_size_is_drawn(height, width, channels, twice):
    mask = np.ones((height, width), np.uint8)
    panel = draw_panel(np.zeros((height, width, channels), np.uint8), mask, mask if twice else None)
    count = 4 if twice else 3
    times = max(1, min(-(-SMALLEST_SIDE // min(height, width)), LARGEST_SIDE // max(height, width)))
    assert panel.shape[2] == 3 and max(height, width) * times <= LARGEST_SIDE
    assert panel.shape[1] > count * width * times and panel.shape[0] > height * times


def test_masks_of_another_size_are_refused():
    with pytest.raises(ShapeError, match=r"\(199, 240\)"):
        draw_panel(GREY, MASK[1:])
    with pytest.raises(ShapeError, match=r"\(200, 239\)"):
        draw_panel(GREY, MASK, MASK[:, 1:])
