"""The networks' settings: one class a name of `MODELS`, joined in `ModelSettings`."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from ustoolkit.recipe.base import Count, Fraction, NotNegative, Positive, Settings
from ustoolkit.recipe.classifiers import (
    Densenet161Settings,
    DensenetSettings,
    EfficientnetSettings,
    LesionFeaturesSettings,
    ResnetSettings,
    VggSettings,
)
from ustoolkit.recipe.pixels import OFF, PixelNormalizationMode

PretrainedWeights = Annotated[
    str,
    Field(
        min_length=1,
        description="of the part that comes from classification: off; imagenet, which Keras downloads; or a path to "
        "Keras's .h5 file or, for DeepLab, to a checkpoint of tf-models-official",
    ),
]


OutputStride = Annotated[Literal[8, 16], Field(description="input pixels a pixel of the backbone's features")]


class UnetSettings(Settings):
    """The U-net and its relatives; the defaults are the published U-net of the lightweight paper."""

    name: Literal["unet"] = "unet"
    widths: Annotated[
        tuple[Count, ...],
        Field(min_length=2, max_length=8, description="filters of each encoder level, top to bottom"),
    ] = (64, 128, 256, 512, 512)
    decoder: Annotated[
        Literal["narrowing", "mirrored"],
        Field(
            description="narrowing: each decoder level ends in the filters of the level above it; mirrored: in those "
            "of the encoder level beside it, as in Ronneberger's U-net"
        ),
    ] = "narrowing"
    skips: Annotated[
        Literal["plain", "attention", "nested"],
        Field(description="plain: as they are; attention: gated by the level below; nested: U-Net++"),
    ] = "plain"
    normalization: Annotated[
        Literal["batch", "group", "none"], Field(description="between each convolution and its activation")
    ] = "batch"
    activation: Annotated[
        Literal["relu", "selu", "nhrelu", "nhselu"],
        Field(description="nhrelu and nhselu: with noise while training, as in the lymph-node paper"),
    ] = "relu"
    noise_form: Annotated[
        Literal["input", "saturation"],
        Field(description="of nhrelu and nhselu: noise before the activation, or only where it saturates"),
    ] = "input"
    noise: Annotated[NotNegative, Field(description="factor of the noise in nhrelu and nhselu")] = 0.05
    noise_deviation: Annotated[NotNegative, Field(description="standard deviation of that noise")] = 0.5
    stem: Annotated[
        Literal[1, 2, 4],
        Field(
            description="2 and 4: a convolution brings the image to half or a quarter of its size first, and the "
            "logits are enlarged; much faster for images of the same size"
        ),
    ] = 1
    scales: Annotated[
        Literal[1, 2], Field(description="heads: at full, or at full and half resolution, fused at inference")
    ] = 1
    dropout: Annotated[Fraction, Field(lt=1, description="after the deepest level, while training")] = 0.5
    pixel_normalization: PixelNormalizationMode = "unit"

    @property
    def stride(self) -> int:
        """Input pixels (int) a pixel of the deepest level; the input's sides are multiples of it."""
        return self.stem * 2 ** (len(self.widths) - 1)

    @model_validator(mode="after")
    def _nested_has_its_own_filters(self) -> "UnetSettings":
        if self.skips == "nested" and self.decoder != "mirrored":
            raise ValueError("skips 'nested' has the encoder's filters at each node; set decoder = \"mirrored\" too")
        return self


# A network that has all settings of another is still one of its own name.
class LightUnetSettings(UnetSettings):
    """Light U-net: the second convolution of each pair is depthwise, then pointwise."""

    name: Literal["light_unet"] = "light_unet"  # type: ignore[assignment]


class LighterUnetSettings(UnetSettings):
    """Lighter U-net: every 3 × 3 convolution in groups of channels, then pointwise."""

    name: Literal["lighter_unet"] = "lighter_unet"  # type: ignore[assignment]
    group_size: Annotated[
        Count, Field(description="channels a group; fewer where a layer has fewer, all of an image's where it is not 1")
    ] = 128


class _Vgg16Settings(Settings):
    """What both forms of FCN take of VGG16."""

    name: str
    widths: Annotated[
        tuple[Count, Count, Count, Count, Count], Field(description="filters of VGG16's five blocks, top to bottom")
    ] = (64, 128, 256, 512, 512)
    weights: PretrainedWeights = OFF
    pixel_normalization: PixelNormalizationMode = "unit"

    @property
    def stride(self) -> int:
        """Input pixels (int) a pixel of the deepest level; the input's sides are multiples of it."""
        return 32

    @property
    def finest_skip(self) -> int:
        """Input pixels (int) a pixel of the finest features that are used: 32, 16 or 8."""
        return int(self.name.split("_")[1].removesuffix("s"))


