import re

import cv2
import numpy as np
import pytest

from ustoolkit.data.phantom import phantom_samples
from ustoolkit.report.outlines import SCALE, class_outlines, outline_path

MINUS_OR_NUMBER = re.compile(r"-?\d+")


def loops_of(path):
    """Points of each loop, int (points, 2), as a browser reads the path."""
    found = []
    for loop in filter(None, path.split("z")):
        assert re.fullmatch(r"M-?\d+[ -]\d+l[-\d ]+", loop), loop
        start, steps = (np.array(MINUS_OR_NUMBER.findall(part), int).reshape(-1, 2) for part in loop[1:].split("l"))
        found.append(np.concatenate([start, start + np.cumsum(steps, axis=0)]))
    return found


def filled(path, size):
    """The region that a path encloses by 'evenodd', bool (height, width), drawn at the path's own resolution."""
    canvas = np.zeros((SCALE * size[1], SCALE * size[0]), np.uint8)
    for loop in loops_of(path):
        one = np.zeros_like(canvas)
        cv2.fillPoly(one, [loop.astype(np.int32)], 1)
        canvas ^= one
    return cv2.resize(canvas.astype(np.float32), size, interpolation=cv2.INTER_AREA) >= 0.5


def overlap(one, other):
    return 2 * np.count_nonzero(one & other) / (np.count_nonzero(one) + np.count_nonzero(other))


def test_a_lesion_comes_back_from_its_path_at_any_size():
    for sample in phantom_samples(4, 0, size=(150, 200)):
        region = sample.mask > 0
        assert overlap(filled(outline_path(region, (200, 150)), (200, 150)), region) > 0.98
        drawn = filled(outline_path(region, (320, 120)), (320, 120))  # another shape, as where pixels are not square
        assert overlap(drawn, cv2.resize(sample.mask, (320, 120), interpolation=cv2.INTER_NEAREST) > 0) > 0.97
        assert len(outline_path(region, (320, 240))) < 1500


def test_a_square_keeps_its_corners_and_area():
    region = np.zeros((20, 30), bool)
    region[5:15, 10:25] = True
    corners = loops_of(outline_path(region, (30, 20)))[0]
    # A corner's own half pixel may be cut, no more.
    assert np.ptp(corners, axis=0) == pytest.approx(SCALE * np.array([15, 10]), abs=SCALE * 0.5)
    assert corners.min(axis=0) == pytest.approx(SCALE * np.array([10, 5]), abs=SCALE * 0.5)


def test_holes_pieces_and_the_border_are_kept():
    region = np.zeros((60, 60), bool)
    region[0:30, 0:30] = True  # touches the border
    region[8:20, 8:20] = False
    region[40:55, 40:60] = True
    assert len(loops_of(outline_path(region, (60, 60)))) == 3
    assert overlap(filled(outline_path(region, (60, 60)), (60, 60)), region) > 0.97
    assert outline_path(np.ones((8, 8), bool), (8, 8))


def test_nothing_has_no_path_and_each_class_its_own():
    mask = np.zeros((20, 20), np.uint8)
    assert outline_path(mask > 0, (20, 20)) == ""
    mask[4:9, 4:9] = 2
    first, second = class_outlines(mask, 3, (20, 20))
    assert first == "" and second.startswith("M")
