"""What a search may change, as it is typed: read, tried in the recipe, refused with the nearest that is right."""

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from ustoolkit.errors import RecipeError
from ustoolkit.recipe import load_recipe, shipped_recipes
from ustoolkit.studies.search_space import (
    combinations,
    default_space,
    describe_space,
    overrides_of,
    own_values,
    read_space,
)


def load(changes=()):
    return load_recipe("demo", changes)


@pytest.mark.parametrize(
    ("spec", "found"),
    [
        ("training.learning_rate=1e-4..1e-2", FloatDistribution(1e-4, 1e-2, log=True)),
        ("training.learning_rate=1e-4..9e-4", FloatDistribution(1e-4, 9e-4)),
        ("model.dropout=0..0.5", FloatDistribution(0.0, 0.5)),
        ("training.batch_size = 4 .. 39", IntDistribution(4, 39)),
        ("training.batch_size=4..40", IntDistribution(4, 40, log=True)),
        ("loss.class_weights=equal|balanced|[1, 2.5]", CategoricalDistribution(["equal", "balanced", "[1, 2.5]"])),
        ("training.initial_weights=../a|../b", CategoricalDistribution(["../a", "../b"])),
    ],
)
def test_ranges_and_choices(spec, found):
    key = spec.partition("=")[0].strip()
    assert read_space([spec], (), load) == {key: found}
    again = [f"{name}={text}" for name, text in describe_space({key: found}).items()]
    assert read_space(again, (), load) == {key: found}, "it is not described as it could be typed"


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("training.learning_rat=1e-4..1e-2", "Did you mean 'learning_rate'"),
        ("model.skips=plain|neste", "Did you mean 'nested'"),
        ("model.group_size=1|2", "only of 'lighter_unet'"),
        ("training.learning_rate=1e-2..1e-4", "ends above its beginning"),
        ("training.learning_rate=0..1", "greater than 0, found 0"),
        ("training.learning_rate=low..high", "expected numbers at both ends of the range, found 'low'"),
        ("training.learning_rate=1e-3..inf", "found 'inf'"),
        ("training.learning_rate=1e-3", "two or more choices"),
        ("training.weight_decay=1e-2|", "two or more choices"),
        ("training.weight_decay=1e-2|0.010", "'1e-2' and '0.010' mean the same"),
        ("training.epochs=2.5..9", "valid integer"),
        ("training=1|2", "table of settings"),
        ("learning_rate", "expected table.key=low..high"),
        ("inference.threshold=0.1..0.9", "tune-threshold"),
        ("name=a|b", "changes no training"),
        ("data.channels=1|3", "data.channels is set by --set"),
    ],
)
def test_what_is_not_valid_is_refused_before_anything_trains(spec, message):
    with pytest.raises(RecipeError, match="--search") as refused:
        read_space([spec], ["data.channels=1"], load)
    assert message in str(refused.value)


@pytest.mark.parametrize("second", ["loss.terms={dice = 1.0}|{focal = 1.0}", "loss.terms.dice=1.0..2.0"])
def test_a_setting_is_searched_once(second):
    with pytest.raises(RecipeError, match="searched already"):
        read_space(["loss.terms={dice = 2.0}|{focal = 2.0}", second], (), load)


def test_combinations_are_all_choices_in_the_order_of_typing():
    space = read_space(["training.weight_decay=1e-2|0", "training.batch_size=8|4"], (), load)
    assert combinations(space) == [
        {"training.weight_decay": "1e-2", "training.batch_size": "8"},
        {"training.weight_decay": "1e-2", "training.batch_size": "4"},
        {"training.weight_decay": "0", "training.batch_size": "8"},
        {"training.weight_decay": "0", "training.batch_size": "4"},
    ]
    assert combinations(read_space(["training.weight_decay=1e-2|0", "model.dropout=0..0.5"], (), load)) == []


@pytest.mark.parametrize("name", shipped_recipes())
def test_the_default_space_holds_the_recipe_itself(name):
    def of_this(changes=()):
        return load_recipe(name, changes)

    recipe = of_this()
    if name == "lesion_features" or name.endswith("bottleneck"):
        with pytest.raises(RecipeError, match="no network is trained"):
            default_space(recipe, (), of_this)
        return
    space = default_space(recipe, (), of_this)
    own = own_values(space, recipe, of_this)
    assert set(own) == set(space) >= {"training.learning_rate", "training.weight_decay", "training.batch_size"}
    assert of_this(overrides_of(own)) == recipe
    assert ("loss.terms" in space) == (not recipe.classifies)
    assert ("model.dropout" in space) == hasattr(recipe.model, "dropout")
    specs = [f"{key}={text}" for key, text in describe_space(space).items()]
    assert list(read_space(specs, (), of_this)) == list(space), "not every value of it is valid"


def test_what_is_set_is_left_out_of_the_default_space():
    changes = ["training.batch_size=2", "augmentation.enabled=false", "loss.terms={dice = 1.0}"]
    space = default_space(load(changes), changes, lambda more: load([*changes, *more]))
    assert set(space) == {"training.learning_rate", "training.weight_decay", "model.dropout"}


def test_a_value_outside_the_space_is_not_tried_first():
    space = read_space(["training.weight_decay=1e-2|1e-3", "model.dropout=0..0.5"], (), load)
    assert own_values(space, load(), load) == {}


def test_the_network_comes_first_since_it_starts_the_table_afresh():
    values = {"model.dropout": 0.25, "training.epochs": 4, "model.name": "light_unet"}
    assert overrides_of(values) == ["model.name=light_unet", "model.dropout=0.25", "training.epochs=4"]
