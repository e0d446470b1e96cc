"""A split never divides a patient, loses no image, keeps its shares, and depends on nothing but ids and seed."""

import collections
import dataclasses
import random
import types

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from ustoolkit.data.records import IndexRow
from ustoolkit.data.split import PARTS, check_splits, part_of, read_splits, split_patients, write_splits
from ustoolkit.errors import RecordsError


def row(name, patient, label="benign", fraction=0.1, picture="", **attributes):
    return IndexRow(
        name, patient, label, "records-00000-of-00001.tfrecord", 8, 8, fraction, 1, picture, None, attributes
    )


def rows_of(sizes, labels=("benign", "malignant")):
    """Patients with so many images each; a patient's images share a label."""
    return [
        row(f"p{number:03}_{view}", f"p{number:03}", labels[number % len(labels)])
        for number, size in enumerate(sizes)
        for view in range(size)
    ]


def as_sets(splits):
    return {part: set(names) for part, names in splits.items()}


@st.composite
def indexes(draw):
    patients = draw(st.lists(st.sampled_from("abcdefghijklmnopqrst"), min_size=3, max_size=40))
    labels = st.sampled_from(["benign", "malignant", "normal", ""])
    return [
        row(f"image {number}", patient, draw(labels), draw(st.sampled_from([None, 0.0, 0.1, 0.1])))
        for number, patient in enumerate(patients)
    ]


shares = st.floats(0, 0.6)


@given(indexes(), shares, shares, st.integers(0, 9))
@example([row("a", "p", "x"), row("b", "q", "y"), row("c", "r", "z")], 0.2, 0.2, 0)
@example(rows_of([1] * 20), 0.2, 0.15, 0)
@settings(deadline=None, max_examples=120)
def test_no_patient_is_divided_and_no_image_lost(index, test, validation, seed):
    annotated = [item for item in index if item.lesion_fraction is not None]
    assume(len({item.patient_id for item in annotated}) >= 3)
    try:
        splits = split_patients(index, test, validation, seed)
    except RecordsError as problem:
        few = "expected at least" in str(problem) or "nothing to train on" in str(problem)
        assert few and len({item.patient_id for item in annotated}) < 12
        return
    assert tuple(splits) == PARTS
    named = [name for names in splits.values() for name in names]
    assert sorted(named) == sorted(item.source_id for item in annotated)
    patients = {item.source_id: item.patient_id for item in annotated}
    parts = [{patients[name] for name in names} for names in splits.values()]
    assert sum(map(len, parts)) == len(set.union(*parts))
    assert splits["train"]
    assert bool(splits["test"]) == (test > 0)
    assert bool(splits["validation"]) == (validation > 0)


def many_patients(draw, labels):
    """Sixty to a hundred patients with one to three images each."""
    source = np.random.default_rng(draw)
    return rows_of(source.integers(1, 4, source.integers(60, 101)), labels)


@pytest.mark.parametrize("test", [0.1, 0.15, 0.2, 0.25, 0.4])
@pytest.mark.parametrize("validation", [0.1, 0.2])
def test_shares_are_kept_within_a_fold_where_patients_are_small(test, validation):
    for draw in range(4):
        index = many_patients(draw, ("benign", "malignant"))
        splits = split_patients(index, test, validation, seed=draw)
        assert len(splits["test"]) == pytest.approx(test * len(index), abs=len(index) / 20 + 3)
        rest = len(index) - len(splits["test"])
        assert len(splits["validation"]) == pytest.approx(validation * rest, abs=rest / 20 + 3)


def test_each_part_has_its_share_of_each_label():
    off = collections.defaultdict(list)
    for draw in range(20):
        index = many_patients(draw, ("benign", "benign", "malignant"))
        labels = {item.source_id: item.label for item in index}
        overall = np.mean([label == "malignant" for label in labels.values()])
        for part, names in split_patients(index, 0.2, 0.2, seed=draw).items():
            off[part].append(abs(np.mean([labels[name] == "malignant" for name in names]) - overall))
    for part, differences in off.items():
        assert np.mean(differences) < 0.06, part  # drawn without regard to labels it would be about 0.1
        assert np.max(differences) < 0.25, part


def test_a_small_set_with_two_labels_has_both_in_its_test_part():
    index = rows_of([1] * 24)
    labels = {item.source_id: item.label for item in index}
    for seed in range(10):
        splits = split_patients(index, 0.25, 0.25, seed)
        assert {labels[name] for name in splits["test"]} == {"benign", "malignant"}


@given(indexes(), st.randoms(use_true_random=False), st.integers(0, 3))
@settings(deadline=None, max_examples=40)
def test_the_order_of_the_rows_does_not_matter(index, source, seed):
    assume(len({item.patient_id for item in index if item.lesion_fraction is not None}) >= 6)
    shuffled = list(index)
    source.shuffle(shuffled)
    assert as_sets(split_patients(index, 0.3, 0.2, seed)) == as_sets(split_patients(shuffled, 0.3, 0.2, seed))


