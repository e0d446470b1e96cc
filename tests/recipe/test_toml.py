"""Recipes: all that ships is valid, whatever a user types is answered, and what is written reads back equal."""

import tomllib

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from ustoolkit.errors import RecipeError
from ustoolkit.recipe import (
    DataSetSettings,
    Recipe,
    dump_toml,
    load_data_set,
    load_recipe,
    shipped_recipes,
    validate,
)
from ustoolkit.recipe.validation import nearest


def tables(content, path=""):
    """Every table of a settings dump, with its dotted name."""
    yield path, content
    for key, value in content.items():
        if isinstance(value, dict):
            yield from tables(value, f"{path}.{key}" if path else key)


def leaves(content):
    for value in content.values() if isinstance(content, dict) else content:
        if isinstance(value, dict | list | tuple):
            yield from leaves(value)
        else:
            yield value


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("name", shipped_recipes())
def test_every_shipped_recipe_loads_and_reads_back_equal(name, tmp_path):
    recipe = load_recipe(name)
    assert recipe.name == name
    assert recipe.description
    assert load_recipe(write(tmp_path / "dumped.toml", dump_toml(recipe))) == recipe


def test_some_recipes_are_shipped():
    assert {"demo", "fast", "unet"} <= set(shipped_recipes())


@pytest.mark.parametrize("settings_type", [Recipe, DataSetSettings])
def test_a_dump_spells_out_every_default_and_no_null(settings_type):
    content = settings_type().model_dump(mode="json")
    assert None not in list(leaves(content))
    # A recipe of a network that segments has no use for settings of classification.
    dumped = {key: value for key, value in content.items() if key != "classification"}
    assert tomllib.loads(dump_toml(settings_type())) == dumped
    assert validate(settings_type, content, "dumped") == settings_type()


def test_a_recipe_that_classifies_is_dumped_with_all_of_classification():
    recipe = load_recipe("lesion_features")
    content = recipe.model_dump(mode="json")
    assert content["classification"] and tomllib.loads(dump_toml(recipe)) == content


@pytest.mark.parametrize("name", shipped_recipes())
def test_no_shipped_recipe_holds_a_null(name):
    assert None not in list(leaves(load_recipe(name).model_dump()))


@given(st.text(max_size=40), st.lists(st.integers(1, 64).map(lambda side: 16 * side), min_size=2, max_size=2))
@settings(deadline=None, max_examples=100)
def test_any_valid_recipe_reads_back_equal(tmp_path_factory, description, size):
    recipe = Recipe(description=description, data={"image_size": size})
    path = write(tmp_path_factory.mktemp("recipe") / "a.toml", dump_toml(recipe))
    assert load_recipe(path) == recipe


def test_settings_are_frozen():
    with pytest.raises(ValueError, match="frozen"):
        load_recipe("demo").training.epochs = 3


@pytest.mark.parametrize(
    ("override", "answer"),
    [
        ("trainning={}", "'training'"),
        ("training.epoch=3", "'epochs'"),
        ("data.image_sise=[32, 32]", "'image_size'"),
        ("model.width=[4, 8]", "'widths'"),
        ("inference.treshold=0.4", "'threshold'"),
        ("loss.term={ dice = 1.0 }", "'terms'"),
    ],
)
def test_an_unknown_key_is_answered_with_the_nearest(override, answer):
    with pytest.raises(RecipeError, match=rf"no such setting.*{answer}") as problem:
        load_recipe("demo", [override])
    assert override.split("=")[0] in str(problem.value)


def message_of(*overrides):
    with pytest.raises(RecipeError) as problem:
        load_recipe("demo", overrides)
    return str(problem.value).partition("not valid:\n  ")[2]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["model.name=lighter_unett"],
            "model.name: expected one of 'unet', 'light_unet', 'lighter_unet', 'fcn_32s', 'fcn_16s', 'fcn_8s', "
            "'fcn_32s_fc', 'fcn_16s_fc', 'fcn_8s_fc', 'deeplab_v2', 'deeplab_v3', 'deeplab_v3_plus', 'backbone_fcn', "
            "'vgg16', 'vgg19', 'resnet50', 'resnet101', 'resnet50_v2', 'resnet101_v2', 'densenet121', 'densenet169', "
            "'densenet201', 'densenet161', 'efficientnet_b0', 'efficientnet_v2_b0', 'lesion_features', found "
            "'lighter_unett'. "
            "Did you mean 'lighter_unet' or 'light_unet'?",
        ),
        (
            ["model.name=lighter_unet", "model.group_siz=3"],
            "model.group_siz: no such setting. Did you mean 'group_size'?",
        ),
        (["model.group_size=3"], "model.group_size: no such setting of 'unet', only of 'lighter_unet'."),
        (
            ["model.name=lighter_unet", "model.group_size=0"],
            "model.group_size: input should be greater than or equal to 1, found 0",
        ),
        (
            ["model.name=deeplab_v2", "model.pyramid_width=8"],
            "model.pyramid_width: no such setting of 'deeplab_v2', only of 'deeplab_v3', 'deeplab_v3_plus'.",
        ),
        (
            ["inference.crf.iterations=0"],
            "inference.crf.iterations: input should be greater than or equal to 1, found 0",
        ),
        (["model.widths=[8]"], "model.widths: list should have at least 2 items, not 1, found [8]"),
        (
            ["model.widths=[4, 8, 'a']"],
            "model.widths.2: input should be a valid integer, unable to parse string as an integer, found 'a'",
        ),
        (
            ["model.skips=nested"],
            "model: skips 'nested' has the encoder's filters at each node; set decoder = \"mirrored\" too",
        ),
        (["model=3"], "model: input should be a table of settings, found 3"),
        (
            ["loss.class_weights=equall"],
            "loss.class_weights: input should be 'equal' or 'balanced', or a valid list, found 'equall'. "
            "Did you mean 'equal'?",
        ),
        (["loss.class_weights=[1, 0]"], "loss.class_weights.1: input should be greater than 0, found 0"),
        (
            ["loss.class_weights=2"],
            "loss.class_weights: input should be 'equal' or 'balanced', or a valid list, found 2",
        ),
        (["loss.scale_weights=[1]"], "loss.scale_weights.1: field required"),
    ],
)
def test_a_message_names_the_key_as_it_is_written_and_says_once_what_is_expected(overrides, message):
    assert message_of(*overrides) == message


