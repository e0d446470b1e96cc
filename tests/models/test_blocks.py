"""Blocks of networks that segment: every layer in one, in order of depth, and two parts that make up the whole."""

import numpy as np
import pytest
import tf_keras as keras

from tests.models.networks import SEGMENTERS, small
from ustoolkit.errors import RecipeError
from ustoolkit.models import build_model, count_trainable
from ustoolkit.models.blocks import network_blocks, network_parts
from ustoolkit.models.transfer import weighted_layers
from ustoolkit.recipe import load_recipe

UNET = ("encoder0", "encoder1", "encoder2"), ("decoder1", "decoder0")
VGG16 = ("block1", "block2", "block3", "block4", "block5")
FCN = VGG16, ("decoder1", "decoder2", "decoder3", "decoder4", "decoder5")
PARTS = {
    "unet": UNET,
    "light_unet": UNET,
    "lighter_unet": UNET,
    "fcn_32s": FCN,
    "fcn_16s": FCN,
    "fcn_8s": FCN,
    "fcn_32s_fc": (VGG16, ("score_32", "score_1")),
    "fcn_16s_fc": (VGG16, ("score_32", "score_16", "score_1")),
    "fcn_8s_fc": (VGG16, ("score_32", "score_16", "score_8", "score_1")),
    # Of an output stride of 8 and 16; layers that are dilated keep the resolution, and so are in one block.
    "deeplab_v2": (("backbone_2", "backbone_4", "backbone_8"), ("pyramid",)),
    "deeplab_v3": (("backbone_2", "backbone_4", "backbone_8"), ("pyramid", "decoder")),
    "deeplab_v3_plus": (("backbone_2", "backbone_4", "backbone_8", "backbone_16"), ("pyramid", "decoder")),
    "backbone_fcn": (
        ("backbone_2", "backbone_4", "backbone_8", "backbone_16", "backbone_32"),
        ("score_32", "score_16", "score_8", "score_1"),
    ),
}
# Asked at length only: others of their family have the same layers.
_BETWEEN = {"light_unet", "lighter_unet", "fcn_32s", "fcn_16s", "fcn_16s_fc", "deeplab_v2", "deeplab_v3"}


def network(name, **settings):
    return build_model(small(name, **settings), 2)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in _BETWEEN else []) for name in SEGMENTERS]
)
def test_every_layer_is_in_one_block_and_the_parts_are_the_whole(name):
    model = network(name)
    blocks, parts = network_blocks(model), network_parts(model)
    listed = [layer for layers in blocks.values() for layer in layers]
    assert sorted(listed) == sorted(weighted_layers(model)) and len(set(listed)) == len(listed)
    assert (parts["contracting"], parts["expanding"]) == PARTS[name]
    # None of these networks refines features before all of its contracting part.
    assert tuple(blocks) == parts["contracting"] + parts["expanding"]


def test_blocks_of_a_unet_by_hand():
    blocks = network_blocks(network("unet", skips="attention", scales=2))
    pair = ("conv1", "norm1", "conv2", "norm2")
    assert blocks["encoder1"] == tuple(f"encoder1_{each}" for each in pair)
    gates = {f"decoder1_attention_{each}" for each in ("skip", "gate", "weight")}
    assert set(blocks["decoder1"]) == gates | {f"decoder1_{each}" for each in pair}
    assert blocks["decoder1"][-4:] == tuple(f"decoder1_{each}" for each in pair)
    assert {"logits_full_conv", "logits_half_conv"} < set(blocks["decoder0"])


def test_a_nested_network_is_ordered_by_its_longest_paths():
    """A level of the encoder is 7 layers, its pooling too, and a node is 8, its up-sampling and joining too."""
    model = network("unet", skips="nested", decoder="mirrored", widths=(4, 4, 4, 4), dropout=0.0)
    # Ends at 7, 14, 21, 14 + 8, 28, 21 + 8, then 28 + 8, 29 + 8, 36 + 8 and 44 + 8 layers.
    order = "encoder0 encoder1 encoder2 node0_1 encoder3 node1_1 node2_1 node0_2 node1_2 node0_3"
    assert list(network_blocks(model)) == order.split()
    assert network_blocks(model)["node0_3"][-1] == "logits_conv"


def test_the_published_network_has_nine_blocks_and_its_parts_these_weights():
    """Weights of a 3 × 3 convolution are 9 × channels × filters, and a bias for each filter."""
    model = build_model(load_recipe("ronneberger_unet"), 2)
    blocks, parts, layers = network_blocks(model), network_parts(model), weighted_layers(model)
    convolutions = [name for names in blocks.values() for name in names]
    assert parts["contracting"] == tuple(f"encoder{level}" for level in range(5))
    assert parts["expanding"] == tuple(f"decoder{level}" for level in (3, 2, 1, 0))
    assert all(len(blocks[name]) == 2 for name in list(blocks)[:-1]) and len(convolutions) == 19
    assert convolutions[9] == blocks["encoder4"][-1] and blocks["decoder0"][-1] == convolutions[-1] == "logits_conv"

    def convolution(channels, filters):
        return 9 * channels * filters + filters

    down = [(1, 64), (64, 64), (64, 128), (128, 128), (128, 256), (256, 256), (256, 512), (512, 512)]
    bottom = [(512, 1024), (1024, 1024)]
    up = [(1536, 512), (512, 512), (768, 256), (256, 256), (384, 128), (128, 128), (192, 64), (64, 64)]
    counts = {
        part: sum(int(np.prod(shape)) for block in names for layer in blocks[block] for shape in layers[layer].shapes)
        for part, names in parts.items()
    }
    assert counts["contracting"] == sum(convolution(*pair) for pair in down + bottom) == 18_842_048
    assert counts["expanding"] == sum(convolution(*pair) for pair in up) + 64 + 1 == 12_535_745
    assert sum(counts.values()) == count_trainable(model) == 31_377_793


def test_a_residual_backbone_is_divided_where_its_resolution_changes():
    """ResNet-50 has 3, 4, 6 and 3 blocks of three normalised convolutions; the first of a stage has a shortcut."""
    blocks = network_blocks(network("deeplab_v3_plus", backbone="resnet50"))
    counts = [len(blocks[name]) for name in ("backbone_2", "backbone_4", "backbone_8", "backbone_16")]
    assert counts == [2, 6 * 3 + 2, 6 * 4 + 2, 6 * 6 + 2 + 6 * 3 + 2]
    assert blocks["decoder"][-1] == "decoder/segmentation_output"


@pytest.mark.slow
@pytest.mark.parametrize(("classifier", "first"), [("vgg16", 1), ("resnet50_v2", 2), ("efficientnet_b0", 2)])
def test_padding_and_weights_of_channels_do_not_change_the_resolution(classifier, first):
    """ResNet pads before it convolves, and EfficientNet weighs channels by values of the whole image."""
    parts = network_parts(network("backbone_fcn", classifier={"name": classifier}))
    assert parts["contracting"] == tuple(f"backbone_{first * 2**level}" for level in range(5))


def test_a_network_without_such_parts_is_told_so():
    with pytest.raises(RecipeError, match=r"open_layers.*expanding part, found 'densenet161'"):
        network_parts(network("densenet161"))
    image = keras.layers.Input((8, 8, 1))
    unknown = keras.Model(image, keras.layers.Conv2D(1, 1, name="sole")(image), name="another")
    with pytest.raises(RecipeError, match="'another': its layer 'sole'"):
        network_blocks(unknown)
