"""The audit finds what was planted, names it by its kind, and finds nothing on what is clean."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from ustoolkit.data.audit import (
    TINY_LESION_PIXELS,
    audit,
    audit_records,
    format_audit,
    listed,
    loose_files,
    read_parts,
    to_leave_out,
)
from ustoolkit.data.audit.dependencies import dependency_cases
from ustoolkit.data.audit.examine import Finding, box_overlap, examine, outside_view
from ustoolkit.data.audit.masks import LEAST_BOX_OVERLAP
from ustoolkit.data.audit.problems import KINDS, SEVERITIES
from ustoolkit.data.exclusions import read_exclusions, write_exclusions
from ustoolkit.data.image_files import encode_png
from ustoolkit.data.readers import open_data_set
from ustoolkit.data.readers.entry import Entry, Refused
from ustoolkit.data.records import write_records
from ustoolkit.data.sample import Sample
from ustoolkit.errors import DataError
from ustoolkit.files import write_json
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


def speckle(key, size=64, grains=20):
    """A picture unlike those of other keys, with nothing drawn over it."""
    smooth = gaussian_filter(np.random.default_rng(key).normal(size=(size, size)), size / grains)
    return np.clip(110 + 30 * smooth / smooth.std(), 1, 230).astype(np.uint8)[..., np.newaxis]


def entry(name, mask="good", label="benign", patient=None, picture=None, **changes):
    image = speckle(list(name.encode()) if picture is None else picture)
    mask = disc(30, 30, 12) if isinstance(mask, str) else mask
    return Entry(name, Held(Sample(name, image, mask, label, patient or f"patient of {name}", **changes)))


GOOD = [entry("good 1"), entry("good 2", label="malignant"), entry("good 3", label="")]


def problems_of(*planted, splits=None):
    result = audit([*GOOD, *planted], LABELS, workers=1, splits=splits)
    return {item["kind"]: item["source_ids"] for item in result["problems"]}


# --- what is clean ---


def test_clean_phantoms_have_no_problems(phantom_folder):
    entries = open_data_set(phantom_folder, SETTINGS)
    result = audit(entries, LABELS, workers=1, classes=SETTINGS.classes)
    assert result["problems"] == []
    assert result["refused"] == []
    assert to_leave_out(result) == {}
    assert loose_files(phantom_folder, entries) == {"images": [], "masks": []}
    assert result["images"] == result["annotated"] == 30
    assert result["patients"] == len({item.load().patient_id for item in entries})
    assert result["height"]["smallest"] == result["height"]["median"] == result["height"]["largest"] == 64
    assert result["colour_images"] == 0
    assert set(result["by_label"]) == {"benign", "malignant"}
    assert sum(result["by_label"].values()) == 30
    assert 0 < result["lesion_fraction"]["smallest"] < result["lesion_fraction"]["largest"] < 0.5
    assert 0 < result["spacing_row_mm"]["smallest"] < 5
    assert result["classes"]["lesion"]["images"] == 30
    assert "no problems found" in format_audit(result)


def test_what_is_good_is_not_complained_of():
    assert problems_of() == {}


@pytest.mark.slow
@pytest.mark.data
def test_a_clean_real_set_raises_next_to_no_alarm(real_data):
    entries = open_data_set(real_data / "busbra", SETTINGS)
    result = audit(entries, LABELS, workers=2, classes=SETTINGS.classes)
    assert result["images"] == 1127 and not result["refused"]
    for problem in result["problems"]:
        if problem["severity"] != "notice":
            assert len(problem["source_ids"]) <= 11, problem["kind"]
    assert len(to_leave_out(result)) <= 11


# --- masks ---


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


def test_an_empty_mask_is_right_where_the_label_says_that_there_is_no_lesion():
    assert problems_of(entry("planted", np.zeros((64, 64), np.uint8), label="normal")) == {}


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
    mask = disc(30, 30, 12) + disc(30, 30, 5)
    assert problems_of(entry("two classes", mask)) == {}
    result = audit([entry("two classes", mask), GOOD[0]], LABELS, 1, ("background", "tumour", "core", "cyst"))
    assert {name: found["images"] for name, found in result["classes"].items()} == {"tumour": 2, "core": 1, "cyst": 0}
    assert result["classes"]["core"]["fraction"]["median"] == pytest.approx(disc(30, 30, 5).mean(), abs=1e-5)


def test_a_mask_beside_the_told_box_is_found_and_a_loose_box_is_not():
    exact, loose, beside = [19, 19, 23, 23], [16, 17, 29, 28], [35, 35, 20, 20]
    found = problems_of(*(entry(str(box), attributes={"lesion_box": box}) for box in (exact, loose, beside)))
    assert found == {"mask misses the lesion's box": [str(beside)]}


def test_the_overlap_of_boxes_is_that_of_their_pixels():
    @settings(max_examples=60, deadline=None)
    @given(st.lists(st.integers(0, 11), min_size=4, max_size=4), st.lists(st.integers(1, 8), min_size=4, max_size=4))
    def check(corners, sides):
        drawn, told = np.zeros((20, 20), bool), np.zeros((20, 20), bool)
        drawn[corners[0] : corners[0] + sides[0], corners[1] : corners[1] + sides[1]] = True
        told[corners[2] : corners[2] + sides[2], corners[3] : corners[3] + sides[3]] = True
        overlap = box_overlap(drawn.astype(np.uint8), [corners[3], corners[2], sides[3], sides[2]])
        assert overlap == pytest.approx((drawn & told).sum() / (drawn | told).sum())

    check()
    assert 0 < LEAST_BOX_OVERLAP < 1


@pytest.mark.parametrize("box", [None, "19,19,23,23", [1, 2, 3], [1, 2, "x", 4], [1, 2, 0, 4], [1, 2, float("nan"), 4]])
def test_what_is_no_box_says_nothing(box):
    assert box_overlap(disc(30, 30, 12), box) is None
    assert outside_view(disc(30, 30, 12), box) is None


def test_a_mask_outside_of_the_scan_is_found():
    assert outside_view(disc(30, 30, 12), [0, 0, 64, 64]) == 0
    assert outside_view(disc(30, 30, 12), [0, 0, 31, 64]) == pytest.approx(0.5, abs=0.05)
    assert outside_view(disc(30, 30, 12), [50, 0, 10, 64]) == 1
    assert problems_of(
        entry("inside", attributes={"field_of_view": [4, 4, 56, 56]}),
        entry("outside", attributes={"field_of_view": [40, 0, 24, 64]}),
    ) == {"mask outside the scan": ["outside"]}


@pytest.mark.parametrize(
    ("orientation", "shape", "drawn", "kind"),
    [
        (6, (40, 60), True, "photo turned by EXIF"),
        (8, (40, 60), True, "photo turned by EXIF"),
        (3, (40, 60), True, "photo turned by EXIF, mask may be upside down"),
        (2, (40, 60), True, "photo turned by EXIF, mask may be upside down"),
        (6, (50, 50), True, "photo turned by EXIF, mask may be upside down"),
        (3, (40, 60), False, "photo turned by EXIF"),
    ],
)
def test_a_turned_photo_is_doubted_where_its_size_does_not_tell_how_the_mask_was_drawn(orientation, shape, drawn, kind):
    image = speckle(orientation)[: shape[0], : shape[1]]
    mask = np.zeros(image.shape[:2], np.uint8)
    mask[5:15, 5:15] = drawn
    sample = Sample("turned", image, mask, "normal", "p", attributes={"exif_orientation": orientation})
    assert problems_of(Entry("turned", Held(sample))) == {kind: ["turned"]}


def test_what_is_drawn_over_the_picture_is_told_and_a_picture_of_one_colour_too():
    coloured = np.repeat(speckle(5), 3, axis=2)
    coloured[:16, :16] = (255, 0, 0)
    samples = [
        Sample("coloured", coloured, disc(30, 30, 12), "benign", "p"),
        Sample("uniform", np.full((64, 64, 1), 7, np.uint8), disc(30, 30, 12), "benign", "q"),
    ]
    found = problems_of(*(Entry(sample.source_id, Held(sample)) for sample in samples))
    assert found == {"coloured pixels": ["coloured"], "uniform image": ["uniform"]}


# --- pictures twice ---


def test_one_picture_is_judged_by_patients_and_labels():
    assert problems_of(
        entry("w1", patient="p", picture=7),
        entry("w2", patient="p", picture=7),
        entry("a1", patient="q", picture=8),
        entry("a2", patient="r", picture=8),
        entry("a3", patient="q", picture=8),
        entry("l1", patient="s", picture=9),
        entry("l2", patient="s", picture=9, label="malignant"),
        entry("u1", patient="u1", picture=10),
        entry("u2", patient="u2", picture=10),
        entry("n1", patient="t", picture=11),
        entry("n2", patient="t", picture=11, label=""),
    ) == {
        "same picture, different labels": ["l1", "l2"],
        "same picture, different patients": ["a1", "a2", "a3"],
        "same picture twice, patient unknown": ["u1", "u2"],
        "same picture twice": ["w1", "w2", "n1", "n2"],
        "patient with different labels": ["l1", "l2"],
    }


def test_a_picture_may_be_wrong_for_several_reasons_each_named():
    found = problems_of(
        entry("a", patient="p", picture=7, attributes={"set": "train"}),
        entry("b", patient="q", picture=7, attributes={"set": "test"}, label="malignant"),
    )
    assert found == {
        "same picture, different labels": ["a", "b"],
        "same picture in different parts": ["a", "b"],
        "same picture, different patients": ["a", "b"],
    }


def test_one_picture_with_two_outlines_is_found():
    found = problems_of(
        entry("a", patient="p", picture=7),
        entry("b", disc(30, 31, 12), patient="p", picture=7),
        entry("c", None, patient="p", picture=7),
    )
    assert found == {
        "same picture twice": ["a", "b", "c"],
        "same picture, different masks": ["a", "b"],
        "no mask": ["c"],
    }


def test_the_same_picture_is_found_however_it_was_compressed(tmp_path):
    pixels = GOOD[0].load().image
    for name in ("a", "b"):
        (tmp_path / f"{name}_mask.png").write_bytes(encode_png(disc(30, 30, 12)))
    (tmp_path / "a.png").write_bytes(encode_png(pixels))
    (tmp_path / "b.png").write_bytes(encode_png(np.repeat(pixels, 3, axis=2)))
    result = audit(open_data_set(tmp_path, SETTINGS), LABELS)
    assert [(group["source_ids"], group["exact"]) for group in result["duplicates"]] == [(["a", "b"], True)]


def test_a_picture_that_was_only_brightened_is_found_too():
    image, mask = speckle(0, size=256, grains=60), disc(90, 90, 40, size=256)
    a, b = Sample("a", image, mask, "benign", "p"), Sample("b", image + 9, mask, "malignant", "q")
    found = problems_of(Entry("a", Held(a)), Entry("b", Held(b)))
    assert found == {"same picture, different labels": ["a", "b"], "same picture, different patients": ["a", "b"]}


def test_frames_of_a_clip_may_resemble_each_other_and_equal_ones_are_copies():
    image, mask = speckle(0, size=256, grains=60), disc(90, 90, 40, size=256)
    alike = [Sample(f"clip#{n}", image + 9 * n, mask, "benign", "clip", attributes={"frame": n}) for n in range(2)]
    frozen = [Sample(f"still#{n}", speckle(1), disc(30, 30, 12), "", "still", attributes={"frame": n}) for n in (0, 1)]
    result = audit([Entry(sample.source_id, Held(sample)) for sample in (*alike, *frozen)], LABELS, workers=1)
    assert [group["source_ids"] for group in result["duplicates"]] == [["clip#0", "clip#1"], ["still#0", "still#1"]]
    assert [item["source_ids"] for item in result["problems"]] == [["still#0", "still#1"]]
    assert set(to_leave_out(result)) == {"still#1"}


# --- patients, parts and labels ---


@pytest.mark.parametrize(
    ("attribute", "parts", "found"),
    [
        ("Fold", ("1", "2"), True),
        ("fold", (1, 2), True),
        ("FOLD", ("fold_1", "fold_2"), True),
        ("fold", ("A", "B"), True),
        ("split", ("1", "2"), True),
        ("set", ("Train", "test"), True),
        ("subset", ("training", "validation"), True),
        ("split", ("train", "val"), True),
        ("Fold", ("1", "1"), False),
        ("set", ("train", "train"), False),
        ("part", ("left breast", "right breast"), False),
        ("set", ("12", "13"), False),
        ("unfold", ("1", "2"), False),
        ("split", ("spectral", "lens"), False),
    ],
)
def test_a_patient_in_two_parts_is_found_by_what_the_source_knew(attribute, parts, found):
    images = [entry(f"p{n}", patient="p", attributes={attribute: part}) for n, part in enumerate(parts)]
    expected = {"patient in different parts": ["p0", "p1"]} if found else {}
    assert problems_of(*images) == expected


def test_a_given_split_is_checked_in_place_of_attributes():
    images = [entry(f"p{n}", patient="p", attributes={"fold": n}) for n in range(3)]
    names = [item.source_id for item in (*GOOD, *images)]
    assert problems_of(*images, splits={"train": names, "test": []}) == {}
    assert problems_of(*images, splits={"train": ["p0", "p1"], "test": ["p2", "good 1", "gone"]}) == {
        "patient in different parts": ["p0", "p1", "p2"],
        "unknown image in a split": ["gone"],
    }
    assert problems_of(*images, splits={"train": ["p0", "good 1"], "test": ["good 1"]}) == {
        "patient in different parts": ["good 1"]
    }


def test_splits_are_read_as_they_are(tmp_path):
    write_json(tmp_path / "splits.json", {"parts": {"train": ["a"], "test": ["a"]}})
    assert read_parts(tmp_path / "splits.json") == {"train": ["a"], "test": ["a"]}
    for wrong in ({"parts": []}, {"parts": {"train": "a"}}, [], {"parts": {"train": [1]}}):
        write_json(tmp_path / "wrong.json", wrong)
        with pytest.raises(DataError, match="expected 'parts'"):
            read_parts(tmp_path / "wrong.json")
    with pytest.raises(DataError, match="no such file"):
        read_parts(tmp_path / "nowhere.json")


def test_labels_that_contradict_each_other_are_found():
    assert problems_of(
        entry("p1", patient="p"),
        entry("p2", patient="p", label="malignant"),
        entry("p3", patient="p", label=""),
        entry("tables", attributes={"label_conflict": "benign in a.csv, malignant in b.csv"}),
        entry("shapes", label="", attributes={"image_labels": ["benign", "malignant"]}),
        entry("cyst", label="cyst"),
    ) == {
        "labels contradict each other": ["tables"],
        "unknown label": ["cyst"],
        "image with several labels": ["shapes"],
        "patient with different labels": ["p1", "p2"],
    }


def rows(counts, patient_images=1):
    """Findings by (attribute, label): how many patients."""
    return [
        Finding(f"{value}-{label}-{n}-{k}", patient_id=f"{value}-{label}-{n}", label=label, attributes={"kind": value})
        for (value, label), count in counts.items()
        for n in range(count)
        for k in range(patient_images)
    ]


def broken(counts, **more):
    return [case.source_ids[0] for case in dependency_cases(rows(counts, **more))]


HISTOLOGY = {("fibroadenoma", "benign"): 350, ("cyst", "benign"): 40, ("carcinoma", "malignant"): 150}


class TestDependency:
    def test_the_one_that_breaks_the_rule_is_named(self):
        assert broken(HISTOLOGY) == []
        assert broken(HISTOLOGY | {("fibroadenoma", "malignant"): 1}) == ["fibroadenoma-malignant-0-0"]
        assert broken(HISTOLOGY | {("cyst", "malignant"): 1}) == ["cyst-malignant-0-0"]
        assert broken(HISTOLOGY | {("carcinoma", "benign"): 1}) == ["carcinoma-benign-0-0"]

    def test_several_that_break_it_are_named_up_to_a_small_share(self):
        several = HISTOLOGY | {("fibroadenoma", "malignant"): 5, ("carcinoma", "benign"): 3}
        assert len(broken(several)) == 8
        assert broken(HISTOLOGY | {("fibroadenoma", "malignant"): 60}) == []
        assert broken({("a", "benign"): 12, ("a", "malignant"): 2, ("b", "malignant"): 12}) == []

    def test_an_image_of_a_patient_whose_other_images_are_right_is_named(self):
        flipped = rows(HISTOLOGY, patient_images=2)
        flipped[0] = dataclasses.replace(flipped[0], label="malignant")
        assert [case.source_ids for case in dependency_cases(flipped)] == [("fibroadenoma-benign-0-0",)]

    def test_a_value_that_is_truly_mixed_does_not_hide_the_others(self):
        mixed = HISTOLOGY | {("phyllodes", "benign"): 8, ("phyllodes", "malignant"): 8}
        assert broken(mixed) == []
        assert broken(mixed | {("cyst", "malignant"): 1}) == ["cyst-malignant-0-0"]

    def test_an_ordinal_score_does_not_trigger(self):
        birads = {
            ("2", "benign"): 314,
            ("2", "malignant"): 4,
            ("3", "benign"): 274,
            ("3", "malignant"): 15,
            ("4", "benign"): 170,
            ("4", "malignant"): 248,
            ("5", "benign"): 2,
            ("5", "malignant"): 100,
        }
        assert broken(birads) == []

    def test_a_score_of_a_screened_population_does_not_trigger(self):
        birads = {
            ("2", "benign"): 498,
            ("2", "malignant"): 2,
            ("3", "benign"): 382,
            ("3", "malignant"): 8,
            ("4", "benign"): 50,
            ("4", "malignant"): 30,
            ("5", "benign"): 1,
            ("5", "malignant"): 29,
        }
        assert broken(birads) == []

    def test_an_attribute_that_says_no_more_than_the_commonest_label_does_not_trigger(self):
        assert broken({("left", "benign"): 500, ("right", "benign"): 500, ("left", "malignant"): 3}) == []

    def test_a_value_of_few_patients_says_nothing(self):
        few = HISTOLOGY | {("lipoma", "benign"): 6, ("lipoma", "malignant"): 1}
        assert broken(few) == []
        assert broken({("a", "benign"): 1, ("b", "malignant"): 1}, patient_images=50) == []

    def test_missing_values_are_no_value(self):
        assert broken(HISTOLOGY | {("", "benign"): 100, ("nan", "benign"): 100, ("", "malignant"): 1}) == []

    def test_its_cases_do_not_depend_on_the_order_of_the_images(self):
        images = rows(HISTOLOGY | {("cyst", "malignant"): 1, ("carcinoma", "benign"): 2})
        assert set(dependency_cases(images)) == set(dependency_cases(images[::-1]))


# --- refused, left out ---


def test_a_refused_file_is_listed_with_its_reason_and_counted_nowhere_else():
    result = audit([*GOOD, Entry("bad", Refused("bad.png: damaged."))], LABELS, workers=1)
    assert result["refused"] == [{"source_id": "bad", "reason": "bad.png: damaged."}]
    assert result["images"] == 3
    assert result["problems"] == []
    assert "error    refused: bad.png: damaged." in format_audit(result)
    assert "no problems found" not in format_audit(result)


def test_where_all_are_refused_the_reason_is_told():
    with pytest.raises(DataError, match=r"no image could be read.*\n  bad.png: damaged\."):
        audit([Entry("bad", Refused("bad.png: damaged."))], LABELS)


def test_what_to_leave_out_is_what_would_spoil_scores_and_no_more(tmp_path):
    empty = np.zeros((64, 64), np.uint8)
    planted = [
        entry("copy 1", None, patient="p", picture=7),
        entry("copy 2", label="", patient="q", picture=7),
        entry("copy 3", patient="r", picture=7),
        entry("contradicting 1", picture=8, patient="s"),
        entry("contradicting 2", picture=8, patient="s", label="malignant"),
        entry("tables", attributes={"label_conflict": "benign and malignant"}),
        entry("empty", empty),
        entry("fold 1", patient="t", attributes={"fold": 1}),
        entry("fold 2", patient="t", attributes={"fold": 2}),
        Entry("bad", Refused("bad.png: damaged.")),
    ]
    result = audit([*GOOD, *planted], LABELS, workers=1)
    reasons = to_leave_out(result)
    assert set(reasons) == {"bad", "copy 1", "copy 2", "contradicting 1", "contradicting 2", "tables"}
    assert reasons["copy 1"] == "the same picture as copy 3"
    write_exclusions(tmp_path / "exclude.txt", reasons)
    left_out = read_exclusions(tmp_path / "exclude.txt")
    again = audit([item for item in (*GOOD, *planted) if item.source_id not in left_out], LABELS, workers=1)
    assert to_leave_out(again) == {}
    assert [item["kind"] for item in again["problems"]] == ["patient in different parts", "empty mask"]


# --- records ---


def test_records_are_audited_by_their_index_as_the_images_are_by_their_pixels(tmp_path):
    planted = [
        *GOOD,
        entry("l1", patient="s", picture=9, attributes={"fold": 1}),
        entry("l2", patient="s", picture=9, label="malignant", attributes={"fold": 2}),
        entry("tiny", disc(10, 10, 2)),
        entry("none", None),
        entry("cyst", label="cyst"),
        entry("turned", attributes={"exif_orientation": 3}),
    ]
    made = write_records(planted, tmp_path / "records", SETTINGS, workers=1)
    assert audit_records(made) == audit(planted, LABELS, workers=1)["problems"]
    names = [row.source_id for row in made.index]
    kinds = {item["kind"] for item in audit_records(made, {"train": names[:-1], "test": names[-1:]})}
    assert not {"patient in different parts", "same picture in different parts"} & kinds


# --- what is told ---


def test_counts_and_spreads():
    colour = Sample(
        "colour", np.full((20, 40, 3), 9, np.uint8), np.zeros((20, 40), np.uint8), "normal", "p", (0.1, 0.2)
    )
    result = audit([*GOOD, Entry("colour", Held(colour))], LABELS, workers=1)
    assert result["by_label"] == {"(none)": 1, "benign": 1, "malignant": 1, "normal": 1}
    assert (result["height"]["smallest"], result["width"]["smallest"], result["width"]["largest"]) == (20, 40, 64)
    assert result["mean_intensity"]["smallest"] == 9
    assert result["spacing_row_mm"]["smallest"] == result["spacing_row_mm"]["largest"] == 0.1
    assert result["by"]["label"]["normal"]["images"] == 1
    assert result["by"]["label"]["normal"]["lesion_fraction"] == {}
    assert result["annotated"] == 4


def test_statistics_are_told_by_device_and_sizes_in_millimetres():
    square = np.zeros((64, 64), np.uint8)
    square[:20, :30] = 1
    images = [
        entry(f"{device} {n}", square, spacing_mm=(0.1, 0.2), attributes={name: device})
        for name, device, count in (("Device", "A", 3), ("DEVICE", "B", 2))
        for n in range(count)
    ]
    result = audit(images, LABELS, workers=1)
    assert {name: found["images"] for name, found in result["by"]["device"].items()} == {"A": 3, "B": 2}
    diameter = 2 * np.sqrt(600 * 0.1 * 0.2 / np.pi)
    assert result["by"]["device"]["B"]["lesion_diameter_mm"]["median"] == pytest.approx(diameter, abs=1e-4)
    sizes = result["histograms"]["lesion_size"]
    assert sizes["name"] == "lesion diameter, mm" and sizes["edges"][0] < diameter < sizes["edges"][-1]
    for histogram in result["histograms"].values():
        for counts in histogram["by"].values():
            assert sum(map(sum, counts.values())) == 5


def test_the_result_is_json_and_the_text_names_every_problem():
    planted = [entry("planted", None), entry("other", label="cyst"), Entry("bad", Refused("bad.png: damaged."))]
    result = audit([*GOOD, *planted], LABELS, workers=1)
    assert json.loads(json.dumps(result)) == result
    text = format_audit(result)
    assert "notice   no mask: planted." in text
    assert "warning  unknown label: other ('cyst' is none of benign, malignant, normal)." in text
    assert "1 kind of warning, 1 kind of notice, 1 refused image" in text
    assert all(len(line) <= 100 for line in text.splitlines())


def test_names_of_any_length_and_number_keep_the_text_narrow():
    names = [f"device with a very long name, number {number} of many, made by somebody" for number in range(30)]
    images = [entry(f"image {number:03}", None, attributes={"device": names[number % 30]}) for number in range(60)]
    text = format_audit(audit(images, LABELS, workers=1))
    assert all(len(line) <= 100 for line in text.splitlines())
    assert "image 000, image 001, image 002, image 003, image 004, … (60 in all)" in " ".join(text.split())
    assert "and 18 more" in text


def test_kinds_stand_in_the_order_of_their_severity():
    order = [SEVERITIES.index(severity) for severity, _ in KINDS.values()]
    assert order == sorted(order)


def test_many_names_are_counted():
    assert listed(["a", "b"]) == "a, b"
    assert listed([str(number) for number in range(9)]) == "0, 1, 2, 3, 4, … (9 in all)"


# --- how it works ---


def test_several_workers_find_the_same():
    many = [entry(f"image {number}", patient=f"p{number // 2}") for number in range(130)]
    planted = [*many, entry("planted", None), Entry("bad", Refused("bad."))]
    assert audit(planted, LABELS, workers=2) == audit(planted, LABELS, workers=1)


def test_a_worker_needs_no_tensorflow():
    script = "import sys, ustoolkit.data.audit.examine; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_what_travels_back_from_a_worker_is_small():
    import pickle

    large = Sample("large", np.random.default_rng(0).integers(0, 255, (300, 300, 1), np.uint8), None, "", "p")
    attributes = {"device": "A", "report": "word " * 10_000}
    finding = examine(Entry("large", Held(dataclasses.replace(large, attributes=attributes))))
    assert len(pickle.dumps(finding)) < 6000
    assert finding.attributes == {"device": "A"}


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.sampled_from([1, 3]), st.sampled_from([None, 0, 1]))
def test_a_picture_of_any_size_is_examined(height, width, channels, value):
    mask = None if value is None else np.full((height, width), value, np.uint8)
    sample = Sample("small", np.full((height, width, channels), 3, np.uint8), mask, "", "p", (0.1, 0.1))
    result = audit([Entry("small", Held(sample))], LABELS, workers=1)
    assert result["images"] == 1 and format_audit(result)


# --- loose files ---


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


def test_a_file_that_an_entry_reads_is_not_loose_whatever_the_entry_is_called(tmp_path):
    (tmp_path / "table.csv").write_text("name,label\na,benign\n")
    (tmp_path / "a.png").write_bytes(encode_png(speckle(1)))
    (tmp_path / "a_mask.png").write_bytes(encode_png(disc(30, 30, 12)))
    (found,) = open_data_set(tmp_path, SETTINGS)
    assert loose_files(tmp_path, [Entry("another name", found.load)]) == {"images": [], "masks": []}
