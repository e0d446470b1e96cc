"""Rules on invented data sets and machines: what they choose, that it is valid, and that more time gives no less."""

import math
from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ustoolkit.data.profile import Profile, Spread
from ustoolkit.errors import RecipeError
from ustoolkit.recipe import Recipe
from ustoolkit.training import automatic_start as rules
from ustoolkit.training.automatic import choose
from ustoolkit.training.automatic_start import START, Choice
from ustoolkit.training.batch_sizes import batch_sizes
from ustoolkit.training.machine import Machine
from ustoolkit.training.network_choice import Cost, choose_network
from ustoolkit.training.network_size import LESION_PIXELS, NetworkSize
from ustoolkit.training.reasoned_recipe import own_settings, read_text, recipe_text
from ustoolkit.training.time_plan import Budget, plan_time

GIB = 2**30
CPU = Machine(cores=4, memory_bytes=16 * GIB, precision="bfloat16")
GPU = Machine(cores=16, memory_bytes=64 * GIB, gpu_bytes=(80 * GIB,), precision="float16")
PARTS = ("train", "validation", "test")


def around(value: float, spread: float = 1.1) -> Spread:
    return Spread(value / spread**2, value / spread, value, value * spread, value * spread**2)


def profile(train=800, validation=100, test=200, side=400.0, aspect=1.0, lesion=0.25, **others) -> Profile:
    middle = aspect if isinstance(aspect, float) else aspect.median
    return Profile(
        counts=dict(zip(PARTS, (train, validation, test), strict=True)),
        height=around(side / math.sqrt(middle)),
        width=around(side * math.sqrt(middle)),
        **{
            "classes": 2,
            "aspect": around(aspect) if isinstance(aspect, float) else aspect,
            "lesion_fraction": around(lesion**2),
            "lesion_share": around(lesion),
            "lesion_side": around(lesion * side),
            **others,
        },
    )


def costs(machine: Machine):
    """Costs that go with multiply-adds, as the tuned network was measured on four cores."""
    devices = 200 * len(machine.gpu_bytes) or machine.cores / 4

    def cost_of(network: NetworkSize) -> Cost:
        return Cost(network.multiply_adds * 1.3e-11 / devices + 1e-4, 40 * network.activations, 5.0)

    return cost_of


def chosen(found: Profile, machine: Machine = CPU, minutes: float = 10, **own) -> dict[str, Choice]:
    own = {setting.replace("__", "."): value for setting, value in own.items()}
    choices = choose(found, machine, Budget(60 * minutes, 10.0), costs(machine), own)
    assert len({choice.setting for choice in choices}) == len(choices)
    return {choice.setting: choice for choice in choices}


def recipe_of(choices: dict[str, Choice]) -> Recipe:
    return read_text(recipe_text(choices.values(), "chosen"))


def chosen_recipe(*arguments, **named) -> Recipe:
    return recipe_of(chosen(*arguments, **named))


def test_the_usual_set_in_the_usual_time_has_what_was_tuned():
    choices = chosen(profile(), minutes=10)
    for start in START:
        adapted = {"training.epochs", "training.minutes", "training.stop_patience", "training.branches"}
        if start.setting not in adapted | {"training.precision", "training.passes"}:
            assert choices[start.setting].value == start.value, start.setting
    recipe = recipe_of(choices)
    assert (recipe.training.branches, recipe.training.precision) == (4, "bfloat16")
    assert 8 < recipe.training.minutes < 10


def test_a_longer_time_gets_a_larger_network_and_images_that_change_more():
    usual, longer = chosen_recipe(profile(), minutes=10), chosen_recipe(profile(), minutes=60)
    assert longer.data.image_size > usual.data.image_size
    for change in ("contrast", "gamma"):
        assert getattr(longer.augmentation, change) > getattr(usual.augmentation, change)
    own = chosen_recipe(profile(), minutes=60, augmentation__gamma=0.1)
    assert own.augmentation.gamma == 0.1


@pytest.mark.parametrize("lesion", [0.2, 0.03, 0.02])
def test_the_smallest_lesions_keep_some_pixels(lesion):
    recipe = chosen_recipe(profile(side=1000, lesion=lesion), minutes=600)
    assert min(recipe.data.image_size) * lesion / 1.1 >= 0.9 * LESION_PIXELS
    larger = min(recipe.data.image_size) > min(chosen_recipe(profile(side=1000), minutes=600).data.image_size)
    assert larger == (lesion < 0.1)


@pytest.mark.parametrize("side", [33, 64, 100, 125])
def test_the_input_is_not_larger_than_the_images(side):
    recipe = chosen_recipe(profile(side=side, lesion=0.01), minutes=600)
    assert max(recipe.data.image_size) <= side + recipe.model.stride / 2


@pytest.mark.parametrize("machine", [CPU, GPU])
@pytest.mark.parametrize("side", [64, 130, 200, 300, 500, 900])
def test_the_deepest_level_sees_the_image_in_some_pixels(machine, side):
    recipe = chosen_recipe(profile(side=side, lesion=8 / side), machine, minutes=6000)
    deepest = min(recipe.data.image_size) / recipe.model.stride
    assert 8 <= deepest <= 16


