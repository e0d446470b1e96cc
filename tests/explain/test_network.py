"""Networks taken apart."""

import numpy as np
import pytest

from tests.models.networks import SMALLEST, images_of, randomized, small
from ustoolkit.errors import RunError
from ustoolkit.explain.network import activated, inner_layers, kernel_layers, unfold
from ustoolkit.models import MODELS, build_model

QUICK = {"unet", "lighter_unet", "fcn_8s", "vgg16", "densenet161"}


def _model(name: str):
    return randomized(build_model(small(name), 2))


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in MODELS]
)
def test_a_copy_computes_the_same_and_has_every_layer_within_reach(name):
    assert name in SMALLEST
    model = _model(name)
    copy = unfold(model)
    images = images_of(1, 64, 64, 3)
    np.testing.assert_array_equal(copy(images, training=False), model(images, training=False))
    assert [layer.name for layer in copy.layers if layer.name not in inner_layers(model)] == []
    assert kernel_layers(model) == kernel_layers(copy)


def test_a_copy_shares_no_weight():
    model = _model("unet")
    copy = unfold(model)
    before = model(images_of(1, 64, 64, 3), training=False).numpy()
    for weight in copy.weights:
        weight.assign(weight * 0)
    np.testing.assert_array_equal(model(images_of(1, 64, 64, 3), training=False), before)


def test_cut_off_at_a_layer_and_at_another_size():
    model = _model("unet")
    cut = unfold(model, "encoder1_conv1", (16, 32))
    assert cut.output_shape == (None, 8, 16, 8)
    assert {layer.name for layer in cut.layers} < set(inner_layers(model))
    assert "encoder1_conv2" not in {layer.name for layer in cut.layers}


@pytest.mark.slow
def test_names_are_the_same_for_a_network_that_is_built_again():
    assert kernel_layers(_model("deeplab_v2")) == kernel_layers(_model("deeplab_v2"))


def test_layers_are_ordered_from_the_first_to_the_deepest():
    names = kernel_layers(_model("unet"))
    assert names[0] == "encoder0_conv1"
    assert names[-1] == "logits_conv"
    assert names.index("encoder2_conv2") < names.index("decoder1_conv1")


def test_a_filter_passes_on_what_its_activation_leaves():
    copy = unfold(_model("unet"))
    assert activated(copy, "encoder0_conv1") == "encoder0_activation1"
    copy = unfold(_model("vgg16"))
    assert activated(copy, "block1_conv1") == "block1_conv1"


def test_a_name_with_a_typing_error_is_answered_with_the_nearest():
    with pytest.raises(RunError, match="encoder1_conv1"):
        unfold(_model("unet"), "encoder1_conv")
