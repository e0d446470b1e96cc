"""The audit finds what was planted, and nothing on clean phantoms."""

import dataclasses
import json

import numpy as np
import pytest

from ustoolkit.data.audit import TINY_LESION_PIXELS, audit, format_audit, listed, loose_files
from ustoolkit.data.image_files import encode_png
from ustoolkit.data.readers import open_data_set
from ustoolkit.data.readers.entry import Entry, Refused
from ustoolkit.data.sample import Sample
from ustoolkit.recipe import DataSetSettings

SETTINGS = DataSetSettings()
LABELS = SETTINGS.labels


@dataclasses.dataclass(frozen=True)
class Held:
    """Loads what it holds."""

    sample: Sample

    def __call__(self):
        return self.sample


def disc(row, column, radius, size=64):
    rows, columns = np.mgrid[:size, :size]
    return (((rows - row) ** 2 + (columns - column) ** 2) < radius**2).astype(np.uint8)


def entry(name, mask="good", label="benign", patient=None, seed=None, **changes):
    key = sum(name.encode()) if seed is None else seed
    image = np.random.default_rng(key).integers(0, 255, (64, 64, 1), np.uint8)
    mask = disc(30, 30, 12) if isinstance(mask, str) else mask
    return Entry(name, Held(Sample(name, image, mask, label, patient or name, **changes)))


GOOD = [entry("good 1"), entry("good 2", label="malignant"), entry("good 3", label="")]


def problems_of(*planted):
    result = audit([*GOOD, *planted], LABELS, workers=1)
    return {item["kind"]: item["source_ids"] for item in result["problems"]}


def test_clean_phantoms_have_no_problems(phantom_folder):
    entries = open_data_set(phantom_folder, SETTINGS)
    result = audit(entries, LABELS, workers=1)
    assert result["problems"] == []
    assert result["refused"] == []
    assert loose_files(phantom_folder, entries) == {"images": [], "masks": []}
    assert result["images"] == result["annotated"] == 30
    assert result["patients"] == len({item.load().patient_id for item in entries})
    assert result["height"] == {"smallest": 64, "median": 64, "largest": 64}
    assert result["colour_images"] == 0
    assert set(result["by_label"]) == {"benign", "malignant"}
    assert sum(result["by_label"].values()) == 30
    assert 0 < result["lesion_fraction"]["smallest"] < result["lesion_fraction"]["largest"] < 0.5
    assert 0 < result["spacing_row_mm"]["smallest"] < 5
    assert "no problems found" in format_audit(result)


def test_what_is_good_is_not_complained_of():
    assert problems_of() == {}


@pytest.mark.parametrize(
    ("kind", "mask"),
    [
        ("no mask", None),
        ("empty mask", np.zeros((64, 64), np.uint8)),
        ("mask covers the whole image", np.ones((64, 64), np.uint8)),
        ("tiny mask", disc(10, 10, 2)),
        ("mask in several pieces", disc(12, 12, 6) | disc(50, 50, 6)),
    ],
)
def test_a_planted_mask_is_found(kind, mask):
    assert problems_of(entry("planted", mask)) == {kind: ["planted"]}


def test_a_lesion_is_tiny_below_its_limit_and_whole_where_corners_touch():
    exact = np.zeros((64, 64), np.uint8)
    exact[0, :TINY_LESION_PIXELS] = 1
    fewer = exact.copy()
    fewer[0, 0] = 0
    corners = np.zeros((64, 64), np.uint8)
    corners[10:20, 10:20] = corners[20:30, 20:30] = 1
    assert problems_of(entry("fewer", fewer), entry("exact", exact), entry("corners", corners)) == {
        "tiny mask": ["fewer"]
    }


def test_every_class_counts_as_lesion():
    assert problems_of(entry("two classes", disc(30, 30, 12) + disc(30, 30, 5))) == {}


def test_an_unknown_label_is_found_and_named():
    result = audit([*GOOD, entry("planted", label="cyst")], LABELS, workers=1)
    (problem,) = result["problems"]
    assert (problem["kind"], problem["source_ids"]) == ("unknown label", ["planted"])
    assert "'cyst' is none of benign, malignant, normal" in problem["remedy"]