def test_an_unknown_key_unlike_any_other_is_answered_with_all():
    with pytest.raises(RecipeError, match=r"Valid names: .*epochs.*learning_rate.*seed"):
        load_recipe("demo", ["training.qqqq=3"])


def test_an_unknown_key_at_every_depth_of_a_file_names_the_file_and_the_key(tmp_path):
    for path, _ in tables(Recipe().model_dump(mode="json")):
        if path == "loss.terms":
            continue  # its keys are the names of losses
        text = f"[{path}]\nunheard_of = 1\n" if path else "unheard_of = 1\n"
        file = write(tmp_path / "recipe.toml", text)
        with pytest.raises(RecipeError, match="no such setting") as problem:
            load_recipe(file)
        assert str(file) in str(problem.value)
        assert (f"{path}.unheard_of" if path else "unheard_of") in str(problem.value)


def test_an_unknown_key_of_a_table_in_a_description_is_answered(tmp_path):
    path = write(tmp_path / "busi.toml", "[table]\npatiant = 'case'\n")
    with pytest.raises(RecipeError, match=r"table\.patiant: no such setting.*'patient'"):
        load_data_set(path)


def test_an_unknown_loss_is_refused_with_the_ones_there_are():
    with pytest.raises(RecipeError, match=r"loss\.terms\.dyce.*'dice'"):
        load_recipe("demo", ["loss.terms={ dyce = 1.0 }"])


def test_all_that_is_wrong_is_said_at_once():
    with pytest.raises(RecipeError) as problem:
        load_recipe("demo", ["training.epochs=0", "data.channels=2", "training.optimizer=ada"])
    for key in ("training.epochs", "data.channels", "training.optimizer"):
        assert key in str(problem.value)
    assert "found 0" in str(problem.value)
    assert "'ada'" in str(problem.value)


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("training.epochs=5", 5),
        (" training.epochs = 5", 5),
        ("training.learning_rate=1e-3", 1e-3),
        ("training.optimizer=sgd", "sgd"),
        ('training.optimizer="sgd"', "sgd"),
        ("data.keep_aspect=true", True),
        ("data.image_size=[64, 32]", (64, 32)),
        ("description=two words = one text", "two words = one text"),
        ("loss.terms={ dice = 2.0 }", {"dice": 2.0}),
        ("loss.terms.dice=0.5", {"dice": 0.5, "cross_entropy": 1.0}),
    ],
)
def test_an_override_is_toml_and_else_a_string(override, value):
    recipe = load_recipe("demo", [override])
    found = recipe
    for part in override.partition("=")[0].strip().split(".")[:2]:
        found = getattr(found, part)
    assert found == value


def test_the_last_override_of_a_key_holds():
    assert load_recipe("demo", ["training.epochs=5", "training.epochs=6"]).training.epochs == 6


def test_naming_the_model_starts_its_table_afresh():
    default = Recipe().model
    shipped = load_recipe("demo").model
    assert shipped != default
    assert load_recipe("demo", ["model.name=unet"]).model == default
    assert load_recipe("demo", ["model.name=unet", "model.widths=[4, 8]"]).model.widths == (4, 8)
    assert load_recipe("demo", ["model.widths=[4, 8]", "model.name=unet"]).model == default


@pytest.mark.parametrize("override", ["training.epochs", "=5", ".epochs=5", "training.=5", "training..epochs=5", ""])
def test_an_override_without_key_or_value_is_refused_with_an_example(override):
    with pytest.raises(RecipeError, match=r"expected table\.key=value, such as training\.epochs=5"):
        load_recipe("demo", [override])


def test_a_setting_is_no_table():
    with pytest.raises(RecipeError, match="'epochs' is a value, not a table"):
        load_recipe("demo", ["training.epochs.first=5"])


