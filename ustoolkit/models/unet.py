"""The U-net and its relatives: Light and Lighter, Ronneberger's, the noisy one, with two scales, gates or nests."""

import tensorflow as tf
import tf_keras as keras

from ustoolkit.layers.blocks import attention_gate, double_convolution, stem
from ustoolkit.layers.dropout import CountedDropout
from ustoolkit.layers.preprocessing import PixelNormalization
from ustoolkit.models.heads import FULL, HALF
from ustoolkit.recipe.networks import UnetSettings
from ustoolkit.recipe.settings import DataSettings


def build_unet(model: UnetSettings, data: DataSettings, outputs: int) -> keras.Model:
    """Builds a network that takes raw pixel values and ends in logits.

    The encoder halves the image between double convolutions of `model.widths`; each step of the decoder doubles it
    (bilinear) and joins the skip connection. Behind a stem all this is at a half or a quarter of the image's size. The
    narrowing decoder of Li et al., Lightweight U-Net for Lesion Segmentation in Ultrasound Images, ISBI 2021, goes
    in -> in / 2 -> out; with the published widths and three channels the U-net has 17,267,393 trainable weights, Light
    U-net 11,000,257, Lighter U-net 7,944,661 at groups of 128. The mirrored one
    has the encoder's filters beside it, as Ronneberger et al., U-Net, MICCAI 2015, with up-sampling in
    place of up-convolution (Amiri et al., 2020). Nested skips are those of Zhou et al., UNet++, 2018.

    Args:
        model: which network, and its settings.
        data: the input's size and channels.
        outputs: logits a pixel: 1 for lesion or not, else one a class.
    Returns:
        a model from (batch, height, width, channels), values 0 to 255, to float32 (batch, height, width, outputs). With
        two scales these are the mean of both heads' logits; `heads.supervised` gives the heads.
    """
    inputs = keras.layers.Input((*data.image_size, data.channels), name="image")
    current = PixelNormalization(model.pixel_normalization, name="pixels")(inputs)
    if model.stem > 1:
        current = stem(current, model.widths[0], model, "encoder0_stem")
    encoded = []
    for level, width in enumerate(model.widths):
        if level:
            current = keras.layers.MaxPool2D(name=f"encoder{level}_pool")(current)
        current = double_convolution(current, width, width, model, f"encoder{level}")
        encoded.append(current)
    if model.dropout:
        encoded[-1] = CountedDropout(model.dropout, name="dropout")(encoded[-1])
    decoded = _nested(encoded, model) if model.skips == "nested" else _decoded(encoded, model)
    return keras.Model(inputs, _logits(decoded[:2], model, outputs), name=model.name)


def _decoded(encoded: list[tf.Tensor], model: UnetSettings) -> list[tf.Tensor]:
    """What the decoder makes of each level, the image's own resolution first."""
    decoded = [encoded[-1]]
    for level in reversed(range(len(encoded) - 1)):
        name = f"decoder{level}"
        above = keras.layers.UpSampling2D(interpolation="bilinear", name=f"{name}_up")(decoded[0])
        skip = encoded[level]
        if model.skips == "attention":
            skip = attention_gate(skip, above, f"{name}_attention")
        joined = keras.layers.Concatenate(name=f"{name}_join")([skip, above])
        middle, filters = model.widths[level], model.widths[level]
        if model.decoder == "narrowing":
            middle, filters = max(1, joined.shape[-1] // 2), model.widths[max(level - 1, 0)]
        decoded.insert(0, double_convolution(joined, middle, filters, model, name))
    return decoded


def _nested(encoded: list[tf.Tensor], model: UnetSettings) -> list[tf.Tensor]:
    """The last node of each level of U-Net++, where a node joins all nodes before it and the one below."""
    levels = [[tensor] for tensor in encoded]
    for column in range(1, len(encoded)):
        for level, width in enumerate(model.widths[: len(encoded) - column]):
            name = f"node{level}_{column}"
            above = keras.layers.UpSampling2D(interpolation="bilinear", name=f"{name}_up")(levels[level + 1][-1])
            joined = keras.layers.Concatenate(name=f"{name}_join")([*levels[level], above])
            levels[level].append(double_convolution(joined, width, width, model, name))
    return [nodes[-1] for nodes in levels]


def _logits(decoded: list[tf.Tensor], model: UnetSettings, outputs: int) -> tf.Tensor:
    def head(features: tf.Tensor, name: str) -> tf.Tensor:
        logits = keras.layers.Conv2D(outputs, 1, name=f"{name}_conv")(features)
        if model.stem > 1:
            logits = keras.layers.UpSampling2D(
                model.stem, interpolation="bilinear", dtype="float32", name=f"{name}_enlarged"
            )(logits)
        return keras.layers.Activation("linear", dtype="float32", name=name)(logits)

    if model.scales == 1:
        return head(decoded[0], "logits")
    full, half = head(decoded[0], FULL), head(decoded[1], HALF)
    doubled = keras.layers.UpSampling2D(interpolation="bilinear", dtype="float32", name=f"{HALF}_up")(half)
    return keras.layers.Average(dtype="float32", name="logits")([full, doubled])
