"""A fully convolutional network on any backbone that classifies, so that masks can teach the backbone first."""

import tf_keras as keras

from ustoolkit.layers.preprocessing import PixelNormalization
from ustoolkit.models.backbones import build_backbone, pixel_mode
from ustoolkit.models.fcn import upsampled
from ustoolkit.recipe.networks import BackboneFcnSettings
from ustoolkit.recipe.settings import DataSettings

_LEVELS = 3  # of resolution that are scored


def build_backbone_fcn(model: BackboneFcnSettings, data: DataSettings, outputs: int) -> keras.Model:
    """Builds a segmentation network on a classifier's backbone, after Long et al. (CVPR 2015).

    A 1 × 1 convolution scores the last features, of stride 32; transposed convolutions that begin as bilinear
    interpolation bring the scores to strides 16 and 8, where scores of those features, zero at first, are added, and at
    last to the input's size. Layers of the backbone have the names that they have in the classifier, so that
    `transfer.load_matching` gives it all of them.

    Args:
        model: whose backbone; the other settings of the head are not used.
        data: the input's size, multiples of 32, and channels.
        outputs: logits a pixel: 1 for lesion or not, else one a class.
    Returns:
        a model from (batch, height, width, channels), values 0 to 255, to float32 (batch, height, width, outputs).
    """
    inputs = keras.layers.Input((*data.image_size, data.channels), name="image")
    pixels = PixelNormalization(pixel_mode(model.classifier), name="pixels")(inputs)
    deepest, *finer = build_backbone(model.classifier, data.image_size, data.channels, _LEVELS)(pixels)
    stride = data.image_size[0] // deepest.shape[1]
    scores = keras.layers.Conv2D(outputs, 1, name=f"score_{stride}")(deepest)
    for features in finer:
        stride //= 2
        # Scores of finer features begin at zero, so that the network begins as the coarser one.
        own = keras.layers.Conv2D(outputs, 1, kernel_initializer="zeros", name=f"score_{stride}")(features)
        scores = keras.layers.Add(name=f"score_sum_{stride}")([upsampled(scores, 2, f"up_{stride}"), own])
    scores = upsampled(scores, stride, "up_1")
    logits = keras.layers.Activation("linear", dtype="float32", name="logits")(scores)
    return keras.Model(inputs, logits, name=model.name)
