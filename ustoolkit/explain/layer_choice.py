"""Which layer of a network Grad-CAM looks at."""

import math

import tensorflow as tf
import tf_keras as keras

from ustoolkit.errors import RunError
from ustoolkit.explain.network import inner_layers, kernel_layers, unfold
from ustoolkit.layers.dropout import CountedDropout


def default_layer(model: keras.Model) -> str:
    """The layer whose Grad-CAM says most of a network as a whole.

    Layers of a single position, whose map would be the same everywhere, are left out, and so are those that change
    nothing at inference, such as dropout.

    Args:
        model: of a classifier, or of a segmentation network.
    Returns:
        of a classifier the last layer with positions. Of a segmentation network the last at its coarsest resolution,
        the bottleneck; not one of several beside each other, nor one that already holds scores of the classes.
    Raises:
        RunError: no layer has positions.
    """
    copy = taken_apart(model)
    positions = {layer.name: _positions(layer) for layer in copy.layers if not _passes_on(layer)}
    names = [name for name, count in positions.items() if count > 1]
    if not names:
        raise RunError(
            f"the network {copy.name}: expected a layer with an output (n, height, width, filters) of a fixed size, "
            "found none. Name a layer, or build the network for one size of image."
        )
    if len(copy.output_shape) != 4:
        return names[-1]
    scores = _score_layers(copy)
    names = [name for name in names if name not in scores] or names
    coarsest = min(positions[name] for name in names)
    names = [name for name in names if positions[name] == coarsest]
    before = _ancestors(copy)
    alone = [
        name
        for name in names
        if all(other == name or other in before[name] or name in before[other] for other in names)
    ]
    return (alone or names)[-1]


def taken_apart(model: keras.Model) -> keras.Model:
    """A network's unfolded copy, or the network itself where it is one already.

    Args:
        model: a functional network with one input, which may hold others.
    Returns:
        a network whose layers bear the names of `inner_layers` and are called once.
    """
    once = all(len(layer.inbound_nodes) == 1 for layer in model.layers)
    return model if once and {layer.name for layer in model.layers} == set(inner_layers(model)) else unfold(model)


def has_positions(layer: keras.layers.Layer) -> bool:
    """Whether a layer's output is (n, height, width, filters)."""
    output = layer.output
    return keras.backend.is_keras_tensor(output) and len(output.shape) == 4


def layers_to_look_at(copy: keras.Model) -> str:
    """A sentence that names layers that Grad-CAM can look at, the deepest last, for messages.

    Args:
        copy: of `taken_apart`.
    """
    names = [name for name in kernel_layers(copy) if has_positions(copy.get_layer(name))][-6:]
    return f"Choose a layer before the output, such as {', '.join(names)}." if names else "No layer can be looked at."


def _positions(layer: keras.layers.Layer) -> int:
    """Height times width, 0 where there is none or it is not known."""
    return math.prod(side or 0 for side in layer.output.shape[1:3]) if has_positions(layer) else 0


def _passes_on(layer: keras.layers.Layer) -> bool:
    """Whether a layer gives at inference what it gets."""
    if isinstance(layer, keras.layers.Activation):
        return layer.activation is keras.activations.linear
    dropout = (CountedDropout, keras.layers.Dropout, keras.layers.SpatialDropout2D)
    return isinstance(layer, dropout) or layer.name.startswith("tf.identity")


def _ancestors(copy: keras.Model) -> dict[str, set[str]]:
    """For each layer those that it depends on."""
    before: dict[str, set[str]] = {}
    for layer in copy.layers:  # Keras lists a layer behind those that it takes its input from
        sources = {tensor._keras_history.layer.name for tensor in tf.nest.flatten(layer.input)} - {layer.name}
        before[layer.name] = sources.union(*(before[name] for name in sources))
    return before


def _score_layers(copy: keras.Model) -> set[str]:
    """Layers behind which, themselves included, nothing has another number of channels than the output."""
    found: set[str] = set()
    for layer in reversed(copy.layers):
        following = {node.layer.name for node in layer.outbound_nodes}
        if following <= found and layer.output_shape[-1] == copy.output_shape[-1]:
            found.add(layer.name)
    return found
