"""The layers that are taken from a Keras file, and what of their settings is.

All of them compute and nothing else: none reads files (as CVE-2025-12058 has it), calls functions that a file names,
or holds layers of its own. Settings are plain values; what a trained layer does without, such as initialisers, is left
out.
"""

import inspect
from collections.abc import Callable
from typing import Any

import tf_keras as keras

from ustoolkit.errors import RunError
from ustoolkit.layers.dropout import CountedDropout
from ustoolkit.layers.grouped import GroupedConvolution
from ustoolkit.layers.noisy import NoisyActivation
from ustoolkit.layers.preprocessing import PixelNormalization
from ustoolkit.layers.stochastic_depth import StochasticDepth

Refusal = Callable[[str, Any], RunError]
"""From what was expected and what was found to the error to raise."""

JOINING = frozenset({"Add", "Average", "Concatenate", "Maximum", "Minimum", "Multiply", "Subtract"})
_COMPUTING = ("Conv2D", "Conv2DTranspose", "Dense", "DepthwiseConv2D", "Rescaling", "SeparableConv2D")
_NORMALIZING = ("BatchNormalization", "GroupNormalization", "LayerNormalization")
_ACTIVATING = ("Activation", "ELU", "LeakyReLU", "PReLU", "ReLU", "Softmax")
_POOLING = ("AveragePooling2D", "GlobalAveragePooling2D", "GlobalMaxPooling2D", "MaxPooling2D")
_SHAPING = ("Cropping2D", "Permute", "Reshape", "Resizing", "UpSampling2D", "ZeroPadding2D")
_RANDOM = ("Dropout", "GaussianDropout", "GaussianNoise", "SpatialDropout2D")
_BUILT_IN = (*_COMPUTING, *_NORMALIZING, *_ACTIVATING, *_POOLING, *_SHAPING, *_RANDOM, *sorted(JOINING))
OURS = {
    layer.__name__: layer
    for layer in (CountedDropout, GroupedConvolution, NoisyActivation, PixelNormalization, StochasticDepth)
}
LAYERS: dict[str, type[keras.layers.Layer]] = {**{name: getattr(keras.layers, name) for name in _BUILT_IN}, **OURS}

_FUNCTIONS = ("builtins", "keras.activations", "tf_keras.activations")
# Without those that Keras 2 and Keras 3 compute differently, such as hard_sigmoid.
_FOR_FEATURES = ("elu", "gelu", "relu", "selu", "silu", "softplus", "softsign", "swish", "tanh")
_ACTIVATIONS = ("linear", "sigmoid", "softmax", *_FOR_FEATURES)
_UNUSED = ("_initializer", "_regularizer", "_constraint")  # endings of settings that a trained layer does without
_LEFT_OUT = frozenset({"name", "dtype", "trainable", "batch_input_shape", "batch_shape"})
_NOT_SETTINGS = frozenset({"self", "args", "kwargs"})
_NOTHING_SAID = (None, False, 0, "channels_last", "constant")  # of settings that only another version has
_MOST_VALUES, _MOST_LEVELS = 4000, 3  # of a list
_LARGEST_NUMBER = 2**20


def take_layer(kind: str, name: str, settings: dict[str, Any]) -> keras.layers.Layer:
    """Makes a layer of the list.

    Args:
        kind: its class.
        name: its own.
        settings: what `checked_settings` left.
    Raises:
        Exception: the settings do not fit the layer; which one, differs from layer to layer.
    """
    return LAYERS[kind](name=name, **settings)


def checked_settings(kind: str, content: dict[str, Any], refusal: Refusal) -> dict[str, Any]:
    """The arguments of a layer.

    Args:
        kind: its class.
        content: what a file says of it, by tf_keras or Keras 3.
        refusal: makes the error.
    Raises:
        RunError: a setting is no plain value, or not known and not what the layer does anyway.
    """
    known, settings = _arguments(LAYERS[kind]), {}
    for key, value in content.items():
        if key in _LEFT_OUT or key.endswith(_UNUSED):
            continue
        if key == "activation" and kind != NoisyActivation.__name__:
            settings[key] = _activation(value, refusal)
        elif kind == "LeakyReLU" and key == "negative_slope":  # as Keras 3 calls it
            settings["alpha"] = _plain(value, f"{kind}.{key}", refusal)
        elif key in known:
            settings[key] = _plain(value, f"{kind}.{key}", refusal)
        elif isinstance(value, dict | list) or value not in _NOTHING_SAID:
            raise refusal(f"settings of {kind} that are known here", f"{key} = {value}")
    if settings.get("data_format") not in (None, "channels_last"):
        raise refusal("channels_last", settings["data_format"])
    return settings


def _activation(value: Any, refusal: Refusal) -> str:
    name = value
    if isinstance(value, dict):  # a function, as older files describe it
        name = value.get("config")
        named = value.get("registered_name") in (None, name) and value.get("class_name") == "function"
        if not named or value.get("module") not in _FUNCTIONS:
            raise refusal("an activation of Keras", value)
    if not isinstance(name, str) or name not in _ACTIVATIONS:
        raise refusal(f"an activation of {', '.join(_ACTIVATIONS)}", name)
    return "swish" if name == "silu" else name


def _plain(value: Any, place: str, refusal: Refusal, level: int = 0) -> Any:
    if isinstance(value, list) and level < _MOST_LEVELS and len(value) <= _MOST_VALUES:
        return [_plain(one, place, refusal, level + 1) for one in value]
    fits = value is None or isinstance(value, bool | str)
    if isinstance(value, int | float) and not isinstance(value, bool):
        fits = abs(value) <= _LARGEST_NUMBER  # False of NaN too
    if not fits:
        raise refusal(f"a plain value of {place}", value)
    return value


def _arguments(layer: type) -> set[str]:
    """Names of what a class and those that it extends take."""
    starts = [kind.__init__ for kind in layer.__mro__]  # type: ignore[misc]  # unsound of objects; these are classes
    return {name for start in starts for name in inspect.signature(start).parameters} - _NOT_SETTINGS
