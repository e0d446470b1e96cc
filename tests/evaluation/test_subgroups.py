import math

import numpy as np
import pytest
from hypothesis import given, strategies

from ustoolkit.errors import DataError
from ustoolkit.evaluation.subgroups import MOST_VALUES, ImageFacts, subgroups

VALUES = strategies.sampled_from(["a", "b", "c", " a ", "", None, math.nan, 4, 4.0, True])
FACTS = strategies.builds(
    ImageFacts,
    strategies.sampled_from(["", "benign", "malignant"]),
    strategies.none() | strategies.floats(0, 1),
    strategies.fixed_dictionaries({}, optional={"Device": VALUES, "BI-RADS": VALUES}),
)


def groups_of(images, *by):
    """Name of each grouping, and which images are in each of its groups."""
    found = subgroups(images, by)
    return {one.name: {name: np.flatnonzero(members).tolist() for name, members in one.groups.items()} for one in found}


def images(key, values):
    return [ImageFacts(attributes={key: value}) for value in values]


def test_by_label():
    facts = [ImageFacts("malignant"), ImageFacts("benign"), ImageFacts(""), ImageFacts("benign")]
    assert groups_of(facts) == {"label": {"benign": [1, 3], "malignant": [0], "unknown": [2]}}


def test_thirds_by_size():
    fractions = [0.30, 0.02, 0.10, 0.0, 0.04, None, 0.20, 0.06]
    found = groups_of([ImageFacts(lesion_fraction=fraction) for fraction in fractions], "size")["size"]
    assert list(found.items()) == [
        ("small, up to 5.3 %", [1, 4]),  # a third of the way from the second to the third of six
        ("medium, up to 13.3 %", [2, 7]),
        ("large, over 13.3 %", [0, 6]),
        ("no lesion", [3]),
        ("unknown", [5]),
    ]


def test_sizes_are_divided_as_by_a_study():
    fractions = np.random.default_rng(0).uniform(0.01, 0.4, 50)
    low, high = np.quantile(fractions, [1 / 3, 2 / 3])
    small, medium, large = groups_of([ImageFacts(lesion_fraction=one) for one in fractions])["size"].values()
    assert small == np.flatnonzero(fractions <= low).tolist()
    assert medium == np.flatnonzero((fractions > low) & (fractions <= high)).tolist()
    assert large == np.flatnonzero(fractions > high).tolist()


@pytest.mark.parametrize(
    ("asked", "key"),
    [
        ("device", "Device"),
        ("DEVICE", "ultrasound_system"),
        ("device", "Manufacturer Model Name"),
        ("scanner", "Device"),
        ("birads", "BI-RADS"),
        ("BI-RADS", "birads_category"),
        ("bi_rads", "BIRADS"),
        ("histology", "Pathology"),
        ("side", "laterality"),
        ("tissue type", "Tissue-Type"),
    ],
)
def test_an_attribute_is_found_however_it_is_spelled(asked, key):
    assert groups_of(images(key, ["x", "y", "x"]), asked) == {key: {"x": [0, 2], "y": [1]}}


def test_the_spelling_that_was_asked_for_comes_first():
    facts = [ImageFacts(attributes={"Manufacturer": "one", "Scanner": str(number)}) for number in range(2)]
    assert list(groups_of(facts, "manufacturer")) == ["Manufacturer"]
    assert list(groups_of(facts, "scanner")) == ["Scanner"]
    assert list(groups_of(facts, "device")) == ["Scanner"]


def test_two_spellings_of_one_attribute_are_joined_when_asked_for():
    facts = [ImageFacts(attributes={"BIRADS": "4"}), ImageFacts(attributes={"bi-rads": 3})]
    assert groups_of(facts, "birads") == {"BIRADS": {"3": [1], "4": [0]}}


def test_without_a_value_it_is_unknown_and_last():
    values = ["b", None, "", "a", math.nan, "  "]
    assert list(groups_of(images("Device", values))["Device"].items()) == [
        ("a", [3]),
        ("b", [0]),
        ("unknown", [1, 2, 4, 5]),
    ]
    assert groups_of([*images("Device", ["a", "b"]), ImageFacts()])["Device"]["unknown"] == [2]


def test_numbers_are_in_their_order():
    assert list(groups_of(images("Grade", ["10", 9.0, "2", "4b", "4a", 9]))["Grade"]) == ["2", "9", "10", "4a", "4b"]


def test_what_divides_nothing_or_too_much_is_left_out_unless_it_is_asked_for():
    one = images("Fold", ["3", "3", None])
    many = images("Width", list(range(MOST_VALUES + 1)))
    lists = images("box", [[1, 2], [3, 4]])
    assert groups_of(one) == groups_of(many) == groups_of(lists) == {}
    assert len(groups_of(many[:-1])["Width"]) == MOST_VALUES
    assert groups_of(one, "fold") == {"Fold": {"3": [0, 1], "unknown": [2]}}
    assert len(groups_of(many, "width")["Width"]) == MOST_VALUES + 1


def test_what_cannot_be_asked_for_is_said():
    with pytest.raises(DataError, match=r"'vendor': no image has an attribute of that name.*label, size, Device"):
        subgroups(images("Device", ["a", "b"]), ["vendor"])
    with pytest.raises(DataError, match="found lists"):
        subgroups(images("box", [[1, 2]]), ["box"])


def test_asked_for_twice_is_there_once_in_the_order_asked():
    facts = [ImageFacts("benign", 0.1, {"Device": "a"})]
    assert list(groups_of(facts, "device", "label", "scanner", "size")) == ["Device", "label", "size"]


@given(strategies.lists(FACTS, max_size=12))
def test_each_image_is_in_one_group_of_each_grouping(drawn):
    for by in ((), ("size", "label")):
        for grouping in subgroups(drawn, by):
            counted = sum(members.astype(int) for members in grouping.groups.values())
            assert (counted == 1).all() and all(members.any() for members in grouping.groups.values())
            assert "unknown" not in list(grouping.groups)[:-1]


def test_no_images():
    assert subgroups([]) == [] and subgroups([], ["size"]) == []
