"""Settings of classification: what fits together is taken, what does not is answered with a remedy."""

import pytest

from tests.classifiers import BOTTLENECK, FINE_TUNING, MEASURES, recipe_of
from ustoolkit.errors import RecipeError
from ustoolkit.recipe import dump_toml, load_recipe

C = "classification"


@pytest.mark.parametrize("form", [FINE_TUNING, BOTTLENECK, MEASURES])
def test_a_recipe_survives_its_file(form, tmp_path):
    recipe = recipe_of(form, f"{C}.positive=cancer", f"{C}.balance.class_weights=[1,2]")
    (tmp_path / "recipe.toml").write_text(dump_toml(recipe))
    assert load_recipe(tmp_path / "recipe.toml") == recipe and recipe.classifies


@pytest.mark.parametrize("value", ["all", "none", "4", "['block5','conv5']"])
def test_layers_are_named_in_four_ways(value):
    found = recipe_of(FINE_TUNING, f"{C}.transfer.open_layers={value}").classification.transfer.open_layers
    assert found == {"4": 4, "['block5','conv5']": ("block5", "conv5")}.get(value, value)


@pytest.mark.parametrize(
    ("form", "changes", "answer"),
    [
        (FINE_TUNING, [f"{C}.region.source=predicted"], "needs a segmenter; name run folders"),
        (FINE_TUNING, [f"{C}.region.source=image", f"{C}.region.mask_channel=true"], "mask_channel needs a mask"),
        (FINE_TUNING, [f"{C}.balance.smote=features"], "choose 'pixels'"),
        (FINE_TUNING, ["data.image_size=[32,64]"], "two equal sides"),
        (FINE_TUNING, ["data.image_size=[16,16]"], "needs 32 or more"),
        (FINE_TUNING, [f"{C}.transfer.open_layers=0"], "open_layers"),
        (FINE_TUNING, [f"{C}.decision.sensitivity=0"], "sensitivity"),
        (FINE_TUNING, [f"{C}.region.marign=0.2"], "margin"),
        (FINE_TUNING, [f"{C}.positive="], "positive"),
        (BOTTLENECK, [f"{C}.transfer.estimators=[]"], "estimators"),
        (BOTTLENECK, [f"{C}.transfer.inner_folds=1"], "inner_folds"),
        (MEASURES, ["model.families=[]"], "model.families"),
        (MEASURES, [f"{C}.region.source=image"], "needs a lesion"),
        (MEASURES, [f"{C}.balance.smote=pixels"], "leave out expand_to"),
        (MEASURES, [f"{C}.balance.expand_to=50"], "leave out expand_to"),
    ],
)
def test_what_does_not_fit_is_answered(form, changes, answer):
    with pytest.raises(RecipeError, match=answer):
        recipe_of(form, *changes)


def test_a_network_that_segments_takes_no_settings_of_classification():
    with pytest.raises(RecipeError, match=r"\[classification\] is for networks that classify, and unet segments"):
        load_recipe("unet", [f"{C}.positive=cancer"])
    with pytest.raises(RecipeError, match="unet segments"):
        load_recipe("lesion_features", ["model.name=unet"])
    assert not load_recipe("unet", []).classifies


def test_an_image_of_any_shape_is_taken_whole():
    assert recipe_of(FINE_TUNING, "data.image_size=[32,64]", f"{C}.region.source=image").data.image_size == (32, 64)