def test_the_same_seed_gives_the_same_split_and_another_another():
    index = rows_of([1, 2, 3] * 20)
    first = split_patients(index, seed=1)
    assert split_patients(index, seed=1) == first
    others = [as_sets(split_patients(index, seed=seed)) for seed in range(2, 8)]
    assert all(other["test"] != set(first["test"]) for other in others)
    assert all(other["validation"] != set(first["validation"]) for other in others)


def test_any_patient_may_be_drawn_the_largest_too():
    index = rows_of([30] + [2] * 60)
    tested = sum("p000_0" in split_patients(index, seed=seed)["test"] for seed in range(30))
    assert 0 < tested < 20


def test_global_randomness_is_neither_used_nor_touched():
    index = rows_of([2] * 30)
    random.seed(1)
    first = split_patients(index)
    state = random.getstate()
    assert split_patients(index) == first
    assert random.getstate() == state


def test_images_without_a_mask_are_in_no_part():
    index = [*rows_of([2] * 10), row("unlabelled", "p000", fraction=None), row("alone", "q", fraction=None)]
    named = {name for names in split_patients(index).values() for name in names}
    assert named == {item.source_id for item in index if item.lesion_fraction is not None}


def test_an_empty_mask_is_a_mask():
    index = [*rows_of([2] * 10), row("normal", "n", "normal", 0.0)]
    assert "normal" in {name for names in split_patients(index).values() for name in names}


@pytest.mark.parametrize("count", [3, 4, 5, 6, 10])
@pytest.mark.parametrize("labels", [("benign",), ("benign", "malignant"), ("a", "b", "c")])
def test_few_patients_still_give_three_parts(count, labels):
    splits = split_patients(rows_of([1] * count, labels), 0.2, 0.15)
    assert min(map(len, splits.values())) >= 1
    assert len(splits["train"]) >= count / 3


@pytest.mark.parametrize("count", [1, 2])
def test_too_few_patients_are_answered(count):
    with pytest.raises(RecordsError, match=rf"expected at least 3 patients to divide, found {count}\..*--patient"):
        split_patients(rows_of([5] * count))


def test_nothing_annotated_is_answered():
    with pytest.raises(RecordsError, match="no image has a mask"):
        split_patients([row("a", "p", fraction=None)])
    with pytest.raises(RecordsError, match="no image has a mask"):
        split_patients([])


@pytest.mark.parametrize("shares", [(-0.1, 0.1), (1.0, 0.1), (0.1, 1.5), (float("nan"), 0.1)])
def test_a_share_that_is_none_is_answered(shares):
    with pytest.raises(RecordsError, match="expected a share of at least 0 and below 1"):
        split_patients(rows_of([1] * 10), *shares)


def test_a_share_that_takes_everything_is_answered():
    with pytest.raises(RecordsError, match="leaves nothing to train on"):
        split_patients(rows_of([1] * 10), 0.99, 0.0)


def test_a_share_of_nothing_is_an_empty_part():
    splits = split_patients(rows_of([1] * 10), test=0, validation=0)
    assert (splits["test"], splits["validation"], len(splits["train"])) == ([], [], 10)


# --- folds that the data set came with ---


def folded():
    return [
        dataclasses.replace(item, attributes={"Fold": int(item.patient_id[1:]) % 3 + 1}) for item in rows_of([2] * 30)
    ]


def test_a_fold_of_the_source_is_the_test_part():
    index = folded()
    splits = split_patients(index, fold_attribute="Fold", test_folds=["3"])
    assert splits["test"] == [item.source_id for item in index if item.attributes["Fold"] == 3]
    assert splits["validation"]
    both = split_patients(index, fold_attribute="Fold", test_folds=["2", 3])
    assert len(both["test"]) == 40


@pytest.mark.parametrize(
    ("attribute", "folds", "answer"),
    [
        ("Fold", ["4"], "expected --test-folds among 1, 2, 3, found 4"),
        ("Fold", [], "expected --test-folds among 1, 2, 3, found none"),
        ("fold", ["1"], "no image has an attribute 'fold'; there are Fold"),
        ("Fold", ["1", "2", "3"], "nothing to train on"),
    ],
)
def test_a_fold_that_is_not_there_is_answered(attribute, folds, answer):
    with pytest.raises(RecordsError, match=answer):
        split_patients(folded(), fold_attribute=attribute, test_folds=folds)


def test_folds_that_divide_a_patient_are_refused():
    index = [dataclasses.replace(item, attributes={"Fold": number % 2}) for number, item in enumerate(folded())]
    with pytest.raises(RecordsError, match="would test on what was trained on"):
        split_patients(index, fold_attribute="Fold", test_folds=["1"])


