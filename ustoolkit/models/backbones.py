"""The networks that classify natural images, without the layers that decide: Keras's, and DenseNet161."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import tf_keras as keras

from ustoolkit.layers.stochastic_depth import StochasticDepth
from ustoolkit.models.deeplab import BACKBONE
from ustoolkit.models.densenet import dense_features
from ustoolkit.recipe.classifiers import ClassifierSettings, Densenet161Settings, EfficientnetSettings


@dataclass(frozen=True)
class Application:
    """A network of Keras.

    Attributes:
        build: makes it.
        levels: its layers whose outputs are the last features of 1 / 32, 1 / 16 and 1 / 8 of the resolution.
        pixels: the pixel normalization that its ImageNet weights were trained with, as settings call it.
    """

    build: Callable[..., keras.Model]
    levels: tuple[str, ...]
    pixels: str


_VGG = ("block5_pool", "block4_pool", "block3_pool")
_DENSE = ("relu", "pool4_relu", "pool3_relu")
# The second version of ResNet has its strides in the last block of a stage, so that a stage ends one level coarser.
APPLICATIONS = {
    "vgg16": Application(keras.applications.VGG16, _VGG, "imagenet_bgr"),
    "vgg19": Application(keras.applications.VGG19, _VGG, "imagenet_bgr"),
    "resnet50": Application(
        keras.applications.ResNet50, ("conv5_block3_out", "conv4_block6_out", "conv3_block4_out"), "imagenet_bgr"
    ),
    "resnet101": Application(
        keras.applications.ResNet101, ("conv5_block3_out", "conv4_block23_out", "conv3_block4_out"), "imagenet_bgr"
    ),
    "resnet50_v2": Application(
        keras.applications.ResNet50V2, ("post_relu", "conv4_block5_out", "conv3_block3_out"), "symmetric"
    ),
    "resnet101_v2": Application(
        keras.applications.ResNet101V2, ("post_relu", "conv4_block22_out", "conv3_block3_out"), "symmetric"
    ),
    "densenet121": Application(keras.applications.DenseNet121, _DENSE, "imagenet"),
    "densenet169": Application(keras.applications.DenseNet169, _DENSE, "imagenet"),
    "densenet201": Application(keras.applications.DenseNet201, _DENSE, "imagenet"),
    "efficientnet_b0": Application(
        keras.applications.EfficientNetB0, ("top_activation", "block5c_add", "block3b_add"), "none"
    ),
    "efficientnet_v2_b0": Application(
        # Its own normalization takes no other number of channels than three.
        partial(keras.applications.EfficientNetV2B0, include_preprocessing=False),
        ("top_activation", "block5e_add", "block3b_add"),
        "none",
    ),
}


def pixel_mode(settings: ClassifierSettings) -> str:
    """The mode of `PixelNormalization` before a backbone.

    Args:
        settings: of the classifier.
    Returns:
        `pixel_normalization`; but for an EfficientNet 'imagenet' where that is 'none', since Keras's EfficientNets take
        values of 0 to 255 and do within themselves what 'imagenet' does. Here they are built without it, so that grey
        images and masks are treated alike for all backbones.
    """
    if isinstance(settings, EfficientnetSettings) and settings.pixel_normalization == "none":
        return "imagenet"
    return settings.pixel_normalization


def build_backbone(
    settings: ClassifierSettings, image_size: tuple[int, int], channels: int, levels: int = 1
) -> keras.Model:
    """Builds a classifier's network up to its last features.

    Where Keras's EfficientNets leave out residual branches at random, `StochasticDepth` does so, since Keras keeps its
    random state outside checkpoints.

    Args:
        settings: which network.
        image_size: height and width of the input, pixels, at least 32.
        channels: of the input, any number.
        levels: of resolution that it puts out, 1 to 3.
    Returns:
        a model named 'backbone', with random weights, from normalised (batch, height, width, channels) to features
        (batch, height / 32, width / 32, filters), sides rounded up or down as the network does. With several levels it
        gives a list of features, each with sides twice those of the one before. A DenseNet161 of fewer blocks has a
        finer last level, and no more levels than blocks.
    """
    image = keras.layers.Input((*image_size, channels), name="normalized")
    if isinstance(settings, Densenet161Settings):
        found = dense_features(image, settings.growth_rate, settings.initial_filters, settings.blocks)
        outputs = found[: -levels - 1 : -1]
    else:
        application = APPLICATIONS[settings.name]
        whole = application.build(include_top=False, weights=None, input_tensor=image)
        if isinstance(settings, EfficientnetSettings):
            whole = keras.models.clone_model(whole, clone_function=_reproducible)
        image = whole.input
        outputs = [whole.get_layer(name).output for name in application.levels[:levels]]
    return keras.Model(image, outputs[0] if levels == 1 else outputs, name=BACKBONE)


def _reproducible(layer: keras.layers.Layer) -> keras.layers.Layer:
    """What stands in a backbone for a layer of Keras's network."""
    if isinstance(layer, keras.layers.Dropout):
        return StochasticDepth(layer.rate, name=layer.name)
    if isinstance(layer, keras.layers.Rescaling | keras.layers.Normalization):
        return keras.layers.Activation("linear", name=layer.name)  # `PixelNormalization` has done it
    return type(layer).from_config(layer.get_config())