def test_long_images_get_a_long_input():
    height, width = chosen_recipe(profile(aspect=2.0)).data.image_size
    assert width > 1.5 * height
    assert chosen_recipe(profile(aspect=0.78)).data.image_size == (128, 128)


def test_images_of_unlike_shapes_are_padded():
    unlike = chosen(profile(aspect=Spread(0.3, 0.5, 1.0, 1.6, 2.5)))
    assert unlike["data.keep_aspect"].value and "0.50 to 1.60" in unlike["data.keep_aspect"].reason
    assert not chosen(profile())["data.keep_aspect"].value


def test_twenty_images_are_changed_more_and_get_no_larger_network():
    few = chosen_recipe(profile(train=14, validation=3, test=3), minutes=600)
    usual = chosen_recipe(profile())
    assert few.model.widths == usual.model.widths and few.model.dropout > usual.model.dropout
    for change in ("rotation_degrees", "zoom", "shift", "contrast", "gamma"):
        assert getattr(few.augmentation, change) > getattr(usual.augmentation, change)
    assert few.training.batch_size <= 7 and few.training.passes > 5
    assert chosen_recipe(profile(train=2000), minutes=600).model.widths[0] > usual.model.widths[0]


@pytest.mark.parametrize("minutes", [1, 30])
def test_of_a_hundred_thousand_images_as_many_are_drawn_as_there_is_time_for(minutes):
    found = profile(train=100_000, validation=20_000, test=100)
    recipe = chosen_recipe(found, minutes=minutes)
    assert 0 < recipe.training.images < 100_000
    assert recipe.training.epochs >= rules.FEWEST_EPOCHS and recipe.training.passes == 1
    assert chosen_recipe(found, minutes=6000).training.images == 0


def test_a_minute_gets_a_small_network():
    recipe = chosen_recipe(profile(), minutes=1)
    usual = chosen_recipe(profile())
    assert recipe.model.widths[0] < usual.model.widths[0] and recipe.training.minutes < 1


def test_eight_gpus_share_large_batches_of_many_images_and_leave_few_to_one():
    eight = replace(GPU, gpu_bytes=8 * GPU.gpu_bytes)
    many = chosen_recipe(profile(train=20_000), eight)
    assert many.training.batch_size == 256 and many.training.learning_rate == 4e-3
    assert (many.training.strategy, many.training.branches) == ("auto", 1)
    assert many.training.precision == "float16"
    few = chosen(profile(train=30, validation=5), eight)
    assert few["training.strategy"].value == "one" and few["training.batch_size"].value <= 15


@pytest.mark.parametrize("held", [1, 3, 5, 9])
def test_memory_limits_the_batch_then_the_network(held):
    usual, _, _ = choose_network(profile(), GPU, Budget(1800), costs(GPU))
    each = costs(GPU)(usual).activation_bytes * rules.MEMORY_FACTOR / rules.MEMORY_SHARE
    small = replace(GPU, gpu_bytes=(int(held * each) + 1,))
    recipe = chosen_recipe(profile(train=3000), small, minutes=30)
    if held < rules.FEWEST_IMAGES_IN_MEMORY:
        network = NetworkSize(recipe.data.image_size, recipe.model.widths, recipe.model.stem)
        assert network.activations < usual.activations
    else:
        assert recipe.training.batch_size <= held and recipe.training.learning_rate < 2e-3


def test_classes_and_regions():
    several = chosen(profile(classes=3, several_regions=0.4))
    whole = several["inference.largest_component"]
    assert whole.value is False and "40%" in whole.reason
    assert chosen(profile(classes=3))["inference.largest_component"].value is True
    assert recipe_of(several).loss.terms == {"dice": 1.0, "cross_entropy": 1.0}


def test_images_without_any_lesion_can_be_planned_for():
    empty = profile(lesion_fraction=None, lesion_share=None, lesion_side=None, without_lesion=1.0)
    assert chosen_recipe(empty).data.image_size == (128, 128)


def test_images_stay_in_a_large_memory():
    found = profile(train=40_000)
    assert chosen(found)["data.cache"].value == "memory"
    assert chosen(found, replace(CPU, memory_bytes=4 * GIB))["data.cache"].value == "auto"


def test_what_is_the_users_stays_and_is_said_to_be():
    own = {"training__batch_size": 4, "model__dropout": 0.1, "data__image_size": [96, 96], "training__epochs": 3}
    choices = chosen(profile(train=50), **own, training__seed=5)
    for setting, value in own.items():
        assert choices[setting.replace("__", ".")] == Choice(setting.replace("__", "."), value, "yours, by --set")
    recipe = recipe_of(choices)
    assert recipe.training.seed == 5 and recipe.data.image_size == (96, 96)
    assert recipe.training.learning_rate == 1e-3 and recipe.training.branches == 1  # they go with the batch
    assert recipe.training.stop_patience == 3
    assert chosen_recipe(profile(), model__widths=[8, 16, 32]).model.widths == (8, 16, 32)


