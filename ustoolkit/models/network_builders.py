"""Networks: each a builder from settings to a Keras model that takes raw pixel values and ends in logits."""

from collections.abc import Callable

import numpy as np
import tf_keras as keras

from ustoolkit.errors import RecipeError
from ustoolkit.models.backbone_fcn import build_backbone_fcn
from ustoolkit.models.backbones import APPLICATIONS
from ustoolkit.models.classifiers import build_classifier
from ustoolkit.models.deeplab import build_deeplab
from ustoolkit.models.fcn import build_fcn, build_fcn_fully
from ustoolkit.models.unet import build_unet
from ustoolkit.recipe import Recipe

MODELS: dict[str, Callable[..., keras.Model]] = {
    "unet": build_unet,
    "light_unet": build_unet,
    "lighter_unet": build_unet,
    "fcn_32s": build_fcn,
    "fcn_16s": build_fcn,
    "fcn_8s": build_fcn,
    "fcn_32s_fc": build_fcn_fully,
    "fcn_16s_fc": build_fcn_fully,
    "fcn_8s_fc": build_fcn_fully,
    "deeplab_v2": build_deeplab,
    "deeplab_v3": build_deeplab,
    "deeplab_v3_plus": build_deeplab,
    "backbone_fcn": build_backbone_fcn,
    **dict.fromkeys((*APPLICATIONS, "densenet161"), build_classifier),
}
"""Builders by the name that recipes give networks."""


def build_model(recipe: Recipe, num_classes: int, precision: str = "float32") -> keras.Model:
    """Builds a recipe's network.

    Args:
        recipe: its `model` and `data` tables; of one that classifies also `classification.region.mask_channel`, which
            makes the mask one more channel of the input.
        num_classes: how many classes a mask has, the background included, or how many labels an image can have; two
            need a single logit.
        precision: of the arithmetic: 'float32', 'bfloat16' or 'float16'; weights and logits are float32 in each.
    Returns:
        an untrained model; see the builder.
    Raises:
        RecipeError: the recipe's model is no network.
    """
    name = recipe.model.name
    if name not in MODELS:
        raise RecipeError(
            f"model.name: expected a network, one of {', '.join(MODELS)}, found '{name}', which has no layers. Set "
            "model.name to one of them, such as resnet50."
        )
    options = {"mask_channel": recipe.classification.region.mask_channel} if recipe.classifies else {}
    policy = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy(precision if precision == "float32" else f"mixed_{precision}")
    try:
        return MODELS[name](recipe.model, recipe.data, logit_channels(num_classes), **options)
    finally:
        keras.mixed_precision.set_global_policy(policy)


def count_trainable(model: keras.Model) -> int:
    """How many trainable weights (single numbers) a model has."""
    return sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)


def logit_channels(num_classes: int) -> int:
    """Logits a pixel, or an image that is classified: 1 (a sigmoid's) for two classes, else one a class."""
    return 1 if num_classes == 2 else num_classes
