"""The whole experiment as frozen, validated settings. Every default of the toolkit stands here."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]


class Settings(BaseModel):
    """Base of every table of a recipe: frozen, and closed to unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class DataSettings(Settings):
    """How a record becomes a network input."""

    image_size: Annotated[tuple[Count, Count], Field(description="height and width of the network input, pixels")] = (
        256,
        256,
    )
    channels: Annotated[Literal[1, 3], Field(description="1: grey, 3: RGB")] = 3
    keep_aspect: Annotated[bool, Field(description="pad to the input's shape instead of stretching")] = False
    cache: Annotated[
        Literal["auto", "memory", "off"],
        Field(description="keep decoded images; auto: where they fit in 1 GB"),
    ] = "auto"


class AugmentationSettings(Settings):
    """Random changes of the training part, drawn anew for each image and epoch (imgaug)."""

    enabled: bool = True
    probability: Annotated[Fraction, Field(description="share of images moved by the affine map")] = 1.0
    rotation_degrees: Annotated[NotNegative, Field(le=180, description="largest rotation either way")] = 15.0
    shift: Annotated[Fraction, Field(description="largest shift either way, fraction of the side")] = 0.1
    shear_degrees: Annotated[NotNegative, Field(le=60, description="largest shear either way")] = 5.0
    zoom: Annotated[NotNegative, Field(lt=1, description="largest change of scale either way")] = 0.2
    horizontal_flip: Annotated[Fraction, Field(description="share of images mirrored left to right")] = 0.5
    vertical_flip: Annotated[Fraction, Field(description="share of images turned upside down")] = 0.0
    channel_shift: Annotated[Fraction, Field(description="largest brightness offset, fraction of full range")] = 0.1
    contrast: Annotated[NotNegative, Field(lt=1, description="largest change of contrast either way")] = 0.2


class UnetSettings(Settings):
    """U-net of the lightweight paper: bilinear up-sampling, double convolutions with batch normalisation."""

    name: Literal["unet"] = "unet"
    widths: Annotated[
        tuple[Count, ...],
        Field(min_length=2, max_length=8, description="filters of each encoder level, top to bottom"),
    ] = (64, 128, 256, 512, 512)
    normalization: Annotated[Literal["batch", "none"], Field(description="after each convolution")] = "batch"
    dropout: Annotated[Fraction, Field(lt=1, description="after the deepest level, while training")] = 0.5
    pixel_normalization: Annotated[
        Literal["unit", "standardize"],
        Field(description="unit: value / 255; standardize: each image to mean 0 and deviation 1"),
    ] = "unit"

    @property
    def stride(self) -> int:
        """Input pixels (int) a pixel of the deepest level; the input's sides are multiples of it."""
        return 2 ** (len(self.widths) - 1)


ModelSettings = UnetSettings


class LossSettings(Settings):
    """A weighted sum of loss terms."""

    terms: Annotated[
        dict[Literal["dice", "cross_entropy"], Positive],
        Field(min_length=1, description="weight of each term"),
    ] = {"dice": 1.0}


class TrainingSettings(Settings):
    """The optimiser, its schedule, and when to stop."""

    epochs: Count = 200
    batch_size: Annotated[Count, Field(description="images a step, over all devices together")] = 8
    optimizer: Literal["adam", "sgd"] = "adam"
    learning_rate: Positive = 1e-4
    weight_decay: Annotated[NotNegative, Field(description="L2 term added to the gradient of every weight")] = 0.0
    schedule: Annotated[
        Literal["plateau", "cosine", "constant"],
        Field(description="plateau: lower the rate when validation stalls; cosine: down to 0 over the epochs"),
    ] = "plateau"
    plateau_patience: Annotated[Count, Field(description="epochs without a better validation Dice")] = 5
    plateau_factor: Annotated[Positive, Field(lt=1, description="the rate is multiplied by this")] = 0.5
    stop_patience: Annotated[Count, Field(description="epochs without a better validation Dice before the end")] = 15
    minutes: Annotated[NotNegative, Field(description="stop after the epoch that passes this time; 0: no limit")] = 0.0
    strategy: Annotated[
        Literal["auto", "one", "mirrored"], Field(description="auto: every visible GPU, else the CPU")
    ] = "auto"
    seed: Annotated[int, Field(ge=0, lt=2**32, description="of weights, order, augmentation and dropout")] = 0


class InferenceSettings(Settings):
    """From probabilities to a mask."""

    threshold: Annotated[Fraction, Field(description="a pixel is lesion from this probability on")] = 0.5
    smallest_region_pixels: Annotated[
        int, Field(ge=0, description="smaller regions of a class become background; 0: all stay")
    ] = 0
    opening_radius_pixels: Annotated[
        int, Field(ge=0, le=100, description="parts of a class thinner than twice this become background; 0: all stay")
    ] = 0
    largest_component: Annotated[bool, Field(description="keep only the largest region of each class")] = True
    batch_size: Count = 8


class Recipe(Settings):
    """A whole experiment. `load_recipe` reads one; a run folder keeps the resolved one."""

    name: Annotated[str, Field(pattern=r"^[\w.-]+$")] = "custom"
    description: str = ""
    data: DataSettings = DataSettings()
    augmentation: AugmentationSettings = AugmentationSettings()
    model: ModelSettings = UnetSettings()
    loss: LossSettings = LossSettings()
    training: TrainingSettings = TrainingSettings()
    inference: InferenceSettings = InferenceSettings()

    @model_validator(mode="after")
    def _sizes_fit(self) -> "Recipe":
        stride = self.model.stride
        if any(side % stride for side in self.data.image_size):
            height, width = self.data.image_size
            raise ValueError(
                f"data.image_size is {height} × {width}, and a network of {len(self.model.widths)} levels needs "
                f"multiples of {stride}; change data.image_size or model.widths"
            )
        return self