class FcnSettings(_Vgg16Settings):
    """FCN of the lightweight paper: VGG16's convolutions, then five transposed ones with skips added."""

    name: Literal["fcn_32s", "fcn_16s", "fcn_8s"] = "fcn_8s"
    decoder_widths: Annotated[
        tuple[()] | tuple[Count, Count, Count, Count, Count],
        Field(
            description="filters of the transposed convolutions, those with skips as wide as these; none: as the "
            "encoder's blocks from the fourth up, and half of the first, as published"
        ),
    ] = ()

    @property
    def transposed_widths(self) -> tuple[int, ...]:
        """Filters (int) of the five transposed convolutions, deepest first."""
        return self.decoder_widths or (*self.widths[3::-1], max(1, self.widths[0] // 2))

    @model_validator(mode="after")
    def _skips_can_be_added(self) -> "FcnSettings":
        added = {16: (self.widths[3],), 8: (self.widths[3], self.widths[2])}.get(self.finest_skip, ())
        if self.transposed_widths[: len(added)] != added:
            raise ValueError(
                f"decoder_widths begins with {', '.join(map(str, self.decoder_widths[: len(added)]))}, and to be added "
                f"to the skips of {self.name} it begins with {', '.join(map(str, added))}; change both "
                "together, or set decoder_widths = [] to take it from widths"
            )
        return self


class FcnFullySettings(_Vgg16Settings):
    """FCN of Long et al.: VGG16's fully connected layers as convolutions, too, and a score added a skip."""

    name: Literal["fcn_32s_fc", "fcn_16s_fc", "fcn_8s_fc"] = "fcn_8s_fc"
    fully_connected_widths: Annotated[
        tuple[Count, Count], Field(description="filters of the convolutions that were fully connected layers")
    ] = (4096, 4096)
    dropout: Annotated[Fraction, Field(lt=1, description="after each of them, while training")] = 0.5


class _DeeplabSettings(Settings):
    """What all DeepLabs have."""

    backbone: Annotated[
        Literal["resnet50", "resnet101", "mobilenet_v2"], Field(description="of tf-models-official")
    ] = "resnet101"
    backbone_width: Annotated[
        Positive, Field(le=2, description="factor of the backbone's filters; 1: as published")
    ] = 1.0
    weights: PretrainedWeights = OFF
    pixel_normalization: PixelNormalizationMode = "unit"
    output_stride: OutputStride = 16

    @property
    def stride(self) -> int:
        """Input pixels (int) a pixel of the backbone's features; the input's sides are multiples of it."""
        return self.output_stride


class DeeplabV2Settings(_DeeplabSettings):
    """DeepLab v2: an atrous pyramid whose branches each predict, summed."""

    name: Literal["deeplab_v2"] = "deeplab_v2"
    output_stride: OutputStride = 8
    rates: Annotated[tuple[Count, ...], Field(min_length=1, description="dilation of each branch, pixels")] = (
        6,
        12,
        18,
        24,
    )
    branch_widths: Annotated[
        tuple[Count, ...],
        Field(
            description="filters of a branch's atrous convolution and of the 1 × 1 ones behind it; none: the atrous "
            "convolution itself predicts"
        ),
    ] = ()
    dropout: Annotated[Fraction, Field(lt=1, description="after each convolution of a branch, while training")] = 0.5


class DeeplabV3Settings(_DeeplabSettings):
    """DeepLab v3: an atrous pyramid with the image's mean, joined."""

    name: Literal["deeplab_v3"] = "deeplab_v3"
    rates: Annotated[tuple[Count, ...], Field(min_length=1, description="dilation of each branch, pixels")] = (
        6,
        12,
        18,
    )
    pyramid_width: Annotated[Count, Field(description="filters of each branch and of what joins them")] = 256
    dropout: Annotated[Fraction, Field(lt=1, description="after the pyramid, while training")] = 0.1


class DeeplabV3PlusSettings(DeeplabV3Settings):
    """DeepLab v3+: the same with a decoder that joins the backbone's features at a quarter of the resolution."""

    name: Literal["deeplab_v3_plus"] = "deeplab_v3_plus"  # type: ignore[assignment]
    skip_width: Annotated[Count, Field(description="filters that the features at a quarter are reduced to")] = 48
    decoder_width: Annotated[Count, Field(description="filters of the decoder's two convolutions")] = 256


class BackboneFcnSettings(Settings):
    """FCN on the backbone of a network that classifies, to teach it from masks before it learns to classify."""

    name: Literal["backbone_fcn"] = "backbone_fcn"
    classifier: Annotated[
        VggSettings | ResnetSettings | DensenetSettings | Densenet161Settings | EfficientnetSettings,
        Field(discriminator="name", description="the network whose backbone it is; its head is not used"),
    ] = ResnetSettings()

    @model_validator(mode="before")
    @classmethod
    def _classifier_is_named(cls, content: Any) -> Any:
        """The classifier's name says which settings it takes; without one it is the default."""
        classifier = content.get("classifier") if isinstance(content, dict) else None
        if isinstance(classifier, dict) and "name" not in classifier:
            return {**content, "classifier": {"name": ResnetSettings().name, **classifier}}
        return content

    @property
    def stride(self) -> int:
        """Input pixels (int) a pixel of the deepest features; the input's sides are multiples of it."""
        return 32

    @property
    def weights(self) -> str:
        """Of the backbone."""
        return self.classifier.weights

    @property
    def pixel_normalization(self) -> str:
        """Of the backbone."""
        return self.classifier.pixel_normalization


NetworkSettings = (
    UnetSettings
    | LightUnetSettings
    | LighterUnetSettings
    | FcnSettings
    | FcnFullySettings
    | DeeplabV2Settings
    | DeeplabV3Settings
    | DeeplabV3PlusSettings
    | BackboneFcnSettings
    | VggSettings
    | ResnetSettings
    | DensenetSettings
    | Densenet161Settings
    | EfficientnetSettings
    | LesionFeaturesSettings
)
"""Settings of any network; their `name` says which."""
ModelSettings = Annotated[NetworkSettings, Field(discriminator="name", description="which network, and its size")]
