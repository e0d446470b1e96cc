"""Previews: the same experiment made small, and the published settings of the recipes that they belong to."""

import pytest

from ustoolkit.errors import RecipeError
from ustoolkit.recipe import Recipe, dump_toml, load_recipe, shipped_recipes
from ustoolkit.recipe.data_set import LYMPH_NODE_AUGMENTATION
from ustoolkit.recipe.training import LossSettings

SMALL = {"demo", "fast", "fast_classifier", "lesion_features"}  # which need no preview
PREVIEWED = [name for name in shipped_recipes() if name not in SMALL]
# Previews of published networks that segment are compared with each other; those on a classifier's backbone have their
# own sizes, and that of 'fastest' is for comparing its own choices.
OWN_SIZES = {"pretrain_backbone", "fastest"}
COMPARED = [name for name in PREVIEWED if name not in OWN_SIZES and not load_recipe(name).classifies]
CLASSIFIERS = [name for name in PREVIEWED if name not in {*COMPARED, "fastest"}]
# What a preview sets otherwise than all others.
OTHERWISE = {
    **{name: {"epochs", "stop_patience", "learning_rate"} for name in ("fcn_32s", "fcn_16s", "fcn_8s")},
    "pretrain_natural": {"epochs", "stop_patience", "images"},
}

OWN = """
name = "own"
[data]
image_size = [64, 64]
[model]
widths = [8, 16, 32]
dropout = 0.4
[loss]
terms = { dice = 1.0, focal = 1.0 }
[preview.data]
image_size = [32, 32]
[preview.model]
widths = [4, 8]
[preview.loss]
terms = { dice = 1.0 }
"""


def own(folder, extra="", text=OWN):
    path = folder / "own.toml"
    path.write_text(text + extra, encoding="utf-8")
    return path


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_preview_on_a_classifiers_backbone_looks_at_less_and_downloads_nothing(name, tmp_path):
    recipe, preview = load_recipe(name), load_recipe(name, preview=True)
    assert preview.name == f"{name}-preview" and "preview" in preview.description.lower()
    assert all(small < full for small, full in zip(preview.data.image_size, recipe.data.image_size, strict=True))
    assert preview.model.weights == "off" and preview.training.minutes == 0
    path = tmp_path / "dumped.toml"
    path.write_text(dump_toml(preview), encoding="utf-8")
    assert load_recipe(path) == preview


@pytest.mark.parametrize("name", COMPARED)
def test_a_shipped_preview_is_smaller_than_its_recipe_and_reads_back_equal(name, tmp_path):
    recipe, preview = load_recipe(name), load_recipe(name, preview=True)
    assert preview.name == f"{name}-preview" and "preview" in preview.description.lower()
    assert all(small < full for small, full in zip(preview.data.image_size, recipe.data.image_size, strict=True))
    if hasattr(recipe.model, "widths"):
        assert all(4 * small == full for small, full in zip(preview.model.widths, recipe.model.widths, strict=True))
    else:
        assert preview.model.backbone_width < recipe.model.backbone_width == 1 and preview.model.weights == "off"
    assert preview.training.images > 0 and preview.training.epochs < recipe.training.epochs
    assert preview.training.minutes == 0  # a clock would make it differ from one time to the next
    path = tmp_path / "dumped.toml"
    path.write_text(dump_toml(preview), encoding="utf-8")
    assert load_recipe(path) == preview


def test_every_shipped_recipe_has_a_preview_or_is_small_itself():
    for name in SMALL - {"lesion_features"}:
        assert max(load_recipe(name).data.image_size) <= 160
    assert {"demo", "fast"} <= set(shipped_recipes())


def test_shipped_previews_share_what_they_are_compared_by():
    unet = load_recipe("unet", preview=True)
    for name in COMPARED:
        preview = load_recipe(name, preview=True)
        assert preview.data.image_size == unet.data.image_size
        assert getattr(preview.model, "dropout", unet.model.dropout) == unet.model.dropout
        alike = {key: getattr(unet.training, key) for key in {"weight_decay", *OTHERWISE.get(name, ())}}
        assert preview.training.model_copy(update=alike) == unet.training


