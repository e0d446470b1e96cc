"""The whole experiment as frozen, validated settings. Every default of the toolkit stands here."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from ustoolkit.recipe.augmentation import AugmentationSettings
from ustoolkit.recipe.base import Count, Fraction, NotNegative, Positive, Settings
from ustoolkit.recipe.classification import ClassificationSettings
from ustoolkit.recipe.classifiers import ClassifierSettings, LesionFeaturesSettings
from ustoolkit.recipe.networks import ModelSettings, UnetSettings
from ustoolkit.recipe.pixels import OFF
from ustoolkit.recipe.training import LossSettings, TrainingSettings


class DataSettings(Settings):
    """How a record becomes a network input."""

    image_size: Annotated[tuple[Count, Count], Field(description="height and width of the network input, pixels")] = (
        256,
        256,
    )
    channels: Annotated[Literal[1, 3], Field(description="1: grey, 3: RGB")] = 3
    keep_aspect: Annotated[bool, Field(description="pad to the input's shape instead of stretching")] = False
    cache: Annotated[
        Literal["auto", "memory", "disk", "off"],
        Field(description="keep decoded images; auto: in memory where they fit in 1 GB; disk: in a file of the run"),
    ] = "auto"
    readers: Annotated[
        int,
        Field(
            ge=0,
            le=4096,
            description="the record files are divided among so many readers, and each batch has equal parts of them; a "
            "multiple of the workers; 0: one a worker",
        ),
    ] = 0
    service: Annotated[
        str,
        Field(min_length=1, description="address of a tf.data service, such as grpc://host:5000, to read and augment"),
    ] = OFF


class CrfSettings(Settings):
    """The fully connected conditional random field that may refine probabilities before they become a mask."""

    enabled: Annotated[bool, Field(description="whether it is used")] = False
    appearance_weight: Annotated[
        NotNegative, Field(description="ω1: how much pixels that are near and alike want the same class")
    ] = 4.0
    smoothness_weight: Annotated[NotNegative, Field(description="ω2: how much pixels that are near do")] = 3.0
    position_deviation: Annotated[Positive, Field(description="σp: how far near is, pixels of the image")] = 10.0
    intensity_deviation: Annotated[
        Positive, Field(description="σI: how unlike alike is, of RGB values from 0 to 255")
    ] = 10.0
    smoothness_deviation: Annotated[
        NotNegative, Field(description="how far near is in the second term, pixels; 0: σp, as the paper prints")
    ] = 0.0
    iterations: Annotated[Count, Field(le=100, description="of mean-field inference")] = 5


class InferenceSettings(Settings):
    """From probabilities to a mask, in this order."""

    flips: Annotated[
        Literal["off", "horizontal", "both"],
        Field(description="average over mirrored images too: left to right, twice the time; or both ways, four times"),
    ] = "off"
    crf: CrfSettings = CrfSettings()
    threshold: Annotated[Fraction, Field(description="a pixel is lesion from this probability on")] = 0.5
    smallest_region_pixels: Annotated[
        int, Field(ge=0, description="smaller regions of a class become background; 0: all stay")
    ] = 0
    opening_radius_pixels: Annotated[
        int, Field(ge=0, le=100, description="parts of a class thinner than twice this become background; 0: all stay")
    ] = 0
    largest_component: Annotated[bool, Field(description="keep only the largest region of each class")] = True
    fill_holes: Annotated[bool, Field(description="background that a region encloses becomes the region's")] = False
    batch_size: Annotated[Count, Field(description="images that go through the network at once")] = 8


class Recipe(Settings):
    """A whole experiment. `load_recipe` reads one; a run folder keeps the resolved one."""

    name: Annotated[str, Field(pattern=r"^[\w-][\w.-]*$", description="under which runs and tables show it")] = "custom"
    description: Annotated[str, Field(description="one line for people")] = ""
    data: DataSettings = DataSettings()
    augmentation: AugmentationSettings = AugmentationSettings()
    model: ModelSettings = UnetSettings()
    loss: LossSettings = LossSettings()
    training: TrainingSettings = TrainingSettings()
    inference: InferenceSettings = InferenceSettings()
    classification: ClassificationSettings = ClassificationSettings()

    @property
    def classifies(self) -> bool:
        """Whether images get a label, not masks."""
        return isinstance(self.model, ClassifierSettings | LesionFeaturesSettings)

    @model_validator(mode="before")
    @classmethod
    def _model_is_named(cls, content: Any) -> Any:
        """The model's name says which settings it takes; without one it is the U-net."""
        model = content.get("model") if isinstance(content, dict) else None
        if isinstance(model, dict) and "name" not in model:
            return {**content, "model": {"name": "unet", **model}}
        return content

    @model_validator(mode="after")
    def _sizes_fit(self) -> "Recipe":
        stride = self.model.stride
        if any(side % stride for side in self.data.image_size):
            height, width = self.data.image_size
            raise ValueError(
                f"data.image_size is {height} × {width}, and this network needs multiples of {stride}; change "
                f"data.image_size or {'model.widths' if isinstance(self.model, UnetSettings) else 'the network'}"
            )
        smallest = getattr(self.model, "smallest_side", 1)
        if min(self.data.image_size) < smallest:
            height, width = self.data.image_size
            raise ValueError(
                f"data.image_size is {height} × {width}, and {self.model.name} needs {smallest} or more on each side; "
                "raise data.image_size"
            )
        return self

    @model_validator(mode="after")
    def _classification_fits(self) -> "Recipe":
        settings = self.classification
        if not self.classifies:
            if settings != ClassificationSettings():
                raise ValueError(f"[classification] is for networks that classify, and {self.model.name} segments")
            return self
        if self.training.open_layers != "all":
            raise ValueError(
                f"training.open_layers is for networks that segment, and {self.model.name} classifies; set it to "
                '"all", and say what learns by classification.transfer.open_layers'
            )
        by_network = isinstance(self.model, ClassifierSettings)
        measured = not by_network or settings.transfer.form == "bottleneck"
        if settings.balance.smote == "features" and not measured:
            raise ValueError(
                "classification.balance.smote 'features' makes no images to fine-tune on; choose 'pixels', or "
                'classification.transfer.form = "bottleneck"'
            )
        if not by_network and settings.region.source == "image":
            raise ValueError("lesion_features needs a lesion; choose another classification.region.source than 'image'")
        if not by_network and (settings.balance.smote == "pixels" or settings.balance.expand_to):
            raise ValueError("lesion_features measures lesions as they are; leave out expand_to and smote 'pixels'")
        if not by_network and self.training.initial_weights != OFF:
            raise ValueError("lesion_features has no weights to begin with; leave out training.initial_weights")
        if by_network and settings.region.source != "image" and self.data.image_size[0] != self.data.image_size[1]:
            raise ValueError("regions are squares; give data.image_size two equal sides")
        return self