# --- reading them back ---


def records_of(index):
    return types.SimpleNamespace(index=index)


def test_a_split_reads_back_as_written(tmp_path):
    index = rows_of([2] * 12)
    splits = split_patients(index)
    write_splits(tmp_path / "splits.json", splits, {"seed": 0})
    assert read_splits(tmp_path / "splits.json", records_of(index)) == splits


@pytest.mark.parametrize(
    ("parts", "answer"),
    [
        (
            {"train": ["p000_0"], "validation": [], "test": ["p000_1"]},
            "patient 'p000' is in both 'train' and 'test'",
        ),
        ({"train": ["p000_0"], "validation": ["p000_0"], "test": []}, "'p000_0' is named twice"),
        ({"train": ["p000_0", "p000_0"], "validation": [], "test": []}, "'p000_0' is named twice"),
        ({"train": ["stranger"], "validation": [], "test": []}, "'stranger' is not in the records"),
        ({"train": ["p000_0"], "test": []}, "expected the parts train, validation, test"),
        ({"train": 3, "validation": [], "test": []}, "expected the parts"),
        ({"train": [["p000_0"]], "validation": [], "test": []}, "expected the parts"),
        ([], "expected the parts"),
        (None, "expected the parts"),
    ],
)
def test_a_split_that_leaks_or_does_not_fit_is_refused(tmp_path, parts, answer):
    write_splits(tmp_path / "splits.json", parts, {})
    with pytest.raises(RecordsError, match=answer):
        read_splits(tmp_path / "splits.json", records_of(rows_of([2] * 3)))


@pytest.mark.parametrize("content", ["", "[]", "3", "{}"])
def test_a_file_that_is_no_split_is_refused_with_the_remedy(tmp_path, content):
    (tmp_path / "splits.json").write_text(content)
    with pytest.raises(RecordsError, match=r"splits\.json.*ustoolkit split"):
        read_splits(tmp_path / "splits.json", records_of([]))


def test_a_missing_split_is_refused_with_the_remedy(tmp_path):
    with pytest.raises(RecordsError, match=r"no such file.*ustoolkit split"):
        read_splits(tmp_path / "splits.json", records_of([]))


def test_parts_are_asked_for_by_name():
    splits = {"train": ["a"], "validation": ["b"], "test": ["c"]}
    assert part_of(splits, "test") == ["c"]
    assert part_of(splits, "all") is None
    with pytest.raises(RecordsError, match="expected one of train, validation, test, all"):
        part_of(splits, "tset")


def test_check_splits_accepts_what_does_not_leak():
    check_splits({"train": ["p000_0", "p000_1"], "validation": [], "test": ["p001_0"]}, rows_of([2, 2]))


@pytest.mark.data
def test_bus_bra_is_split_by_its_patients_and_by_its_folds(real_data):
    from ustoolkit.data.readers import open_data_set
    from ustoolkit.recipe import DataSetSettings

    samples = [entry.load() for entry in open_data_set(real_data / "busbra", DataSetSettings())]
    index = [row(s.source_id, s.patient_id, s.label, 0.1, **s.attributes) for s in samples]
    splits = split_patients(index)
    assert {part: len(names) / len(index) for part, names in splits.items()} == {
        "train": pytest.approx(0.68, abs=0.04),
        "validation": pytest.approx(0.12, abs=0.04),
        "test": pytest.approx(0.2, abs=0.04),
    }
    labels = {item.source_id: item.label for item in index}
    for names in splits.values():
        counts = collections.Counter(labels[name] for name in names)
        assert counts["malignant"] / len(names) == pytest.approx(367 / 1127, abs=0.05)
    official = split_patients(index, fold_attribute="Fold", test_folds=["3"])
    assert set(official["test"]) == {item.source_id for item in index if item.attributes["Fold"] == "3"}


@pytest.mark.parametrize("seed", range(8))
def test_patients_who_share_a_picture_stay_together(seed):
    index = [row(f"image {number}", f"p{number}", picture=f"picture {number // 2}") for number in range(40)]
    splits = split_patients(index, test=0.3, validation=0.3, seed=seed)
    for names in splits.values():
        assert {int(name.split()[1]) ^ 1 for name in names} == {int(name.split()[1]) for name in names}


def test_one_picture_in_two_parts_is_refused_by_name():
    index = [row("a", "p", picture="same"), row("b", "q", picture="same"), row("c", "r", picture="other")]
    with pytest.raises(RecordsError, match="'a' in 'train' and 'b' in 'test' are the same picture"):
        check_splits({"train": ["a"], "validation": ["c"], "test": ["b"]}, index)
    check_splits({"train": ["a", "b"], "validation": ["c"], "test": []}, index)
