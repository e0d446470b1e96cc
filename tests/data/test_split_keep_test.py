"""Folds of what is not kept for testing: nothing learns from the kept images, everything else is tested once."""

import collections

import pytest

from tests.data.test_split import row, rows_of
from tests.test_cli import call, refused
from ustoolkit.data.leaks import check_splits
from ustoolkit.data.split import read_splits, split_folds, split_patients
from ustoolkit.errors import RecordsError
from ustoolkit.files import read_json

ROWS = rows_of([2, 1, 3, 2] * 8)
KEPT = split_patients(ROWS, test=0.25, validation=0.2)["test"]


@pytest.mark.parametrize("folds", [2, 3, 5])
def test_kept_images_are_tested_in_every_fold_and_the_others_in_one(folds):
    drawn = split_folds(ROWS, folds, kept_test=KEPT)
    tested = collections.Counter(name for splits in drawn for name in splits["test"])
    assert tested == {each.source_id: folds if each.source_id in KEPT else 1 for each in ROWS}
    for splits in drawn:
        assert not {*KEPT} & {*splits["train"], *splits["validation"]}
        assert sorted(name for names in splits.values() for name in names) == sorted(each.source_id for each in ROWS)
        assert not check_splits(splits, ROWS)


def test_each_other_image_has_a_fold_that_learns_nothing_from_it():
    drawn = split_folds(ROWS, 3, kept_test=KEPT)
    for each in ROWS:
        assert any(each.source_id not in {*splits["train"], *splits["validation"]} for splits in drawn)


def test_none_kept_is_plain_cross_validation():
    assert split_folds(ROWS, 3, kept_test=()) == split_folds(ROWS, 3)


def test_a_patient_who_is_kept_in_part_is_refused():
    half = next(each.source_id for each in ROWS if sum(other.patient_id == each.patient_id for other in ROWS) > 1)
    with pytest.raises(RecordsError, match="patient"):
        split_folds(ROWS, 3, kept_test=[half])


def test_too_few_left_to_divide_are_refused():
    with pytest.raises(RecordsError):
        split_folds([row("a", "a"), row("b", "b", "malignant")], 2, kept_test=["a"])


def test_on_the_command_line(capsys, labelled_records, tmp_path):
    own = labelled_records.folder / "splits.json"
    code, _, err = call(
        capsys, "split", labelled_records.folder, "--folds", 2, "--keep-test", own, "--out", tmp_path / "folds"
    )
    assert code == 0, err
    kept = set(read_splits(own, labelled_records)["test"])
    files = sorted((tmp_path / "folds").glob("*.json"))
    assert len(files) == 2
    for path in files:
        parts = read_splits(path, labelled_records)
        assert kept < set(parts["test"])
        assert read_json(path, RecordsError, "")["how"]


@pytest.mark.parametrize(
    "words", [["--keep-test", "SPLIT"], ["--folds", "2", "--keep-test", "nothing.json"], ["--keep-test"]]
)
def test_wrong_use_is_answered(capsys, labelled_records, tmp_path, words):
    words = [str(labelled_records.folder / "splits.json") if word == "SPLIT" else word for word in words]
    if words == ["--keep-test"]:
        code, _, err = call(capsys, "split", labelled_records.folder, *words)
        assert code == 2 and "--keep-test" in err
        return
    message = refused(capsys, "split", labelled_records.folder, "--out", tmp_path / "out.json", *words)
    assert "keep-test" in message or "nothing.json" in message
    assert not (tmp_path / "out.json").exists()
