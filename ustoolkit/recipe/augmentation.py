"""How training images are changed at random."""

from typing import Annotated, Literal

from pydantic import Field

from ustoolkit.recipe.base import Fraction, NotNegative, Settings


class AugmentationSettings(Settings):
    """Random changes of the training part, drawn anew for each image and epoch."""

    enabled: Annotated[bool, Field(description="whether training images are changed at all")] = True
    engine: Annotated[
        Literal["imgaug", "tensorflow"],
        Field(description="what carries the changes out; the same in distribution, not pixel by pixel"),
    ] = "imgaug"
    workers: Annotated[
        int,
        Field(
            ge=0, le=256, description="processes that imgaug runs in; 0: as the cores suggest, and none for little work"
        ),
    ] = 0
    probability: Annotated[Fraction, Field(description="share of images moved by the affine map")] = 1.0
    rotation_degrees: Annotated[NotNegative, Field(le=180, description="largest rotation either way")] = 15.0
    shift: Annotated[Fraction, Field(description="largest shift either way, fraction of the side")] = 0.1
    shear_degrees: Annotated[NotNegative, Field(le=60, description="largest shear either way")] = 5.0
    zoom: Annotated[NotNegative, Field(lt=1, description="largest change of scale either way")] = 0.2
    horizontal_flip: Annotated[Fraction, Field(description="share of images mirrored left to right")] = 0.5
    vertical_flip: Annotated[Fraction, Field(description="share of images turned upside down")] = 0.0
    channel_shift: Annotated[Fraction, Field(description="largest brightness offset, fraction of full range")] = 0.1
    contrast: Annotated[NotNegative, Field(lt=1, description="largest change of contrast either way")] = 0.2
    gamma: Annotated[
        NotNegative,
        Field(le=2, description="largest change of grey values' exponent either way, octaves: 1 is 0.5 to 2"),
    ] = 0.0
    scanner_probability: Annotated[
        Fraction, Field(description="share of images that each of gain, speckle, blur and resolution changes")
    ] = 1.0
    gain: Annotated[
        NotNegative, Field(lt=1, description="largest change of brightness along the depth, fraction at either end")
    ] = 0.0
    speckle: Annotated[
        NotNegative, Field(le=1, description="largest deviation of multiplied speckle, of a factor around 1")
    ] = 0.0
    blur: Annotated[NotNegative, Field(le=10, description="largest deviation of a Gaussian, pixels of the input")] = 0.0
    shadow: Annotated[Fraction, Field(description="share of images with an acoustic shadow")] = 0.0
    resolution: Annotated[
        float, Field(ge=1, le=8, description="largest factor by which detail is lost, as by a coarser scanner")
    ] = 1.0
