"""What settings of all networks share: how pixel values are normalised, and the word for 'not used'."""

from typing import Annotated, Literal

from pydantic import Field

OFF = "off"
PixelNormalizationMode = Annotated[
    Literal["unit", "standardize", "symmetric", "imagenet", "imagenet_bgr", "none"],
    Field(
        description="unit: value / 255; standardize: each image to mean 0 and deviation 1; symmetric: -1 to 1, as "
        "Keras trained MobileNetV2 and ResNetV2; imagenet: less ImageNet's mean, over its deviation, as "
        "tf-models-official trains, and Keras its DenseNets; imagenet_bgr: blue first, less ImageNet's mean, as Keras "
        "trained VGG16 and ResNet; none: 0 to 255, as Keras trained EfficientNet"
    ),
]
