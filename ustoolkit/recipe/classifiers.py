"""Settings of the networks that classify: one class a family, its names those of `MODELS`."""

from typing import Annotated, Literal

from pydantic import Field

from ustoolkit.recipe.base import Count, Fraction, NotNegative, Settings
from ustoolkit.recipe.pixels import OFF, PixelNormalizationMode

ClassifierWeights = Annotated[
    str,
    Field(
        min_length=1,
        description="of the backbone: off; imagenet, which Keras downloads; or a path to Keras's .h5 file or, for "
        "densenet161, to a .safetensors or .npz file with torchvision's or timm's names",
    ),
]


class ClassifierSettings(Settings):
    """What all networks that classify have: a backbone, and a head on its pooled features."""

    name: str
    pooling: Annotated[
        Literal["average", "max", "both"], Field(description="of the backbone's last features over the image")
    ] = "average"
    dropout: Annotated[Fraction, Field(lt=1, description="before the logits, while training")] = 0.5
    l1: Annotated[NotNegative, Field(description="penalty on the absolute weights of the head")] = 0.0
    l2: Annotated[NotNegative, Field(description="penalty on the squared weights of the head")] = 0.0
    weights: ClassifierWeights = OFF
    pixel_normalization: PixelNormalizationMode = "unit"

    @property
    def stride(self) -> int:
        """1: any size is taken, of `smallest_side` or more."""
        return 1

    @property
    def smallest_side(self) -> int:
        """Pixels (int) that the input's sides need at least."""
        return 32


class VggSettings(ClassifierSettings):
    """VGG16 and VGG19 of Keras, without their fully connected layers."""

    name: Literal["vgg16", "vgg19"] = "vgg16"


class ResnetSettings(ClassifierSettings):
    """ResNet and ResNetV2 of Keras."""

    name: Literal["resnet50", "resnet101", "resnet50_v2", "resnet101_v2"] = "resnet50"


class DensenetSettings(ClassifierSettings):
    """DenseNets that Keras has."""

    name: Literal["densenet121", "densenet169", "densenet201"] = "densenet121"


class Densenet161Settings(ClassifierSettings):
    """DenseNet161, which Keras lacks; the defaults are the published network."""

    name: Literal["densenet161"] = "densenet161"
    growth_rate: Annotated[Count, Field(description="filters that each dense layer adds")] = 48
    initial_filters: Annotated[Count, Field(description="of the first convolution")] = 96
    blocks: Annotated[
        tuple[Count, ...], Field(min_length=2, max_length=4, description="dense layers of each block")
    ] = (6, 12, 36, 24)


class EfficientnetSettings(ClassifierSettings):
    """EfficientNets of Keras, which normalise values of 0 to 255 themselves, as 'imagenet' does.

    With `pixel_normalization` 'none' that is what they get, with another one that takes its place.
    """

    name: Literal["efficientnet_b0", "efficientnet_v2_b0"] = "efficientnet_b0"


class LesionFeaturesSettings(Settings):
    """No network: measurements of the lesion's outline and of the grey values in and around it."""

    name: Literal["lesion_features"] = "lesion_features"
    families: Annotated[
        tuple[Literal["shape", "margin", "contrast", "shadow", "texture"], ...],
        Field(min_length=1, description="which measurements are taken"),
    ] = ("shape", "margin", "contrast", "shadow", "texture")

    @property
    def stride(self) -> int:
        """1: any size is taken."""
        return 1
