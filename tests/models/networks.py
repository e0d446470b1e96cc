"""Networks at their smallest, and what tests of several of them share."""

import numpy as np
import tensorflow as tf
import tf_keras as keras

from ustoolkit.models import MODELS, build_model
from ustoolkit.models.classifiers import build_classifier
from ustoolkit.recipe import Recipe
from ustoolkit.recipe.settings import DataSettings
from ustoolkit.training.losses import soft_dice

_UNET = {"widths": (4, 8, 8)}
_FCN = {"widths": (4, 8, 8, 8, 8)}
_PYRAMID = {"backbone": "mobilenet_v2", "backbone_width": 0.1, "rates": (1, 2)}
_DENSENET = {"growth_rate": 4, "initial_filters": 8, "blocks": (2, 2)}
CLASSIFIERS = [name for name, builder in MODELS.items() if builder is build_classifier]
SEGMENTERS = [name for name in MODELS if name not in CLASSIFIERS]
# Both output strides and both kinds of backbone are among them.
SMALLEST = {
    "unet": _UNET,
    "light_unet": _UNET,
    "lighter_unet": _UNET,
    **{name: {**_FCN, "decoder_widths": (8, 8, 8, 4, 4)} for name in ("fcn_32s", "fcn_16s", "fcn_8s")},
    **{name: {**_FCN, "fully_connected_widths": (8, 8)} for name in ("fcn_32s_fc", "fcn_16s_fc", "fcn_8s_fc")},
    "deeplab_v2": {**_PYRAMID, "backbone": "resnet50", "output_stride": 8, "branch_widths": (8, 8)},
    "deeplab_v3": {**_PYRAMID, "output_stride": 8, "pyramid_width": 8},
    "deeplab_v3_plus": {**_PYRAMID, "output_stride": 16, "pyramid_width": 8, "skip_width": 4, "decoder_width": 8},
    "backbone_fcn": {"classifier": {"name": "densenet161", **_DENSENET, "blocks": (1, 1, 1, 1)}},
    **{name: {} for name in CLASSIFIERS},
    "densenet161": _DENSENET,
}


def small(name: str, **model) -> Recipe:
    """A recipe with the smallest settings that a network takes, for 64 × 64 pixels and 3 channels."""
    assert name in SMALLEST, (
        f"`SMALLEST` of tests/models/networks.py: expected settings of {name}, found none. Add them."
    )
    return Recipe(data=DataSettings(image_size=(64, 64), channels=3), model={"name": name, **SMALLEST[name], **model})


def without_dropout(name: str) -> dict[str, float]:
    """The setting that turns dropout off, where a network has one."""
    return {"dropout": 0.0} if "dropout" in type(small(name).model).model_fields else {}


def randomized(model: keras.Model) -> keras.Model:
    """The model with weights as training might leave them, so that no layer passes on next to nothing."""
    generator = np.random.default_rng(5)
    for weight in model.weights:
        if not weight.dtype.is_floating:
            continue
        fan_in = max(1, int(np.prod(weight.shape[:-1])))
        kernel = len(weight.shape) > 1
        values = generator.normal(0, np.sqrt(2 / fan_in) if kernel else 0.1, weight.shape)
        name = weight.name.rpartition("/")[2]
        weight.assign(np.abs(1 + values) if name.startswith(("gamma", "moving_variance")) else values)
    return model


def images_of(*shape: int) -> np.ndarray:
    """Pixels of 0 to 255, the same each time."""
    return np.random.default_rng(1).uniform(0, 255, shape).astype(np.float32)


def losses_of_steps(recipe: Recipe, batch: int, steps: int, rate: float) -> list[float]:
    """The loss before each of some steps on one batch of bright and dark pixels."""
    keras.utils.set_random_seed(0)
    model = build_model(recipe, 2)
    shape = (batch, *recipe.data.image_size, recipe.data.channels)
    images = np.random.default_rng(0).uniform(0, 255, shape).astype(np.float32)
    masks = (images[..., 0] > 128).astype(np.uint8)
    optimizer = keras.optimizers.Adam(rate)
    losses = []
    for _ in range(steps):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(soft_dice(model(images, training=True), masks))
        gradients = tape.gradient(loss, model.trainable_weights)
        optimizer.apply_gradients(zip(gradients, model.trainable_weights, strict=True))
        losses.append(float(loss))
    return losses
