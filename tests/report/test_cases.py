import math
from pathlib import Path

import numpy as np
import pytest

from tests.report.runs import make_all, make_samples, renamed
from ustoolkit.data.image_files import encode_png
from ustoolkit.errors import RunError
from ustoolkit.report.cases import LONGEST_SIDE, choose_cases, draw_cases
from ustoolkit.report.scores import ImageScore


def score(number, dice):
    return ImageScore(f"scan {number:02}", "p", "benign", dice, 1.0, "mm", 5.0, dice == 0, False)


def picked(groups):
    return {name: [score.dice for score in scores] for name, scores in groups.items()}


def test_choice_of_twenty():
    scores = [score(number, number / 20) for number in (7, 3, 19, 0, *range(8, 19), 1, 2, 4, 5, 6)]
    assert picked(choose_cases(scores)) == {
        "worst": [0.0, 0.05, 0.1, 0.15],
        "median": [0.4, 0.45, 0.5, 0.55],
        "best": [0.95, 0.9, 0.85, 0.8],
    }


@pytest.mark.parametrize("count", range(13))
def test_no_image_is_shown_twice(count):
    scores = [*(score(number, number / 13) for number in range(count)), score(99, math.nan)]
    groups = choose_cases(scores)
    shown = [chosen.source_id for name in ("worst", "median", "best") for chosen in groups[name]]
    assert len(shown) == len(set(shown))
    assert "scan 99" not in shown
    assert len(shown) >= min(count, 3)
    assert all(len(group) <= 4 for group in groups.values())


def test_pictures_are_small_and_pixels_square(tmp_path):
    def stretched(sample):
        return renamed(sample, sample.source_id, spacing_mm=(0.2, 0.1))

    run, records = make_all(tmp_path, stretched)
    chosen = choose_cases([score(0, 0.5)])
    one = renamed_score(chosen["worst"][0], run.splits["test"][0])
    case = draw_cases({"worst": [one]}, records, run.evaluation("test") / "masks", 2)["worst"][0]
    assert (case.width, case.height) == (LONGEST_SIDE * 5 // 8, LONGEST_SIDE)  # 80 × 0.1 mm by 64 × 0.2 mm
    assert case.overlay.startswith("data:image/jpeg;base64,")
    assert case.overlay != case.plain


def renamed_score(one, source_id):
    return ImageScore(**{**vars(one), "source_id": source_id})


def test_a_mask_of_another_size_is_refused(tmp_path: Path):
    run, records = make_all(tmp_path)
    masks = run.evaluation("test") / "masks"
    source_id = run.splits["test"][0]
    (masks / f"{source_id}.png").write_bytes(encode_png(np.zeros((9, 7), np.uint8)))
    with pytest.raises(RunError, match="80 × 64 pixels, found 7 × 9"):
        draw_cases({"worst": [renamed_score(score(0, 0.5), source_id)]}, records, masks, 2)


def test_phantoms_have_what_these_tests_need():
    assert {sample.label for sample in make_samples()} == {"benign", "malignant"}
