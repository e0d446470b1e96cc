"""U-net of the lightweight paper (Li et al., ISBI 2021), every width, depth and channel count a setting."""

import tf_keras as keras

from ustoolkit.layers.blocks import double_convolution
from ustoolkit.layers.dropout import CountedDropout
from ustoolkit.layers.preprocessing import PixelNormalization
from ustoolkit.recipe.networks import UnetSettings
from ustoolkit.recipe.settings import DataSettings


def build_unet(model: UnetSettings, data: DataSettings, outputs: int) -> keras.Model:
    """Builds a U-net that takes raw pixel values and ends in logits.

    The encoder halves the image between double convolutions of `model.widths`; each step of the decoder doubles it
    (bilinear), joins the skip connection, and narrows: in -> in / 2 -> out. With the published widths and three
    channels it has 17,267,393 trainable weights.

    Args:
        model: widths, normalisation, dropout.
        data: the input's size and channels.
        outputs: logits a pixel: 1 for lesion or not, else one a class.
    Returns:
        a model from (batch, height, width, channels), values 0 to 255, to float32 (batch, height, width, outputs).
    """
    layers = keras.layers
    inputs = layers.Input((*data.image_size, data.channels), name="image")
    current = PixelNormalization(model.pixel_normalization, name="pixels")(inputs)
    skips = []
    for level, width in enumerate(model.widths):
        if level:
            skips.append(current)
            current = layers.MaxPool2D(name=f"encoder{level}_pool")(current)
        current = double_convolution(current, width, width, model.normalization, f"encoder{level}")
    if model.dropout:
        current = CountedDropout(model.dropout, name="dropout")(current)
    for level in reversed(range(len(skips))):
        current = layers.UpSampling2D(interpolation="bilinear", name=f"decoder{level}_up")(current)
        current = layers.Concatenate(name=f"decoder{level}_join")([skips[level], current])
        joined = current.shape[-1]
        current = double_convolution(
            current,
            max(1, joined // 2),
            model.widths[max(level - 1, 0)],
            model.normalization,
            f"decoder{level}",
        )
    logits = layers.Conv2D(outputs, 1, name="logits")(current)
    logits = layers.Activation("linear", dtype="float32", name="logits_float32")(logits)
    return keras.Model(inputs, logits, name=model.name)
