"""Networks that classify: a backbone, its features pooled over the image, and a linear layer that decides."""

import tensorflow as tf
import tf_keras as keras

from ustoolkit.layers.dropout import CountedDropout
from ustoolkit.layers.preprocessing import PixelNormalization
from ustoolkit.models.backbones import build_backbone, pixel_mode
from ustoolkit.models.deeplab import BACKBONE
from ustoolkit.models.transfer import weighted_layers
from ustoolkit.recipe.classifiers import ClassifierSettings
from ustoolkit.recipe.settings import DataSettings

FEATURES = "features"  # name of the layer with what transfer calls bottleneck features


def build_classifier(
    model: ClassifierSettings, data: DataSettings, outputs: int, mask_channel: bool = False
) -> keras.Model:
    """Builds a network that says what an image, or a lesion's region of it, shows.

    The backbones are VGG (Simonyan and Zisserman, ICLR 2015), ResNet (He et al., CVPR 2016 and ECCV 2016), DenseNet
    (Huang et al., CVPR 2017) and EfficientNet (Tan and Le, ICML 2019 and 2021), without their layers that classify. The
    penalties on the weights of the last layer are in the model's `losses`.

    Args:
        model: which backbone, and the head.
        data: the input's size, at least 32 × 32, and the image's channels.
        outputs: logits an image: 1 for two labels, the positive one's, else one a label.
        mask_channel: whether a mask, 0 or 255, is one more channel, the last.
    Returns:
        a model from (batch, height, width, channels), values 0 to 255, to float32 (batch, outputs).
    """
    channels = data.channels + mask_channel
    inputs = keras.layers.Input((*data.image_size, channels), name="image")
    pixels = PixelNormalization(pixel_mode(model), mask_channel, name="pixels")(inputs)
    current = _pooled(build_backbone(model, data.image_size, channels)(pixels), model.pooling)
    current = CountedDropout(model.dropout, name="dropout")(current)
    penalty = keras.regularizers.L1L2(model.l1, model.l2) if model.l1 or model.l2 else None
    logits = keras.layers.Dense(outputs, kernel_regularizer=penalty, name="logits_dense")(current)
    logits = keras.layers.Activation("linear", dtype="float32", name="logits")(logits)
    return keras.Model(inputs, logits, name=model.name)


def features_of(model: keras.Model) -> keras.Model:
    """The part of a classifier that its head stands on.

    Args:
        model: of `build_classifier`.
    Returns:
        a model that shares its weights, from raw pixel values to pooled features (batch, filters), twice as many with
        both poolings; call it with training=False.
    """
    return keras.Model(model.input, model.get_layer(FEATURES).output, name=f"{model.name}_{FEATURES}")


def backbone_layers(model: keras.Model) -> list[str]:
    """The layers with weights of a network's backbone, the deepest last.

    Args:
        model: of `build_classifier`, or a `backbone_fcn`.
    Returns:
        their names in the layer 'backbone', ordered by the number of layers on the longest path from the input. The
        convolution of a shortcut is as deep as the first layers of its block.
    """
    backbone = model.get_layer(BACKBONE)
    depth: dict[str, int] = {}
    for layer in backbone.layers:  # Keras lists a layer behind those that it takes its input from
        before = [tensor._keras_history.layer for tensor in tf.nest.flatten(layer.input)]
        depth[layer.name] = 1 + max((depth[each.name] for each in before if each is not layer), default=-1)
    return sorted(weighted_layers(backbone), key=depth.__getitem__)


def _pooled(features: tf.Tensor, pooling: str) -> tf.Tensor:
    kinds = {"average": keras.layers.GlobalAveragePooling2D, "max": keras.layers.GlobalMaxPool2D}
    if pooling in kinds:
        return kinds[pooling](name=FEATURES)(features)
    parts = [kind(name=f"{FEATURES}_{name}")(features) for name, kind in kinds.items()]
    return keras.layers.Concatenate(name=FEATURES)(parts)