def test_settings_of_the_user_are_read_as_of_any_recipe():
    assert own_settings(["training.epochs=3", "loss.terms.dice=2.0", "inference.crf.enabled=true"]) == {
        "training.epochs": 3,
        "loss.terms": {"dice": 2.0, "cross_entropy": 1.0},
        "inference.crf.enabled": True,
    }
    for wrong, told in (
        ("training.epoch=3", "recipe 'auto'.*Did you mean 'epochs'"),
        ("training={epochs=3}", "one by one"),
        ("model.name=fcn_8s", "U-net"),
        ("data.image_size=[100,100]", "multiples of 16"),
    ):
        with pytest.raises(RecipeError, match=f"(?s){told}"):
            own_settings([wrong])


def test_every_setting_has_its_reason_above_it():
    choices = chosen(profile())
    told, table, comment = {}, "", []
    for line in recipe_text(choices.values(), "chosen").splitlines():
        if line.startswith("["):
            table = line.strip("[]")
        elif line.startswith("# "):
            comment.append(line[2:])
        elif " = " in line:
            told[f"{table}.{line.partition(' = ')[0]}"] = " ".join(comment)
            comment = []
    assert {setting: reason for setting, reason in told.items() if setting in choices} == {
        choice.setting: choice.reason for choice in choices.values()
    }


@st.composite
def profiles(draw):
    def spread(low, high):
        return Spread(*sorted(draw(st.lists(st.floats(low, high), min_size=5, max_size=5))))

    sizes = st.sampled_from([1, 2, 5, 20, 150, 300, 1000, 20_000, 1_000_000])
    lesions = draw(st.booleans())
    return Profile(
        counts={part: draw(sizes) for part in PARTS},
        classes=draw(st.integers(2, 5)),
        height=spread(8, 3000),
        width=spread(8, 3000),
        aspect=spread(0.1, 10),
        lesion_fraction=spread(1e-4, 1) if lesions else None,
        lesion_share=spread(1e-2, 1) if lesions else None,
        lesion_side=spread(1, 3000) if lesions else None,
        several_regions=draw(st.floats(0, 1)),
    )


machines = st.builds(
    Machine,
    cores=st.sampled_from([1, 2, 3, 4, 64]),
    memory_bytes=st.integers(0, 512 * GIB),
    gpu_bytes=st.sampled_from([0, 0, 1, 2, 8]).flatmap(lambda n: st.just((24 * GIB,) * n)),
    precision=st.sampled_from(["float32", "bfloat16", "float16"]),
)
budgets = st.floats(30, 3_600_000)


@given(profiles(), machines, budgets)
@settings(max_examples=60)
def test_what_is_chosen_is_always_a_recipe_that_can_be_trained(found, machine, seconds):
    choices = choose(found, machine, Budget(seconds, 10.0), costs(machine))
    text = recipe_text(choices, "chosen")
    recipe = read_text(text)
    devices = 1 if recipe.training.strategy == "one" else max(1, len(machine.gpu_bytes))
    images = min(recipe.training.images or found.images, found.images)
    assert batch_sizes(recipe.training, devices, images).images <= found.images
    assert recipe.training.minutes > 0 and all(choice.reason for choice in choices)
    assert recipe.training.epochs * recipe.training.passes >= 1


@given(profiles(), machines, budgets, budgets)
@settings(max_examples=60)
@example(profile(), CPU, 60.0, 1800.0)
def test_more_time_never_gives_a_smaller_network(found, machine, first, second):
    sizes = [choose_network(found, machine, Budget(each), costs(machine))[0] for each in sorted((first, second))]
    less, more = sizes
    assert more.multiply_adds >= less.multiply_adds and more.widths[0] >= less.widths[0]
    assert math.prod(more.image_size) >= math.prod(less.image_size)


@given(profiles(), budgets, st.floats(1e-4, 0.3))
@settings(max_examples=150)
def test_epochs_and_clock_agree(found, seconds, image_seconds):
    plan = plan_time(found, Budget(seconds, 5.0), image_seconds, 5.0, 16)
    assert plan.seconds >= rules.LEAST_TRAINING_SHARE * seconds
    if not plan.enough and plan.seconds >= rules.FEWEST_EPOCHS * plan.epoch_seconds:
        assert 0.8 <= plan.epochs * plan.epoch_seconds / plan.seconds <= 1.2


def test_no_more_epochs_than_are_of_use():
    plan = plan_time(profile(), Budget(360_000), 1e-3, 5.0, 16)
    assert plan.enough and 0 <= plan.epochs * plan.passes - rules.EPOCHS_USEFUL < plan.passes
    reasons = {choice.setting: choice.reason for choice in plan.choices("cost")}
    assert "no use" in reasons["training.epochs"]
