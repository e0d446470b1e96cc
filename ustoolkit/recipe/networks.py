"""The networks' settings: one class a name of `MODELS`, joined in `ModelSettings`."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from ustoolkit.recipe.base import Count, Fraction, NotNegative, Settings


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
    activation: Literal["relu", "selu", "nhrelu", "nhselu"] = "relu"
    noise_form: Annotated[
        Literal["input", "saturation"],
        Field(description="of nhrelu and nhselu: noise before the activation, or only where it saturates"),
    ] = "input"
    noise: Annotated[NotNegative, Field(description="factor of the noise in nhrelu and nhselu")] = 0.05
    noise_deviation: Annotated[NotNegative, Field(description="standard deviation of that noise")] = 0.5
    scales: Annotated[
        Literal[1, 2], Field(description="heads: at full, or at full and half resolution, fused at inference")
    ] = 1
    dropout: Annotated[Fraction, Field(lt=1, description="after the deepest level, while training")] = 0.5
    pixel_normalization: Annotated[
        Literal["unit", "standardize"],
        Field(description="unit: value / 255; standardize: each image to mean 0 and deviation 1"),
    ] = "unit"

    @property
    def stride(self) -> int:
        """Input pixels (int) a pixel of the deepest level; the input's sides are multiples of it."""
        return 2 ** (len(self.widths) - 1)

    @model_validator(mode="after")
    def _nested_has_its_own_filters(self) -> "UnetSettings":
        if self.skips == "nested" and self.decoder != "mirrored":
            raise ValueError("skips 'nested' has the encoder's filters at each node; set decoder = \"mirrored\" too")
        return self


class LightUnetSettings(UnetSettings):
    """Light U-net: the second convolution of each pair is depthwise, then pointwise."""

    name: Literal["light_unet"] = "light_unet"


class LighterUnetSettings(UnetSettings):
    """Lighter U-net: every 3 × 3 convolution in groups of channels, then pointwise."""

    name: Literal["lighter_unet"] = "lighter_unet"
    group_size: Annotated[
        Count, Field(description="channels a group; fewer where a layer has fewer, all of an image's where it is not 1")
    ] = 128


NetworkSettings = UnetSettings | LightUnetSettings | LighterUnetSettings
ModelSettings = Annotated[NetworkSettings, Field(discriminator="name")]