def test_the_same_picture_is_found_within_and_across_patients():
    within = [entry("w1", patient="p", seed=7), entry("w2", patient="p", seed=7)]
    across = [
        entry("a1", patient="q", seed=8),
        entry("a2", patient="r", seed=8),
        entry("a3", patient="q", seed=8),
    ]
    assert problems_of(*within, *across) == {
        "the same picture twice": ["w1", "w2"],
        "the same picture for different patients": ["a1", "a2", "a3"],
    }


def test_the_same_picture_is_found_however_it_was_compressed(tmp_path):
    pixels = GOOD[0].load().image
    for name in ("a", "b"):
        (tmp_path / f"{name}_mask.png").write_bytes(encode_png(disc(30, 30, 12)))
    (tmp_path / "a.png").write_bytes(encode_png(pixels))
    (tmp_path / "b.png").write_bytes(encode_png(np.repeat(pixels, 3, axis=2)))
    (problem,) = audit(open_data_set(tmp_path, SETTINGS), LABELS)["problems"]
    assert problem["source_ids"] == ["a", "b"]


def test_a_refused_file_is_listed_with_its_reason_and_counted_nowhere_else():
    result = audit([*GOOD, Entry("bad", Refused("bad.png: damaged."))], LABELS, workers=1)
    assert result["refused"] == [{"source_id": "bad", "reason": "bad.png: damaged."}]
    assert result["images"] == 3
    assert result["problems"] == []
    assert "! refused: bad.png: damaged." in format_audit(result)
    assert "no problems found" not in format_audit(result)


def test_where_all_are_refused_the_audit_still_tells():
    result = audit([Entry("bad", Refused("bad.png: damaged."))], LABELS)
    assert result["images"] == 0
    assert "unknown" in format_audit(result)


def test_counts_and_spreads():
    colour = Sample(
        "colour", np.full((20, 40, 3), 9, np.uint8), np.zeros((20, 40), np.uint8), "normal", "p", (0.1, 0.2)
    )
    result = audit([*GOOD, Entry("colour", Held(colour))], LABELS, workers=1)
    assert result["by_label"] == {"(none)": 1, "benign": 1, "malignant": 1, "normal": 1}
    assert result["colour_images"] == 1
    assert (result["height"]["smallest"], result["width"]["smallest"], result["width"]["largest"]) == (
        20,
        40,
        64,
    )
    assert result["mean_intensity"]["smallest"] == 9
    assert result["spacing_row_mm"] == {"smallest": 0.1, "median": 0.1, "largest": 0.1}
    assert result["lesion_fraction_by_label"]["normal"]["largest"] == 0
    assert result["annotated"] == 4


def test_the_result_is_json_and_the_text_names_every_problem():
    result = audit([*GOOD, entry("planted", None), entry("other", label="cyst")], LABELS, workers=1)
    assert json.loads(json.dumps(result)) == result
    text = format_audit(result)
    assert "! no mask: planted." in text
    assert "! unknown label: other." in text


def test_many_names_are_counted():
    assert listed(["a", "b"]) == "a, b"
    assert listed([str(number) for number in range(9)]) == "0, 1, 2, 3, 4, … (9 in all)"


def test_several_workers_find_the_same():
    many = [entry(f"image {number}", seed=number) for number in range(130)]
    planted = [*many, entry("planted", None), Entry("bad", Refused("bad."))]
    assert audit(planted, LABELS, workers=2) == audit(planted, LABELS, workers=1)


def test_orphan_masks_are_named_below_the_root(tmp_path):
    for name in ("images/a.png", "masks/a.png", "masks/stray.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert loose_files(tmp_path, [entry("a")]) == {"images": [], "masks": ["masks/stray.png"]}


def test_images_that_are_no_part_of_the_data_set_are_named(tmp_path):
    for name in ("images/a.png", "images/unlisted.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert loose_files(tmp_path, [entry("a")]) == {"images": ["images/unlisted.png"], "masks": []}
