"""Weights of natural images for the backbones of networks that classify, and for segmentation on such a backbone."""

from pathlib import Path

import numpy as np
import tf_keras as keras

from ustoolkit.errors import RecipeError
from ustoolkit.models.backbones import APPLICATIONS
from ustoolkit.models.deeplab import BACKBONE
from ustoolkit.models.keras_weights import IMAGENET, assign, fitted, is_keras_file, keras_application
from ustoolkit.models.torch_weights import TORCH_FILES, check_names, densenet_layer, read_torch_weights
from ustoolkit.models.transfer import WeightedLayer, weighted_layers
from ustoolkit.recipe.classifiers import ClassifierSettings
from ustoolkit.recipe.networks import BackboneFcnSettings
from ustoolkit.recipe.pixels import OFF

_DENSENET161 = "densenet161"
_FIRST = "conv0"  # of densenet161
_WANTED_161 = (
    "a .safetensors or .npz file of torchvision's or timm's densenet161 (where torch is: safetensors.torch.save_file("
    'torchvision.models.densenet161(weights="DEFAULT").state_dict(), "densenet161.safetensors"))'
)


def classifier_of(settings: object) -> tuple[ClassifierSettings, str] | None:
    """The settings that say which backbone's weights are loaded, and the recipe's table that they stand in.

    Args:
        settings: a recipe's `model` table.
    Returns:
        the settings, with 'model' or, of a `backbone_fcn`, 'model.classifier'; None for networks of other kinds.
    """
    if isinstance(settings, ClassifierSettings):
        return settings, "model"
    if isinstance(settings, BackboneFcnSettings):
        return settings.classifier, "model.classifier"
    return None


def check_backbone_weights(settings: ClassifierSettings, key: str) -> list[str]:
    """Checks the weights that a backbone begins with before anything is loaded.

    Args:
        settings: of the classifier.
        key: of the recipe's table that they stand in, for messages.
    Returns:
        warnings: pixel values that are not those that the weights were trained on; none where nothing is loaded.
    Raises:
        RecipeError: there is no such file, or no such weights of this network.
    """
    weights, network = settings.weights, settings.name
    if weights == OFF:
        return []
    if network == _DENSENET161:
        if weights == IMAGENET:
            raise RecipeError(
                f"{key}.weights = '{IMAGENET}': Keras has no weights of {network}. Name {_WANTED_161}: "
                f"--set {key}.weights=PATH."
            )
        source, suited, takes, wanted = "torch", ["imagenet"], _is_torch_file(weights), _WANTED_161
    else:
        source, suited = "Keras", [APPLICATIONS[network].pixels]
        if suited == ["none"]:
            suited.append("imagenet")  # which is the same for an EfficientNet
        takes, wanted = weights == IMAGENET or is_keras_file(weights), f"Keras's .h5 file of {network}"
    if not takes:
        choices = f"'{OFF}' or" if network == _DENSENET161 else f"'{OFF}', '{IMAGENET}' or"
        raise RecipeError(f"{key}.weights: {weights}: expected {choices} {wanted}, found another name. Check the path.")
    if weights != IMAGENET and not Path(weights).expanduser().is_file():
        raise RecipeError(f"{key}.weights: {weights}: no such file. Check the path.")
    if settings.pixel_normalization in suited:
        return []
    return [
        f"weights of {source}'s {network} go with {key}.pixel_normalization='{suited[0]}', and the recipe has "
        f"'{settings.pixel_normalization}', so that the network begins with values that it was not trained on."
    ]


def load_backbone_weights(model: keras.Model, settings: ClassifierSettings, key: str) -> list[str]:
    """Gives a backbone the weights that its settings name, each layer as it is.

    The first kernel is summed over colours where the image is grey, and zero for a mask channel.

    Args:
        model: a network with the layer 'backbone'; its weights are changed, but not where an error is raised.
        settings: of the classifier; its `weights` are not 'off'.
        key: of the recipe's table that they stand in, for messages.
    Returns:
        names of the layers that were loaded, all those of the backbone.
    Raises:
        RecipeError: the weights cannot be fetched or read, are of another network, or differ in shape.
    """
    check_backbone_weights(settings, key)
    beginning = f"{BACKBONE}/"
    here = {
        name.removeprefix(beginning): layer
        for name, layer in weighted_layers(model).items()
        if name.startswith(beginning)
    }
    values = (_of_torch if settings.name == _DENSENET161 else _of_keras)(here, settings, key)
    for name, each in values.items():
        assign(here[name], each)
    return [beginning + name for name in values]


def _of_keras(here: dict[str, WeightedLayer], settings: ClassifierSettings, key: str) -> dict[str, list[np.ndarray]]:
    source = weighted_layers(keras_application(settings.name, settings.weights, key))
    values = {}
    for number, (name, layer) in enumerate(here.items()):
        values[name] = [weight.numpy() for weight in source[name].weights]
        place = f"{key}.weights = '{settings.weights}': layer '{name}'"
        values[name][0] = fitted(values[name][0], layer.shapes[0], place, first=not number)
    return values


def _of_torch(here: dict[str, WeightedLayer], settings: ClassifierSettings, key: str) -> dict[str, list[np.ndarray]]:
    place = f"{key}.weights: {settings.weights}"
    arrays = read_torch_weights(Path(settings.weights).expanduser(), place)
    check_names(arrays, {name: len(layer.weights) for name, layer in here.items()}, place)
    remedy = (
        f"Set {key}.growth_rate, initial_filters and blocks as the file has them, name the file of such a network, "
        f'or weights = "{OFF}".'
    )
    values = {}
    for name, layer in here.items():
        values[name] = densenet_layer(arrays, name, layer.shapes, place)
        if len(layer.shapes) == 1:
            kernel, shape = values[name][0], layer.shapes[0]
            values[name] = [fitted(kernel, shape, f"{place}: layer '{name}'", name == _FIRST, remedy)]
    return values


def _is_torch_file(weights: str) -> bool:
    return Path(weights).suffix in TORCH_FILES
