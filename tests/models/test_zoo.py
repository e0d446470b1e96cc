"""The zoo: all ten published totals, one line a network, and words that train it."""

import functools

import pytest

from ustoolkit.models import MODELS
from ustoolkit.models.cost import Measured
from ustoolkit.models.zoo import format_zoo, presets, zoo
from ustoolkit.recipe import load_recipe, shipped_recipes

PUBLISHED = {
    "unet": 17_267_393,
    "light_unet": 11_000_257,
    "lighter_unet_128": 7_944_661,
    "lighter_unet_64": 4_995_541,
    "lighter_unet_32": 3_465_685,
    "lighter_unet_16": 2_700_757,
    "lighter_unet_8": 2_318_293,
    "lighter_unet_4": 2_127_061,
    "lighter_unet_2": 2_031_445,
    "lighter_unet_1": 1_983_583,
}


QUICK = {"unet", "light_unet", "lighter_unet", "vgg16", "resnet50"}  # to build at their full size


@functools.cache
def built():
    return zoo(QUICK)


@pytest.fixture
def entries():
    return built()


def test_all_ten_published_totals(entries):
    assert {entry.name: entry.trainable_weights for entry in entries if entry.name in PUBLISHED} == PUBLISHED


def test_multiply_adds_of_the_published_unet_and_light_unet(entries):
    """By hand, from the published channels: in -> middle -> out at each level's rows and columns."""
    pairs = [
        (256, 3, 64, 64),
        (128, 64, 128, 128),
        (64, 128, 256, 256),
        (32, 256, 512, 512),
        (16, 512, 512, 512),
        (32, 1024, 512, 256),
        (64, 512, 256, 128),
        (128, 256, 128, 64),
        (256, 128, 64, 64),
    ]
    head = 256 * 256 * 64
    unet = head + sum(side * side * 9 * (first * middle + middle * last) for side, first, middle, last in pairs)
    light = head + sum(
        side * side * (9 * first * middle + 9 * middle + middle * last) for side, first, middle, last in pairs
    )
    found = {entry.name: entry.multiply_adds for entry in entries}
    assert (found["unet"], found["light_unet"]) == (unet, light)


def test_smaller_groups_cost_less(entries):
    lighter = [entry for entry in entries if entry.network == "lighter_unet"]
    assert len(lighter) == 8
    costs = [entry.multiply_adds for entry in lighter]
    assert costs == sorted(costs, reverse=True)


def test_every_shipped_recipe_is_listed_once_with_its_paper(entries):
    names = [entry.name for entry in entries]
    shipped = {name for name in shipped_recipes() if load_recipe(name).model.name in QUICK}
    assert shipped <= set(names) and len(names) == len(set(names))
    assert all(entry.paper and entry.paper != entry.recipe.description for entry in entries)


def test_every_recipe_of_a_network_has_a_paper():
    recipes = [(load_recipe(train.split(" ")[0]), paper) for _, train, paper in presets()]
    silent = [each.name for each, paper in recipes if paper == each.description and each.model.name in MODELS]
    assert not silent, f"`_PAPERS` of models/zoo.py: expected the paper of {', '.join(silent)}, found none. Add it."


def test_networks_that_classify_are_counted_with_their_head(entries):
    found = {entry.name: entry for entry in entries}
    resnets = [entry for entry in entries if entry.network == "resnet50"]
    assert {entry.trainable_weights for entry in resnets} == {23_587_712 - 2 * 26_560 + 2048 + 1}
    vgg16 = found["lymph_node_vgg16"]
    assert (vgg16.image_size, vgg16.trainable_weights) == ((224, 224), 14_714_688 + 512 + 1)
    # Of the published 15.47 thousand millions, all but those of the fully connected layers.
    assert vgg16.multiply_adds == 15_470_264_320 - (25088 * 4096 + 4096 * 4096 + 4096 * 1000) + 512


@pytest.mark.slow
def test_all_other_networks_are_listed():
    others = set(MODELS) - QUICK
    entries = zoo(others)
    assert {entry.network for entry in entries} == others
    densenet161 = next(entry for entry in entries if entry.network == "densenet161")
    assert densenet161.trainable_weights == 28_681_000 - 2208 * 1000 - 1000 + 2208 + 1


def test_the_words_of_an_entry_train_its_network(entries):
    for entry in entries:
        name, *overrides = entry.train.split(" --set ")
        recipe = load_recipe(name, overrides)
        assert (recipe.model.name, recipe.data.image_size) == (entry.network, entry.image_size)
    group_sizes = {entry.name: entry.recipe.model.group_size for entry in entries if entry.network == "lighter_unet"}
    assert group_sizes == {f"lighter_unet_{size}": size for size in (128, 64, 32, 16, 8, 4, 2, 1)}


def test_relatives_stand_together_the_largest_first(entries):
    order = [(list(MODELS).index(entry.network), -entry.trainable_weights) for entry in entries]
    assert order == sorted(order)


def test_the_table_is_aligned_and_holds_what_was_measured(entries):
    measured = [Measured(1234.56, 0.04, 5.0) for _ in entries]
    printed = {"training, ms/image": "1,234.6", "inference, ms/image": "0.0", "activations, MiB/image": "5.0"}
    header, *rows = format_zoo(entries, measured).splitlines()
    assert len(rows) == len(entries)
    for title, text in printed.items():
        end = header.index(title) + len(title)
        assert all(row[:end].endswith(f" {text}") and row[end : end + 2] == "  " for row in rows)
    start = header.index("paper")
    assert [row[start:] for row in rows] == [entry.paper for entry in entries]
    assert "17,267,393" in next(row for row in rows if row.startswith("unet "))


def test_the_table_without_measurements_has_no_such_columns(entries):
    header = format_zoo(entries, []).splitlines()[0]
    assert "ms" not in header and "MiB" not in header
