"""An annotator's word is a class, an image label, both, or nothing; never a guess."""

import pytest

from ustoolkit.data.readers.meaning import class_index, image_label, meaning, with_classes
from ustoolkit.errors import DataError
from ustoolkit.recipe import DataSetSettings

TWO = DataSetSettings()
THREE = DataSetSettings(classes=("background", "Gland", "Tumour"))
TOLD = DataSetSettings(
    classes=("background", "lesion", "cyst"),
    shapes={"TU": {"pixels": "lesion", "image": "malignant"}, "zyste": {"pixels": "cyst"}, "caliper": {}},
    ignore=("Text",),
)


def told(label, settings):
    found = meaning(label, settings, "scan.json, shape 1")
    return None if found is None else (class_index(found, settings), found.image)


@pytest.mark.parametrize(
    ("label", "settings", "expected"),
    [
        ("lesion", TWO, (1, "")),
        (" Lesion ", TWO, (1, "")),
        ("", TWO, (1, "")),
        ("benign", TWO, (1, "benign")),
        ("MALIGNANT", TWO, (1, "malignant")),
        ("_background_", TWO, (0, "")),
        ("background", TWO, (0, "")),
        ("__ignore__", TWO, None),
        ("gland", THREE, (1, "")),
        ("tumour", THREE, (2, "")),
        ("tu", TOLD, (1, "malignant")),
        ("Zyste", TOLD, (2, "")),
        ("caliper", TOLD, (None, "")),
        ("text", TOLD, None),
    ],
)
def test_a_word_means(label, settings, expected):
    assert told(label, settings) == expected


@pytest.mark.parametrize(("label", "settings"), [("cyst", TWO), ("", THREE), ("benign", THREE), ("lesions", TWO)])
def test_a_word_without_a_meaning_is_answered_with_its_place_and_the_remedy(label, settings):
    with pytest.raises(DataError, match=rf"^scan\.json, shape 1: label '{label}' is not a class.*\[shapes"):
        meaning(label, settings, "scan.json, shape 1")


def test_an_image_has_a_label_where_its_shapes_agree():
    assert image_label(["benign", "", "benign"]) == "benign"
    assert image_label(["benign", "malignant"]) == ""
    assert image_label([]) == ""


def test_words_without_a_meaning_become_classes_in_the_order_of_the_alphabet():
    found = with_classes(TWO, ["tumour", "Gland", "gland ", "__ignore__", "_background_", "tumour"])
    assert found.classes == ("background", "Gland", "tumour")


@pytest.mark.parametrize("words", [[], ["__ignore__"], ["lesion"], ["cyst", "benign"], ["cyst", "lesion"]])
def test_where_a_word_has_a_meaning_the_classes_stay(words):
    assert with_classes(TWO, words) == TWO


def test_described_classes_stay_whatever_is_found():
    assert with_classes(THREE, ["cyst"]) is THREE
    assert with_classes(TOLD, ["cat"]) is TOLD


def test_described_classes_need_no_look_at_the_files():
    def unread():
        raise AssertionError("read")
        yield

    assert with_classes(THREE, unread()) is THREE


def test_more_words_than_a_mask_has_values_are_answered():
    assert len(with_classes(TWO, map(str, range(254))).classes) == 255
    with pytest.raises(DataError, match=r"at most 254 different labels.*found 255"):
        with_classes(TWO, map(str, range(255)))
