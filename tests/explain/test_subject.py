"""A run as it is explained."""

import pytest

from ustoolkit.errors import RunError
from ustoolkit.explain.maximization import MaximizationSettings, maximize
from ustoolkit.explain.network import unfold
from ustoolkit.explain.receptive_field import receptive_fields
from ustoolkit.explain.subject import Subject, picture_size
from ustoolkit.models import build_model
from ustoolkit.recipe import Recipe
from ustoolkit.recipe.settings import DataSettings


def test_small_pictures_need_only_what_lies_before_the_layer():
    data = DataSettings(image_size=(128, 128), channels=1)
    model = unfold(build_model(Recipe(data=data, model={"name": "unet", "widths": (2, 2, 2, 2, 2)}), 2))
    layers = ["encoder0_conv1", "encoder2_conv1", "logits_conv"]
    fields = receptive_fields(model, layers)
    sizes = {layer: picture_size(model, layer, fields[layer]) for layer in layers}
    # Halved four times over, 72 pixels would not fit the decoder.
    assert sizes == {"encoder0_conv1": (48, 48), "encoder2_conv1": (72, 72), "logits_conv": (128, 128)}
    settings = MaximizationSettings(steps=1, image_size=sizes["encoder2_conv1"])
    assert maximize(model, "encoder2_conv1", [0], settings).images.shape == (1, 72, 72, 1)


def test_layers_are_named_in_the_order_of_their_depth(trained_run):
    subject = Subject(trained_run)
    assert subject.layers("decoder0_conv1, encoder0_conv1,decoder0_conv1") == ["encoder0_conv1", "decoder0_conv1"]
    assert subject.layers()[0] == "encoder0_conv1" and subject.layers()[-1] == "logits_conv"
    with pytest.raises(RunError, match="encoder1_conv1"):
        subject.layers("encodr1_conv1")
