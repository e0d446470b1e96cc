"""Copying weights between networks: which layers, under which names, to the byte."""

import numpy as np
import pytest

from ustoolkit.layers.counted import CountedLayer
from ustoolkit.models import build_model
from ustoolkit.models.transfer import load_matching, weighted_layers
from ustoolkit.recipe import load_recipe

SMALL = ("data.image_size=[32,32]",)
UNET = (*SMALL, "model.widths=[4,8]")
FCN = (*SMALL, "model.name=fcn_32s", "model.widths=[2,3,4,5,6]", "model.decoder_widths=[5,4,3,2,2]")
FCN_FULLY = (*SMALL, "model.name=fcn_8s_fc", "model.widths=[2,3,4,5,6]", "model.fully_connected_widths=[4,4]")
DEEPLAB = (
    "data.image_size=[64,64]",
    "model.name=deeplab_v3_plus",
    "model.backbone=mobilenet_v2",
    "model.backbone_width=0.35",
    "model.pyramid_width=4",
    "model.decoder_width=4",
    "model.skip_width=4",
)


def build(*overrides, classes=2):
    return build_model(load_recipe("unet", overrides), classes)


def scrambled(model):
    """The model with other numbers in every weight, moving statistics too."""
    random = np.random.default_rng(1)
    model.set_weights([random.random(weight.shape).astype(weight.dtype) for weight in model.get_weights()])
    return model


def values(model):
    """Bytes of each layer's own weights, by the layer's name."""
    return {
        name: [weight.numpy().tobytes() for weight in layer.weights] for name, layer in weighted_layers(model).items()
    }


@pytest.mark.parametrize(
    "overrides",
    [UNET, (*UNET, "model.name=lighter_unet", "model.widths=[4,8]", "model.group_size=2"), FCN, FCN_FULLY, DEEPLAB],
    ids=["unet", "lighter_unet", "fcn_32s", "fcn_8s_fc", "deeplab_v3_plus"],
)
def test_an_equal_network_is_copied_whole_and_to_the_byte(overrides):
    source, model = scrambled(build(*overrides)), build(*overrides)
    # The second network has other automatic names, since Keras numbers layers through the process.
    transfer = load_matching(model, source)
    assert transfer.not_loaded == {} and set(transfer.loaded) == set(weighted_layers(model))
    assert values(model) == values(source)
    image = np.random.default_rng(0).uniform(0, 255, (1, *model.input_shape[1:])).astype(np.float32)
    np.testing.assert_array_equal(model(image), source(image))


def test_every_weight_but_the_counters_has_one_name():
    model = build(*DEEPLAB)
    named = [weight for layer in weighted_layers(model).values() for weight in layer.weights]
    counters = [layer for layer in model._flatten_layers() if isinstance(layer, CountedLayer)]
    assert len(counters) == 1
    assert len({id(weight) for weight in named}) == len(named) == len(model.weights) - len(counters)


def test_names_do_not_depend_on_what_was_built_before():
    first = list(weighted_layers(build(*DEEPLAB)))
    assert first == list(weighted_layers(build(*DEEPLAB)))
    assert not any("_conv2d_" in name or "block_1" in name for name in first)
    assert "backbone/InvertedBottleneckBlock2/Conv2D1" in first


def test_another_number_of_classes_leaves_out_the_layer_that_decides():
    source, model = scrambled(build(*UNET, classes=2)), build(*UNET, classes=4)
    before = values(model)
    transfer = load_matching(model, source)
    assert transfer.not_loaded == {"logits_conv": "shape (1, 1, 4, 1) there, (1, 1, 4, 4) here"}
    after = values(model)
    assert after.pop("logits_conv") == before["logits_conv"]
    assert after == {name: layer for name, layer in values(source).items() if name != "logits_conv"}


def test_grey_and_colour_differ_in_the_first_kernel_alone():
    transfer = load_matching(build(*UNET, "data.channels=1"), build(*UNET))
    assert transfer.not_loaded == {"encoder0_conv1": "shape (3, 3, 3, 4) there, (3, 3, 1, 4) here"}


def test_another_image_size_changes_nothing():
    transfer = load_matching(build(*UNET), build(*UNET, "data.image_size=[64,48]"))
    assert transfer.not_loaded == {}


def test_what_the_source_does_not_have_is_named():
    transfer = load_matching(build(*UNET, "model.skips=attention"), build(*UNET))
    assert transfer.not_loaded and set(transfer.not_loaded.values()) == {"no such layer there"}
    assert all("attention" in name for name in transfer.not_loaded)


def test_layers_of_another_kind_or_with_other_weights_stay():
    groups = build(*UNET, "model.normalization=group")
    transfer = load_matching(groups, build(*UNET))
    assert transfer.not_loaded["encoder0_norm1"] == "a BatchNormalization there, a GroupNormalization here"


def test_two_forms_of_fcn_share_their_encoder():
    model = build(*FCN)
    encoder = tuple(name for name in weighted_layers(model) if name.startswith("block"))
    assert load_matching(model, build(*FCN_FULLY)).loaded == encoder and len(encoder) == 13


def test_counters_of_random_numbers_stay_as_they_are():
    source, model = build(*UNET, "model.dropout=0.5"), build(*UNET, "model.dropout=0.5")
    counter, theirs = (each.get_layer("dropout").counter for each in (model, source))
    counter.assign(5)
    theirs.assign(7)
    load_matching(model, source)
    assert int(counter) == 5


def test_the_source_is_not_changed():
    source = scrambled(build(*UNET))
    before = values(source)
    load_matching(build(*UNET), source)
    assert values(source) == before


def test_networks_without_a_layer_in_common_load_nothing():
    transfer = load_matching(build(*UNET), build(*DEEPLAB))
    assert transfer.loaded == () and len(transfer.not_loaded) == len(weighted_layers(build(*UNET)))
