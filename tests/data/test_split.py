"""A split never divides a patient, loses no image, keeps its shares, and depends on nothing but ids and seed."""

import collections
import dataclasses
import json
import random
import types

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from tests.test_cli import call, refused
from ustoolkit.data.leaks import check_splits, find_leaks
from ustoolkit.data.records import IndexRow
from ustoolkit.data.split import (
    PARTS,
    measure,
    part_of,
    read_splits,
    split_folds,
    split_own_folds,
    split_patients,
    write_splits,
)
from ustoolkit.data.stratify import balance
from ustoolkit.errors import RecordsError


def row(name, patient, label="benign", fraction=0.1, picture="", group="", **attributes):
    return IndexRow(
        name, patient, label, "records-00000-of-00001.tfrecord", 8, 8, fraction, 1, picture, None, attributes, group
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
    doubles = st.sampled_from([""] * 12 + ["x", "y"])
    sizes = st.sampled_from([None, 0.0, 0.02, 0.1, 0.1, 0.3])
    return [
        row(f"image {number}", patient, draw(labels), draw(sizes), picture=draw(doubles), group=draw(doubles))
        for number, patient in enumerate(patients)
    ]


def together(index):
    """Sets of source ids that one part must hold, by the slowest way."""
    joined = []
    for item in index:
        keys = {("patient", item.patient_id), ("picture", item.sha256), ("group", item.duplicate_group)}
        keys -= {("picture", ""), ("group", "")}
        ids = {item.source_id}
        for other in [other for other in joined if other[0] & keys]:
            joined.remove(other)
            keys, ids = keys | other[0], ids | other[1]
        joined.append((keys, ids))
    return [ids for _, ids in joined]


def groups_in(index):
    """How many groups have an annotated image."""
    annotated = {item.source_id for item in index if item.lesion_fraction is not None}
    return sum(bool(ids & annotated) for ids in together(index))


def check_whole(splits, index):
    """Every annotated image once, and no group in two parts."""
    annotated = {item.source_id for item in index if item.lesion_fraction is not None}
    named = [name for names in splits.values() for name in names]
    assert tuple(splits) == PARTS and sorted(named) == sorted(annotated)
    for ids in together(index):
        assert sum(bool(ids & set(names)) for names in splits.values()) <= 1
    assert all(names == sorted(names) for names in splits.values())
    assert splits["train"]


shares = st.floats(0, 0.6)


@given(indexes(), shares, shares, st.integers(0, 9))
@example([row("a", "p", "x"), row("b", "q", "y"), row("c", "r", "z")], 0.2, 0.2, 0)
@example(rows_of([1] * 20), 0.2, 0.15, 0)
@settings(deadline=None, max_examples=120)
def test_no_patient_or_double_is_divided_and_no_image_lost(index, test, validation, seed):
    assume(groups_in(index))
    try:
        splits = split_patients(index, test, validation, seed)
    except RecordsError as problem:
        few = "expected at least" in str(problem) or "nothing to train on" in str(problem)
        assert few and groups_in(index) < 12
        return
    check_whole(splits, index)
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
        assert np.mean(differences) < 0.03, part  # drawn without regard to labels it would be about 0.1
        assert np.max(differences) < 0.1, part


def test_a_small_set_with_two_labels_has_both_in_its_test_part():
    index = rows_of([1] * 24)
    labels = {item.source_id: item.label for item in index}
    for seed in range(10):
        splits = split_patients(index, 0.25, 0.25, seed)
        assert {labels[name] for name in splits["test"]} == {"benign", "malignant"}


@given(indexes(), st.randoms(use_true_random=False), st.integers(0, 3))
@example(rows_of([1, 2, 3] * 10), random.Random(4), 0)
@settings(deadline=None, max_examples=40)
def test_the_order_of_the_rows_does_not_matter(index, source, seed):
    shuffled = list(index)
    source.shuffle(shuffled)
    outcomes = []
    for rows in (index, shuffled):
        try:
            outcomes.append(split_patients(rows, 0.3, 0.2, seed))
        except RecordsError as problem:
            outcomes.append(str(problem))
    assert outcomes[0] == outcomes[1]


def test_the_same_seed_gives_the_same_split_and_another_another():
    index = rows_of([1, 2, 3] * 20)
    first = split_patients(index, seed=1)
    assert split_patients(index, seed=1) == first
    others = [as_sets(split_patients(index, seed=seed)) for seed in range(2, 8)]
    assert all(other["test"] != set(first["test"]) for other in others)
    assert all(other["validation"] != set(first["validation"]) for other in others)


def test_any_patient_may_be_drawn_the_largest_too():
    index = rows_of([8] + [2] * 60)
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
        split_patients([row("a", "p", "", None)])
    with pytest.raises(RecordsError, match="no image has a mask"):
        split_patients([])


def test_where_no_image_has_a_mask_those_with_a_label_are_divided():
    index = [dataclasses.replace(item, lesion_fraction=None, regions=0) for item in rows_of([2] * 30)]
    index.append(row("unknown", "unknown", "", None))
    splits = split_patients(index)
    assert sorted(name for names in splits.values() for name in names) == [item.source_id for item in index[:-1]]
    assert all(splits.values()) and set(measure(splits, index)) == {"class_share"}
    assert len(split_folds(index, 3)) == 3
    with pytest.raises(RecordsError, match="no image has a mask or a label"):
        split_patients(index[-1:])


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
    (tmp_path / "splits.json").write_text(json.dumps({"how": {}, "parts": parts}))
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

    told = [entry.load.load for entry in open_data_set(real_data / "busbra", DataSetSettings())]
    index = [row(one.source_id, one.patient_id, one.label, 0.1, **dict(one.attributes)) for one in told]
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


@pytest.mark.parametrize("seed", range(8))
def test_patients_who_share_nearly_the_same_picture_stay_together_even_through_an_image_without_mask(seed):
    index = [row(f"image {number}", f"p{number}", group=f"image {number - number % 3}") for number in range(30)]
    # patients p1 and p31 are one person, as an image without a mask shows
    index += [row("image 30", "p30"), row("image 31", "p31"), row("bare", "p31", fraction=None, group="image 0")]
    for names in split_patients(index, test=0.3, validation=0.3, seed=seed).values():
        numbers = {int(name.split()[1]) for name in names}
        assert all((number // 3 * 3 in numbers) == (number in numbers) for number in range(30))
        assert (0 in numbers) == (31 in numbers)


# --- lesion sizes ---


def sized(draw, patients=200):
    """Patients of one image whose lesion's size varies by a factor of fifty; malignant ones are larger."""
    source = np.random.default_rng(draw)
    return [
        row(f"i{number:03}", f"p{number}", label, round(float(source.uniform(*limits)) ** 2, 6))
        for number in range(patients)
        for label, limits in [[("benign", (0.1, 0.5)), ("malignant", (0.2, 0.7))][number % 3 == 0]]
    ]


def test_small_and_large_lesions_of_each_class_are_spread_evenly():
    for draw in range(5):
        index = sized(draw)
        rows = {item.source_id: item for item in index}
        for names in split_patients(index, 0.2, 0.2, seed=draw).values():
            for label in ("benign", "malignant"):
                whole = np.sort([item.lesion_fraction for item in index if item.label == label])
                part = [rows[name].lesion_fraction for name in names if rows[name].label == label]
                ranks = np.searchsorted(whole, part) / len(whole)
                # of a part of n drawn blindly the mean rank would be 0.5 give or take 0.29 / sqrt(n), 0.1 and more here
                assert abs(np.mean(ranks) - 0.5) < 0.08


def test_a_split_is_more_even_than_a_blind_one():
    blind, drawn = [], []
    for draw in range(6):
        index = sized(draw)
        source = random.Random(draw)
        shuffled = source.sample(index, len(index))
        parts = {"train": shuffled[80:], "validation": shuffled[40:80], "test": shuffled[:40]}
        blind.append(balance(parts))
        drawn.append(measure(split_patients(index, 0.2, 0.25, seed=draw), index))
    for what in ("class_share", "median_lesion_size"):
        assert np.mean([even[what] for even in drawn]) < 0.4 * np.mean([even[what] for even in blind])


def test_balance_is_what_it_says():
    train = [row("a", "a", "x", 0.1), row("b", "b", "x", 0.2), row("c", "c", "y", 0.3), row("d", "d", "y", 0.0)]
    test = [row("e", "e", "x", 0.6), row("f", "f", "x", 0.2)]
    # x is 4 of 6, 2 of 4 and 2 of 2; lesions have median 0.2, 0.2 and 0.4
    assert balance({"train": train, "validation": [], "test": test}) == {
        "class_share": pytest.approx(1 / 3, abs=1e-4),
        "median_lesion_size": pytest.approx(1.0),
    }
    assert balance({"train": [row("d", "d", "y", 0.0)]}) == {"class_share": 0.0}


# --- folds ---


@given(indexes(), st.integers(2, 6), st.floats(0, 0.5), st.integers(0, 9))
@example(rows_of([1] * 5), 5, 0.15, 0)
@settings(deadline=None, max_examples=60)
def test_every_image_is_tested_exactly_once(index, folds, validation, seed):
    annotated = {item.source_id for item in index if item.lesion_fraction is not None}
    assume(groups_in(index) >= folds)
    try:
        splits = split_folds(index, folds, validation, seed)
    except RecordsError as problem:
        assert "expected at least 2 patients" in str(problem) and groups_in(index) < 12
        return
    assert len(splits) == folds
    assert sorted(name for fold in splits for name in fold["test"]) == sorted(annotated)
    for fold in splits:
        check_whole(fold, index)
        assert fold["test"] and bool(fold["validation"]) == (validation > 0)


def test_folds_are_of_one_size_and_spread_classes_and_sizes():
    index = sized(3)
    splits = split_folds(index, 5)
    assert [len(fold["test"]) for fold in splits] == [40] * 5
    assert max(measure(fold, index)["class_share"] for fold in splits) < 0.05
    assert split_folds(index, 5) == splits != split_folds(index, 5, seed=1)


@pytest.mark.parametrize("folds", [-1, 0, 1, 11])
def test_a_number_of_folds_that_cannot_be_is_answered(folds):
    with pytest.raises(RecordsError, match=f"expected 2 to 10 folds.* found {folds}"):
        split_folds(rows_of([2] * 10), folds)


def test_own_folds_are_tested_one_after_the_other():
    index = folded()
    splits = split_own_folds(index, "Fold")
    assert list(splits) == ["1", "2", "3"]
    for fold, parts in splits.items():
        check_whole(parts, index)
        assert parts == split_patients(index, fold_attribute="Fold", test_folds=[fold])
    with pytest.raises(RecordsError, match="expected at least 2 folds, found 1"):
        split_own_folds([item for item in index if item.attributes["Fold"] == 1], "Fold")


# --- leaks ---


def divided():
    """Own folds that divide the near-duplicates p000_0 and p001_0 and nothing else."""
    index = folded()
    group = {"p000_0": "p000_0", "p001_0": "p000_0"}
    return [dataclasses.replace(item, duplicate_group=group.get(item.source_id, "")) for item in index]


def test_own_folds_that_divide_near_duplicates_are_refused_by_name_unless_allowed():
    index = divided()
    with pytest.raises(RecordsError, match=r"'p001_0' in 't\w+' and 'p000_0' in 'test' are nearly the same picture"):
        split_patients(index, fold_attribute="Fold", test_folds=["1"])
    splits = split_patients(index, fold_attribute="Fold", test_folds=["1"], allow_leak=True)
    assert splits["test"] == [item.source_id for item in index if item.attributes["Fold"] == 1]
    (leak,) = find_leaks(splits, index)
    assert (leak.kind, leak.name) == ("near duplicate", "p000_0")
    assert not find_leaks(split_patients(index), index)


def test_what_is_divided_for_two_reasons_is_told_once_and_what_for_one_each():
    index = [
        row("a", "p", picture="same", group="a"),
        row("b", "q", picture="same", group="a"),
        row("c", "r", group="c"),
        row("d", "s", group="c"),
        row("e", "t"),
        row("f", "t"),
    ]
    leaks = check_splits({"train": ["a", "c", "e"], "validation": [], "test": ["b", "d", "f"]}, index, allow_leak=True)
    assert [(leak.kind, leak.parts) for leak in leaks] == [
        ("patient", {"train": ["e"], "test": ["f"]}),
        ("picture", {"train": ["a"], "test": ["b"]}),
        ("near duplicate", {"train": ["c"], "test": ["d"]}),
    ]
    assert check_splits({"train": ["a", "b", "c", "d"], "validation": [], "test": ["e", "f"]}, index) == []


def test_what_was_made_from_training_images_is_for_training_alone():
    index = [row("a", "p"), row("a+01", "p", group="b", expanded_from="a"), row("b", "q", group="b")]
    assert check_splits({"train": ["a", "a+01"], "validation": ["b"], "test": []}, index) == []
    with pytest.raises(RecordsError, match="'a\\+01' in 'test': made from training images"):
        check_splits({"train": ["b"], "validation": [], "test": ["a", "a+01"]}, index)
    with pytest.raises(RecordsError, match="cannot be divided again"):
        split_patients([*rows_of([1] * 10), row("synthetic-0001", "synthetic-0001", synthetic=True)])


@given(indexes(), st.integers(0, 99))
@settings(deadline=None, max_examples=60)
def test_a_leak_is_found_wherever_a_group_is_divided(index, seed):
    """A blind division is refused if and only if some two images of one patient, picture or group are parted."""
    source = random.Random(seed)
    splits = {part: [] for part in PARTS}
    for item in index:
        splits[source.choice(["train", "train", "train", "test"])].append(item.source_id)
    tested = set(splits["test"])

    def belong(one, other):
        keys = ("patient_id", "sha256", "duplicate_group")
        return any(getattr(one, key) and getattr(one, key) == getattr(other, key) for key in keys)

    parted = any(
        belong(one, other)
        for one in index
        for other in index
        if one.source_id in tested and other.source_id not in tested
    )
    assert bool(find_leaks(splits, index)) == parted


# --- the command ---


def test_the_file_says_how_it_was_drawn_and_is_the_same_each_time(capsys, records, tmp_path):
    files = [tmp_path / "a.json", tmp_path / "b.json"]
    for file in files:
        code, out, err = call(capsys, "split", records.folder, "--seed", "7", "--test", "0.25", "--out", file)
        assert code == 0 and "class shares differ by up to" in out and "median lesion sizes" in out, err
    assert files[0].read_bytes() == files[1].read_bytes()
    content = json.loads(files[0].read_text())
    assert content["how"]["seed"] == 7 and content["how"]["test"] == 0.25
    assert content["records_digest"] == records.digest and content["ustoolkit"]
    assert "leaks" not in content and set(content["balance"]) == {"class_share", "median_lesion_size"}
    assert all(names == sorted(names) for names in content["parts"].values())


def test_folds_are_a_file_each(capsys, records, tmp_path):
    code, out, err = call(capsys, "split", records.folder, "--folds", "3", "--out", tmp_path, "--json")
    assert code == 0, err
    files = sorted(tmp_path.glob("*.json"))
    assert [file.name for file in files] == [f"splits-fold{fold}.json" for fold in (1, 2, 3)]
    assert [fold["file"] for fold in json.loads(out)["folds"]] == [str(file) for file in files]
    tested = [name for file in files for name in read_splits(file, records)["test"]]
    assert sorted(tested) == sorted(item.source_id for item in records.index)
    assert json.loads(files[1].read_text())["how"] == {"folds": 3, "fold": 2, "validation": 0.15, "seed": 0}
    named = tmp_path / "cross.json"
    assert call(capsys, "split", records.folder, "--folds", "3", "--out", named)[0] == 0
    assert (tmp_path / "cross-fold3.json").read_bytes() == files[2].read_bytes()
    assert "leave out --test" in refused(capsys, "split", records.folder, "--folds", "3", "--test", "0.2")


@pytest.fixture
def leaking(records, tmp_path):
    """A split of the phantoms with one patient in train and test."""
    by_patient = collections.defaultdict(list)
    for item in records.index:
        by_patient[item.patient_id].append(item.source_id)
    patient, (first, *others) = next((name, ids) for name, ids in by_patient.items() if len(ids) > 1)
    rest = [name for other, ids in by_patient.items() if other != patient for name in ids]
    write_splits(tmp_path / "leak.json", {"train": [first, *rest[6:]], "validation": rest[:6], "test": others}, {})
    return tmp_path / "leak.json", patient


def test_training_on_a_split_that_leaks_is_refused_and_when_allowed_marked(capsys, records, leaking, tmp_path):
    from tests.conftest import TINY
    from ustoolkit.run import Run
    from ustoolkit.training.start import resume_run

    splits, patient = leaking
    words = ["train", "demo", "--records", records.folder, "--splits", splits, "--out", tmp_path / "run"]
    words += [word for setting in (*TINY, "training.epochs=1") for word in ("--set", setting)]
    told = refused(capsys, *words)
    assert f"patient '{patient}' is in both 'train' and 'test'" in told and "--allow-leak" in told
    code, _, err = call(capsys, *words, "--allow-leak")
    assert code == 0 and "the split leaks" in err and f"'{patient}'" in err
    run = Run(tmp_path / "run")
    assert len(run.state["leaks"]) == 1 and "scores are too good" in run.state["warnings"][0]
    assert resume_run(records, run.folder).state["leaks"] == run.state["leaks"]
    code, _, err = call(capsys, "evaluate", run.folder)
    assert code == 0 and "the split leaks" in err
