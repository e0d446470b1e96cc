"""A network that segments as blocks of layers, in two parts: one makes features coarser, one makes them finer again."""

import math
import re
from dataclasses import dataclass
from typing import Any, Literal

import tensorflow as tf
import tf_keras as keras

from ustoolkit.errors import RecipeError
from ustoolkit.models.deeplab import BACKBONE
from ustoolkit.models.transfer import weighted_layers

Part = Literal["contracting", "expanding"]
CONTRACTING: Part = "contracting"
EXPANDING: Part = "expanding"
_LAST: tuple[str, Part] = ("", EXPANDING)  # stands for the deepest block
# The first expression that a layer's name begins with says its block, of which groups are filled in, and its part.
_RULES: tuple[tuple[str, str, Part], ...] = (
    # U-nets, and VGG16 within FCN.
    (r"(encoder\d+|block\d+)_", r"\1", CONTRACTING),
    (r"(decoder\d+|node\d+_\d+)_", r"\1", EXPANDING),
    # Between VGG16's last pooling and the first transposed convolution; then a score of a skip and what it is added to.
    (r"fc[67]$|score_fc7$", "score_32", EXPANDING),
    (r"score_pool4$", "score_16", EXPANDING),
    (r"score_pool3$", "score_8", EXPANDING),
    (r"(?:score|up)_(\d+)$", r"score_\1", EXPANDING),
    # DeepLab's own parts.
    (r"pyramid/|branch\d+_", "pyramid", EXPANDING),
    (r"decoder/", "decoder", EXPANDING),
    (r"logits", *_LAST),
)


@dataclass(frozen=True)
class _Place:
    """Where a layer stands.

    Attributes:
        depth: layers on the longest path from the input.
        reduction: input pixels a pixel of the coarsest features on the way here, its own included; a power of 2.
        located: whether its output has places in the image, unlike a value of the whole image that weighs channels.
    """

    depth: int = 0
    reduction: int = 1
    located: bool = True


@dataclass(frozen=True)
class _Block:
    name: str
    part: Part
    layers: tuple[str, ...]


def network_blocks(model: keras.Model) -> dict[str, tuple[str, ...]]:
    """The blocks of a network that segments, shallow ones first.

    A block holds the layers between two changes of resolution, as in Amiri et al., Fine tuning U-Net for ultrasound
    image segmentation: which layers?, 2019, and the last one also the convolution of the logits, of both where there
    are two scales. A layer's depth is the longest path from the input, counted in layers, and a block is as deep as its
    deepest layer. Of a U-net the blocks are encoder0, encoder1, … and decoder0, decoder1, … with their attention gates,
    or node0_1, …; of FCN VGG16's blocks and what doubles the resolution; of a backbone backbone_2, backbone_4, … by the
    input pixels that a pixel of its features covers, behind which DeepLab has pyramid and decoder.

    Args:
        model: a network of `MODELS` that segments.
    Returns:
        for each block the names of its layers with weights, as `transfer.weighted_layers` has them, shallow ones first.
        Each layer with weights is in one block.
    Raises:
        RecipeError: the network has no such blocks.
    """
    return {block.name: block.layers for block in _blocks(model)}


def network_parts(model: keras.Model) -> dict[str, tuple[str, ...]]:
    """The blocks of the contracting part of a network that segments, and those of the expanding part.

    The contracting part are a U-net's encoders, VGG16's blocks of FCN, and the backbone of other networks; the
    expanding part is all the rest.

    Args:
        model: a network of `MODELS` that segments.
    Returns:
        'contracting' and 'expanding', each with names of blocks as in `network_blocks`, shallow ones first.
    Raises:
        RecipeError: the network has no such parts.
    """
    blocks = _blocks(model)
    return {part: tuple(block.name for block in blocks if block.part == part) for part in (CONTRACTING, EXPANDING)}


def _blocks(model: keras.Model) -> list[_Block]:
    places = _places(model)
    depths: dict[str, int] = {}
    members: dict[tuple[str, Part], list[str]] = {}
    for name, weighted in weighted_layers(model).items():
        place = places[id(weighted.layer)]
        depths[name] = place.depth
        members.setdefault(_block_of(name, place, model.name), []).append(name)
    ends = members.pop(_LAST, [])
    order = sorted(members, key=lambda block: max(depths[name] for name in members[block]))
    if {part for _, part in order} != {CONTRACTING, EXPANDING}:
        raise _no_parts(model.name, "it has not both")
    members[max((block for block in order if block[1] == EXPANDING), key=order.index)] += ends
    return [_Block(name, part, tuple(sorted(members[name, part], key=depths.__getitem__))) for name, part in order]


def _block_of(layer: str, place: _Place, network: str) -> tuple[str, Part]:
    """Name and part of the block that a layer is in."""
    if layer.startswith(f"{BACKBONE}/"):
        return f"{BACKBONE}_{place.reduction}", CONTRACTING
    for expression, block, part in _RULES:
        if found := re.match(expression, layer):
            return found.expand(block), part
    raise _no_parts(network, f"its layer '{layer}' is in none that is known")


def _no_parts(network: str, reason: str) -> RecipeError:
    return RecipeError(
        f"training.open_layers: expected a network with a contracting and an expanding part, found '{network}': "
        f"{reason}. Choose a U-net, an FCN or a DeepLab as model.name, or set training.open_layers=all."
    )


def _places(model: keras.Model) -> dict[int, _Place]:
    """Where each layer of a network stands, by the layer's id; layers within a layer stand where that one does."""
    places: dict[int, _Place] = {}
    _follow(model, _Place(), model.input_shape[1], places)
    return places


def _follow(network: keras.Model, entry: _Place, height: int, places: dict[int, _Place]) -> list[_Place]:
    """Adds the layers of a network that begins at `entry`; returns where its outputs stand."""
    reached: dict[tuple[int, int, int], _Place] = {}
    # Keras has no public list of the calls in a network, each behind those that it takes its input from.
    for depth in sorted(network._nodes_by_depth, reverse=True):
        for node in network._nodes_by_depth[depth]:
            before = [reached[_key(tensor)] for tensor in node.keras_inputs if not node.is_input]
            outputs = tf.nest.flatten(node.outputs)
            if not before:
                after = [entry] * len(outputs)
            elif hasattr(node.layer, "_nodes_by_depth"):  # a network within the network
                after = _follow(node.layer, _joined(before), height, places)
            else:
                after = [_behind(before, outputs[0].shape, height)] * len(outputs)
                places.update({id(part): after[0] for part in node.layer._flatten_layers()})
            reached.update({_key(tensor): place for tensor, place in zip(outputs, after, strict=True)})
    return [reached[_key(tensor)] for tensor in network.outputs]


def _joined(before: list[_Place]) -> _Place:
    """What layers stand behind that take all of these as input."""
    return _Place(
        max(place.depth for place in before),
        max(place.reduction for place in before),
        any(place.located for place in before),
    )


def _behind(before: list[_Place], output: tf.TensorShape, height: int) -> _Place:
    """Where a layer stands, by where its inputs come from, its output's shape and the height of the image."""
    joined = _joined(before)
    located = joined.located and len(output) == 4
    # Padding makes a side a little longer, and odd sides are rounded, so that the ratio is not always a power of 2.
    own = 2 ** round(math.log2(height / output[1])) if located else 1
    return _Place(joined.depth + 1, max(joined.reduction, own), located)


def _key(tensor: Any) -> tuple[int, int, int]:
    """The call that a tensor comes from, and which of its outputs it is."""
    layer, node, number = tensor._keras_history
    return id(layer), node, number
