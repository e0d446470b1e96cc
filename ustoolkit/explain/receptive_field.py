"""How much of the image a unit of each layer looks at, found by following the graph from the pixels."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import tensorflow as tf
import tf_keras as keras

from ustoolkit.errors import RunError
from ustoolkit.explain.network import check_layers, unfold
from ustoolkit.explain.receptive_extent import Extent, Extents, behind

_UNKNOWN_SIDE = 256  # pixels, of a network that fits all sizes
_MEASURING = frozenset({"Rank", "Shape", "ShapeN", "Size"})  # the pixels have no part in the result


@dataclass(frozen=True)
class ReceptiveField:
    """The part of the image that can change one unit of a layer.

    Attributes:
        height: pixels from the first to the last that the unit looks at, those beyond the border counted; `math.inf`
            where it is the whole image, however large.
        width: likewise.
        stride_height: pixels from a unit to the one below; a fraction where units are denser than pixels, 0 where the
            layer has none side by side.
        stride_width: likewise, to the right.
    """

    height: float
    width: float
    stride_height: Fraction
    stride_width: Fraction


_EVERYTHING = ReceptiveField(math.inf, math.inf, Fraction(0), Fraction(0))


def receptive_fields(model: keras.Model, layers: Sequence[str]) -> dict[str, ReceptiveField]:
    """The theoretical receptive fields of layers (Araujo et al., Computing Receptive Fields, Distill, 2019).

    The network is traced, not computed, and followed operation by operation, so that blocks of other libraries need no
    special treatment. The fields are exact for convolutions, pooling, padding, cropping, resizing and joins. Units side
    by side may differ, behind an up-sampling for instance: the largest field counts. A side that was rounded when it
    was halved makes a resizing by a factor that is not whole; the nearest whole one, or one over it, is taken.

    The whole image is seen from behind a mean over it (squeeze and excitation, image pooling, group normalization,
    pixels that are standardized), and so it is said of any operation that mixes places in a way not known here, such as
    attention, a loop, layer normalization or a dense layer on features with places, where it is an upper bound.

    Args:
        model: as `unfold` takes it; its weights do not matter.
        layers: names, as `inner_layers` gives them.
    Returns:
        the field of a unit of each layer's output, by its name; infinite, with a stride of 0, for an output without
        height and width.
    Raises:
        RunError: there is no layer of a name, or one puts out several tensors.
    """
    check_layers(model, layers)
    height, width = (side or _UNKNOWN_SIDE for side in model.input_shape[1:3])
    return fields_of_unfolded(unfold(model, image_size=(height, width)), layers)


def fields_of_unfolded(copy: keras.Model, layers: Sequence[str]) -> dict[str, ReceptiveField]:
    """As `receptive_fields`, of a network of a fixed size that `unfold` gave.

    Raises:
        RunError: a layer puts out several tensors.
    """
    outputs = {name: single_output(copy, name) for name in layers}
    if not outputs:
        return {}
    inner = keras.Model(copy.input, outputs)
    traced = tf.function(lambda images: inner(images, training=False)).get_concrete_function(
        tf.TensorSpec((1, *copy.input_shape[1:]), copy.input.dtype)
    )
    extents = _followed(traced.graph, traced.inputs[0])
    # A name in the graph ends in an identity, so that the input itself is an output too.
    ends = dict(zip(sorted(outputs), traced.outputs, strict=True))
    return {name: _field(extents.get(ends[name].ref()), ends[name].shape.rank) for name in layers}


def single_output(copy: keras.Model, name: str) -> tf.Tensor:
    """The one tensor that a layer of an unfolded network puts out.

    Raises:
        RunError: it puts out several.
    """
    found = tf.nest.flatten(copy.get_layer(name).output)
    if len(found) != 1:
        raise RunError(
            f"layer '{name}' of {copy.name}: expected one output, found {len(found)}. Name the layers that take them."
        )
    return found[0]


def _followed(graph: tf.Graph, image: tf.Tensor) -> dict[object, Extents]:
    """The extents of all tensors of a graph that the image has a part in."""
    extents: dict[object, Extents] = {image.ref(): (Extent(Fraction(1), (0,), (0,)),) * 2}
    for operation in graph.get_operations():
        given = [extents.get(tensor.ref()) for tensor in operation.inputs]
        if not any(given) or operation.type in _MEASURING:
            continue
        several = operation.type == "IdentityN"  # functions with gradients of their own end in one
        found = given if several else [behind(operation, given)] * len(operation.outputs)
        extents.update({out.ref(): each for out, each in zip(operation.outputs, found, strict=True) if each})
    return extents


def _field(extents: Extents | None, rank: int | None) -> ReceptiveField:
    if rank != 4 or extents is None:
        return _EVERYTHING
    down, across = extents
    return ReceptiveField(down.pixels, across.pixels, down.stride, across.stride)