def test_a_preview_changes_only_what_it_names(tmp_path):
    recipe, preview = load_recipe(own(tmp_path)), load_recipe(own(tmp_path), preview=True)
    assert preview == recipe.model_copy(
        update={
            "name": "own-preview",
            "data": recipe.data.model_copy(update={"image_size": (32, 32)}),
            "model": recipe.model.model_copy(update={"widths": (4, 8)}),
            "loss": LossSettings(terms={"dice": 1.0}),
        }
    )


def test_without_preview_its_table_is_left_out(tmp_path):
    with_table = load_recipe(own(tmp_path))
    without = load_recipe(own(tmp_path, text=OWN.partition("[preview")[0]))
    assert with_table == without and with_table.name == "own"


def test_overrides_go_over_the_preview(tmp_path):
    preview = load_recipe(own(tmp_path), ["model.widths=[6, 6, 6]", "training.epochs=2", "loss.terms.focal=3"], True)
    assert preview.model.widths == (6, 6, 6) and preview.model.dropout == 0.4
    assert preview.training.epochs == 2 and preview.loss.terms == {"dice": 1.0, "focal": 3.0}
    assert load_recipe(own(tmp_path), ["name=mine"], preview=True).name == "mine"


@pytest.mark.parametrize(
    ("overrides", "group_size"),
    [
        ([], 32),
        (["model.group_size=32"], 8),
        (["model.group_size=4"], 1),
        (["model.group_size=1"], 1),
        (["model.group_size=32", "model.widths=[32, 64]"], 32),  # both are 32 wide, so nothing is narrowed
        (["model.name=lighter_unet"], 32),
        (["model.name=lighter_unet", "model.group_size=32"], 8),
    ],
)
def test_groups_of_channels_narrow_with_the_network(overrides, group_size):
    assert load_recipe("lighter_unet_128", overrides, preview=True).model.group_size == group_size


def test_a_group_size_that_the_preview_sets_is_not_scaled(tmp_path):
    text = '[model]\nname = "lighter_unet"\n[preview.model]\nwidths = [4, 8]\ngroup_size = 3\n'
    assert load_recipe(own(tmp_path, text=text), preview=True).model.group_size == 3
    assert load_recipe(own(tmp_path, text=text), ["model.group_size=2"], preview=True).model.group_size == 2


def test_another_network_takes_the_preview_as_far_as_it_fits():
    lighter = load_recipe("unet", ["model.name=lighter_unet", "model.group_size=32"], preview=True).model
    assert (lighter.name, lighter.widths, lighter.dropout, lighter.group_size) == (
        "lighter_unet",
        (16, 32, 64, 128, 128),
        0.1,
        8,
    )


def test_settings_that_another_network_lacks_are_left_out_of_its_preview(tmp_path):
    text = '[model]\nname = "lighter_unet"\n[preview.model]\nwidths = [4, 8]\ngroup_size = 3\n'
    model = load_recipe(own(tmp_path, text=text), ["model.name=light_unet"], preview=True).model
    assert model.name == "light_unet" and model.widths == (4, 8)


def test_a_preview_may_name_another_network(tmp_path):
    text = '[model]\nname = "lighter_unet"\ngroup_size = 5\n[preview.model]\nname = "unet"\nwidths = [4, 8]\n'
    model = load_recipe(own(tmp_path, text=text), preview=True).model
    assert model.name == "unet" and model.widths == (4, 8)


@pytest.mark.parametrize("preview", [False, True])
@pytest.mark.parametrize(
    ("table", "answer"),
    [
        ("[preview.model]\nwidth = [4, 8]\n", r"preview\.model\.width: no such setting.*'widths'"),
        ("[preview.trainning]\n", r"preview\.trainning: no such setting.*'training'"),
        ("[preview.training]\nepochs = 0\n", r"preview\.training\.epochs: .*found 0"),
        ('[preview.model]\nname = "unett"\n', r"preview\.model\.name: .*'unett'.*'unet'"),
        ("[preview.data]\nimage_size = [33, 32]\n", r"preview\.together: data\.image_size"),
        ("[preview.preview]\n", r"preview\.preview: no such setting"),
        ('[preview]\nname = "x"\n', r"preview\.name: a preview is named after its recipe"),
        ("[preview]\nmodel = 3\n", r"preview\.model: input should be a table"),
    ],
)
def test_a_mistake_in_a_preview_is_named_whether_it_is_used_or_not(tmp_path, preview, table, answer):
    path = own(tmp_path, text='name = "own"\n' + table)
    with pytest.raises(RecipeError, match=answer) as problem:
        load_recipe(path, preview=preview)
    assert str(path) in str(problem.value)