def known_keys():
    return [
        f"{path}.{key}" if path else key for path, table in tables(Recipe().model_dump(mode="json")) for key in table
    ]


overrides = st.one_of(
    st.text(max_size=40),
    st.builds("{}={}".format, st.sampled_from(known_keys()), st.text(max_size=30)),
    st.builds(
        "{}={}".format,
        st.lists(st.sampled_from([*known_keys(), "", "a", "0", " "]), min_size=1, max_size=3).map(".".join),
        st.one_of(
            st.integers().map(str),
            st.floats().map(str),
            st.sampled_from(["[]", "{}", "[1, 'a']", "1979-05-27", "true", "[[1]]", "{a=1}", "nan", "'", "1\n[b]"]),
        ),
    ),
)


@given(st.lists(overrides, max_size=3))
@example(["training.epochs=" + "9" * 5000])
@example(["training.epochs=" + "[" * 5000])
@example(["training.minutes=1979-05-27T00:00:00Z"])
@example(["model=unet", "model.widths=[1]"])
@example(["model=3"])
@example(["description=a\x00b"])
@settings(deadline=None, max_examples=400)
def test_any_override_gives_a_recipe_or_a_recipe_error(texts):
    try:
        recipe = load_recipe("demo", texts)
    except RecipeError as problem:
        assert str(problem)
    else:
        assert isinstance(recipe, Recipe)


@given(st.text(max_size=60))
@example("a=" + "[" * 5000)
@example("a=" + "9" * 5000)
@settings(deadline=None, max_examples=200)
def test_any_file_gives_settings_or_a_recipe_error(tmp_path_factory, text):
    path = write(tmp_path_factory.mktemp("recipe") / "a.toml", text)
    for load in (load_recipe, load_data_set):
        try:
            assert isinstance(load(path), BaseModel)
        except RecipeError as problem:
            assert str(path) in str(problem)


@pytest.mark.parametrize(
    ("content", "expected"),
    [(b"a = ", "expected TOML"), (b"\xff\xfe", "expected a TOML text file"), (None, "no such")],
)
def test_a_file_that_is_no_toml_is_named(tmp_path, content, expected):
    path = tmp_path / "recipe.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RecipeError, match=expected) as problem:
        load_recipe(path)
    assert str(path) in str(problem.value)


def test_a_name_that_is_not_shipped_is_answered_with_those_that_are():
    with pytest.raises(RecipeError, match=r"demo, fast, .*Did you mean 'demo'"):
        load_recipe("demoo")


@pytest.mark.parametrize("size", ["[40, 48]", "[48, 40]", "[1, 1]"])
def test_sides_that_the_network_cannot_halve_are_refused_with_the_way_out(size):
    with pytest.raises(RecipeError, match=r"network needs multiples of 16; change data\.image_size or model\.widths"):
        load_recipe("demo", [f"data.image_size={size}"])


def test_fewer_levels_allow_smaller_steps():
    recipe = load_recipe("demo", ["data.image_size=[40, 48]", "model.widths=[4, 8, 16, 16]"])
    assert recipe.model.stride == 8


@pytest.mark.parametrize(
    "override",
    [
        "training.learning_rate=nan",
        "training.learning_rate=inf",
        "training.learning_rate=0",
        "inference.threshold=1.5",
        "augmentation.zoom=1",
        "model.widths=[8]",
        "data.image_size=[32]",
        "loss.terms={}",
        "loss.terms.dice=0",
        "name=a b",
    ],
)
def test_values_out_of_range_are_refused(override):
    with pytest.raises(RecipeError, match=override.partition("=")[0].replace(".", r"\.")):
        load_recipe("demo", [override])


def test_a_description_is_named_after_its_file_and_its_path_starts_there(tmp_path):
    settings = load_data_set(write(tmp_path / "busi.toml", 'path = "../raw/busi"\npatient = "(\\\\d+)"\n'))
    assert settings.name == "busi"
    assert settings.path == str(tmp_path / "../raw/busi")
    assert settings.patient == r"(\d+)"


def test_a_description_keeps_a_name_of_its_own_and_an_absolute_path(tmp_path):
    settings = load_data_set(write(tmp_path / "busi.toml", f'name = "other"\npath = "{tmp_path}/elsewhere"\n'))
    assert (settings.name, settings.path) == ("other", f"{tmp_path}/elsewhere")


def test_a_description_without_a_path_has_none(tmp_path):
    assert load_data_set(write(tmp_path / "busi.toml", "")).path == ""


def test_a_description_starts_at_home_where_it_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/somebody")
    assert load_data_set(write(tmp_path / "a.toml", 'path = "~/images"\n')).path == "/home/somebody/images"


def test_a_description_needs_a_background_and_a_lesion(tmp_path):
    with pytest.raises(RecipeError, match="classes"):
        load_data_set(write(tmp_path / "busi.toml", 'classes = ["background"]\n'))


@given(st.text(max_size=10), st.lists(st.text(max_size=10), max_size=5))
def test_nearest_always_offers_something_valid(name, valid):
    answer = nearest(name, valid)
    assert bool(answer) == bool(valid)
    assert not valid or any(item in answer for item in valid)
