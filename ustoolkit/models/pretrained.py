"""Weights from the classification of natural images: Keras's networks, and backbones of tf-models-official."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf
import tf_keras as keras

from ustoolkit.errors import RecipeError
from ustoolkit.models.deeplab import BACKBONE, DeeplabSettings, build_backbone
from ustoolkit.models.keras_weights import IMAGENET, assign, fitted, is_keras_file, keras_application
from ustoolkit.models.pretrained_classifiers import check_backbone_weights, classifier_of, load_backbone_weights
from ustoolkit.models.transfer import Transfer, WeightedLayer, weighted_layers
from ustoolkit.recipe.networks import FcnFullySettings, FcnSettings, NetworkSettings
from ustoolkit.recipe.pixels import OFF
from ustoolkit.recipe.settings import DataSettings

_FULLY_CONNECTED = {"fc6": "fc1", "fc7": "fc2"}  # here, and in Keras's VGG16
_KERAS_PIXELS = {
    "vgg16": "imagenet_bgr",
    "resnet50": "imagenet_bgr",
    "resnet101": "imagenet_bgr",
    "mobilenet_v2": "symmetric",
}
_VGG16 = "vgg16", 1.0  # FCN's backbone, and its width
_OFFICIAL_PIXELS = "imagenet"
_WIDTHS = (0.35, 0.5, 0.75, 1.0, 1.3, 1.4)  # of MobileNetV2, that Keras has weights for


@dataclass(frozen=True)
class _Normalized:
    """A convolution and the batch normalization behind it."""

    name: str
    convolution: WeightedLayer
    normalization: WeightedLayer


def check_pretrained(settings: NetworkSettings) -> list[str]:
    """Checks `model.weights` before anything is loaded.

    Args:
        settings: the recipe's `model` table.
    Returns:
        warnings: pixel values that are not those that the weights were trained on; none where nothing is loaded.
    Raises:
        RecipeError: there is no such file, or Keras has no weights for this network.
    """
    if classifier := classifier_of(settings):
        return check_backbone_weights(*classifier)
    if not isinstance(settings, FcnSettings | FcnFullySettings | DeeplabSettings) or settings.weights == OFF:
        return []
    weights = settings.weights
    network, width = (settings.backbone, settings.backbone_width) if isinstance(settings, DeeplabSettings) else _VGG16
    suited, source = _KERAS_PIXELS[network], "Keras"
    if weights == IMAGENET:
        if network == "mobilenet_v2" and width not in _WIDTHS:
            raise RecipeError(
                f"model.weights: Keras has ImageNet weights of MobileNetV2 for a backbone_width of "
                f"{', '.join(map(str, _WIDTHS))}, found {width:g}. Choose one of these, or "
                f'weights = "{OFF}".'
            )
    elif is_keras_file(weights):
        if not Path(weights).expanduser().is_file():
            raise RecipeError(f"model.weights: {weights}: no such file. Check the path.")
    elif network == "vgg16":
        raise RecipeError(
            f"model.weights: {weights}: expected '{OFF}', '{IMAGENET}' or a path to Keras's .h5 file of VGG16, found "
            "another name. Check the path."
        )
    else:
        _checkpoint_prefix(weights)
        suited, source = _OFFICIAL_PIXELS, "tf-models-official"
    if settings.pixel_normalization == suited:
        return []
    return [
        f"weights of {source}'s {network} go with model.pixel_normalization='{suited}', and the recipe has "
        f"'{settings.pixel_normalization}', so that the network begins with values that it was not trained on."
    ]


def load_pretrained(model: keras.Model, settings: NetworkSettings) -> Transfer | None:
    """Loads what `model.weights` names into the part of a network that comes from classification.

    Of FCN that is VGG16, of its forms with `_fc` the fully connected layers too, as convolutions of 7 × 7 and 1 × 1; of
    DeepLab, of `backbone_fcn` and of networks that classify the backbone. Keras's networks convolve with a bias before
    each batch normalization and guard its division by another number than tf-models-official's; for DeepLab both are
    folded into the normalization, exactly as far as inference goes. In the first block of a stage Keras's ResNet has
    its stride in the first 1 × 1 convolution, tf-models-official in the 3 × 3 one, and their paddings of the first
    convolution and pooling differ: features agree in shape and in what they mean, not in value. Where the image is
    grey, the first kernel is summed over its three colours. That gives what the network makes of three equal channels:
    exactly with a `pixel_normalization` that treats them alike, up to a constant for each filter with 'imagenet_bgr',
    whose mean colour is not grey, and with 'imagenet' nearly so, since its deviations differ by 2 %, too.

    Args:
        model: the built network; its weights are changed.
        settings: the recipe's `model` table.
    Returns:
        which layers were loaded, all others of the network in `not_loaded`; None where `weights` is 'off' or the
        network has no such setting.
    Raises:
        RecipeError: the weights cannot be fetched or read, are of another network, or differ in shape.
    """
    if getattr(settings, "weights", OFF) == OFF:
        return None
    here = weighted_layers(model)
    if isinstance(settings, FcnSettings | FcnFullySettings):
        loaded = _load_vgg16(here, settings)
    elif isinstance(settings, DeeplabSettings):
        of_keras = settings.weights == IMAGENET or is_keras_file(settings.weights)
        loaded = _load_keras_backbone(here, settings) if of_keras else _load_official_backbone(here, model, settings)
    elif classifier := classifier_of(settings):
        loaded = load_backbone_weights(model, *classifier)
    else:
        return None
    reason = "not a part of the classification network"
    return Transfer(tuple(loaded), {name: reason for name in here if name not in loaded})


def folded_normalization(
    weights: Iterable[np.ndarray], bias: np.ndarray | float, epsilon_there: float, epsilon_here: float
) -> list[np.ndarray]:
    """A batch normalization that needs no bias before it and has another epsilon, and gives the same at inference.

    Args:
        weights: float32 (channels,), scale, offset, moving mean and moving variance.
        bias: float32 (channels,), what the convolution adds before the normalization; 0 for nothing.
        epsilon_there: added to the variance where the weights come from.
        epsilon_here: added to the variance where they go to.
    Returns:
        the four weights to use without the bias: the mean is lower by it, and the scale takes up what the other epsilon
        changes, γ · √((variance + epsilon_here) / (variance + epsilon_there)).
    """
    scale, offset, mean, variance = weights
    if epsilon_there != epsilon_here:
        wide = variance.astype(np.float64)
        scale = (scale * np.sqrt((wide + epsilon_here) / (wide + epsilon_there))).astype(np.float32)
    return [scale, offset, mean - bias, variance]


def _load_vgg16(here: dict[str, WeightedLayer], settings: FcnSettings | FcnFullySettings) -> list[str]:
    fully = isinstance(settings, FcnFullySettings)
    source = weighted_layers(keras_application("vgg16", settings.weights, needs_top=fully))
    names = {name: name for name in source if name.startswith("block")} | (_FULLY_CONNECTED if fully else {})
    values = {}
    for number, (name, name_there) in enumerate(names.items()):
        kernel, bias = (weight.numpy() for weight in source[name_there].weights)
        place = f"model.weights = '{settings.weights}': layer '{name_there}'"
        values[name] = [fitted(kernel, here[name].shapes[0], place, first=not number), bias]
    for name, each in values.items():
        assign(here[name], each)
    return list(values)


def _load_keras_backbone(here: dict[str, WeightedLayer], settings: DeeplabSettings) -> list[str]:
    width = settings.backbone_width if settings.backbone == "mobilenet_v2" else None
    source = weighted_layers(keras_application(settings.backbone, settings.weights, width=width))
    if width is None:
        # A shortcut's convolution stands beside the third one in the graph; its number says that it is the first.
        source = {name: source[name] for name in sorted(source, key=lambda name: list(map(int, _numbers(name))))}
    theirs = _normalized(source.items())
    ours = _normalized((name, layer) for name, layer in here.items() if name.startswith(f"{BACKBONE}/"))
    pairs = []
    for number, (there, target) in enumerate(zip(theirs, ours, strict=False)):
        kernel, *bias = (weight.numpy() for weight in there.convolution.weights)
        place = f"model.weights = '{settings.weights}': layer '{there.name}'"
        values = [fitted(kernel, target.convolution.shapes[0], place, first=not number)]
        epsilons = (there.normalization.layer.epsilon, target.normalization.layer.epsilon)
        weights = [weight.numpy() for weight in there.normalization.weights]
        folded = folded_normalization(weights, bias[0] if bias else 0.0, *epsilons)
        pairs.append((target, values, folded))
    if len(pairs) < len(ours):
        raise RecipeError(
            f"model.weights = '{settings.weights}': expected {len(ours)} convolutions, found {len(theirs)}. Name the "
            f'weights of {settings.backbone}, or weights = "{OFF}".'
        )
    for target, values, folded in pairs:
        assign(target.convolution, values)
        assign(target.normalization, folded)
    return [name for name in here if name.startswith(f"{BACKBONE}/")]


def _load_official_backbone(here: dict[str, WeightedLayer], model: keras.Model, settings: DeeplabSettings) -> list[str]:
    prefix = _checkpoint_prefix(settings.weights)
    # Read into a backbone for colour images, as the checkpoint has it, whatever the network's own.
    source = build_backbone(settings, DataSettings(image_size=model.input_shape[1:3], channels=3))
    place = f"model.weights: {prefix}"
    try:
        # Expected first: of a checkpoint that does not fit TensorFlow would name every value left over.
        status = tf.train.Checkpoint(backbone=source).read(prefix).expect_partial()
        status.assert_existing_objects_matched()
    except (AssertionError, ValueError, IndexError, tf.errors.OpError) as problem:
        # Of a shape TensorFlow says what it found, of all else it writes a dump of variables.
        found = " ".join(str(problem).split())[:200] if isinstance(problem, ValueError) else "another, or a damaged one"
        raise RecipeError(
            f"{place}: expected a checkpoint of tf-models-official that has all of the backbone {settings.backbone} at "
            f"a width of {settings.backbone_width:g} under 'backbone', found {found}. Name one of this backbone, set "
            f'model.backbone_width to its, or weights = "{OFF}".'
        ) from None
    loaded: list[str] = []
    for name, there in weighted_layers(source).items():
        target = here[f"{BACKBONE}/{name}"]
        values = [weight.numpy() for weight in there.weights]
        values[0] = fitted(values[0], target.shapes[0], f"{place}: layer '{name}'", first=not loaded)
        assign(target, values)
        loaded.append(f"{BACKBONE}/{name}")
    return loaded


def _normalized(layers: Iterable[tuple[str, WeightedLayer]]) -> list[_Normalized]:
    """Each convolution that a batch normalization follows, in order; dense layers are passed over."""
    found, name, convolution = [], "", None
    for name_now, layer in layers:
        if isinstance(layer.layer, keras.layers.BatchNormalization):
            if convolution is not None:
                found.append(_Normalized(name, convolution, layer))
            convolution = None
        elif len(layer.shapes[0]) == 4:
            name, convolution = name_now, layer
    return found


def _numbers(name: str) -> list[str]:
    return re.findall(r"\d+", name)


def _checkpoint_prefix(weights: str) -> str:
    """The prefix of a checkpoint's files; of a folder the newest one's."""
    path = Path(weights).expanduser()
    prefix = tf.train.latest_checkpoint(str(path)) if path.is_dir() else str(path).removesuffix(".index")
    if prefix is None or not Path(f"{prefix}.index").is_file():
        raise RecipeError(
            f"model.weights: {weights}: expected Keras's .h5 file, or a checkpoint of tf-models-official (its prefix, "
            "that is its path without .index, or its folder), found none. Check the path."
        )
    return prefix