def test_a_preview_is_a_table(tmp_path):
    with pytest.raises(RecipeError, match="preview: input should be a table of settings, found 3"):
        load_recipe(own(tmp_path, text="preview = 3\n"))


def test_a_mistake_of_the_recipe_is_not_blamed_on_its_preview(tmp_path):
    text = "[training]\nepochs = 0\n[preview.model]\nwidths = [4, 8]\n"
    with pytest.raises(RecipeError, match=r"\n  training\.epochs"):
        load_recipe(own(tmp_path, text=text))
    assert load_recipe(own(tmp_path, text=text), ["training.epochs=3"], preview=True).training.epochs == 3


def test_a_recipe_without_preview_is_answered_with_those_that_have_one():
    with pytest.raises(RecipeError, match=rf"recipe 'demo'.*\[preview\].*{', '.join(PREVIEWED)}"):
        load_recipe("demo", preview=True)


def test_a_preview_cannot_be_set_by_an_override():
    with pytest.raises(RecipeError, match="preview: no such setting"):
        load_recipe("unet", ["preview.model.dropout=0.2"], preview=True)


def test_the_lymph_node_recipe_has_what_its_paper_prints():
    recipe = load_recipe("lymph_node_unet")
    assert recipe.augmentation == LYMPH_NODE_AUGMENTATION
    model = recipe.model
    assert (model.activation, model.noise, model.noise_deviation, model.noise_form) == ("nhselu", 0.05, 0.5, "input")
    assert len(model.widths) == 5 and model.scales == 2 and recipe.loss.class_weights != "equal"


def test_the_lightweight_recipes_differ_in_the_network_alone():
    unet = load_recipe("unet")
    assert (unet.training.learning_rate, unet.training.batch_size, unet.loss.terms) == (1e-4, 8, {"dice": 1.0})
    for name in ("light_unet", "lighter_unet_128"):
        other = load_recipe(name)
        alike = {"name": "unet", "description": unet.description, "model": unet.model}
        assert other.model_copy(update=alike) == unet and other.model.widths == unet.model.widths
    assert load_recipe("lighter_unet_128").model.group_size == 128


@pytest.mark.parametrize(
    "name", ["fcn_32s", "fcn_16s", "fcn_8s", "deeplab_v3_plus_resnet101", "deeplab_v3_plus_mobilenet"]
)
def test_the_networks_compared_with_the_lightweight_ones_are_trained_as_they_are(name):
    recipe, unet = load_recipe(name), load_recipe("unet")
    assert (recipe.data, recipe.augmentation, recipe.loss) == (unet.data, unet.augmentation, unet.loss)
    decay = {"weight_decay": unet.training.weight_decay}
    assert recipe.training.model_copy(update=decay) == unet.training
    assert recipe.inference == unet.inference


def test_the_adenomyoma_recipe_has_what_its_paper_prints():
    recipe = load_recipe("deeplab_adenomyoma")
    model = recipe.model
    assert model.name == "deeplab_v2" and model.backbone.startswith("resnet") and model.output_stride == 8
    assert model.rates == (6, 12, 18, 24) and model.branch_widths == (4096, 1024)
    assert recipe.inference.crf.enabled and recipe.inference.crf.smoothness_deviation == 0
    assert recipe.augmentation.horizontal_flip == 0.5 and recipe.augmentation.rotation_degrees == 0


def test_the_fine_tuning_recipe_has_what_its_paper_prints():
    recipe = load_recipe("ronneberger_unet")
    assert recipe.model.widths == (64, 128, 256, 512, 1024) and recipe.model.decoder == "mirrored"
    assert recipe.model.normalization == "none" and recipe.model.pixel_normalization == "unit"
    assert recipe.data.image_size == (256, 256) and recipe.data.channels == 1
    assert recipe.training.stop_patience == recipe.training.epochs == 40
    assert recipe.inference.threshold == 0.5


def test_previews_are_recipes():
    assert "preview" not in Recipe.model_fields
    assert "preview" not in load_recipe("unet", preview=True).model_dump()
