import math

import pytest

from ustoolkit.report.readings import readings
from ustoolkit.report.scores import ImageScore


def score(number, dice=0.8, **changes):
    settings = {
        "source_id": f"scan {number:02}",
        "patient_id": f"p{number}",
        "label": "",
        "dice": dice,
        "distance": 4.0,
        "unit": "mm",
        "size": 10.0,
        "missed": dice == 0,
        "invented": False,
        "sensitivity": dice,
        "area_ratio": 1.0,
    }
    return ImageScore(**{**settings, **changes})


def answer(scores, words):
    return next(text for question, text in readings(scores) if words in question)


def test_dice_is_read_with_its_spread_and_interval():
    text = answer([score(number, 0.5 + 0.02 * number) for number in range(21)], "agree")
    assert "Mean Dice 0.70 (0.6" in text
    assert "share 70 % of their area" in text
    assert "Half of the images reach 0.70 or more. One image in ten stays below 0.54." in text
    assert "One image in ten" not in answer([score(0), score(1)], "agree")


def test_areas_are_counted_on_either_side():
    ratios = [0.5, 0.79, 0.8, 1.0, 1.25, 1.26, 3.0]
    text = answer([score(number, area_ratio=ratio) for number, ratio in enumerate(ratios)], "too large")
    assert "1.00 times the annotated one on the median image" in text
    assert "on 3 of 7 images, smaller on 2, larger on 2" in text


def test_missed_lesions_are_counted_with_an_interval_and_without_images_that_have_none():
    scores = [
        score(0, 0.0, area_ratio=0.0, distance=math.nan),
        score(1, 0.0, area_ratio=0.7),
        *(score(number) for number in range(2, 10)),
        score(10, math.nan, size=0.0, missed=False, area_ratio=math.nan, sensitivity=math.nan),
    ]
    text = answer(scores, "missed")
    assert text.startswith("2 of 10 were not touched by the prediction, 20.0 % (0.0 to ")
    assert "on 1 of these something else was marked" in text
    assert answer([score(0), score(1)], "missed").startswith("No: each of the 2 lesions")
    assert "2 images without one of the outlines have no distance" in answer(
        [*scores[:9], score(11, distance=math.nan)], "far off"
    )


@pytest.mark.parametrize("mixed", [True, False])
def test_distances_are_read_in_one_unit_only(mixed):
    scores = [score(0), score(1, unit="pixels" if mixed else "mm")]
    questions = [question for question, _ in readings(scores)]
    assert any("far off" in question for question in questions) != mixed


def test_nothing_defined_reads_as_nothing():
    empty = score(0, math.nan, size=0.0, missed=False, area_ratio=math.nan, sensitivity=math.nan, distance=math.nan)
    assert readings([empty]) == []
